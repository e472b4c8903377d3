"""High-resolution check of apparent copies: small differences, and files with several frames.

`pixels` compares at a size at which the text of a screenshot is a grey line. Here the brightness is compared
at half the size of the smaller picture, which keeps text legible and tolerates JPEG, resampling and shifts by
half a pixel. A file with several frames is not a copy of a file that shows only one of them, in either
direction.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from diptych.matching.pixels import SIDE, TEXTURE, blocks_of, fitting_size
from diptych.media.folders.archives import read_member
from diptych.media.frames import has_multiple_frames
from diptych.media.images import load_file

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.matching.parts import Box
    from diptych.matching.verdicts import Verdict

LARGEST = 1024  # longer side of the pictures that are compared, pixels
DETAIL_NOISE = 1200.0  # variance, of 255 squared, below which the structure of a block may come from JPEG
# A block differs if its similarity is below 1 - OUTLIER_FACTOR * (1 - q), limited to LOWEST_LIMIT and
# HIGHEST_LIMIT, where q is the quantile USUAL_QUANTILE of the similarities of the textured blocks. E.g.
# q = 0.97: the limit is 1 - 10 * 0.03 = 0.7.
# Chosen on other collages, screenshots and pages than those that benchmarks/small_changes.py reports on.
OUTLIER_FACTOR, USUAL_QUANTILE, LOWEST_LIMIT, HIGHEST_LIMIT = 10.0, 0.05, 0.4, 0.9
ENOUGH = 20  # textured blocks needed for that quantile; with fewer, all blocks are used


@dataclass(frozen=True, eq=False)
class DetailView:
    """A picture at the resolution of the high-resolution check.

    Attributes
    ----------
    grey : PIL.Image.Image
        The brightness, the longer side at most `LARGEST`.
    side : int
        Half the longer side of the original, at most `LARGEST`: the largest size for a comparison, pixels.
    several : bool
        The file holds further frames.
    """

    grey: Image.Image
    side: int
    several: bool = False

    @classmethod
    def of(cls, image: Image.Image, *, several: bool = False) -> DetailView:
        """From a picture decoded at its full size, or with both sides of at least twice `LARGEST`."""
        grey, longer = image.convert("L"), max(image.size)
        if longer > LARGEST:
            grey = grey.resize(fitting_size(image.size, LARGEST), Image.Resampling.LANCZOS, reducing_gap=3.0)
        return cls(grey, min(longer // 2, LARGEST), several)

    @classmethod
    def at(cls, path: Path, member: str = "") -> DetailView:
        """From a file, or a member of an archive.

        Raises
        ------
        ImageError
            The file cannot be read.
        MissingExtraError
            The library for its format is not installed.
        """
        image = load_file(path, member, target=LARGEST)
        source = io.BytesIO(read_member(path, member)) if member else path
        return cls.of(image, several=has_multiple_frames(source, member))


def confirm_same_image(verdict: Verdict, a: DetailView, b: DetailView) -> Verdict:
    """Confirm a verdict of tier "picture", or lower it to "part" if the check finds a difference.

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
    """The box in which two aligned pictures differ, in fractions of width and height; None if nowhere."""
    smaller = a if a.side <= b.side else b
    if smaller.side <= SIDE:
        return None  # `pixels` has compared at this size already
    size = fitting_size(smaller.grey.size, smaller.side)
    x, y = (blocks_of(_pixels(view.grey, size)) for view in (a, b))  # (rows, columns, 64)
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    var_x, var_y = (x * x).mean(-1), (y * y).mean(-1)
    alike = (2 * (x * y).mean(-1) + DETAIL_NOISE) / (var_x + var_y + DETAIL_NOISE)
    textured = alike[np.maximum(var_x, var_y) > TEXTURE]
    usual = float(np.quantile(textured if textured.size >= ENOUGH else alike, USUAL_QUANTILE))
    rows, columns = np.nonzero(alike < np.clip(1 - OUTLIER_FACTOR * (1 - usual), LOWEST_LIMIT, HIGHEST_LIMIT))
    if not rows.size:
        return None
    high, wide = alike.shape
    return (
        *(float(columns.min() / wide), float(rows.min() / high)),
        *(float((columns.max() + 1) / wide), float((rows.max() + 1) / high)),
    )


def _pixels(grey: Image.Image, size: tuple[int, int]) -> FloatArray:
    return np.asarray(grey.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), np.float32)
