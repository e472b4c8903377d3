"""Detect files with more than one frame: pages, animations, layers.

`load_image` returns the first frame only, so files with equal first frames need not be copies of each other.
No pixels are decoded.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, MpoImagePlugin, TiffImagePlugin

from diptych.media.decoding.formats import open_non_raw
from diptych.media.decoding.pillow import pillow_limits_off
from diptych.media.decoding.raw import is_raw
from diptych.media.sources import Limits, Source, name_of, naming, open_source

_SUBFILE, _REDUCED = 254, 1  # TIFF tag NewSubfileType, and its bit for a reduced copy of the image
_MOST_COPIES = 100  # reduced copies that are checked; a file with more counts as having several frames


def has_multiple_frames(source: Source, name: str = "", *, limits: Limits | None = None) -> bool:
    """Whether a file has further frames besides the first one.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL.Image.Image
        As for `load_image`.
    name : str
        Its suffix identifies camera RAW; by default the name of the source.

    Returns
    -------
    bool
        Pages of a TIFF, frames of an animation and layers of a PSD count; reduced copies of the first image,
        and the gain maps that phones store with it, do not.

    Raises
    ------
    ImageError
        Missing, a folder, empty, or no picture at all; the message names it.
    MissingExtraError
        The library for HEIC is not installed.

    Examples
    --------
    >>> import io
    >>> page, scan = Image.new("L", (40, 30)), io.BytesIO()
    >>> page.save(scan, "TIFF", save_all=True, append_images=[page])
    >>> has_multiple_frames(scan.getvalue()), has_multiple_frames(page)
    (True, False)
    """
    name = name or name_of(source)
    with naming(name):
        if isinstance(source, Image.Image):
            return _has_frames_without_limits(source)
        with open_source(source, limits or Limits()) as file:
            if is_raw(file, name):
                return False
            return _has_frames_without_limits(open_non_raw(file, name))


def _has_frames_without_limits(image: Image.Image) -> bool:
    with pillow_limits_off(image.format):
        return _has_frames(image)


def _has_frames(image: Image.Image) -> bool:
    try:
        animated = bool(getattr(image, "is_animated", False))  # for a GIF this reads the second frame
    except Exception:  # the second frame is damaged, so it cannot be displayed
        return False
    if not animated:
        return False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _has_other_frame(image, lambda: not int(image.tag_v2.get(_SUBFILE, 0)) & _REDUCED)
    if isinstance(image, MpoImagePlugin.MpoImageFile):
        size = image.size
        return _has_other_frame(image, lambda: image.size == size)
    return True


def _has_other_frame(image: Image.Image, counts: Callable[[], bool]) -> bool:
    """Whether a frame after the first one counts as a frame of its own."""
    for number in range(1, _MOST_COPIES):
        try:
            image.seek(number)
        except EOFError:
            return False
        except Exception:  # damaged frames are ignored
            return False
        if counts():
            return True
    return True
