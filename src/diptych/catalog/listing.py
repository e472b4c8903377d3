"""What is on disk: picture files and pictures in archives, by name and state, none of them opened.

Hidden files and folders are left out and links to folders are not followed, so a walk ends. What cannot be
listed is told of, so that nobody takes it to be gone. Comparing with what is known is left to `scan`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from diptych.catalog.records import Found
from diptych.errors import ImageError, InputError
from diptych.media.archives import is_archive, list_archive
from diptych.media.files import is_picture

SIDECARS = (".txt", ".json")
Expand = Callable[[Found], Iterator[Found]]


@dataclass
class Listing:
    """How a listing went.

    Attributes
    ----------
    files : int
        Pictures found.
    unlisted : list of (path, reason)
        Folders that could not be listed: what the catalogue knows in them stays.
    """

    files: int = 0
    unlisted: list[tuple[bytes, str]] = field(default_factory=list)


def roots_of(paths: Sequence[str | Path]) -> list[Path]:
    """Absolute paths of files and folders; InputError where there is none.

    Links are not resolved: pictures are known by the way they were named.
    """
    roots = []
    for path in paths:
        root = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links
        if not root.exists():
            raise InputError(
                f"{path}: there is no such file or folder. What the catalogue knows of it stays; "
                f"--forget {path} takes it out"
            )
        roots.append(root)
    return roots


def listing(
    root: Path,
    told: Listing,
    *,
    exclude: Sequence[str] = (),
    skip: Sequence[Path] = (),
    expand: Expand | None = None,
) -> Iterator[Found]:
    """Every picture under this path; `told` learns what could not be listed.

    Parameters
    ----------
    root : path
        A folder, an archive or a picture. A file is taken whatever its suffix.
    told : Listing
    exclude : sequence of str
        Patterns of names of files and folders to leave out.
    skip : sequence of path
        Folders to leave out.
    expand : callable, optional
        From an archive to its pictures; by default they are listed from disk.
    """
    inside = expand or members
    if root.is_dir():
        found = _in_folder(str(root), told, exclude, {str(one) for one in skip})
    elif root.exists() or root.is_symlink():
        found = iter([file_at(root) or _found(str(root), root.stat)])
    else:
        told.unlisted.append((os.fsencode(root), "it is not there"))
        return
    for one in found:
        for picture in inside(one) if is_archive(os.fsdecode(one.path)) else [one]:
            told.files += 1
            yield picture


def file_at(path: str | Path) -> Found | None:
    """One file as a listing has it, whatever its suffix; None where there is none."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
    try:
        if not place.is_file():
            return None
    except (OSError, ValueError):  # a name too long, or with a null byte
        return None
    beside = (place.with_suffix(suffix) for suffix in SIDECARS)
    return _found(str(place), place.stat, sum(text.stat().st_mtime_ns for text in beside if text.is_file()))


def members(archive: Found) -> Iterator[Found]:
    """The pictures of an archive; of one that cannot be read the archive itself, for reading it says why."""
    try:
        entries = list_archive(os.fsdecode(archive.path))
    except ImageError:
        yield archive
        return
    for entry in entries:
        # Their own times say little (shards are often written with none): they change when the archive does.
        state = (archive.modified, archive.device, archive.inode, int(bool(entry.captions)))
        yield Found(archive.path, entry.name, entry.size, *state)


def _in_folder(folder: str, told: Listing, exclude: Sequence[str], skip: set[str]) -> Iterator[Found]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            told.unlisted.append((os.fsencode(here), error.strerror or str(error)))
            continue
        texts = {entry.name: entry for entry in names if entry.name.endswith(SIDECARS)}
        folders: list[str] = []
        for entry in names:
            name = entry.name
            if name.startswith(".") or is_left_out(name, exclude):
                continue
            if _is_folder(entry):
                if entry.path not in skip:
                    folders.append(entry.path)
            elif is_picture(name) or is_archive(name):
                beside = (texts.get(Path(name).stem + suffix) for suffix in SIDECARS)
                # A sum changes when either of them does.
                yield _found(entry.path, entry.stat, sum(_changed(text) for text in beside if text))
        waiting.extend(reversed(folders))


def is_left_out(name: str, exclude: Sequence[str]) -> bool:
    """Whether a file or folder of this name is left out by one of these patterns."""
    return any(fnmatch(name, pattern) for pattern in exclude)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _found(path: str, stat: Callable[[], os.stat_result], sidecar: int = 0) -> Found:
    try:
        status = stat()
    except OSError:  # a link to nothing or to itself: opening it will say so, and it is listed as failed
        return Found(os.fsencode(path), "", 0, 0, 0, 0, 0)
    # Numbers of some file systems use all 64 bits, and times may be set past 2262; databases have a sign.
    device, inode = status.st_dev & (2**63 - 1), status.st_ino & (2**63 - 1)
    modified = max(-(2**63), min(status.st_mtime_ns, 2**63 - 1))
    return Found(os.fsencode(path), "", status.st_size, modified, device, inode, sidecar & (2**63 - 1))


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0
