"""The one way a picture is loaded: any source and mode in, an upright RGB picture out, or an ImageError.

Everything that reads pictures comes through `load_image`, so that phone photographs stand upright and a
broken or hostile file costs a message, whoever asks. It reads no network (see `urls`) and resizes nothing,
apart from the decoder's own halving on request.
"""

from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path

from PIL import Image

from diptych.errors import ImageError
from diptych.media.decoding.colours import to_rgb
from diptych.media.decoding.fallbacks import read_by_vips
from diptych.media.decoding.formats import open_picture
from diptych.media.decoding.layouts.lazy import LayoutError
from diptych.media.decoding.pillow import pillow_limits_off
from diptych.media.decoding.png import apply_wide_key
from diptych.media.decoding.profiles import profile_of
from diptych.media.decoding.truncation import completed
from diptych.media.folders.archives import read_member
from diptych.media.sources import Framed, Limits, Source, name_of, naming, read_source

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LARGE = 64_000_000  # pixels of a picture that is decoded alone
_large = threading.Lock()


def load_image(
    source: Source, *, target: int | None = None, limits: Limits | None = None, srgb: bool = True
) -> Image.Image:
    """A picture as upright RGB, whatever it came from.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL.Image.Image
        A string is a path, never a URL. Of an animation the first frame is taken.
    target : int, optional
        The side in pixels a model will see. Lets the JPEG decoder halve the picture while decoding (several
        times faster on large photographs) and takes the preview inside a camera RAW file, the shorter side
        never below twice the target. By default decoding is exact and RAW is developed.
    limits : Limits, optional
        Refuse larger files and pictures before decoding them; by default `Limits()`.
    srgb : bool
        Convert the colours to sRGB by the profile inside the file, as every viewer shows them. False takes
        them as they are stored: the reference implementations never look at a profile, so evaluation, audits
        and training do not either.

    Returns
    -------
    PIL.Image.Image
        A new picture in mode RGB that carries no metadata, so that it is not turned upright twice.

    Raises
    ------
    ImageError
        Missing, a folder, empty, truncated, too large, or no picture at all; the message names the source.
    MissingExtraError
        A HEIC or camera RAW file, and the library for it is not installed.

    Examples
    --------
    >>> load_image(Image.new("L", (40, 30))).mode
    'RGB'
    >>> load_image(b"plain words")
    Traceback (most recent call last):
        ...
    diptych.errors.ImageError: 11 bytes in memory: not a picture: the bytes are text
    """
    if target is not None and target < 1:
        raise ImageError(f"target must be a side in pixels above 0, got {target}")
    name, limits = name_of(source), limits or Limits()
    with naming(name):
        if not isinstance(source, Framed):
            return _load(source, name, target, limits, srgb)
        border = source.border
        whole = _load(
            source, name, None, limits, srgb
        )  # scaled down while decoding, the border would be, too
        if min(whole.size) <= 2 * border:
            raise ImageError(f"{whole.width} x {whole.height} pixels, all of them in a border of {border}")
        return whole.crop((border, border, whole.width - border, whole.height - border))


def _load(source: Source, name: str, target: int | None, limits: Limits, srgb: bool) -> Image.Image:
    if isinstance(source, Image.Image):
        limits.check_size(*source.size)
        source.load()
        return _upright(source, srgb)
    data = read_source(source, limits)
    try:
        image = open_picture(io.BytesIO(data), name, limits.check_size, target)
        # Threads decode side by side; of the largest pictures memory holds one.
        with _large if image.width * image.height > _LARGE else contextlib.nullcontext():
            return _upright(_loaded(image, data, target), srgb)
    except LayoutError as error:
        return read_by_vips(data, error, limits.check_size)


def _loaded(image: Image.Image, data: bytes, target: int | None) -> Image.Image:
    try:
        with pillow_limits_off(image.format):
            apply_wide_key(image)
            image.load()
    except (OSError, SyntaxError):
        whole = completed(image, data, target)
        if whole is None:
            raise
        return whole
    return image


def _upright(image: Image.Image, srgb: bool) -> Image.Image:
    orientation = _orientation(image)  # asked after loading: TIFF pictures turn themselves and then say 1
    upright = to_rgb(image, profile_of(image) if srgb else None)
    if orientation != 1:
        upright = upright.transpose(_UPRIGHT[orientation])
    return _bare(upright, image)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to refuse the pixels
        return 1
    return value if value in _UPRIGHT else 1


def _bare(image: Image.Image, original: Image.Image) -> Image.Image:
    """The pixels alone: no metadata, no open file, nothing shared with the caller's picture."""
    if image is original:
        image = image.copy()
    image.info = {}
    return image


def load_file(path: Path, member: str = "", *, target: int | None = None) -> Image.Image:
    """The picture in one file, or in a member of an archive; as `load_entry`."""
    if not member:
        return load_image(path, target=target)
    source = io.BytesIO(read_member(path, member))
    source.name = member  # camera RAW is told by its suffix
    return load_image(source, target=target)
