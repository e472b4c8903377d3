"""Watch folders for changes by the operating system's events, with a full rescan at intervals.

Events get lost (network drives send none, queues overflow). So a full rescan is made at intervals, and at
once when a drive is mounted or unmounted. If the system cannot watch at all, only rescans are made. The
caller handles the changes: it lists and compares the folders yielded here as in any other run.
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

RESCAN = 600.0  # seconds between full rescans
RESCAN_WITHOUT_EVENTS = 60.0  # the same where the system sends no events
DEBOUNCE = 1600  # milliseconds for which events are collected, so that copying many files is one change
_STEP = 5000  # milliseconds after which a watch without events checks the clock


def changed_folders(
    roots: Mapping[Path, FolderRules],
    *,
    skip: Sequence[Path] = (),
    rescan: float = RESCAN,
    note: Callable[[str], None] = lambda message: None,
) -> Iterator[list[Path]]:
    """Yield the folders to list again, without end: changed ones, or all roots when a rescan is due.

    Parameters
    ----------
    roots : mapping from path to FolderRules
        Folders to watch, including everything below, and files; with the rules of a listing. Missing ones are
        looked for at every rescan.
    skip : sequence of path
        Files and folders whose changes are ignored. Must contain the catalogue if it lies under a root, as
        each run writes to it and would trigger the next one.
    rescan : float
        Seconds between full rescans.
    note : callable, optional
        Called once for each reason why changes are noticed at a rescan only.

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
    noted: set[str] = set()

    def note_once(message: str) -> None:
        if message and message not in noted:
            noted.add(message)
            note(message)

    # A recursive watch fails if some folder below may not be read; then readable folders are watched singly.
    single = False
    due = time.monotonic() + rescan
    while True:
        watched = _watched_folders(roots)
        mounted = mounts_below(watched)
        note_once(_network_note(watched, rescan))
        try:
            folders = _readable(roots) if single else watched
            for changes in _events(watchfiles, folders, recursive=not single):
                now = time.monotonic()
                remounted = mounted != mounts_below(watched) or watched != _watched_folders(roots)
                if now >= due or remounted:
                    due = now + rescan
                    to_list = _existing(roots)
                else:
                    to_list = folders_to_list([path for _, path in changes], roots, skip)
                if to_list:
                    yield to_list
                if remounted or (single and any(os.path.isdir(path) for _, path in changes)):  # noqa: PTH112
                    due = min(due, time.monotonic() + (0 if remounted else RESCAN_WITHOUT_EVENTS))
                    break  # restart the watch, since new folders are not watched yet
        except (OSError, RuntimeError) as error:  # watchfiles raises RuntimeError for its own failures
            pause = DEBOUNCE / 1000
            if isinstance(error, PermissionError) and not single:
                single = True
            elif not isinstance(error, FileNotFoundError) and "decode" not in str(error):
                pause = min(rescan, RESCAN_WITHOUT_EVENTS)
                note_once(_no_watch_note(error, pause))
            # Watchfiles fails at names that are not UTF-8, and its collected events are lost. So a rescan
            # becomes due now: it is made when the watch works again, or here if it fails once more.
            if time.monotonic() >= due and (to_list := _existing(roots)):
                yield to_list
            due = time.monotonic()
            time.sleep(pause)


def _events(watchfiles: Any, folders: Iterable[Path], *, recursive: bool) -> Iterator[set[tuple[Any, str]]]:
    """Yield sets of (kind, path) of changes; an empty set after each `_STEP` without any."""
    watched = list(folders)
    while not watched:  # no folder exists: the caller checks again after each step
        time.sleep(_STEP / 1000)
        yield set()
    yield from watchfiles.watch(
        *watched,
        debounce=DEBOUNCE,
        rust_timeout=_STEP,
        yield_on_timeout=True,
        watch_filter=None,
        recursive=recursive,
    )


