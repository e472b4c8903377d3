"""What the libraries below Pillow print: kept off the screen, and said with the file's name instead.

libtiff and LibRaw write to the process's standard error whatever Python does with `sys.stderr`. libtiff
takes a handler; it is called in the thread that decodes, so every message belongs to the file of that thread.
LibRaw takes one only in C++: for the time of its work descriptor 2 points to a file. What Python code writes
to `sys.stderr` meanwhile would land there, too. It is written out afterwards, and the command line writes to
a descriptor of its own (`cli.main`).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import PIL

_MOST = 20  # messages kept of one file
_LENGTH = 512  # bytes of one
_LIBRAW = re.compile(rb"^(?:[^\n]*: )?(data corrupted at \d+|Unexpected end of file)\n?", re.MULTILINE)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


class _Messages(threading.local):
    """Those of the file that this thread decodes; None while it decodes none."""

    current: list[str] | None = None


_messages = _Messages()
_descriptor = threading.Lock()
_installing = threading.Lock()
_kept: list[Any] = []  # what libtiff points to; never freed


@contextlib.contextmanager
def libtiff_messages() -> Iterator[list[str]]:
    """What libtiff says inside, in this thread; nothing of it is printed.

    Where Pillow has libtiff built in and not as a library of its own, it cannot be reached and goes on
    printing.
    """
    _install()
    before, _messages.current = _messages.current, []
    try:
        yield _messages.current
    finally:
        _messages.current = before


class LibrawMessages:
    """What LibRaw has said so far; complete once its context is left.

    Attributes
    ----------
    messages : list of str
    """

    def __init__(self, file: BinaryIO | None = None, kept: int = 2) -> None:
        self.messages: list[str] = []
        self._file, self._kept = file, kept

    def collect(self) -> list[str]:
        """The messages up to now; what others wrote meanwhile is printed."""
        if self._file is not None:
            self._file.seek(0)
            said = self._file.read()
            # The descriptor has one position with the file: what comes next begins at 0 again.
            self._file.seek(0)
            self._file.truncate()
            found = [match[1].decode() for match in _LIBRAW.finditer(said)]
            self.messages += found[: _MOST - len(self.messages)]
            if others := _LIBRAW.sub(b"", said):
                with contextlib.suppress(OSError):
                    os.write(self._kept, others)
        return self.messages


@contextlib.contextmanager
def libraw_messages() -> Iterator[LibrawMessages]:
    """What LibRaw says inside; one thread at a time. What others write meanwhile is printed all the same."""
    with _descriptor, tempfile.TemporaryFile(buffering=0) as file:
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed: nothing can be printed
            yield LibrawMessages()
            return
        said = LibrawMessages(file, kept)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            said.collect()
            os.close(kept)


def _install() -> None:
    """Put handlers into Pillow's libtiff, once for all threads: handlers of a second call would be freed."""
    if _kept:
        return
    with _installing:
        if not _kept:
            _kept.append(_install_handlers())


def _install_handlers() -> tuple[Any, ...]:
    """The handlers and their libraries; they must live as long as the process."""
    path = _library()
    if path is None:
        return ()
    try:
        library, libc = ctypes.CDLL(path), ctypes.CDLL(None)
        kept: list[Any] = [library, libc]
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            before = set_handler(None)
            handler = _handler(libc, _HANDLER(before) if before else None)
            set_handler(ctypes.cast(handler, ctypes.c_void_p))
            kept.append(handler)
        return tuple(kept)
    except (OSError, AttributeError):  # another build of Pillow
        return ()


def _handler(libc: Any, before: Any) -> Any:
    def handle(module: bytes | None, form: bytes | None, values: int | None) -> None:
        messages = _messages.current
        if messages is None:  # somebody else's file
            if before is not None:
                before(module, form, values)
            return
        if len(messages) < _MOST:
            text = ctypes.create_string_buffer(_LENGTH)
            libc.vsnprintf(text, ctypes.c_size_t(_LENGTH), form, ctypes.c_void_p(values))
            messages.append(text.value.decode("utf-8", "replace").strip().rstrip("."))

    return _HANDLER(handle)


def _library() -> str | None:
    """The libtiff that Pillow has loaded: among the process's libraries, else in Pillow's own folder."""
    importlib.import_module("PIL._imaging")  # loads it
    found: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
        found = sorted({line.split(None, 5)[5] for line in lines if "/libtiff" in line})
    if not found:
        folder = Path(PIL.__file__).parent / ".dylibs"
        found = sorted(str(path) for path in folder.glob("libtiff*"))
    own = [path for path in found if "pillow" in path.lower() or "/PIL/" in path]
    return next(iter(own or found), None)
