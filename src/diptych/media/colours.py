"""Any Pillow mode to RGB, before anything else is done with a picture.

Resizing a palette or hidden colours first gives wrong pixels, so colours come first, and transparency is laid
over white, as a browser shows it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from diptych.errors import ImageError

_ALPHA = {"RGBA", "LA", "PA"}
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB; an RGB picture without transparency comes back as it is.

    Parameters
    ----------
    image : PIL.Image.Image
        Transparency, from an alpha channel, a palette or a colour key, is laid over white. Grey of 16 bits
        keeps its high byte (value >> 8); mode "I" is taken as 16 bits too, as Pillow decodes 16-bit files to
        it; values of mode "F" from 0 to 1 are scaled by 255, others clipped to 0 to 255.

    Returns
    -------
    PIL.Image.Image
        In mode RGB, of the same size.

    Raises
    ------
    ImageError
        The mode is one this package cannot convert.

    Examples
    --------
    >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    >>> to_rgb(Image.new("I;16", (1, 1), 65535)).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode in _ALPHA or "transparency" in image.info:
        return _over_white(image.convert("RGBA"))
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        image = _high_byte(image)
    elif image.mode == "F":
        image = _from_float(image)
    elif image.mode == "LAB":
        return _from_lab(image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(f"a picture of mode {image.mode} cannot be turned into RGB: {error}") from error


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _high_byte(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 in some versions: nearly every 16-bit picture would turn white.
    values = np.clip(np.asarray(image), 0, 65535)  # (H, W)
    return Image.fromarray((values >> 8).astype(np.uint8))


def _from_float(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=255.0, neginf=0.0)  # (H, W)
    scale = 255.0 if values.size and values.max() <= 1.0 else 1.0
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms  # a part of Pillow that some builds leave out

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    if converted is None:
        raise ImageError("a picture of mode LAB could not be turned into RGB")
    return converted
