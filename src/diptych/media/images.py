"""Load an image from any source as upright RGB, or raise ImageError.

All code that reads images uses `load_image`, so that EXIF orientation is always applied and damaged or
hostile files raise a clear error. It does not download (see `urls`) and does not resize, except by the
decoder's own scaling on request.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diptych.errors import ImageError
from diptych.media.decoding.colours import to_rgb
from diptych.media.decoding.formats import open_image
from diptych.media.decoding.layouts.lazy import LayoutError
from diptych.media.decoding.pillow import pillow_limits_off
from diptych.media.decoding.png import apply_wide_key
from diptych.media.decoding.profiles import profile_of
from diptych.media.decoding.truncation import recover_truncated
from diptych.media.folders.archives import read_member
from diptych.media.sources import BorderedBytes, Limits, Source, name_of, naming, read_source

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
_LARGE = 64_000_000  # pixels; larger images are decoded one at a time
_large = threading.Lock()


def load_image(
    source: Source, *, target: int | None = None, limits: Limits | None = None, srgb: bool = True
) -> Image.Image:
    """Load an image as upright RGB.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL.Image.Image
        A string is a path, never a URL. Of an animation the first frame is loaded.
    target : int, optional
        Input size of the model in pixels. Allows the JPEG decoder to scale down while decoding (several times
        faster on large photographs) and uses the preview embedded in camera RAW files; the shorter side stays
        at least twice the target. By default decoding is exact and RAW files are developed.
    limits : Limits, optional
        Refuse larger files and images before decoding; by default `Limits()`.
    srgb : bool
        Convert colours to sRGB by the embedded profile, as viewers do. False keeps the stored values, as the
        reference implementations do, and is used for evaluation, audits and training.

    Returns
    -------
    PIL.Image.Image
        A new image in mode RGB without metadata, so that the orientation cannot be applied twice.

    Raises
    ------
    ImageError
        The source is missing, a folder, empty, truncated, too large, or not an image; the message names it.
    MissingExtraError
        The library for HEIC or camera RAW is not installed.

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
        if not isinstance(source, BorderedBytes):
            return _load(source, name, target, limits, srgb)
        border = source.border
        # Without a target: scaling while decoding would scale the border too.
        image = _load(source, name, None, limits, srgb)
        if min(image.size) <= 2 * border:
            raise ImageError(
                f"{image.width} x {image.height} pixels: nothing is left inside a border of {border} pixels"
            )
        return image.crop((border, border, image.width - border, image.height - border))


def _load(source: Source, name: str, target: int | None, limits: Limits, srgb: bool) -> Image.Image:
    if isinstance(source, Image.Image):
        limits.check_size(*source.size)
        source.load()
        return _upright(source, srgb)
    data = read_source(source, limits)
    try:
        image = open_image(io.BytesIO(data), name, limits.check_size, target)
        # Threads decode in parallel, but only one of the largest images at a time, to bound the memory.
        with _large if image.width * image.height > _LARGE else contextlib.nullcontext():
            return _upright(_decoded(image, data, target), srgb)
    except LayoutError as error:
        return _read_by_vips(data, error, limits.check_size)


def _decoded(image: Image.Image, data: bytes, target: int | None) -> Image.Image:
    try:
        with pillow_limits_off(image.format):
            apply_wide_key(image)
            image.load()
    except (OSError, SyntaxError):
        recovered = recover_truncated(image, data, target)
        if recovered is None:
            raise
        return recovered
    return image


def _upright(image: Image.Image, srgb: bool) -> Image.Image:
    orientation = _orientation(image)  # after loading: Pillow rotates TIFF images itself and then reports 1
    upright = to_rgb(image, profile_of(image) if srgb else None)
    if orientation != 1:
        upright = upright.transpose(_UPRIGHT[orientation])
    return _without_metadata(upright, image)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata must not prevent loading the pixels
        return 1
    return value if value in _UPRIGHT else 1


def _without_metadata(image: Image.Image, original: Image.Image) -> Image.Image:
    """The pixels without metadata, open file, or data shared with the caller's image."""
    if image is original:
        image = image.copy()
    image.info = {}
    return image


def load_file(path: Path, member: str = "", *, target: int | None = None) -> Image.Image:
    """Load an image from a file, or from a member of an archive."""
    if not member:
        return load_image(path, target=target)
    source = io.BytesIO(read_member(path, member))
    source.name = member  # its suffix identifies camera RAW
    return load_image(source, target=target)


def _read_by_vips(data: bytes, refusal: LayoutError, check: Callable[[int, int], None]) -> Image.Image:
    """Decode an image by libvips, in sRGB and upright.

    Parameters
    ----------
    data : bytes
        The whole file.
    refusal : LayoutError
        The error of the other decoders.
    check : callable
        Called with width and height before any pixel is decoded; raises to refuse.

    Raises
    ------
    ImageError
        libvips is not installed, or cannot read the file either; the message begins with `refusal`.
    """
    try:
        vips: Any = importlib.import_module("pyvips")
    except (ImportError, OSError):  # OSError: the shared library is missing
        raise ImageError(f"{refusal}; libvips may: pip install 'diptych[vips]'") from refusal
    try:
        image = vips.Image.new_from_buffer(data, "")
        check(image.width, image.height)
        image = image.autorot().colourspace("srgb")
        if image.hasalpha():
            image = image.flatten(background=[255, 255, 255])
        pixels = np.asarray(image.cast("uchar").numpy())
    except vips.Error as error:
        reason = " ".join(str(error).split())
        raise ImageError(f"{refusal}; nor does libvips: {reason}") from error
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(np.ascontiguousarray(pixels[..., :3] if pixels.ndim == 3 else pixels))
