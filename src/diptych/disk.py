"""Files that are whole or not there: written under a temporary name in the same folder, then renamed.

Also where files that can be made again are kept. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from diptych.errors import SaveError


@contextlib.contextmanager
def saving(what: str | Path) -> Iterator[None]:
    """Turn what the system says about a failed write into a `SaveError` that names the file.

    Examples
    --------
    >>> with saving("model.safetensors"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
        ...
    diptych.errors.SaveError: cannot write model.safetensors: No space left on device. Nothing was left \
half-written; free some space or choose another folder, then save again
    """
    try:
        yield
    except SaveError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(
            f"cannot write {what}: {reason}. Nothing was left half-written; free some space or choose "
            "another folder, then save again"
        ) from error


def prepare(path: Path, write: Callable[[Path], object], *, mark: str = "") -> Path:
    """Write beside `path` under a temporary name and flush to the device; the name, ready for renaming.

    Nothing stays behind when `write` fails. The name is always the same, so that what a killed process left
    is overwritten by the next one; `mark` keeps two that may write the same file at once apart.
    """
    temporary = path.with_name(f".{path.name}.{mark}.part" if mark else f".{path.name}.part")
    try:
        temporary.touch()
        usual = temporary.stat().st_mode  # as the umask has it: some writers leave files to their owner alone
        write(temporary)
        temporary.chmod(usual)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def place(path: Path, write: Callable[[Path], object], *, mark: str = "") -> None:
    """Write a file so that under its name there is the old content or the new, never a part.

    Raises
    ------
    OSError
        As the system says it, for whoever has more to say of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = prepare(path, write, mark=mark)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, write: Callable[[Path], object], *, mark: str = "") -> None:
    """`place`, with an error of this package.

    Raises
    ------
    SaveError
        The device is full, or the folder may not be written to.
    """
    with saving(path):
        place(path, write, mark=mark)


def write_bytes(path: Path, data: bytes, *, mark: str = "") -> None:
    """`write_whole` for bytes at hand."""
    write_whole(path, lambda temporary: temporary.write_bytes(data), mark=mark)


def user_cache() -> Path:
    """Where what can be made again is kept for this user: DIPTYCH_CACHE, or the system's usual place.

    Examples
    --------
    >>> user_cache().is_absolute()
    True
    """
    if named := os.environ.get("DIPTYCH_CACHE"):
        return Path(named).absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "diptych"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "diptych"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diptych"
