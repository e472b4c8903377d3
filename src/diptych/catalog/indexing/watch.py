"""What changes on disk, folder by folder, as the system tells of it; and everything again now and then.

Systems lose events (network drives send none, queues overflow), so a whole rescan comes by the clock
whatever was heard, and at once where a drive came or went. Where the system cannot watch at all, rescans are
all there is. What to do about a change is the caller's: a folder named here is listed and compared as in any
other run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.catalog.files.mounts import mounts_below, network_kind
from diptych.catalog.store.folder_rules import FolderRules
from diptych.extras import require
from diptych.media.folders.keys import CAPTION_SUFFIXES, companions
from diptych.media.folders.sidecar_names import Sidecars

RESCAN = 600.0  # seconds between whole rescans
UNHEARD = 60.0  # the same where the system tells nothing
DEBOUNCE = 1600  # milliseconds for which changes are collected: a copy of many files is one change
_STEP = 5000  # milliseconds after which a quiet watch looks at the clock


def changed_folders(
    roots: Mapping[Path, FolderRules],
    *,
    skip: Sequence[Path] = (),
    rescan: float = RESCAN,
    note: Callable[[str], None] = lambda message: None,
) -> Iterator[list[Path]]:
    """What to list again, without end: where something changed; all roots at once when a rescan is due.

    Parameters
    ----------
    roots : mapping from path to FolderRules
        Folders that are watched, with what is below them, and files; each with what it leaves out, as for a
        listing. One that is not there is looked for at every rescan.
    skip : sequence of path
        Files and folders whose changes do not count. The catalogue has to be among them where it lies under a
        root: a run writes into it, and would be its own next change.
    rescan : float
        Seconds.
    note : callable, optional
        Told, once each, why something is only noticed at a rescan.

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
    said: set[str] = set()

    def say(message: str) -> None:
        if message and message not in said:
            said.add(message)
            note(message)

    single = False  # folders one by one, since below some of them not all may be read
    due = time.monotonic() + rescan
    while True:
        homes = _homes(roots)
        mounted = mounts_below(homes)
        say(_unheard(homes, rescan))
        try:
            for changes in _events(watchfiles, _readable(roots) if single else homes, recursive=not single):
                now = time.monotonic()
                remounted = mounted != mounts_below(homes) or homes != _homes(roots)
                if now >= due or remounted:
                    due = now + rescan
                    again = _there(roots)
                else:
                    again = to_list_again([path for _, path in changes], roots, skip)
                if again:
                    yield again
                if remounted or (single and any(os.path.isdir(path) for _, path in changes)):  # noqa: PTH112
                    due = min(due, time.monotonic() + (0 if remounted else UNHEARD))
                    break  # what is new is not watched yet
        except (OSError, RuntimeError) as error:  # the library's own is a RuntimeError
            pause = DEBOUNCE / 1000
            if isinstance(error, PermissionError) and not single:
                single = True
            elif not isinstance(error, FileNotFoundError) and "decode" not in str(error):
                pause = min(rescan, UNHEARD)
                say(_reason(error, pause))
            # It stumbles over names that are no UTF-8 and drops what it has heard: everything is compared,
            # once it listens again or has stumbled again.
            if time.monotonic() >= due and (again := _there(roots)):
                yield again
            due = time.monotonic()
            time.sleep(pause)


def _events(watchfiles: Any, homes: Iterable[Path], *, recursive: bool) -> Iterator[set[tuple[Any, str]]]:
    """What the system tells of; an empty set, now and then, where nothing happens."""
    folders = list(homes)
    while not folders:  # nothing is there: the caller looks again
        time.sleep(_STEP / 1000)
        yield set()
    yield from watchfiles.watch(
        *folders,
        debounce=DEBOUNCE,
        rust_timeout=_STEP,
        yield_on_timeout=True,
        watch_filter=None,
        recursive=recursive,
    )


