"""Text on pictures: fonts that need no system, and words in a box, as large as asked for.

What is written, and what it does to an answer, is `typographic.py`'s and `digits.py`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.datasets import ImageDataset
from diptych.datasets.dataset import Pictures
from diptych.datasets.formats.archives import Content
from diptych.errors import DiptychError, InputError
from diptych.media import load_image

PLACES = {"top": 0.0, "middle": 0.5, "bottom": 1.0}
_LETTERS = "bcdfghjklmnpqrstvwxz"  # without vowels they make no word
_FINER = 3  # drawn larger and averaged down, like scenes

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, eq=False)
class OverlaidDataset(ImageDataset):
    """A data set with a text on every picture; one that cannot be read stays what it is, and fails later.

    Attributes
    ----------
    texts : tuple of str
        One per picture; an empty one writes nothing.
    places : tuple of str
    size : float
    side : int
        Smaller pictures are enlarged to this shorter side first, or nobody could read what is on them.
    """

    texts: tuple[str, ...]
    places: tuple[str, ...]
    size: float
    side: int

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        for (key, content), text, place in zip(super().__iter__(), self.texts, self.places, strict=True):
            try:
                picture = enlarged(load_image(content, srgb=False), self.side)
            except (DiptychError, OSError):
                yield key, content
            else:
                yield key, write(picture, text, size=self.size, place=place) if text else picture

    @property
    def fingerprint(self) -> str:
        """That of the pictures, and what was written on each."""
        return f"{super().fingerprint} {self.how}"

    @property
    def how(self) -> str:
        """What was written on the pictures, as a hash."""
        lines = repr((self.size, self.side, self.texts, self.places)).encode()
        return f"written {hashlib.blake2b(lines, digest_size=16).hexdigest()}"

    @property
    def made_of(self) -> tuple[Pictures, str]:
        """The pictures these are made of, and how."""
        origin, how = super().made_of
        return Pictures(origin.name, origin.entries), f"{how} {self.how}".strip()


@lru_cache(maxsize=64)
def font(size: float, file: str | Path | None = None) -> Font:
    """A font whose letters are about `size` pixels high; without a file the one that Pillow brings along.

    Raises
    ------
    InputError
        A file that is no font.
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


def write(picture: Image.Image, text: str, *, size: float, place: str = "bottom") -> Image.Image:
    """The picture with a text on it: black on a white box that runs no further than the text.

    Parameters
    ----------
    picture : Image
    text : str
        One line; it becomes smaller where it would not fit the width.
    size : float
        Height of the line, as a share of the picture's shorter side.
    place : str
        One of `PLACES`.

    Raises
    ------
    InputError
        A place that is not known.

    Examples
    --------
    >>> written = write(Image.new("RGB", (100, 100), "red"), "dog", size=0.3, place="top")
    >>> written.size, written.getpixel((50, 99)), written.getpixel((50, 1))
    ((100, 100), (255, 0, 0), (255, 255, 255))
    """
    if place not in PLACES:
        raise InputError(f"no place is called {place!r}: there are {', '.join(PLACES)}")
    label = _label(text, size * min(picture.size), picture.width)
    left = (picture.width - label.width) // 2
    top = round(PLACES[place] * (picture.height - label.height))
    written = picture.convert("RGB")  # a copy
    written.paste(label, (left, top))
    return written


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """A picture whose shorter side is at least `side`."""
    if min(picture.size) >= side:
        return picture
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def letters(rng: np.random.Generator, names: Sequence[str], length: int) -> str:
    """Consonants at random, in which no name of a class can be read.

    Examples
    --------
    >>> len(letters(np.random.default_rng(0), ["dog"], 5))
    5
    """
    said = ""
    for _ in range(100):  # a class that is called "b" cannot be kept out for ever
        said = "".join(rng.choice(list(_LETTERS), max(length, 3)).tolist())
        if not any(name.lower() in said for name in names if name):
            break
    return said


def symbol(
    text: str,
    side: int,
    *,
    size: float,
    turn: float = 0.0,
    light: bool = False,
    file: str | Path | None = None,
) -> Image.Image:
    """A square picture of nothing but a text in its middle.

    Parameters
    ----------
    text : str
    side : int
        Of the picture, pixels.
    size : float
        Of the letters, as a share of the side.
    turn : float
        Clockwise, degrees.
    light : bool
        White on black, as in MNIST, in place of black on white.
    file : path, optional
        A font.
    """
    paper, ink = ("black", "white") if light else ("white", "black")
    wide = side * _FINER
    picture = Image.new("RGB", (wide, wide), paper)
    ImageDraw.Draw(picture).text(
        (wide / 2, wide / 2), text, fill=ink, font=font(size * wide * 1.35, file), anchor="mm"
    )
    picture = picture.reduce(_FINER)
    return picture.rotate(-turn, Image.Resampling.BICUBIC, fillcolor=paper) if turn else picture


def _label(text: str, height: float, most: int) -> Image.Image:
    """A text in its box, at most `most` pixels wide."""
    margin = 0.15 * height
    wanted = font(height * 0.8 * _FINER)
    length = wanted.getlength(text) / _FINER + 2 * margin
    scale = min(1.0, most / length)
    width, tall = max(1, min(most, round(length * scale))), max(1, round(height * scale))
    box = Image.new("RGB", (width * _FINER, tall * _FINER), "white")
    ImageDraw.Draw(box).text(
        (box.width / 2, box.height / 2),
        text,
        fill="black",
        font=font(height * 0.8 * scale * _FINER),
        anchor="mm",
    )
    return box.reduce(_FINER)
