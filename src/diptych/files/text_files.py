"""Text files of users, in the encoding they have: one rule for captions, tables, lists and labels.

A byte order mark decides (UTF-8, UTF-16, UTF-32). Without one the text is UTF-8; bytes that are no UTF-8 are
taken for Windows-1252, which Excel and Notepad write, and a warning names the file. UTF-16 without a mark is
recognised by its zero bytes. Lines end in LF, CR LF or CR. Files that this package writes itself are UTF-8
and are not read here: nothing about them is guessed.
"""

from __future__ import annotations

import codecs
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from diptych.errors import DataError

_HEAD = 4096  # bytes looked at for an encoding without a mark
LARGEST_TEXT = 2**26  # bytes of a text that is read whole: lists of labels and captions are far smaller
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_WIDE_LINE = re.compile(_LINE.pattern.decode())
_ENDS = re.compile(r"\r\n|\r|\n")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_FALLBACK = "diptych-windows-1252"
_decoded = threading.local()  # .guessed: bytes of this thread that were taken for Windows-1252


class TextEncodingWarning(UserWarning):
    """A text file is not UTF-8 and was read as Windows-1252.

    Attributes
    ----------
    name : str
        The file.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not UTF-8 and was read as Windows-1252: save it as UTF-8 to be sure")
        self.name = name


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: the bytes that are no UTF-8, each as a letter of Windows-1252."""
    assert isinstance(error, UnicodeDecodeError)
    _decoded.guessed = getattr(_decoded, "guessed", 0) + error.end - error.start
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_FALLBACK, _as_windows_1252)


def encoding_of(head: bytes) -> tuple[str, int]:
    r"""The encoding of a text by its first bytes, and the length of its byte order mark.

    Examples
    --------
    >>> encoding_of(b"\xff\xfea\0"), encoding_of(b"a\0 \0d\0o\0g\0"), encoding_of(b"a dog")
    (('utf-16-le', 2), ('utf-16-le', 0), ('utf-8', 0))
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    if b"\0" in head:
        for encoding, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if _is_utf16(head, encoding, first):
                return encoding, 0
    return "utf-8", 0


def _is_utf16(head: bytes, encoding: str, first: int) -> bool:
    r"""Whether zero bytes stand where UTF-16 has them, and the text they would give is one.

    "a dog\0" has its zero at an odd place too, and is no UTF-16: there a quarter of all bytes are zeros, or
    the others are no text either (Cyrillic letters have 4 as their upper byte).
    """
    head = head[: len(head) & ~1]
    zeros = head.count(0)
    if head[first::2].count(0) != zeros or not zeros:
        return False
    # The last character may be the first half of a pair, which the cut has parted from the second.
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    if "\ufffd" in text or _CONTROLS.search(text):
        return False
    if 4 * zeros >= len(head):
        return True
    if any("\x80" <= letter <= "\xff" for letter in text):  # blanks and line ends give these zeros, or none
        return False
    try:
        return _CONTROLS.search(head.replace(b"\0", b"").decode("utf-8")) is not None
    except UnicodeDecodeError:
        return True


def decode_text(data: bytes, name: str | Path, *, cut: bool = False) -> str:
    r"""A text in the encoding it has, its line ends as they are.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str or Path
        For messages.
    cut : bool
        The data is the beginning of a longer text and may end inside of a character.

    Raises
    ------
    DataError
        Not a text: bytes of a picture, an archive or a spreadsheet.

    Examples
    --------
    >>> decode_text(b"\xff\xfea\0 \0c\0a\0t\0", "caption.txt")
    'a cat'
    """
    encoding, start = encoding_of(data[:_HEAD])
    before = getattr(_decoded, "guessed", 0)
    errors = _FALLBACK if encoding == "utf-8" else "strict"
    try:
        # A decoder that is not told of the end keeps the bytes of a character that is cut.
        text = codecs.getincrementaldecoder(encoding)(errors).decode(data[start:], final=not cut)
    except UnicodeDecodeError as error:
        raise _cut_short(name, encoding) from error
    if getattr(_decoded, "guessed", 0) == before:
        return text
    if _CONTROLS.search(text):
        raise _no_text(name)
    warnings.warn(TextEncodingWarning(_printable(name)), stacklevel=2)
    return text


def _printable(name: str | Path) -> str:
    return str(name).encode("utf-8", "backslashreplace").decode()


def _cut_short(name: str | Path, encoding: str) -> DataError:
    return DataError(f"{_printable(name)} begins as {encoding[:6].upper()} and is cut short or damaged")


def _no_text(name: str | Path) -> DataError:
    return DataError(
        f"{_printable(name)} is not a text: expected UTF-8, UTF-16 with a byte order mark, or Windows-1252"
    )


def lines_of(text: str) -> list[str]:
    r"""The lines of a text without their ends, whichever ends they have.

    Examples
    --------
    >>> lines_of("a dog\ra cat\r\na car\n"), lines_of("")
    (['a dog', 'a cat', 'a car'], [])
    """
    lines = _ENDS.split(text)
    return lines if lines[-1] else lines[:-1]


def read_text_file(path: Path, most: int = LARGEST_TEXT) -> str:
    """The whole text of a file, see `decode_text`.

    Raises
    ------
    DataError
        Not there, larger than `most` bytes, or not a text.
    """
    return decode_text(read_text_bytes(path, most), path)


def read_text_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """The bytes of a text file, undecoded.

    Raises
    ------
    DataError
        Not there, or larger than `most` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{_printable(path)} cannot be read: {reason}") from error
    if len(data) > most:
        raise DataError(f"{_printable(path)} is over {most:,} bytes: expected a list or a text")
    return data


