"""Whether a file holds more than the picture that is loaded from it: pages, moments, layers.

`images` takes the first frame; whoever takes two files for copies of each other has to know that there are
others. No pixel is decoded.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, MpoImagePlugin, TiffImagePlugin

from diptych.media.decoding.formats import open_known
from diptych.media.decoding.pillow import pillow_limits_off
from diptych.media.decoding.raw import is_raw
from diptych.media.sources import Limits, Source, name_of, naming, opened

_SUBFILE, _REDUCED = 254, 1  # TIFF's tag that says what a frame is, and the bit of a smaller copy
_MOST_COPIES = 100  # of one picture, before a file is taken to hold several


def has_several(source: Source, name: str = "", *, limits: Limits | None = None) -> bool:
    """Whether there is more in a file than its first frame.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL.Image.Image
        As for `load_image`.
    name : str
        Whose suffix tells a camera's RAW; by default the source's own.
    limits : Limits, optional

    Returns
    -------
    bool
        Pages of a TIFF, frames of an animation, layers of a PSD count; smaller copies of the first picture,
        and the maps of light that telephones put beside it, do not.

    Raises
    ------
    ImageError
        Missing, a folder, empty, or no picture at all; the message names it.
    MissingExtraError
        A HEIC file, and the library for it is not installed.

    Examples
    --------
    >>> import io
    >>> page, scan = Image.new("L", (40, 30)), io.BytesIO()
    >>> page.save(scan, "TIFF", save_all=True, append_images=[page])
    >>> has_several(scan.getvalue()), has_several(page)
    (True, False)
    """
    name = name or name_of(source)
    with naming(name):
        if isinstance(source, Image.Image):
            return _several(source)
        with opened(source, limits or Limits()) as file:
            if is_raw(file, name):
                return False
            return _several(open_known(file, name))


def _several(image: Image.Image) -> bool:
    with pillow_limits_off(image.format):
        return _has_frames(image)


def _has_frames(image: Image.Image) -> bool:
    try:
        animated = bool(getattr(image, "is_animated", False))  # a GIF looks for its second frame
    except Exception:  # which is damaged, and so cannot be seen by anyone
        return False
    if not animated:
        return False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _another(image, lambda: not int(image.tag_v2.get(_SUBFILE, 0)) & _REDUCED)
    if isinstance(image, MpoImagePlugin.MpoImageFile):
        size = image.size
        return _another(image, lambda: image.size == size)
    return True


def _another(image: Image.Image, counts: Callable[[], bool]) -> bool:
    """Whether a frame behind the first one is no copy of it."""
    for number in range(1, _MOST_COPIES):
        try:
            image.seek(number)
        except EOFError:
            return False
        except Exception:  # damaged: what is behind the first picture is neither shown nor compared
            return False
        if counts():
            return True
    return True
