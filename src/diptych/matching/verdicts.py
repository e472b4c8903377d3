"""Classify a pair of pictures: the same picture, a part of the other, the same scene, or unrelated.

Hashes, visual words and vectors only propose pairs; pixels decide, and every verdict carries its evidence.
Screening compares tiny grey thumbnails and rejects most pairs in a millisecond; the others are compared at
256 pixels. A verdict of "picture" is confirmed by `detail_view`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from diptych.matching.parts import ROUGH, Box, GreyThumbnail, PartMatch, fit_part, locate_part
from diptych.matching.pixels import BLOCK, BlockSimilarity, Thumbnail, blocks_of, compare_thumbnails

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

Tier: TypeAlias = Literal["bytes", "picture", "part", "scene"]
TIERS: tuple[Tier, ...] = ("bytes", "picture", "part", "scene")

# Thresholds, chosen on other data sets and videos than those that benchmarks/duplicates.py reports on.
ALIKE = 0.85  # least correlation of square thumbnails of the same picture
SAME_WORST, SAME_MEAN = 0.4, 0.8  # least similarity of the worst block, and of the mean, of the same picture
# A block is an outlier above this shift and below this similarity.
OUTLIER_SHIFT, OUTLIER_SIMILARITY = 1.4, 0.9
SAME_COLOUR = 8.0  # largest difference in colour, of 255; more is a recoloured copy
SHAPE = 0.05  # largest difference of the logarithms of width / height
ALTERED_SQUARE = 0.5  # least correlation of square thumbnails where a part was written over
# Least fraction of unchanged blocks, among all and among the textured ones.
ALTERED_ALL, ALTERED_TEXTURED = 0.7, 0.35
GOOD_BLOCK, BAD_BLOCK = 0.5, 0.4
PART_CORRELATION, PART_MEAN, PART_FRACTION, PART_BLOCKS = 0.92, 0.75, 0.85, 9
WHOLE = 0.97  # a part with at least this fraction of the area is the whole picture
FRAME = 12.0  # standard deviation of the brightness around a part, of 255; less is a frame
# Least fraction of a change in the opposite direction: an overlay changes one picture, movement changes both.
SIDED = 0.2
# Moved content: least correlation, least fraction of the changed blocks, largest distance in pixels.
MOVED, MOVED_FRACTION, REACH = 0.8, 0.25, 24
WINDOWS = 12  # changed blocks that are searched for in their neighbourhood


@dataclass(frozen=True)
class Verdict:
    """The relation of two pictures, with its evidence.

    Attributes
    ----------
    tier : {"picture", "part", "scene"}
    change : str
        "saved again", "mirrored", "cut", "framed", "written over", "recoloured", "squashed",
        "first frame", "another moment", "alike".
    pixels : float
        Mean similarity of the compared blocks, up to 1.
    box : (left, upper, right, lower), optional
        The location of the part in the whole, or the area written over, in fractions of width and height.
    whole : {0, 1, None}
        Which of the two is the whole; None if neither is.
    """

    tier: Tier
    change: str
    pixels: float
    box: Box | None = None
    whole: int | None = None


@dataclass(frozen=True)
class PairScreening:
    """The result of screening two thumbnails; false if the pair needs no further comparison.

    Attributes
    ----------
    plain, flipped : float
        Correlation of the square thumbnails, and with the first one mirrored.
    second_in_first, first_in_second : (correlation, Box), optional
        An approximate location of one picture in the other.
    """

    plain: float
    flipped: float
    second_in_first: tuple[float, Box] | None = None
    first_in_second: tuple[float, Box] | None = None

    def __bool__(self) -> bool:
        return (
            self.plain >= ALTERED_SQUARE
            or self.flipped >= ALIKE
            or self.second_in_first is not None
            or self.first_in_second is not None
        )

    @property
    def is_aligned(self) -> bool:
        """Whether neither picture seems to be a smaller part of the other."""
        locations = (self.second_in_first, self.first_in_second)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for _, box in filter(None, locations)]
        return all(area >= WHOLE for area in areas)


def screen_pair(a: GreyThumbnail, b: GreyThumbnail, *, parts: bool = True) -> PairScreening:
    """Compare two grey thumbnails; a false result means that the pictures are unrelated.

    With `parts`, each picture is also searched for inside the other, which takes longer.
    """
    if a.blank or b.blank:
        return PairScreening(0.0, 0.0)  # the similarity of blank pictures is no evidence
    plain, flipped = float((a.square * b.square).sum()), float((a.square[:, ::-1] * b.square).sum())
    if not parts:
        return PairScreening(plain, flipped)
    inside = [
        location if location[0] >= ROUGH else None for location in (locate_part(b, a), locate_part(a, b))
    ]
    return PairScreening(plain, flipped, *inside)


def judge_pair(a: Thumbnail, b: Thumbnail, screening: PairScreening) -> Verdict | None:
    """Compare the pixels of two pictures; None if they have nothing in common.

    In this order: the same picture, the same mirrored, aligned and altered in places, one inside the other.
    """
    if a.blank or b.blank:
        return None
    squashed = abs(np.log(a.aspect / b.aspect)) > _rounding(a, b)
    plain = compare_thumbnails(a, b) if screening.plain >= ALTERED_SQUARE else None
    if plain is not None and screening.plain >= ALIKE and _everywhere(plain):
        return _saved_again("saved again", plain, squashed)
    if screening.flipped >= ALIKE:  # before "altered", which a nearly symmetric picture would match too
        flipped = compare_thumbnails(a.mirrored(), b)
        if _everywhere(flipped):
            return _saved_again("mirrored", flipped, squashed)
    altered = plain is not None and not squashed and _mostly(plain)
    if plain is not None and altered and screening.is_aligned:
        return _altered(a, b, plain)
    part = _part(a, b, screening)
    return _altered(a, b, plain) if part is None and plain is not None and altered else part


def _saved_again(change: str, similarity: BlockSimilarity, squashed: bool) -> Verdict:
    if squashed or similarity.colour > SAME_COLOUR:
        return Verdict("part", "squashed" if squashed else "recoloured", similarity.mean)
    return Verdict("picture", change, similarity.mean)


def _everywhere(similarity: BlockSimilarity) -> bool:
    """Whether a picture is unchanged in every block."""
    is_similar = similarity.worst >= SAME_WORST and similarity.mean >= SAME_MEAN
    return is_similar and not _standing_out(similarity).any()


def _standing_out(similarity: BlockSimilarity) -> NDArray[np.bool_]:
    """Blocks that differ more than compression explains: a small object was added, removed or moved."""
    return np.asarray((similarity.shifts > OUTLIER_SHIFT) & (similarity.blocks < OUTLIER_SIMILARITY))


def _mostly(similarity: BlockSimilarity) -> bool:
    """Whether most blocks of a picture are unchanged."""
    unchanged = similarity.fraction_above(GOOD_BLOCK, textured=False)
    return unchanged >= ALTERED_ALL and similarity.fraction_above(GOOD_BLOCK) >= ALTERED_TEXTURED


def _rounding(a: Thumbnail, b: Thumbnail) -> float:
    """Tolerance for the difference of log(width / height), which covers rounding to whole pixels.

    E.g. a shorter side of 20 pixels: one pixel is 5 %, and the tolerance is 1.5 / 20 = 0.075.
    """
    return max(SHAPE, 1.5 / min(*a.size, *b.size))


def _altered(a: Thumbnail, b: Thumbnail, similarity: BlockSimilarity) -> Verdict:
    """The verdict on an altered copy: written over, or the same camera a moment later."""
    rows, columns = similarity.blocks.shape
    changed = similarity.blocks < BAD_BLOCK
    if not changed.any():
        changed = _standing_out(similarity) | (similarity.blocks <= similarity.worst)
    size = min(a.size[0], b.size[0]), min(a.size[1], b.size[1])
    grey_a, grey_b = (thumbnail.pixels(size).mean(-1) for thumbnail in (a, b))
    if _goes_both_ways(grey_a, grey_b, changed) or _moved(grey_a, grey_b, changed):
        return Verdict("scene", "another moment", similarity.mean)
    y, x = np.nonzero(changed)
    box = (x.min() / columns, y.min() / rows, (x.max() + 1) / columns, (y.max() + 1) / rows)
    return Verdict("part", "written over", similarity.mean, (box[0], box[1], box[2], box[3]))


def _goes_both_ways(a: FloatArray, b: FloatArray, changed: NDArray[np.bool_]) -> bool:
    """Whether each picture is brighter in some of the changed blocks, and has more edges in some."""
    brightness = _opposite_fraction(a, b, changed)
    return min(brightness, _opposite_fraction(_edges(a), _edges(b), changed)) > SIDED


def _edges(grey: FloatArray) -> FloatArray:
    """Absolute gradient of the brightness, horizontal plus vertical."""
    across = np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    return np.asarray(across + np.abs(np.diff(grey, axis=0, prepend=grey[:1])), np.float32)


def _opposite_fraction(a: FloatArray, b: FloatArray, changed: NDArray[np.bool_]) -> float:
    """Fraction of the total change of block means that goes against the main direction, 0 to 0.5.

    E.g. differences +6, +2 and -2: the total is 10, of which 2 go the other way: 0.2.
    """
    differences = (blocks_of(a).mean(-1) - blocks_of(b).mean(-1))[changed]
    positive, total = float(differences[differences > 0].sum()), float(np.abs(differences).sum())
    return min(positive, total - positive) / max(total, 1e-6)


def _moved(a: FloatArray, b: FloatArray, changed: NDArray[np.bool_]) -> bool:
    """Whether changed content of each picture reappears near by in the other one: it has moved.

    A sign or a text that was added to a picture does not appear in the picture without it.
    """
    centres = np.argwhere(changed) * BLOCK + BLOCK // 2
    return min(_moved_fraction(a, b, centres), _moved_fraction(b, a, centres)) >= MOVED_FRACTION


def _moved_fraction(source: FloatArray, target: FloatArray, centres: NDArray[np.int64]) -> float:
    """Fraction of the windows around these centres, if not flat, that reappear near by in the target."""
    moved, searched = 0, 0
    for y, x in centres[:: max(len(centres) // WINDOWS, 1)]:
        window = source[max(y - BLOCK, 0) : y + BLOCK, max(x - BLOCK, 0) : x + BLOCK]
        upper, left = max(y - BLOCK - REACH, 0), max(x - BLOCK - REACH, 0)
        around = target[upper : y + BLOCK + REACH, left : x + BLOCK + REACH]
        if window.std() < 8 or around.shape[0] < window.shape[0] or around.shape[1] < window.shape[1]:
            continue
        searched += 1
        moved += _has_moved(window, around, max(y - BLOCK, 0) - upper, max(x - BLOCK, 0) - left)
    return moved / searched if searched else 0.0


def _has_moved(window: FloatArray, around: FloatArray, y: int, x: int) -> bool:
    """Whether a window correlates well with some position around it, and less well with its own, (y, x).

    Every second position is tried, offset so that the own one is among them: e.g. y = 5 tries rows 1, 3, 5,
    ..., where row 5 has the index 5 // 2 = 2.
    """
    positions = np.lib.stride_tricks.sliding_window_view(around, window.shape)[y % 2 :: 2, x % 2 :: 2]
    shape = positions.shape[:2]
    flat = positions.reshape(-1, window.size)
    flat = flat - flat.mean(1, keepdims=True)
    centred = (window - window.mean()).ravel()
    norms = np.linalg.norm(flat, axis=1) * float(np.linalg.norm(centred))
    correlations = (flat @ centred / np.maximum(norms, 1e-6)).reshape(shape)
    best = correlations.max()
    return bool(best >= MOVED and best > correlations[y // 2, x // 2] + 0.1)


def _part(a: Thumbnail, b: Thumbnail, screening: PairScreening) -> Verdict | None:
    """The verdict that one picture is inside the other; the better match of both directions."""
    best: Verdict | None = None
    for part, whole, which, location in (
        (b, a, 0, screening.second_in_first),
        (a, b, 1, screening.first_in_second),
    ):
        match = None if location is None else fit_part(part, whole, location[1])
        if (
            match is not None
            and match.area < WHOLE
            and _is_part(match)
            and (best is None or match.similarity.mean > best.pixels)
        ):
            change = "framed" if match.outside < FRAME else "cut"
            best = Verdict("part", change, match.similarity.mean, match.box, which)
    return best


def _is_part(match: PartMatch) -> bool:
    similarity = match.similarity
    return (
        match.correlation >= PART_CORRELATION
        and similarity.mean >= PART_MEAN
        and int(similarity.textured.sum()) >= PART_BLOCKS
        and similarity.fraction_above(GOOD_BLOCK) >= PART_FRACTION
    )
