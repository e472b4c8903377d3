"""A file moved so that it is never lost and nothing is written over, also onto another device."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from diptych.errors import SaveError

HASH_BYTES = 16  # of the digests that tell files apart
_CHUNK = 2**20
# What file systems say that know no hard links, or not this one.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EACCES}


def move_file(source: Path, target: Path) -> None:
    """Move a file to a name that nothing has.

    On one device it has the old name or the new one at every instant, or both; onto another it is copied,
    flushed and read back before the old name goes.

    Raises
    ------
    FileExistsError
        The new name is taken; nothing was touched.
    OSError
        The system says no; the file is where it was. A network drive may fail to say whether it still is:
        then the new name stays, too.
    SaveError
        The copy on the other device is not the same; the file is where it was.
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
        return  # somebody took the old name away meanwhile: the new one may be all there is
    except OSError:
        if _gone(source):  # only the answer was lost on its way
            return
        if same_bytes(source, target):
            target.unlink()  # a folder that may not be written to: it stays there, and only there
        raise


def digest(path: Path) -> bytes:
    """The hash by which a catalogue knows a file's bytes, read piece by piece.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = Path(folder, "a").write_bytes(b"")
    ...     digest(Path(folder, "a")).hex()
    'cae66941d9efbd404e4d88758ea67670'
    """
    found = hashlib.blake2b(digest_size=HASH_BYTES)
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            found.update(data)
    return found.digest()


def same_bytes(one: Path, other: Path) -> bool:
    """Whether both can be read and are equal; of links, whether they say the same.

    Examples
    --------
    >>> same_bytes(Path("/nowhere"), Path("/nowhere"))
    False
    """
    try:
        if one.is_symlink() or other.is_symlink():
            return one.readlink() == other.readlink()
        return digest(one) == digest(other)
    except OSError:
        return False


def _gone(path: Path) -> bool:
    """Whether the system says that there is nothing; False where it says nothing."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _rename(source: Path, target: Path) -> None:
    """Where there are no links, look and then rename: what appears in between would be written over."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _copy(source: Path, target: Path) -> None:
    """A copy on another device, whole or not there, with times and permissions."""
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
    """Where a copy is while it is made: a move onto another device that was killed leaves it behind."""
    return target.with_name(f".{target.name}.part")


def _flush_folder(folder: Path) -> None:
    """Let the device know the new name, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