def _watched_folders(roots: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return the folders to watch, with device and inode, which show whether a folder was replaced."""
    watched = {}
    for root in roots:
        # A file is watched through its folder, because editors replace a file by a new one.
        folder = root if os.path.isdir(root) else root.parent  # noqa: PTH112 - never raises
        with contextlib.suppress(OSError):
            if os.path.lexists(root) and folder.is_dir():
                status = folder.stat()
                watched[folder] = (status.st_dev, status.st_ino)
    return watched


def _readable(roots: Mapping[Path, FolderRules]) -> Iterator[Path]:
    """Yield every readable folder that a listing would enter."""
    for root, rules in roots.items():
        if not os.path.isdir(root):  # noqa: PTH112 - never raises
            yield root.parent
            continue
        for folder, subfolders, _ in os.walk(root):
            if os.access(folder, os.R_OK | os.X_OK):
                yield Path(folder)
            # Assigned in place, so that `os.walk` does not enter the others.
            subfolders[:] = [name for name in subfolders if _is_entered(Path(folder, name), root, rules)]


def _is_entered(folder: Path, root: Path, rules: FolderRules) -> bool:
    relative = folder.relative_to(root)
    return not any(part.startswith(".") for part in relative.parts) and not rules.leaves_out(folder / "x.jpg")


def _network_note(folders: Iterable[Path], rescan: float) -> str:
    """Return a note if some of the folders are on a network drive, which sends no events."""
    on_network = {folder: kind for folder in folders if (kind := network_kind(folder))}
    if not on_network:
        return ""
    folder, kind = next(iter(on_network.items()))
    return (
        f"{folder} is on a network drive ({kind}): changes by other computers are noticed when "
        f"everything is compared, every {rescan / 60:.0f} minutes"
    )


def _no_watch_note(error: Exception, pause: float) -> str:
    """Return a note on why the system does not watch, and what is done instead."""
    limit = getattr(error, "errno", None) in (errno.ENOSPC, errno.EMFILE) or "limit" in str(error).lower()
    reason = (
        "the system watches no more folders (raise fs.inotify.max_user_watches and max_user_instances)"
        if limit
        else f"the system cannot watch these folders ({error})"
    )
    return f"{reason}: everything is compared every {pause:.0f} seconds instead"


def _existing(roots: Iterable[Path]) -> list[Path]:
    return [root for root in roots if os.path.exists(root)]  # noqa: PTH110 - never raises


def folders_to_list(
    paths: Sequence[str], roots: Mapping[Path, FolderRules], skip: Sequence[Path] = ()
) -> list[Path]:
    """Return the folders to list again for changes at these paths; see `changed_folders`.

    Changes that a listing of the roots would not notice are ignored: hidden and excluded names, and paths
    through a link to a folder.

    Examples
    --------
    >>> root = Path("/tmp")
    >>> folders_to_list(["/tmp/no/such/a.jpg", "/tmp/.hidden/b.jpg"], {root: FolderRules(root)})
    [PosixPath('/tmp')]
    """
    changed = {Path(path) for path in paths}
    skipped = {os.path.realpath(path) for path in skip}
    root_paths = set(roots)
    to_list: set[Path] = set()
    for path in changed:
        # The nearest root decides, as in a listing; a root inside another one is listed by its own rules.
        root = next((folder for folder in (path, *path.parents) if folder in root_paths), None)
        if root is not None and os.path.isdir(root) and _is_relevant(path, root, roots[root], skipped):  # noqa: PTH112
            to_list.add(_existing_folder(path, root))
    files = (root for root in roots if os.path.isfile(root))  # noqa: PTH113 - never raises
    to_list.update(root for root in files if _is_affected(root, changed))
    return sorted(folder for folder in to_list if to_list.isdisjoint(folder.parents))


def _is_affected(image: Path, changed: Collection[Path]) -> bool:
    """Whether an image file, or a caption or sidecar of it, is among the changed paths."""
    if any(path in changed for path in (image, *_caption_files(image))):
        return True
    return bool(Sidecars(path.name for path in changed if path.parent == image.parent).of(image.name))


def _caption_files(image: Path) -> Iterator[Path]:
    """Yield the caption files of an image, and paths of those that may have been deleted."""
    yield from companions(image).values()
    for suffix in CAPTION_SUFFIXES:
        yield image.with_suffix(suffix)
        yield image.with_suffix(suffix.upper())


def _is_relevant(path: Path, root: Path, rules: FolderRules, skip: Collection[str]) -> bool:
    """Whether a listing of the root would include a changed path, which is not among those to skip."""
    relative = path.relative_to(root)
    if any(part.startswith(".") for part in relative.parts):
        return False
    if path != root and rules.leaves_out(path):
        return False
    # A watch follows links to folders, a listing does not. realpath() instead of resolve(), which raises for
    # circular links.
    real, real_root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if path != root and Path(os.path.realpath(path.parent)) != (real_root / relative).parent:
        return False
    return not any(str(folder) in skip for folder in (real, *real.parents))


def _existing_folder(path: Path, root: Path) -> Path:
    """Return the folder of a path; if it was deleted, the nearest existing one above it."""
    folder = path
    while folder != root and (folder == path or not os.path.isdir(folder)):  # noqa: PTH112 - never raises
        folder = folder.parent
    return folder