def _homes(roots: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """The folders to watch, with device and inode: a folder that was put in the place of one is another."""
    homes = {}
    for root in roots:
        # Files by their folders: an editor may put a new one in the place of the old.
        home = root if os.path.isdir(root) else root.parent  # noqa: PTH112 - never raises
        with contextlib.suppress(OSError):
            if os.path.lexists(root) and home.is_dir():
                status = home.stat()
                homes[home] = (status.st_dev, status.st_ino)
    return homes


def _readable(roots: Mapping[Path, FolderRules]) -> Iterator[Path]:
    """Every folder that a listing would enter and that may be read."""
    for root, rules in roots.items():
        if not os.path.isdir(root):  # noqa: PTH112 - never raises
            yield root.parent
            continue
        for folder, inner, _ in os.walk(root):
            if os.access(folder, os.R_OK | os.X_OK):
                yield Path(folder)
            inner[:] = [name for name in inner if _is_entered(Path(folder, name), root, rules)]


def _is_entered(folder: Path, root: Path, rules: FolderRules) -> bool:
    inside = folder.relative_to(root)
    return not any(part.startswith(".") for part in inside.parts) and not rules.leaves_out(folder / "x.jpg")


def _unheard(homes: Iterable[Path], rescan: float) -> str:
    """What to say where some of the folders lie on another computer."""
    far = {home: kind for home in homes if (kind := network_kind(home))}
    if not far:
        return ""
    home, kind = next(iter(far.items()))
    return (
        f"{home} is on a network drive ({kind}): what other computers change there is noticed when "
        f"everything is compared, every {rescan / 60:.0f} minutes"
    )


def _reason(error: Exception, pause: float) -> str:
    """Why the system does not watch, and what happens instead."""
    limit = getattr(error, "errno", None) in (errno.ENOSPC, errno.EMFILE) or "limit" in str(error).lower()
    why = (
        "the system watches no more folders (raise fs.inotify.max_user_watches and max_user_instances)"
        if limit
        else f"the system cannot watch these folders ({error})"
    )
    return f"{why}: everything is compared every {pause:.0f} seconds instead"


def _there(roots: Iterable[Path]) -> list[Path]:
    return [root for root in roots if os.path.exists(root)]  # noqa: PTH110 - never raises


def to_list_again(
    paths: Sequence[str], roots: Mapping[Path, FolderRules], skip: Sequence[Path] = ()
) -> list[Path]:
    """What to list again for changes at these paths; see `changed_folders`.

    What a listing of the roots would not come to does not count: hidden and excluded names, what lies behind
    a link to a folder.

    Examples
    --------
    >>> home = Path("/tmp")
    >>> to_list_again(["/tmp/no/such/a.jpg", "/tmp/.hidden/b.jpg"], {home: FolderRules(home)})
    [PosixPath('/tmp')]
    """
    changed = {Path(path) for path in paths}
    left_out = {os.path.realpath(one) for one in skip}
    known = set(roots)
    again: set[Path] = set()
    for path in changed:
        # The nearest root decides, as in a listing; a root inside another one is listed by its own rules.
        root = next((place for place in (path, *path.parents) if place in known), None)
        if root is not None and os.path.isdir(root) and _counts(path, root, roots[root], left_out):  # noqa: PTH112
            again.add(_folder(path, root))
    files = (root for root in roots if os.path.isfile(root))  # noqa: PTH113 - never raises
    again.update(root for root in files if _concerns(root, changed))
    return sorted(folder for folder in again if again.isdisjoint(folder.parents))


def _concerns(picture: Path, changed: Collection[Path]) -> bool:
    """Whether a change concerns one picture: itself, a caption or a sidecar of it."""
    if any(path in changed for path in (picture, *_helpers(picture))):
        return True
    return bool(Sidecars(path.name for path in changed if path.parent == picture.parent).of(picture.name))


def _helpers(picture: Path) -> Iterator[Path]:
    """Files of captions beside a picture, those that are there and those that may have been."""
    yield from companions(picture).values()
    for suffix in CAPTION_SUFFIXES:
        yield picture.with_suffix(suffix)
        yield picture.with_suffix(suffix.upper())


def _counts(path: Path, root: Path, rules: FolderRules, skip: Collection[str]) -> bool:
    """Whether a listing of the root would come by, and a run did not write there itself."""
    inside = path.relative_to(root)
    if any(part.startswith(".") for part in inside.parts):
        return False
    if path != root and rules.leaves_out(path):
        return False
    # The system's watch follows links to folders, a listing does not. Not resolve(): it refuses links to
    # themselves.
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if path != root and Path(os.path.realpath(path.parent)) != (home / inside).parent:
        return False
    return not any(str(place) in skip for place in (real, *real.parents))


def _folder(path: Path, root: Path) -> Path:
    """The folder that holds it; of one that was deleted itself the next that is there."""
    folder = path
    while folder != root and (folder == path or not os.path.isdir(folder)):  # noqa: PTH112 - never raises
        folder = folder.parent
    return folder
