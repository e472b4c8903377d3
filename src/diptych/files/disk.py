"""Files that are whole or not there: written under a temporary name in the same folder, then renamed.

Also file names made from any text, and where files that can be made again are kept. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from diptych.errors import SaveError

LONGEST_STEM = 120  # bytes: leaves room for a number, an ending and ".part" below the usual limit of 255
_FORBIDDEN = '<>:"/\\|?*'  # by one file system or another
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.I
)  # on Windows


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


def file_stem(text: str, *, spaces: bool = False, fallback: str = "unnamed") -> str:
    """A file name, without its ending, for any text, such as a class name or a column of someone's table.

    The name has no separator and is not "." or "..", so the file stays in its folder; it is not empty, not
    reserved on Windows, valid UTF-8 and at most `LONGEST_STEM` bytes long. Two texts may give one name: where
    several files go into one folder, use `file_stems`.

    Parameters
    ----------
    text : str
    spaces : bool
        Keep spaces, dots and signs that every file system allows, for names that people read. Otherwise only
        letters, digits, "-" and "_" stay, which also makes the name safe in HTML and as an identifier.
    fallback : str
        The name where nothing of the text can stay.

    Examples
    --------
    >>> file_stem("vtab/caltech101, zero-shot"), file_stem("x/../../../evil"), file_stem("..")
    ('vtab-caltech101-zero-shot', 'x-evil', 'unnamed')
    >>> file_stem("cats/dogs: both?", spaces=True), file_stem("a dog.", spaces=True), file_stem("CON")
    ('cats_dogs_ both_', 'a dog', 'CON_')
    """
    composed = unicodedata.normalize("NFC", text)  # macOS takes "e" + accent and "é" for one name
    if spaces:
        name = "".join("_" if _is_unsafe(letter) else letter for letter in composed).strip(" .")
    else:
        name = re.sub("-+", "-", "".join(letter if _is_word(letter) else "-" for letter in composed))
        name = name.strip("-")
    name = _shortened(name, LONGEST_STEM - 1).strip(" .") or fallback
    if not _RESERVED.fullmatch(name):
        return name
    stem, dot, ending = name.partition(".")  # Windows reserves "con.txt", too
    return f"{stem}_{dot}{ending}"


def file_stems(texts: Iterable[str], *, spaces: bool = False, fallback: str = "unnamed") -> list[str]:
    """A file name for each text as `file_stem` makes it, no two the same, also where case does not count.

    Parameters
    ----------
    texts : iterable of str
        May repeat: every position gets its own name.
    spaces, fallback
        As for `file_stem`.

    Returns
    -------
    list of str
        In the order of `texts`; the second of one name ends in "-2" (with `spaces`, in " (2)").

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
        while _compared(name) in taken:
            count += 1
            ending = f" ({count})" if spaces else f"-{count}"
            name = _shortened(stem, LONGEST_STEM - len(ending)).rstrip(" .") + ending
        taken.add(_compared(name))
        names.append(name)
    return names


def file_inside(folder: Path, name: str) -> Path | None:
    """The file of a name that comes from data, below a folder; None where the name would lead out of it.

    Judged by the name alone and by the rules of every system: no root, drive, "..", backslash or NUL. Whether
    the file is there, and where links lead, is not looked at.

    Examples
    --------
    >>> file_inside(Path("data"), "val/a.png") == Path("data/val/a.png")
    True
    >>> [file_inside(Path("data"), name) for name in ("/etc/passwd", "a/../../b", "a/C:b", "..", "")]
    [None, None, None, None, None]
    """
    parts = PurePosixPath(name).parts
    leads_out = not parts or ".." in parts or name.startswith("/") or any(sign in name for sign in "\\\0")
    # Windows begins anew at a drive in any place: joined to "data", "a/C:b" is "C:b".
    if leads_out or any(PureWindowsPath(part).drive for part in parts):
        return None
    return folder.joinpath(*parts)


def _is_word(letter: str) -> bool:
    """Whether a character is a letter, a mark on one (as Hindi needs), a digit, "-" or "_"."""
    return letter in "-_" or unicodedata.category(letter)[0] in "LMN"


def _is_unsafe(letter: str) -> bool:
    """Whether a character is a control, a lone surrogate, unassigned, or forbidden by some file system."""
    return letter in _FORBIDDEN or unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _shortened(name: str, size: int) -> str:
    """The name cut to so many bytes of UTF-8, between characters."""
    return name.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def _compared(name: str) -> str:
    """The name as the least discerning file system compares it."""
    return unicodedata.normalize("NFKC", name.casefold()).casefold()


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
