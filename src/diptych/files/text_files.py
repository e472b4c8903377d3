"""Text files of users in any common encoding: captions, tables, lists and labels.

A byte order mark decides the encoding (UTF-8, UTF-16, UTF-32). Without one the text is UTF-8; invalid UTF-8
bytes are read as Windows-1252, which Excel and Notepad write, and a warning names the file. UTF-16 without a
mark is recognised by its zero bytes. Lines end in LF, CR LF or CR. Files that this package writes are always
UTF-8 and are not read with these functions.
"""

from __future__ import annotations

import codecs
import json
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from diptych.errors import DataError

_HEAD = 4096  # bytes that are examined to detect the encoding
LARGEST_TEXT = 2**26  # bytes of a text that is read into memory; lists of labels and captions are far smaller
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_WIDE_LINE = re.compile(_LINE.pattern.decode())
_ENDS = re.compile(r"\r\n|\r|\n")
_FALLBACK = "diptych-windows-1252"
_decoded = threading.local()  # .guessed: number of bytes that this thread read as Windows-1252


class TextEncodingWarning(UserWarning):
    """A text file is not UTF-8 and was read as Windows-1252.

    Attributes
    ----------
    name : str
        Name of the file.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not UTF-8 and was read as Windows-1252: save it as UTF-8 to be sure")
        self.name = name


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Error handler for codecs: decode invalid UTF-8 bytes as Windows-1252."""
    assert isinstance(error, UnicodeDecodeError)
    _decoded.guessed = getattr(_decoded, "guessed", 0) + error.end - error.start
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_FALLBACK, _as_windows_1252)


def encoding_of(head: bytes) -> tuple[str, int]:
    r"""Detect the encoding of a text from its first bytes; returns it with the length of the byte order mark.

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
    r"""Whether all zero bytes are upper bytes of UTF-16 and the decoded text is plausible.

    `first` is the position of the upper byte: 1 in little-endian, 0 in big-endian. b"a dog\0" has its zero at
    an odd position too but is not UTF-16, so one more sign is needed: at least a quarter of all bytes are
    zeros, or the other bytes are not plain text (Cyrillic letters have the upper byte 4).
    """
    head = head[: len(head) & ~1]
    zeros = head.count(0)
    if head[first::2].count(0) != zeros or not zeros:
        return False
    # An incremental decoder: the head may end between the two halves of a surrogate pair.
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    if "\ufffd" in text or _CONTROLS.search(text):
        return False
    if 4 * zeros >= len(head):
        return True
    # In text that is not Latin the zeros come from blanks and line ends, never from letters of Latin-1.
    if any("\x80" <= letter <= "\xff" for letter in text):
        return False
    try:
        return _CONTROLS.search(head.replace(b"\0", b"").decode("utf-8")) is not None
    except UnicodeDecodeError:
        return True


def decode_text(data: bytes, name: str | Path, *, cut: bool = False) -> str:
    r"""Decode a text of unknown encoding; line ends are kept.

    Parameters
    ----------
    data : bytes
        The content of the file.
    name : str or Path
        Named in messages.
    cut : bool
        The data is the beginning of a longer text and may end inside a character.

    Raises
    ------
    DataError
        Not a text but, for example, an image, an archive or a spreadsheet.

    Examples
    --------
    >>> decode_text(b"\xff\xfea\0 \0c\0a\0t\0", "caption.txt")
    'a cat'
    """
    encoding, start = encoding_of(data[:_HEAD])
    before = getattr(_decoded, "guessed", 0)
    errors = _FALLBACK if encoding == "utf-8" else "strict"
    try:
        # With final=False the decoder holds back the bytes of an incomplete last character.
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
    r"""The lines of a text without their line ends (LF, CR LF or CR).

    Examples
    --------
    >>> lines_of("a dog\ra cat\r\na car\n"), lines_of("")
    (['a dog', 'a cat', 'a car'], [])
    """
    lines = _ENDS.split(text)
    return lines if lines[-1] else lines[:-1]


def read_text_file(path: Path, most: int = LARGEST_TEXT) -> str:
    """Read and decode a text file, see `decode_text`.

    Raises
    ------
    DataError
        The file is missing, larger than `most` bytes, or not a text.
    """
    return decode_text(read_text_bytes(path, most), path)


def read_json_file(path: Path, most: int = LARGEST_TEXT) -> Any:
    """Read and parse a JSON file in any encoding of a text.

    Raises
    ------
    DataError
        The file cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text_file(path, most))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{_printable(path)} cannot be read as JSON: {error}") from error


def read_text_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """Read the bytes of a text file without decoding them.

    Raises
    ------
    DataError
        The file is missing, or larger than `most` bytes.
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
    """Iterate over (line with its line end, size in bytes) from the current position of a file.

    Parameters
    ----------
    file : binary file
        Seekable: the encoding is detected from its first bytes. A byte order mark at the start is skipped,
        and its bytes are counted with the first line.
    name : str or Path
        Named in the warning about bytes that are not UTF-8.

    Raises
    ------
    DataError
        Not a text.
    """
    position = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    encoding, mark = encoding_of(head)
    if encoding == "utf-8" and _is_binary(head):
        raise _no_text(name)
    skipped = max(0, mark - position)
    file.seek(position + skipped)
    lines = _plain_lines(file, name) if encoding == "utf-8" else _wide_lines(file, encoding, name)
    for line, size in lines:
        yield line, size + skipped
        skipped = 0


def _is_binary(head: bytes) -> bool:
    """Whether bytes are neither UTF-8 nor Windows-1252 text; zero bytes are ignored."""
    before = getattr(_decoded, "guessed", 0)
    text = codecs.getincrementaldecoder("utf-8")(_FALLBACK).decode(head)
    return getattr(_decoded, "guessed", 0) > before and _CONTROLS.search(text.replace("\0", "")) is not None


def _plain_lines(file: IO[bytes], name: str | Path) -> Iterator[tuple[str, int]]:
    warned = False
    for raw in file:
        # Fast path: only a lone CR needs the regular expression; nearly all files use LF or CR LF.
        has_lone_cr = raw.count(b"\r") > raw.endswith(b"\r\n")
        for line in _LINE.findall(raw) if has_lone_cr else (raw,):
            before = getattr(_decoded, "guessed", 0)
            text = line.decode("utf-8", _FALLBACK)
            if not warned and getattr(_decoded, "guessed", 0) > before:
                warned = True
                warnings.warn(TextEncodingWarning(_printable(name)), stacklevel=3)
            yield text, len(line)


def _wide_lines(file: IO[bytes], encoding: str, name: str | Path) -> Iterator[tuple[str, int]]:
    """Lines of UTF-16 and UTF-32, where a byte 10 may be part of another character."""
    decoder = codecs.getincrementaldecoder(encoding)()
    pending: list[str] = []  # parts of an unfinished line, or of one that ends in CR and may continue with LF
    while True:
        data = file.read(2**16)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise _cut_short(name, encoding) from error
        ended = pending and pending[-1].endswith("\r")
        pending.append(text)
        # The parts are joined once, at the end of their line; joining after every read would be quadratic.
        if data and (not text or not (ended or _ENDS.search(text))):
            if not text:
                pending.pop()
            continue
        lines = _WIDE_LINE.findall("".join(pending))
        pending = [lines.pop()] if data and lines and not lines[-1].endswith("\n") else []
        for line in lines:
            yield line, len(line.encode(encoding))
        if not data:
            return
