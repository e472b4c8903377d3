"""Override process-wide settings of Pillow (pixel limit, warnings) by settings per call."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

from PIL import Image

_MODULES = r"PIL\."  # modules whose warnings are suppressed
_OWN_CHECKS = {"ICNS"}  # formats whose images may be larger than the header says: Pillow's limit is kept


class _Active(threading.local):
    """Whether this thread is reading an image under `Limits`."""

    here = False


_active = _Active()
_installing = threading.Lock()
_installed = threading.Event()


@contextlib.contextmanager
def pillow_limits_off(format: str | None = None) -> Iterator[None]:
    """Disable Pillow's pixel limit in this thread, since `Limits` has been checked already.

    Parameters
    ----------
    format : str, optional
        Pillow's name of the format; formats with untrustworthy headers keep Pillow's limit.

    Notes
    -----
    `Image.MAX_IMAGE_PIXELS` is not changed, because it is global to the process.
    """
    _install()
    before, _active.here = _active.here, format not in _OWN_CHECKS
    try:
        yield
    finally:
        _active.here = before


def _install() -> None:
    """Replace Pillow's check once, for all threads."""
    if _installed.is_set():
        return
    with _installing:
        if not _installed.is_set():
            _install_check()
            _installed.set()


def _install_check() -> None:
    original = getattr(Image, "_decompression_bomb_check", None)
    if original is None:  # another version of Pillow
        return

    def check(size: tuple[int, int], **options: bool) -> None:
        if not _active.here:
            original(size, **options)

    Image._decompression_bomb_check = check


def quiet_pillow() -> None:
    """Suppress Pillow's warnings about unusual files ("Corrupt EXIF data").

    Logging handlers of the program still receive Pillow's log records. A single warning filter is installed,
    again if it was removed. `catch_warnings` is not suitable: it replaces the filters of the whole process,
    and decoding threads would restore them in any order.
    """
    if not any(rule[:3] == ("ignore", None, UserWarning) and _is_ours(rule[3]) for rule in warnings.filters):
        warnings.filterwarnings("ignore", category=UserWarning, module=_MODULES)
    # Without any handler, logging prints errors ("More samples per pixel than can be decoded").
    logger = logging.getLogger("PIL")
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())


def _is_ours(module: object) -> bool:
    return getattr(module, "pattern", None) == _MODULES
