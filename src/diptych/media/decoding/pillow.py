"""What Pillow settles for a whole process, kept out of the way of limits and messages per call."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

from PIL import Image

_MODULES = r"PIL\."  # whose warnings are kept quiet
_OWN_CHECKS = {"ICNS"}  # holds pictures of other sizes than its header says: Pillow's limit stays


class _Active(threading.local):
    """Whether this thread reads a picture under `Limits`."""

    here = False


_active = _Active()
_installing = threading.Lock()
_installed = threading.Event()


@contextlib.contextmanager
def pillow_limits_off(format: str | None = None) -> Iterator[None]:
    """Inside, in this thread, Pillow's own limit of pixels neither warns nor raises: `Limits` has decided.

    Parameters
    ----------
    format : str, optional
        Of the picture, as Pillow names it; one whose header cannot be trusted keeps Pillow's limit.

    Notes
    -----
    `Image.MAX_IMAGE_PIXELS` is the whole process's, and not ours to change.
    """
    _install()
    before, _active.here = _active.here, format not in _OWN_CHECKS
    try:
        yield
    finally:
        _active.here = before


def _install() -> None:
    """Replace Pillow's check, once for all threads."""
    if _installed.is_set():
        return
    with _installing:
        if not _installed.is_set():
            _install_check()
            _installed.set()


def _install_check() -> None:
    original = getattr(Image, "_decompression_bomb_check", None)
    if original is None:  # another version of Pillow, which may have another way
        return

    def check(size: tuple[int, int], **options: bool) -> None:
        if not _active.here:
            original(size, **options)

    Image._decompression_bomb_check = check


def quiet_pillow() -> None:
    """Keep Pillow's remarks on odd files ("Corrupt EXIF data") off the screen.

    A program's own handlers of logging still get what Pillow logs.

    One narrow filter, put in place once and again where it was removed. `catch_warnings` would not do: it
    swaps the process's filters, which decoding threads would leave in any order.
    """
    if not any(rule[:3] == ("ignore", None, UserWarning) and _is_ours(rule[3]) for rule in warnings.filters):
        warnings.filterwarnings("ignore", category=UserWarning, module=_MODULES)
    # Without any handler, logging prints errors ("More samples per pixel than can be decoded") itself.
    logger = logging.getLogger("PIL")
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())


def _is_ours(module: object) -> bool:
    return getattr(module, "pattern", None) == _MODULES
