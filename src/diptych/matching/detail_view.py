"""Two files that seem to hold one picture, looked at more closely: also in what is small, and is it all?

`pixels` compares at a size at which the words of two screenshots are grey lines. Here the brightness is
compared at half the smaller file's own size: the half keeps what can be read and forgives what JPEG, other
resampling and half a pixel change. A file that holds more than its first frame is no copy of one that shows
the same frame, and no other file is one of it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from diptych.matching.pixels import SIDE, TEXTURE, blocks_of
from diptych.media.folders.archives import read_member
from diptych.media.frames import has_multiple_frames
from diptych.media.images import load_file

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.matching.parts import Box
    from diptych.matching.verdicts import Verdict

LARGEST = 1024  # pixels of the longer side that is compared
NOISE = 1200.0  # variance, of 255 squared, below which a block's structure may be JPEG's
# How much less alike a block may be than the picture as a whole is: so many times what the twentieth of its
# textured blocks lacks that is least alike, within bounds. Chosen on other collages, screenshots and pages
# than those that benchmarks/small_changes.py reports on.
STRAY, USUAL, MILD, STRICT = 10.0, 0.05, 0.4, 0.9
ENOUGH = 20  # textured blocks, for there to be a usual one


@dataclass(frozen=True, eq=False)
class DetailView:
    """A picture as it is looked at more closely.

    Attributes
    ----------
    grey : PIL.Image.Image
        Its brightness, the longer side at most `LARGEST`.
    side : int
        Half its longer side, pixels, at most `LARGEST`: what it may be compared at.
    several : bool
        Its file holds more than this picture.
    """

    grey: Image.Image
    side: int
    several: bool = False

    @classmethod
    def of(cls, image: Image.Image, *, several: bool = False) -> DetailView:
        """Of a picture that was decoded with both sides at least twice `LARGEST`, or as large as it is."""
        grey, longer = image.convert("L"), max(image.size)
        if longer > LARGEST:
            grey = grey.resize(_fitting(image.size, LARGEST), Image.Resampling.LANCZOS, reducing_gap=3.0)
        return cls(grey, min(longer // 2, LARGEST), several)

    @classmethod
    def at(cls, path: Path, member: str = "") -> DetailView:
        """Of a file, or a member of an archive.

        Raises
        ------
        ImageError
            It cannot be read.
        MissingExtraError
            The library for it is not installed.
        """
        image = load_file(path, member, target=LARGEST)
        source = io.BytesIO(read_member(path, member)) if member else path
        return cls.of(image, several=has_multiple_frames(source, member))


def confirm_same_image(verdict: Verdict, a: DetailView, b: DetailView) -> Verdict:
    """The verdict that two files hold one picture, or a lesser one where more than the first look is asked.

    Examples
    --------
    >>> from diptych.matching.verdicts import Verdict
    >>> picture = Image.effect_mandelbrot((960, 720), (-2, -1, 1, 1), 90)
    >>> copy = DetailView.of(picture.resize((800, 600)))
    >>> confirm_same_image(Verdict("picture", "saved again", 1.0), DetailView.of(picture), copy).tier
    'picture'
    >>> confirm_same_image(Verdict("picture", "saved again", 1.0), DetailView.of(picture, several=True), copy)
    Verdict(tier='part', change='first frame', pixels=1.0, box=None, whole=0)
    """
    if verdict.tier != "picture":
        return verdict
    if a.several or b.several:
        whole = None if a.several and b.several else int(b.several)
        return replace(verdict, tier="part", change="first frame", whole=whole)
    mirrored = verdict.change == "mirrored"
    box = differing_box(replace(a, grey=ImageOps.mirror(a.grey)) if mirrored else a, b)
    if box is None:
        return verdict
    return replace(verdict, tier="part", change="written over", box=None if mirrored else box)


def differing_box(a: DetailView, b: DetailView) -> Box | None:
    """Where two pictures differ that lie on each other, as shares of width and height; None: nowhere."""
    smaller = a if a.side <= b.side else b
    if smaller.side <= SIDE:
        return None  # `pixels` saw as much
    size = _fitting(smaller.grey.size, smaller.side)
    x, y = (blocks_of(_pixels(one.grey, size)) for one in (a, b))  # (rows, columns, 64)
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    var_x, var_y = (x * x).mean(-1), (y * y).mean(-1)
    alike = (2 * (x * y).mean(-1) + NOISE) / (var_x + var_y + NOISE)
    textured = alike[np.maximum(var_x, var_y) > TEXTURE]
    usual = float(np.quantile(textured if textured.size >= ENOUGH else alike, USUAL))
    rows, columns = np.nonzero(alike < np.clip(1 - STRAY * (1 - usual), MILD, STRICT))
    if not rows.size:
        return None
    high, wide = alike.shape
    return (
        *(float(columns.min() / wide), float(rows.min() / high)),
        *(float((columns.max() + 1) / wide), float((rows.max() + 1) / high)),
    )


def _pixels(grey: Image.Image, size: tuple[int, int]) -> FloatArray:
    return np.asarray(grey.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), np.float32)


def _fitting(size: tuple[int, int], longer: int) -> tuple[int, int]:
    scale = longer / max(size)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
