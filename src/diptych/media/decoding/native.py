"""Capture messages that libtiff and LibRaw print, so that they can be reported with the name of the file.

Both libraries write to the standard error of the process (descriptor 2), regardless of `sys.stderr`. libtiff
accepts a handler, which is called in the decoding thread, so every message belongs to the file of that
thread. LibRaw accepts a handler only in C++: while it works, descriptor 2 is redirected to a temporary file.
Other output to standard error during that time is written out afterwards; the command line uses a descriptor
of its own (`cli.main`).
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

_MOST = 20  # messages kept per file
_LENGTH = 512  # bytes per message
_LIBRAW = re.compile(rb"^(?:[^\n]*: )?(data corrupted at \d+|Unexpected end of file)\n?", re.MULTILINE)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


class _Messages(threading.local):
    """Messages about the file that this thread is decoding; None while it decodes none."""

    current: list[str] | None = None


_messages = _Messages()
_descriptor = threading.Lock()
_installing = threading.Lock()
_kept: list[Any] = []  # handlers and libraries that libtiff refers to; never freed


@contextlib.contextmanager
def libtiff_messages() -> Iterator[list[str]]:
    """Capture libtiff's messages in this thread.

    If libtiff is linked statically into Pillow it cannot be reached, and its messages are still printed.
    """
    _install()
    before, _messages.current = _messages.current, []
    try:
        yield _messages.current
    finally:
        _messages.current = before


class LibrawMessages:
    """Messages of LibRaw so far; complete when the context `libraw_messages` is left."""

    def __init__(self, file: BinaryIO | None = None, stderr: int = 2) -> None:
        self.messages: list[str] = []
        self._file, self._stderr = file, stderr

    def collect(self) -> list[str]:
        """Return the messages so far; print what others wrote to standard error."""
        if self._file is not None:
            self._file.seek(0)
            output = self._file.read()
            # The redirected descriptor shares its position with the file, so the next output begins at 0
            # again.
            self._file.seek(0)
            self._file.truncate()
            messages = [match[1].decode() for match in _LIBRAW.finditer(output)]
            self.messages += messages[: _MOST - len(self.messages)]
            if others := _LIBRAW.sub(b"", output):
                with contextlib.suppress(OSError):
                    os.write(self._stderr, others)
        return self.messages


@contextlib.contextmanager
def libraw_messages() -> Iterator[LibrawMessages]:
    """Capture LibRaw's messages, one thread at a time; other output to standard error is still printed."""
    with _descriptor, tempfile.TemporaryFile(buffering=0) as file:
        try:
            stderr = os.dup(2)
        except OSError:  # standard error is closed: nothing can be printed
            yield LibrawMessages()
            return
        messages = LibrawMessages(file, stderr)
        os.dup2(file.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(stderr, 2)
            messages.collect()
            os.close(stderr)


def _install() -> None:
    """Install handlers in Pillow's libtiff, once for all threads; they must never be freed."""
    if _kept:
        return
    with _installing:
        if not _kept:
            _kept.append(_install_handlers())


def _install_handlers() -> tuple[Any, ...]:
    """Install the handlers and return them with their libraries, which must be kept alive."""
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
        if messages is None:  # not a file that this package is decoding
            if before is not None:
                before(module, form, values)
            return
        if len(messages) < _MOST:
            text = ctypes.create_string_buffer(_LENGTH)
            libc.vsnprintf(text, ctypes.c_size_t(_LENGTH), form, ctypes.c_void_p(values))
            messages.append(text.value.decode("utf-8", "replace").strip().rstrip("."))

    return _HANDLER(handle)


def _library() -> str | None:
    """Path of the libtiff loaded by Pillow: from the libraries of the process, or from Pillow's folder."""
    importlib.import_module("PIL._imaging")  # loads libtiff
    paths: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
        paths = sorted({line.split(None, 5)[5] for line in lines if "/libtiff" in line})
    if not paths:
        folder = Path(PIL.__file__).parent / ".dylibs"
        paths = sorted(str(path) for path in folder.glob("libtiff*"))
    own = [path for path in paths if "pillow" in path.lower() or "/PIL/" in path]
    return next(iter(own or paths), None)
