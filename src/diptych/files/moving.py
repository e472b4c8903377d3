"""Move a file without losing it and without overwriting another one, also to another device."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from diptych.errors import SaveError

HASH_BYTES = 16  # of BLAKE2b digests that identify file contents
_CHUNK = 2**20
# Errors of file systems that do not support hard links, or not this one.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EACCES}


def move_file(source: Path, target: Path) -> None:
    """Move a file to a path that does not exist yet.

    On the same device the file is at every instant at the old path, the new one or both (hard link, then
    unlink). On another device it is copied, flushed and compared before the old path is removed.

    Raises
    ------
    FileExistsError
        The target exists; nothing was changed.
    OSError
        The move failed; the file is at its old path. If a network drive does not answer whether the old path
        still exists, the new path is kept too.
    SaveError
        The copy on the other device differs; the file is at its old path.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            _copy(source, target)
        elif error.errno in _NO_LINKS:
            _rename(source, target)
            return
        else:
            raise
    try:
        source.unlink()
    except FileNotFoundError:
        return  # another process removed the old path: the new one may be the only copy
    except OSError:
        if _is_gone(source):  # the unlink succeeded, only its answer was lost
            return
        if same_bytes(source, target):
            target.unlink()  # the old folder is read-only: keep the file only there
        raise


def digest(path: Path) -> bytes:
    """BLAKE2b digest of a file, by which a catalogue identifies its content; read in chunks.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = Path(folder, "a").write_bytes(b"")
    ...     digest(Path(folder, "a")).hex()
    'cae66941d9efbd404e4d88758ea67670'
    """
    digest_so_far = hashlib.blake2b(digest_size=HASH_BYTES)
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest_so_far.update(data)
    return digest_so_far.digest()


def same_bytes(first: Path, second: Path) -> bool:
    """Whether two files are readable and have equal bytes; symbolic links are compared by their targets.

    Examples
    --------
    >>> same_bytes(Path("/nowhere"), Path("/nowhere"))
    False
    """
    try:
        if first.is_symlink() or second.is_symlink():
            return first.readlink() == second.readlink()
        return digest(first) == digest(second)
    except OSError:
        return False


def _is_gone(path: Path) -> bool:
    """Whether the path is known not to exist; False if the system cannot tell."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _rename(source: Path, target: Path) -> None:
    """Without hard links: check, then rename; a file that appears in between would be overwritten."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _copy(source: Path, target: Path) -> None:
    """Copy to another device, complete or not at all, with times and permissions."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    before, part = source.stat(), part_of(target)
    try:
        with source.open("rb") as old, part.open("wb") as new:
            shutil.copyfileobj(old, new, _CHUNK)
            new.flush()
            os.fsync(new.fileno())
        shutil.copystat(source, part)
        now = source.stat()
        if digest(source) != digest(part) or (before.st_size, before.st_mtime_ns) != (
            now.st_size,
            now.st_mtime_ns,
        ):
            raise SaveError(f"{source} was not moved: its copy in {target.parent} is not the same")
        part.rename(target)
        _flush_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def part_of(target: Path) -> Path:
    """Temporary path of an unfinished copy; a killed move to another device leaves it behind."""
    return target.with_name(f".{target.name}.part")


def _flush_folder(folder: Path) -> None:
    """Flush the folder's entry to the device, on systems that support it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