def text_lines(file: IO[bytes], name: str | Path) -> Iterator[tuple[str, int]]:
    """The lines of a text file from where it stands, each with its end, and how many bytes it takes.

    Parameters
    ----------
    file : binary file
        Can be sought in: its first bytes tell the encoding. At its start the byte order mark is passed over;
        its bytes count as the first line's.
    name : str or Path
        For the warning where bytes are no UTF-8.

    Raises
    ------
    DataError
        Not a text.
    """
    place = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    encoding, mark = encoding_of(head)
    if encoding == "utf-8" and _is_binary(head):
        raise _no_text(name)
    skipped = max(0, mark - place)
    file.seek(place + skipped)
    lines = _plain_lines(file, name) if encoding == "utf-8" else _wide_lines(file, encoding, name)
    for line, size in lines:
        yield line, size + skipped
        skipped = 0


def _is_binary(head: bytes) -> bool:
    """Whether bytes are neither UTF-8 nor a text of Windows-1252; zeros among them are passed over."""
    before = getattr(_decoded, "guessed", 0)
    text = codecs.getincrementaldecoder("utf-8")(_FALLBACK).decode(head)
    return getattr(_decoded, "guessed", 0) > before and _CONTROLS.search(text.replace("\0", "")) is not None


def _plain_lines(file: IO[bytes], name: str | Path) -> Iterator[tuple[str, int]]:
    warned = False
    for whole in file:
        # Only a lone CR needs a closer look: files end their lines in LF or CR LF, nearly always.
        inner = whole.find(b"\r", 0, -2) >= 0 or whole.endswith(b"\r")
        for line in _LINE.findall(whole) if inner else (whole,):
            before = getattr(_decoded, "guessed", 0)
            text = line.decode("utf-8", _FALLBACK)
            if not warned and getattr(_decoded, "guessed", 0) > before:
                warned = True
                warnings.warn(TextEncodingWarning(_printable(name)), stacklevel=3)
            yield text, len(line)


def _wide_lines(file: IO[bytes], encoding: str, name: str | Path) -> Iterator[tuple[str, int]]:
    """Lines of UTF-16 and UTF-32, where a byte 10 may be half of a letter."""
    decoder = codecs.getincrementaldecoder(encoding)()
    pieces: list[str] = []  # of a line whose end has not come yet, or of which CR may go on with LF
    while True:
        data = file.read(2**16)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise _cut_short(name, encoding) from error
        ended = pieces and pieces[-1].endswith("\r")
        pieces.append(text)
        # Pieces are put together once, at the end of their line: at every piece would be quadratic.
        if data and (not text or not (ended or _ENDS.search(text))):
            if not text:
                pieces.pop()
            continue
        lines = _WIDE_LINE.findall("".join(pieces))
        pieces = [lines.pop()] if data and lines and not lines[-1].endswith("\n") else []
        for line in lines:
            yield line, len(line.encode(encoding))
        if not data:
            return


def separator_line(line: str) -> str:
    r"""The separator that a first line ``sep=;`` names, as Excel writes it; "" for any other line.

    Examples
    --------
    >>> separator_line("sep=;\r\n"), separator_line("filepath;title")
    (';', '')
    """
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else ""


def table_head(lines: Iterable[tuple[str, int]]) -> tuple[str, str, int]:
    """The header of separated text: its line, the separator a ``sep=`` line before it names, bytes of both.

    The line is "" where there is none.
    """
    consumed, named = 0, ""
    for line, size in lines:
        consumed += size
        if not line.strip() or (not named and (named := separator_line(line))):
            continue
        return line, named, consumed
    return "", named, consumed
