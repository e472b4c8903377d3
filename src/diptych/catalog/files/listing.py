"""What is on disk: picture files and pictures in archives, by name and state, none of them opened.

Hidden files and folders are left out, and what the rules of the indexed path say; links to folders are not
followed, so a walk ends. What cannot be listed is told of, so that nobody takes it to be gone. Comparing with
what is known is left to `scan`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.catalog.annotations.records import Found
from diptych.catalog.store.folder_rules import FolderRules, Usage
from diptych.errors import ImageError, InputError
from diptych.media.folders.archives import is_archive, list_archive
from diptych.media.folders.files import is_picture
from diptych.media.folders.keys import Companions, companions
from diptych.media.folders.sidecar_names import Sidecars, sidecars_of
from diptych.media.folders.system_folders import is_system_folder

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
    used : Usage
        What rules left out.
    """

    files: int = 0
    unlisted: list[tuple[bytes, str]] = field(default_factory=list)
    used: Usage = field(default_factory=Usage)


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
    rules: FolderRules | None = None,
    skip: Collection[str] = (),
    expand: Expand | None = None,
    visited: Callable[[], None] = lambda: None,
) -> Iterator[Found]:
    """Every picture under this path; `told` learns what could not be listed.

    Parameters
    ----------
    root : path
        A folder, an archive or a picture. A file is taken whatever its suffix.
    told : Listing
    rules : FolderRules, optional
        What is left out; their base is `root` or a folder above it.
    skip : collection of str
        Real paths of files and folders to leave out.
    expand : callable, optional
        From an archive to its pictures; by default they are listed from disk.
    visited : callable, optional
        Called for each folder, before it is listed.
    """
    rules = rules or FolderRules(root)
    inside = expand or members
    if root.is_dir():
        found = _Walk(root, rules, frozenset(skip), told, visited).files()
    elif root.exists() or root.is_symlink():
        found = iter([file_at(root) or _found(str(root), root.stat)])
    else:
        told.unlisted.append((os.fsencode(root), "it is not there"))
        return
    for one in found:
        visited()
        if not is_archive(os.fsdecode(one.path)):
            pictures: Iterator[Found] = iter([one])
        elif rules.archives:
            pictures = inside(one)
        else:
            told.used.archives += 1
            continue
        for picture in pictures:
            told.files += 1
            yield picture


def file_at(path: str | Path, *, helpers: bool = True) -> Found | None:
    """One file as a listing has it, whatever its suffix; None where there is none.

    Without `helpers` its folder is not listed: nothing is said of captions and sidecars beside it.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
    try:
        if not place.is_file():
            return None
    except (OSError, ValueError):  # a name too long, or with a null byte
        return None
    beside = {*companions(place).values(), *sidecars_of(place)} if helpers else ()
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
        beside = bool(entry.captions) + 2 * bool(entry.sidecars)
        state = (archive.modified, archive.device, archive.inode, beside, archive.changed)
        yield Found(archive.path, entry.name, entry.size, *state)


class _Walk:
    """One walk over a folder."""

    def __init__(
        self,
        root: Path,
        rules: FolderRules,
        skip: frozenset[str],
        told: Listing,
        visited: Callable[[], None],
    ) -> None:
        self.root, self.rules, self.skip, self.told, self.visited = root, rules, skip, told, visited
        # Links below the root are not followed: real paths differ from the others in their beginning alone.
        self.real, self.start = os.path.realpath(root), len(str(root))
        self.base = len(str(rules.base).rstrip("/")) + 1

    def files(self) -> Iterator[Found]:
        waiting = [str(self.root)]
        while waiting:
            here = waiting.pop()
            self.visited()
            try:
                with os.scandir(here) as entries:
                    names = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self.told.unlisted.append((os.fsencode(here), error.strerror or str(error)))
                continue
            files = {entry.name: entry for entry in names}
            texts, sidecars = Companions(files), Sidecars(files)
            folders: list[str] = []
            for entry in names:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    if self._enters(here, entry):
                        folders.append(entry.path)
                elif (is_picture(entry.name) or is_archive(entry.name)) and not self._skips(entry.path):
                    beside = {*texts.of(entry.name).values(), *sidecars.of(entry.name)}
                    # A sum changes when any of them does.
                    yield _found(entry.path, entry.stat, sum(_changed(files[name]) for name in beside))
            waiting.extend(reversed(folders))

    def _enters(self, here: str, entry: os.DirEntry[str]) -> bool:
        if self._skips(entry.path, "/"):
            return False
        parent = os.path.basename(here)  # noqa: PTH119 - scandir gives text
        if self.rules.system_folders or not is_system_folder(entry.name, parent):
            return True
        self.told.used.system_folders.add(entry.name)
        return False

    def _skips(self, path: str, end: str = "") -> bool:
        if self.skip and self.real + path[self.start :] in self.skip:
            return True
        relative = path[self.base :] + end
        if not self.rules.excludes(relative):
            return False
        self.told.used.note(self.rules, relative)
        return True


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
    modified, changed = (
        max(-(2**63), min(time, 2**63 - 1)) for time in (status.st_mtime_ns, status.st_ctime_ns)
    )
    return Found(
        os.fsencode(path), "", status.st_size, modified, device, inode, sidecar & (2**63 - 1), changed
    )


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0
