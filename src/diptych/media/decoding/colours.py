"""Convert images of any Pillow mode to RGB, before resizing.

Resizing palette indices or transparent colours would give wrong pixels. Colours are converted to sRGB if
there is a profile, then transparency is composited over white, as in a browser.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.errors import ImageError
from diptych.media.decoding.profiles import to_srgb

_ALPHA = {"RGBA", "LA", "PA"}
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}


def to_rgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    """Convert an image of any mode to RGB; an RGB image without transparency is returned as it is.

    Parameters
    ----------
    image : PIL.Image.Image
        Transparency (alpha channel, palette or colour key) is composited over white. An alpha channel that
        hides an entire image of several colours is ignored. Grey of 16 bits keeps its high byte (value >> 8);
        mode "I" is treated as 16 bits too, since Pillow decodes 16-bit files to it; values of mode "F" from 0
        to 1 are scaled by 255, others clipped to 0 to 255.
    profile : bytes, optional
        ICC profile from which colours are converted to sRGB (see `diptych.media.decoding.profiles`). By
        default the stored values are kept.

    Returns
    -------
    PIL.Image.Image
        In mode RGB, of the same size.

    Raises
    ------
    ImageError
        The mode cannot be converted.

    Examples
    --------
    >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    >>> to_rgb(Image.new("I;16", (1, 1), 65535)).getpixel((0, 0))
    (255, 255, 255)
    """
    image, alpha = _without_alpha(image)
    if image.mode == "P":
        image = image.convert("RGB")
    elif image.mode.startswith("I"):
        image = _high_byte(image)
    elif image.mode == "F":
        image = Image.fromarray(floats_to_uint8(np.asarray(image)))
    colours = to_srgb(image, profile) if profile else None
    if colours is None:
        colours = _plain_rgb(image)
    if alpha is None or _is_irrelevant_alpha(alpha, colours):
        return colours
    return _composite_over_white(colours, alpha)


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split into colours and an alpha channel of mode L (None without transparency)."""
    key = image.info.get("transparency")
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    elif key is not None and image.mode not in _ALPHA and image.mode != "P":
        return image, _alpha_of_key(image, key)
    if image.mode == "PA" or (image.mode == "P" and key is not None):
        image = image.convert("RGBA")
    if image.mode not in _ALPHA:
        return image, None
    return image.convert(image.mode.removesuffix("A")), image.getchannel("A")


def _alpha_of_key(image: Image.Image, key: object) -> Image.Image | None:
    """Alpha channel that is 0 where the stored value equals the colour key."""
    if not isinstance(key, int | tuple):
        return None
    values = np.asarray(image)  # (H, W) or (H, W, 3)
    if image.mode == "1":
        key = bool(key)
    same = values == np.asarray(key)
    if same.shape != values.shape:
        return None
    if same.ndim == 3:
        same = same.all(axis=-1)
    return Image.fromarray(np.where(same, 0, 255).astype(np.uint8))


def _is_irrelevant_alpha(alpha: Image.Image, colours: Image.Image) -> bool:
    """Whether everything is opaque, or everything is transparent although there are several colours.

    Programs without support for transparency leave the fourth byte at 0. Composited over white, all their
    images would be identical.
    """
    least, most = alpha.getextrema()
    if least == 255:
        return True
    values = np.asarray(colours)
    return most == 0 and bool((values != values[:1, :1]).any())


def _plain_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "LAB":
        return _from_lab(image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(f"a picture of mode {image.mode} cannot be turned into RGB: {error}") from error


def _composite_over_white(colours: Image.Image, alpha: Image.Image) -> Image.Image:
    white = Image.new("RGB", colours.size, "white")
    white.paste(colours, mask=alpha)
    return white


def _high_byte(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 in some versions, so nearly every 16-bit image would become white.
    values = np.clip(np.asarray(image), 0, 65535)  # (H, W)
    return Image.fromarray((values >> 8).astype(np.uint8))


def floats_to_uint8(values: NDArray[Any], colours: int | None = None) -> NDArray[np.uint8]:
    """Convert floating-point samples, with a range of either 0 to 1 or 0 to 255, to 8 bits.

    Files do not declare the range. If the 99th percentile is at most 1, the range is 0 to 1: highlights and
    ringing of a resampling filter may exceed 1 and are clipped. On a scale of 255 such an image would be
    black. Integers above 1 mean a range of 0 to 255, however few they are (a line drawing, stars).

    Parameters
    ----------
    values : (..., samples) or (H, W) array
        NaN is treated as 0.
    colours : int, optional
        Number of leading samples that determine the range, to exclude alpha; by default all.
    """
    finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=np.inf, neginf=0.0)
    deciding = finite[..., :colours]
    deciding = deciding[np.isfinite(deciding)]
    scale = 255.0 if deciding.size and _is_unit_range(deciding) else 1.0
    levels = np.clip(np.rint(np.nan_to_num(finite * scale, posinf=255.0)), 0, 255)
    return np.asarray(levels, np.uint8)


def _is_unit_range(samples: NDArray[np.float32]) -> bool:
    if samples.max() <= 1.0:
        return True
    few_above = np.percentile(samples, 99, method="lower") <= 1.0
    return bool(few_above and not np.array_equal(samples, np.rint(samples)))


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms  # missing in some builds of Pillow

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    if converted is None:
        raise ImageError("a picture of mode LAB could not be turned into RGB")
    return converted
