"""Draw text on images, for the typographic attack and for rendered digits. No system font is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.datasets import ImageDataset
from diptych.datasets.dataset import ImageCollection
from diptych.datasets.formats.archives import Content
from diptych.errors import DiptychError, InputError
from diptych.media import load_image

POSITIONS = {"top": 0.0, "middle": 0.5, "bottom": 1.0}
_CONSONANTS = "bcdfghjklmnpqrstvwxz"  # consonants alone form no word
_SUPERSAMPLING = 3  # drawn larger and averaged down, as in scenes.py

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, eq=False)
class OverlaidDataset(ImageDataset):
    """A data set with a text drawn on every image; unreadable images pass through and fail later.

    Attributes
    ----------
    texts : tuple of str
        One per image; an empty text draws nothing.
    side : int
        Images with a smaller shorter side are enlarged to it first, to make the text legible.
    """

    texts: tuple[str, ...]
    positions: tuple[str, ...]
    size: float
    side: int
    per_image = ("labels", "texts", "positions")

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        for (key, content), text, position in zip(
            super().__iter__(), self.texts, self.positions, strict=True
        ):
            try:
                image = enlarge(load_image(content, srgb=False), self.side)
            except (DiptychError, OSError):
                yield key, content
            else:
                yield key, draw_text(image, text, size=self.size, position=position) if text else image

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the images and of the texts on them."""
        return f"{super().fingerprint} {self.overlay_digest}"

    @property
    def overlay_digest(self) -> str:
        """Hash of the texts, their size and positions."""
        lines = repr((self.size, self.side, self.texts, self.positions)).encode()
        return f"written {hashlib.blake2b(lines, digest_size=16).hexdigest()}"

    @property
    def made_of(self) -> tuple[ImageCollection, str]:
        """The original images, and how these were made from them."""
        origin, how = super().made_of
        return ImageCollection(origin.name, origin.entries), f"{how} {self.overlay_digest}".strip()


@lru_cache(maxsize=64)
def font(size: float, file: str | Path | None = None) -> Font:
    """Load a font with letters about `size` pixels high; by default the one included in Pillow.

    Raises
    ------
    InputError
        The file is not a font.
    """
    pixels = max(1, round(size))
    if file is None:
        return ImageFont.load_default(pixels)
    try:
        return ImageFont.truetype(str(file), pixels)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read as a font ({error}): expected a .ttf or .otf file"
        ) from error


def draw_text(image: Image.Image, text: str, *, size: float, position: str = "bottom") -> Image.Image:
    """Copy of the image with a text in black on a white box of the size of the text.

    Parameters
    ----------
    text : str
        One line; it is scaled down if it is too wide.
    size : float
        Height of the line, as a fraction of the shorter side.
    position : str
        One of `POSITIONS`.

    Raises
    ------
    InputError
        Unknown position.

    Examples
    --------
    >>> result = draw_text(Image.new("RGB", (100, 100), "red"), "dog", size=0.3, position="top")
    >>> result.size, result.getpixel((50, 99)), result.getpixel((50, 1))
    ((100, 100), (255, 0, 0), (255, 255, 255))
    """
    if position not in POSITIONS:
        raise InputError(f"unknown position {position!r}: expected one of {', '.join(POSITIONS)}")
    label = _text_box(text, size * min(image.size), image.width)
    left = (image.width - label.width) // 2
    top = round(POSITIONS[position] * (image.height - label.height))
    result = image.convert("RGB")  # a copy
    result.paste(label, (left, top))
    return result


def enlarge(image: Image.Image, side: int) -> Image.Image:
    """Resize the image so that its shorter side is at least `side`."""
    if min(image.size) >= side:
        return image
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def random_letters(rng: np.random.Generator, names: Sequence[str], length: int) -> str:
    """Random consonants that contain no class name.

    Examples
    --------
    >>> len(random_letters(np.random.default_rng(0), ["dog"], 5))
    5
    """
    text = ""
    for _ in range(100):  # a class named "b" cannot be avoided, so give up at some point
        text = "".join(rng.choice(list(_CONSONANTS), max(length, 3)).tolist())
        if not any(name.lower() in text for name in names if name):
            break
    return text


def text_image(
    text: str,
    side: int,
    *,
    size: float,
    turn: float = 0.0,
    light: bool = False,
    file: str | Path | None = None,
) -> Image.Image:
    """A square image with a text in its middle.

    Parameters
    ----------
    side : int
        Side of the image, pixels.
    size : float
        Height of the letters, as a fraction of the side.
    turn : float
        Rotation, clockwise in degrees.
    light : bool
        White on black, as in MNIST, instead of black on white.
    file : path, optional
        A font.
    """
    background, foreground = ("black", "white") if light else ("white", "black")
    large_side = side * _SUPERSAMPLING
    picture = Image.new("RGB", (large_side, large_side), background)
    ImageDraw.Draw(picture).text(
        (large_side / 2, large_side / 2),
        text,
        fill=foreground,
        font=font(size * large_side * 1.35, file),
        anchor="mm",
    )
    picture = picture.reduce(_SUPERSAMPLING)
    return picture.rotate(-turn, Image.Resampling.BICUBIC, fillcolor=background) if turn else picture


def _text_box(text: str, height: float, max_width: int) -> Image.Image:
    """A text in a white box at most `max_width` pixels wide."""
    margin = 0.15 * height
    full_font = font(height * 0.8 * _SUPERSAMPLING)
    length = full_font.getlength(text) / _SUPERSAMPLING + 2 * margin
    scale = min(1.0, max_width / length)
    width, box_height = max(1, min(max_width, round(length * scale))), max(1, round(height * scale))
    box = Image.new("RGB", (width * _SUPERSAMPLING, box_height * _SUPERSAMPLING), "white")
    ImageDraw.Draw(box).text(
        (box.width / 2, box.height / 2),
        text,
        fill="black",
        font=font(height * 0.8 * scale * _SUPERSAMPLING),
        anchor="mm",
    )
    return box.reduce(_SUPERSAMPLING)
