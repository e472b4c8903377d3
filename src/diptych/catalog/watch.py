"""What changes on disk, folder by folder, as the system tells of it; and everything again now and then.

Systems lose events (network drives send none, queues overflow), so a whole rescan comes by the clock
whatever was heard. What to do about a change is the caller's: a folder named here is listed and compared as
in any other run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from diptych.catalog.listing import SIDECARS, is_left_out
from diptych.extras import require

RESCAN = 600.0  # seconds between whole rescans
DEBOUNCE = 1600  # milliseconds for which changes are collected: a copy of many files is one change
_STEP = 5000  # milliseconds after which a quiet watch looks at the clock


def changed_folders(
    roots: Mapping[Path, Sequence[str]], *, skip: Sequence[Path] = (), rescan: float = RESCAN
) -> Iterator[list[Path]]:
    """What to list again, without end: where something changed; all roots at once when a rescan is due.

    Parameters
    ----------
    roots : mapping from path to sequence of str
        Folders that are watched, with what is below them, and files; each with the patterns of names of files
        and folders it leaves out, as for a listing. One that is not there is looked for at every rescan.
    skip : sequence of path
        Folders whose changes do not count. The catalogue has to be among them where it lies under a root: a
        run writes into it, and would be its own next change.
    rescan : float
        Seconds.

    Yields
    ------
    list of Path
        Existing folders, none inside another, and roots that are files.

    Raises
    ------
    MissingExtraError
        watchfiles is not installed.
    """
    watchfiles = require("watchfiles", extra="catalog", purpose="watch folders")
    # Files by their folders: an editor may put a new one in the place of the old.
    homes = {root if root.is_dir() else root.parent for root in _there(roots)}
    due = time.monotonic() + rescan
    while True:
        try:
            for changes in watchfiles.watch(
                *(home for home in homes if home.is_dir()),
                debounce=DEBOUNCE,
                rust_timeout=_STEP,
                yield_on_timeout=True,
                watch_filter=None,
            ):
                if time.monotonic() >= due:
                    due = time.monotonic() + rescan
                    again = _there(roots)
                else:
                    again = to_list_again([path for _, path in changes], roots, skip)
                if again:
                    yield again
        except watchfiles._rust_notify.WatchfilesRustInternalError:
            # It stumbles over names that are no UTF-8 and drops what it has heard: everything is compared,
            # once it listens again or has stumbled again.
            if time.monotonic() >= due and (again := _there(roots)):
                yield again
            due = time.monotonic()
            time.sleep(DEBOUNCE / 1000)


def _there(roots: Iterable[Path]) -> list[Path]:
    return [root for root in roots if root.exists()]


def to_list_again(
    paths: Sequence[str], roots: Mapping[Path, Sequence[str]], skip: Sequence[Path] = ()
) -> list[Path]:
    """What to list again for changes at these paths; see `changed_folders`.

    What a listing of the roots would not come to does not count: hidden and excluded names, what lies behind
    a link to a folder.

    Examples
    --------
    >>> to_list_again(["/tmp/no/such/a.jpg", "/tmp/.hidden/b.jpg"], {Path("/tmp"): ()})
    [PosixPath('/tmp')]
    """
    changed = [Path(path) for path in paths]
    found: set[Path] = set()
    for root, exclude in roots.items():
        if root.is_dir():
            inside = {path for path in changed if path.is_relative_to(root)}
            found.update(_folder(path, root) for path in inside if _counts(path, root, exclude, skip))
        elif root.is_file() and any(path in changed for path in (root, *map(root.with_suffix, SIDECARS))):
            found.add(root)
    inner = {one for one in found for other in found if one != other and one.is_relative_to(other)}
    return sorted(found - inner)


def _counts(path: Path, root: Path, exclude: Sequence[str], skip: Sequence[Path]) -> bool:
    """Whether a listing of the root would come by, and a run did not write there itself."""
    inside = path.relative_to(root)
    if any(part.startswith(".") or is_left_out(part, exclude) for part in inside.parts):
        return False
    # The system's watch follows links to folders, a listing does not. Not resolve(): it refuses links to
    # themselves.
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if path != root and Path(os.path.realpath(path.parent)) != (home / inside).parent:
        return False
    return not any(real.is_relative_to(os.path.realpath(one)) for one in skip)


def _folder(path: Path, root: Path) -> Path:
    """The folder that holds it; of one that was deleted itself the next that is there."""
    folder = path
    while folder != root and (folder == path or not folder.is_dir()):
        folder = folder.parent
    return folder
