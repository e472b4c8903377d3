"""What changes on disk, folder by folder, as the system tells of it; and everything again now and then.

Systems lose events (network drives send none, queues overflow), so a whole rescan comes by the clock
whatever was heard. What to do about a change is the caller's: a folder named here is listed and compared as
in any other run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from diptych.extras import require

RESCAN = 600.0  # seconds between whole rescans
DEBOUNCE = 1600  # milliseconds for which changes are collected: a copy of many files is one change
_STEP = 5000  # milliseconds after which a quiet watch looks at the clock


def changed_folders(roots: Sequence[Path], *, rescan: float = RESCAN) -> Iterator[list[Path]]:
    """Folders in which something changed, without end; all roots at once when a rescan is due.

    Parameters
    ----------
    roots : sequence of path
        Folders that are watched, with what is below them; files are watched by their folder.
    rescan : float
        Seconds.

    Yields
    ------
    list of Path
        Existing folders, none inside another.

    Raises
    ------
    MissingExtraError
        watchfiles is not installed.
    """
    watchfiles = require("watchfiles", extra="catalog", purpose="watch folders")
    homes = [root if root.is_dir() else root.parent for root in roots]
    due = time.monotonic() + rescan
    for changes in watchfiles.watch(
        *homes, debounce=DEBOUNCE, rust_timeout=_STEP, yield_on_timeout=True, watch_filter=None
    ):
        if time.monotonic() >= due:
            due = time.monotonic() + rescan
            yield list(roots)
        elif changes:
            yield folders_of((path for _, path in changes), homes)


def folders_of(paths: Iterable[str], homes: Sequence[Path]) -> list[Path]:
    """The folders to list again for changes at these paths: existing, inside `homes`, none inside another.

    Examples
    --------
    >>> folders_of(["/no/such/a.jpg", "/tmp/b.jpg"], [Path("/tmp")])
    [PosixPath('/tmp')]
    """
    found: set[Path] = set()
    for path in paths:
        folder = Path(path).parent
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent  # it was deleted itself
        if any(folder.is_relative_to(home) for home in homes):
            found.add(folder)
        else:
            found.update(home for home in homes if Path(path).is_relative_to(home) and home.is_dir())
    inside = {one for one in found for other in found if one != other and one.is_relative_to(other)}
    return sorted(found - inside)
