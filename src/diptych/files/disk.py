"""Atomic writes (a temporary file in the same folder, then a rename), safe file names, the cache folder."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from diptych.errors import SaveError

LONGEST_STEM = 120  # bytes: leaves room for a number, a suffix and ".part" below the usual limit of 255
_FORBIDDEN = '<>:"/\\|?*'  # in file names of at least one file system
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.I
)  # file names that Windows reserves for devices


@contextlib.contextmanager
def saving(target: str | Path) -> Iterator[None]:
    """Translate an OSError of a write into a `SaveError` that names the file.

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
            f"cannot write {target}: {reason}. Nothing was left half-written; free some space or choose "
            "another folder, then save again"
        ) from error


def write_temporary(path: Path, write: Callable[[Path], object], *, mark: str = "") -> Path:
    """Write a temporary file beside `path`, flush it to the device and return its path, ready for a rename.

    The temporary file is removed when `write` fails. Its name is always the same, so that the leftover of a
    killed process is overwritten by the next one; processes that may write the same file at the same time
    pass different values of `mark`.
    """
    temporary = path.with_name(f".{path.name}.{mark}.part" if mark else f".{path.name}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # follows the umask; some writers create files with mode 0600
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def replace_file(path: Path, write: Callable[[Path], object], *, mark: str = "") -> None:
    """Write a file atomically: at any instant its path holds the old content or the new, never a part.

    Raises
    ------
    OSError
        The write failed. `write_atomically` raises `SaveError` instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = write_temporary(path, write, mark=mark)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, write: Callable[[Path], object], *, mark: str = "") -> None:
    """Write a file atomically, see `replace_file`.

    Raises
    ------
    SaveError
        The device is full, or the folder is not writable.
    """
    with saving(path):
        replace_file(path, write, mark=mark)


def write_bytes(path: Path, data: bytes, *, mark: str = "") -> None:
    """Write bytes atomically, see `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data), mark=mark)


def file_stem(text: str, *, spaces: bool = False, fallback: str = "unnamed") -> str:
    """A file name without suffix for any text, such as a class name or the name of a table's column.

    The name has no separator and is not "." or "..", so the file stays in its folder; it is not empty, not
    reserved on Windows, valid UTF-8 and at most `LONGEST_STEM` bytes long. Different texts may give the same
    name: for several files in one folder use `file_stems`.

    Parameters
    ----------
    spaces : bool
        Keep spaces, dots and punctuation that every file system allows, for names that people read. Otherwise
        only letters, digits, "-" and "_" are kept, which also makes the name safe in HTML and as an
        identifier.
    fallback : str
        The name if no character of the text can be kept.

    Examples
    --------
    >>> file_stem("vtab/caltech101, zero-shot"), file_stem("x/../../../evil"), file_stem("..")
    ('vtab-caltech101-zero-shot', 'x-evil', 'unnamed')
    >>> file_stem("cats/dogs: both?", spaces=True), file_stem("a dog.", spaces=True), file_stem("CON")
    ('cats_dogs_ both_', 'a dog', 'CON_')
    """
    composed = unicodedata.normalize("NFC", text)  # macOS treats "e" + accent and "é" as the same name
    if spaces:
        name = "".join("_" if _is_unsafe(letter) else letter for letter in composed).strip(" .")
    else:
        name = re.sub("-+", "-", "".join(letter if _is_word(letter) else "-" for letter in composed))
        name = name.strip("-")
    name = _truncated(name, LONGEST_STEM - 1).strip(" .") or fallback
    if not _RESERVED.fullmatch(name):
        return name
    stem, dot, ending = name.partition(".")  # Windows reserves "con.txt", too
    return f"{stem}_{dot}{ending}"


def file_stems(texts: Iterable[str], *, spaces: bool = False, fallback: str = "unnamed") -> list[str]:
    """Unique file names for several texts, also on file systems that ignore case; see `file_stem`.

    Parameters
    ----------
    texts : iterable of str
        May repeat: every position gets a name of its own.
    spaces, fallback
        As for `file_stem`.

    Returns
    -------
    list of str
        In the order of `texts`; the second use of a name gets the suffix "-2" (with `spaces`, " (2)").

    Examples
    --------
    >>> file_stems(["a/b", "A b", "a-b-2", ".."])
    ['a-b', 'A-b-2', 'a-b-2-2', 'unnamed']
    >>> file_stems(["Cat", "cat"], spaces=True)
    ['Cat', 'cat (2)']
    """
    names: list[str] = []
    taken: set[str] = set()
    for text in texts:
        stem = name = file_stem(text, spaces=spaces, fallback=fallback)
        count = 1
        while _comparison_key(name) in taken:
            count += 1
            ending = f" ({count})" if spaces else f"-{count}"
            name = _truncated(stem, LONGEST_STEM - len(ending)).rstrip(" .") + ending
        taken.add(_comparison_key(name))
        names.append(name)
    return names


def file_inside(folder: Path, name: str) -> Path | None:
    """Path below a folder for a name that comes from untrusted data; None if the name would leave the folder.

    Decided by the name alone, by the rules of all operating systems: no root, drive, "..", backslash or NUL.
    Neither the existence of the file nor the targets of links are checked.

    Examples
    --------
    >>> file_inside(Path("data"), "val/a.png") == Path("data/val/a.png")
    True
    >>> [file_inside(Path("data"), name) for name in ("/etc/passwd", "a/../../b", "a/C:b", "..", "")]
    [None, None, None, None, None]
    """
    parts = PurePosixPath(name).parts
    leads_out = not parts or ".." in parts or name.startswith("/") or any(sign in name for sign in "\\\0")
    # On Windows a drive at any position replaces everything before it: "data" joined with "a/C:b" is "C:b".
    if leads_out or any(PureWindowsPath(part).drive for part in parts):
        return None
    return folder.joinpath(*parts)


def _is_word(letter: str) -> bool:
    """Whether a character is a letter, a combining mark (as in Hindi), a digit, "-" or "_"."""
    return letter in "-_" or unicodedata.category(letter)[0] in "LMN"


def _is_unsafe(letter: str) -> bool:
    """Whether a character is a control, a lone surrogate, unassigned, or forbidden on some file system."""
    return letter in _FORBIDDEN or unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _truncated(name: str, size: int) -> str:
    """The name cut to at most `size` bytes of UTF-8, between characters."""
    return name.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def _comparison_key(name: str) -> str:
    """Equal for names that at least one file system treats as the same."""
    return unicodedata.normalize("NFKC", name.casefold()).casefold()


def user_cache() -> Path:
    """The cache folder of this user: DIPTYCH_CACHE, or the usual folder of the operating system.

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
