"""List the image files and archive members on disk, with their state but without opening them.

Hidden files and folders are left out, and those that match the rules of the indexed path. Links to folders
are not followed, so a walk always ends. Folders that cannot be listed are reported, so that their files are
not taken to be deleted. `comparison` compares the listing with the catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.catalog.annotations.records import ListedFile
from diptych.catalog.store.folder_rules import FolderRules, RuleUsage
from diptych.errors import ImageError, InputError
from diptych.media.folders.archives import is_archive, list_archive
from diptych.media.folders.files import is_picture
from diptych.media.folders.keys import Companions, companions
from diptych.media.folders.sidecar_names import Sidecars, sidecars_of
from diptych.media.folders.system_folders import is_system_folder

Expand = Callable[[ListedFile], Iterator[ListedFile]]


@dataclass
class ListingReport:
    """Statistics and failures of a listing.

    Attributes
    ----------
    files : int
        Number of images listed.
    unlisted : list of (path, reason)
        Folders that could not be listed; their files stay in the catalogue.
    used : RuleUsage
        Which rules left something out.
    """

    files: int = 0
    unlisted: list[tuple[bytes, str]] = field(default_factory=list)
    used: RuleUsage = field(default_factory=RuleUsage)


def roots_of(paths: Sequence[str | Path]) -> list[Path]:
    """Return absolute paths of files and folders; InputError for one that does not exist.

    Links are not resolved: the catalogue stores paths as they were given.
    """
    roots = []
    for path in paths:
        root = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links
        if not root.exists():
            raise InputError(
                f"{path}: there is no such file or folder. Its entries in the catalogue stay; "
                f"--forget {path} removes them"
            )
        roots.append(root)
    return roots


def list_files(
    root: Path,
    report: ListingReport,
    *,
    rules: FolderRules | None = None,
    skip: Collection[str] = (),
    expand: Expand | None = None,
    visited: Callable[[], None] = lambda: None,
) -> Iterator[ListedFile]:
    """List every image under a path.

    Parameters
    ----------
    root : path
        A folder, an archive or an image file. A file is listed whatever its suffix.
    report : ListingReport
        Receives counts, and folders that could not be listed.
    rules : FolderRules, optional
        What is left out; their base is `root` or a folder above it.
    skip : collection of str
        Real paths of files and folders to leave out.
    expand : callable, optional
        Lists the members of an archive; by default they are read from disk.
    visited : callable, optional
        Called for each folder and file, before it is listed.
    """
    rules = rules or FolderRules(root)
    expand = expand or list_members
    if root.is_dir():
        files = _Walk(root, rules, frozenset(skip), report, visited).files()
    elif root.exists() or root.is_symlink():
        files = iter([file_at(root) or _listed_file(str(root), root.stat)])
    else:
        report.unlisted.append((os.fsencode(root), "it is not there"))
        return
    for file in files:
        visited()
        if not is_archive(os.fsdecode(file.path)):
            images: Iterator[ListedFile] = iter([file])
        elif rules.archives:
            images = expand(file)
        else:
            report.used.archives += 1
            continue
        for image in images:
            report.files += 1
            yield image


def file_at(path: str | Path, *, helpers: bool = True) -> ListedFile | None:
    """List one file, whatever its suffix; None if it does not exist.

    With `helpers=False` its folder is not read, and captions and sidecars beside it are ignored.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
    try:
        if not absolute.is_file():
            return None
    except (OSError, ValueError):  # the name is too long or contains a null byte
        return None
    beside = {*companions(absolute).values(), *sidecars_of(absolute)} if helpers else ()
    return _listed_file(
        str(absolute), absolute.stat, sum(text.stat().st_mtime_ns for text in beside if text.is_file())
    )


def list_members(archive: ListedFile) -> Iterator[ListedFile]:
    """List the images of an archive; if it cannot be read, yield the archive itself, to be read and fail."""
    try:
        entries = list_archive(os.fsdecode(archive.path))
    except ImageError:
        yield archive
        return
    for entry in entries:
        # The times of members are often not set (as in shards); the archive's own are used instead.
        beside = bool(entry.captions) + 2 * bool(entry.sidecars)
        state = (archive.modified, archive.device, archive.inode, beside, archive.changed)
        yield ListedFile(archive.path, entry.name, entry.size, *state)


class _Walk:
    """A walk over a folder."""

    def __init__(
        self,
        root: Path,
        rules: FolderRules,
        skip: frozenset[str],
        report: ListingReport,
        visited: Callable[[], None],
    ) -> None:
        self.root, self.rules, self.skip, self.report, self.visited = root, rules, skip, report, visited
        # Links below the root are not followed, so a real path differs from the given one in its prefix only:
        # real path = `self.real` + path[self.start:].
        self.real, self.start = os.path.realpath(root), len(str(root))
        self.base = len(str(rules.base).rstrip("/")) + 1

    def files(self) -> Iterator[ListedFile]:
        # A stack instead of recursion, since folders may be nested more deeply than Python's limit.
        stack = [str(self.root)]  # depth first, in the order of names
        while stack:
            folder = stack.pop()
            self.visited()
            try:
                with os.scandir(folder) as iterator:
                    entries = sorted(iterator, key=lambda entry: entry.name)
            except OSError as error:
                self.report.unlisted.append((os.fsencode(folder), error.strerror or str(error)))
                continue
            # Captions and sidecars are found among the names that were read already: looking for each of them
            # on disk would cost several calls per image, which a network drive answers slowly.
            by_name = {entry.name: entry for entry in entries}
            texts, sidecars = Companions(by_name), Sidecars(by_name)
            subfolders: list[str] = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    if self._enters(folder, entry):
                        subfolders.append(entry.path)
                elif (is_picture(entry.name) or is_archive(entry.name)) and not self._skips(entry.path):
                    beside = {*texts.of(entry.name).values(), *sidecars.of(entry.name)}
                    # The sum of modification times changes if any of these files does.
                    yield _listed_file(
                        entry.path, entry.stat, sum(_modified(by_name[name]) for name in beside)
                    )
            stack.extend(reversed(subfolders))

    def _enters(self, folder: str, entry: os.DirEntry[str]) -> bool:
        if self._skips(entry.path, "/"):
            return False
        parent = os.path.basename(folder)  # noqa: PTH119 - scandir gives text
        if self.rules.system_folders or not is_system_folder(entry.name, parent):
            return True
        self.report.used.system_folders.add(entry.name)
        return False

    def _skips(self, path: str, end: str = "") -> bool:
        # The real path by text, as `os.path.realpath` would ask the disk for every part of every path.
        if self.skip and self.real + path[self.start :] in self.skip:
            return True
        relative = path[self.base :] + end
        if not self.rules.excludes(relative):
            return False
        self.report.used.note(self.rules, relative)
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _listed_file(path: str, stat: Callable[[], os.stat_result], sidecar: int = 0) -> ListedFile:
    try:
        status = stat()
    except OSError:  # a broken or circular link is listed, so that opening it fails with a reason
        return ListedFile(os.fsencode(path), "", 0, 0, 0, 0, 0)
    # Databases store signed 64-bit integers, but some file systems use all 64 bits for inodes, and times may
    # be set past the year 2262.
    device, inode = status.st_dev & (2**63 - 1), status.st_ino & (2**63 - 1)
    modified, changed = (
        max(-(2**63), min(time, 2**63 - 1)) for time in (status.st_mtime_ns, status.st_ctime_ns)
    )
    return ListedFile(
        os.fsencode(path), "", status.st_size, modified, device, inode, sidecar & (2**63 - 1), changed
    )


def _modified(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0
