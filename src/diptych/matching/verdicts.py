"""What two pictures are to each other: the same picture, one part of the other, or the same scene.

Hash and vectors only propose; the verdict is the pixels', and every verdict carries its evidence. First two
glances are compared, which tells most pairs apart in a millisecond, then the pictures themselves. What seems
to be one picture is left to `closer` to confirm.
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

# Chosen on other packs and videos than those that benchmarks/duplicates.py reports on.
ALIKE = 0.85  # least correlation of two thumbnails that are compared further as the same picture
SAME_WORST, SAME_MEAN = 0.4, 0.8  # agreement of the worst block, and of all
STANDS_OUT, NOT_QUITE = 1.4, 0.9  # a block's shift of brightness, and its agreement below which that counts
SAME_COLOUR = 8.0  # difference of colours; more is another colouring
SHAPE = 0.05  # by which width to height may differ: rounding, at the smallest sizes
ALTERED_THUMB = 0.5  # correlation of thumbnails, where a part was written over
ALTERED_SHARE, ALTERED_TEXTURED = 0.7, 0.35  # of all blocks, and of the textured, left as they were
GOOD_BLOCK, BAD_BLOCK = 0.5, 0.4
PART_CORRELATION, PART_MEAN, PART_SHARE, PART_BLOCKS = 0.92, 0.75, 0.85, 9
WHOLE = 0.97  # share of the area from which a part is no part
FRAME = 12.0  # deviation of the brightness around a part: less is a frame
SIDED = 0.2  # share of a change that goes the other way: a text is added to one picture, what moves to both
MOVED, MOVED_SHARE, REACH = 0.8, 0.25, 24  # correlation, share of the changed blocks, pixels they may move
WINDOWS = 12  # of the changed blocks that are looked for near by


@dataclass(frozen=True)
class Verdict:
    """What two pictures are to each other, and why.

    Attributes
    ----------
    tier : {"picture", "part", "scene"}
    change : str
        "saved again", "mirrored", "cut", "framed", "written over", "recoloured", "squashed",
        "first frame", "another moment", "alike".
    pixels : float
        Mean agreement of the blocks compared, up to 1.
    box : (left, upper, right, lower), optional
        Where the part lies in the whole, or what was written over, as shares of width and height.
    whole : {0, 1, None}
        Which of the two is the whole; None where neither is.
    """

    tier: Tier
    change: str
    pixels: float
    box: Box | None = None
    whole: int | None = None


@dataclass(frozen=True)
class PairScreening:
    """What two glances make worth a closer look.

    Attributes
    ----------
    plain, flipped : float
        Correlation of the thumbnails, and with one mirrored.
    second_in_first, first_in_second : (correlation, Box), optional
        Where one may lie in the other.
    """

    plain: float
    flipped: float
    second_in_first: tuple[float, Box] | None = None
    first_in_second: tuple[float, Box] | None = None

    def __bool__(self) -> bool:
        return (
            self.plain >= ALTERED_THUMB
            or self.flipped >= ALIKE
            or self.second_in_first is not None
            or self.first_in_second is not None
        )

    @property
    def lie_on_each_other(self) -> bool:
        """Whether neither seems to be a smaller part of the other."""
        found = (self.second_in_first, self.first_in_second)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for _, box in filter(None, found)]
        return all(area >= WHOLE for area in areas)


def screen_pair(a: GreyThumbnail, b: GreyThumbnail, *, parts: bool = True) -> PairScreening:
    """Compare two glances; a false result is the end of it.

    Parameters
    ----------
    a, b : GreyThumbnail
    parts : bool
        Look for one inside the other, too, which takes longer.
    """
    if a.blank or b.blank:
        return PairScreening(0.0, 0.0)  # black pictures are all alike, and nothing follows from it
    plain, flipped = float((a.thumb * b.thumb).sum()), float((a.thumb[:, ::-1] * b.thumb).sum())
    if not parts:
        return PairScreening(plain, flipped)
    inside = [found if found[0] >= ROUGH else None for found in (locate_part(b, a), locate_part(a, b))]
    return PairScreening(plain, flipped, *inside)


def judge_pair(a: Thumbnail, b: Thumbnail, suspicion: PairScreening) -> Verdict | None:
    """Look at two pictures; None where their pixels have nothing in common."""
    if a.blank or b.blank:
        return None
    squashed = abs(np.log(a.aspect / b.aspect)) > _rounding(a, b)
    plain = compare_thumbnails(a, b) if suspicion.plain >= ALTERED_THUMB else None
    if plain is not None and suspicion.plain >= ALIKE and _everywhere(plain):
        return _saved_again("saved again", plain, squashed)
    if suspicion.flipped >= ALIKE:  # before anything is said of a picture that is nearly symmetrical
        flipped = compare_thumbnails(a.mirrored(), b)
        if _everywhere(flipped):
            return _saved_again("mirrored", flipped, squashed)
    altered = plain is not None and not squashed and _mostly(plain)
    if plain is not None and altered and suspicion.lie_on_each_other:
        return _altered(a, b, plain)
    part = _part(a, b, suspicion)
    return _altered(a, b, plain) if part is None and plain is not None and altered else part


def _saved_again(change: str, agreement: BlockSimilarity, squashed: bool) -> Verdict:
    if squashed or agreement.colour > SAME_COLOUR:
        return Verdict("part", "squashed" if squashed else "recoloured", agreement.mean)
    return Verdict("picture", change, agreement.mean)


def _everywhere(agreement: BlockSimilarity) -> bool:
    """Whether a picture is as it was in every place."""
    most = agreement.worst >= SAME_WORST and agreement.mean >= SAME_MEAN
    return most and not _standing_out(agreement).any()


def _standing_out(agreement: BlockSimilarity) -> NDArray[np.bool_]:
    """Blocks that saving again does not explain: something small has come, gone or moved there."""
    return np.asarray((agreement.shifts > STANDS_OUT) & (agreement.blocks < NOT_QUITE))


def _mostly(agreement: BlockSimilarity) -> bool:
    """Whether most of a picture is as it was."""
    everywhere = agreement.fraction_above(GOOD_BLOCK, textured=False)
    return everywhere >= ALTERED_SHARE and agreement.fraction_above(GOOD_BLOCK) >= ALTERED_TEXTURED


def _rounding(a: Thumbnail, b: Thumbnail) -> float:
    """How far the logarithms of width to height may lie apart: a pixel of the smaller one, at least."""
    return max(SHAPE, 1.5 / min(*a.size, *b.size))


def _altered(a: Thumbnail, b: Thumbnail, agreement: BlockSimilarity) -> Verdict:
    """One picture in most places: written over, or the same camera on the same spot a moment later."""
    rows, columns = agreement.blocks.shape
    changed = agreement.blocks < BAD_BLOCK
    if not changed.any():
        changed = _standing_out(agreement) | (agreement.blocks <= agreement.worst)
    if _goes_both_ways(a, b, changed) or _moved(a, b, changed):
        return Verdict("scene", "another moment", agreement.mean)
    y, x = np.nonzero(changed)
    box = (x.min() / columns, y.min() / rows, (x.max() + 1) / columns, (y.max() + 1) / rows)
    return Verdict("part", "written over", agreement.mean, (box[0], box[1], box[2], box[3]))


def _goes_both_ways(a: Thumbnail, b: Thumbnail, changed: NDArray[np.bool_]) -> bool:
    """Whether some of what changed is brighter and has more edges in one picture, and some in the other."""
    size = min(a.size[0], b.size[0]), min(a.size[1], b.size[1])
    one, two = (look.pixels(size).mean(-1) for look in (a, b))
    return min(_other_way(one, two, changed), _other_way(_edges(one), _edges(two), changed)) > SIDED


def _edges(grey: FloatArray) -> FloatArray:
    """How much the brightness changes to the left and upwards."""
    across = np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    return np.asarray(across + np.abs(np.diff(grey, axis=0, prepend=grey[:1])), np.float32)


def _other_way(one: FloatArray, two: FloatArray, changed: NDArray[np.bool_]) -> float:
    """Of what changed blocks differ by in their means, the share that goes against the rest, 0 to 0.5."""
    apart = (blocks_of(one).mean(-1) - blocks_of(two).mean(-1))[changed]
    more, total = float(apart[apart > 0].sum()), float(np.abs(apart).sum())
    return min(more, total - more) / max(total, 1e-6)


def _moved(a: Thumbnail, b: Thumbnail, changed: NDArray[np.bool_]) -> bool:
    """Whether what differs in one is found beside that place in the other, both ways: then it has moved.

    A sign or a text that was laid over a picture is nowhere in the picture without it.
    """
    size = min(a.size[0], b.size[0]), min(a.size[1], b.size[1])
    one, two = (look.pixels(size).mean(-1) for look in (a, b))
    places = np.argwhere(changed) * BLOCK + BLOCK // 2
    return min(_found_beside(one, two, places), _found_beside(two, one, places)) >= MOVED_SHARE


def _found_beside(here: FloatArray, there: FloatArray, places: NDArray[np.int64]) -> float:
    """The share of windows around these places that are found again near by, of those that show something."""
    found, asked = 0, 0
    for y, x in places[:: max(len(places) // WINDOWS, 1)]:
        window = here[max(y - BLOCK, 0) : y + BLOCK, max(x - BLOCK, 0) : x + BLOCK]
        upper, left = max(y - BLOCK - REACH, 0), max(x - BLOCK - REACH, 0)
        around = there[upper : y + BLOCK + REACH, left : x + BLOCK + REACH]
        if window.std() < 8 or around.shape[0] < window.shape[0] or around.shape[1] < window.shape[1]:
            continue
        asked += 1
        found += _has_moved(window, around, max(y - BLOCK, 0) - upper, max(x - BLOCK, 0) - left)
    return found / asked if asked else 0.0


def _has_moved(window: FloatArray, around: FloatArray, y: int, x: int) -> bool:
    """Whether a window fits well at some place of its surroundings, and worse at its own, (y, x)."""
    places = np.lib.stride_tricks.sliding_window_view(around, window.shape)[y % 2 :: 2, x % 2 :: 2]
    shape = places.shape[:2]
    flat = places.reshape(-1, window.size)
    flat = flat - flat.mean(1, keepdims=True)
    wanted = (window - window.mean()).ravel()
    norms = np.linalg.norm(flat, axis=1) * float(np.linalg.norm(wanted))
    fits = (flat @ wanted / np.maximum(norms, 1e-6)).reshape(shape)
    return bool(fits.max() >= MOVED and fits.max() > fits[y // 2, x // 2] + 0.1)


def _part(a: Thumbnail, b: Thumbnail, suspicion: PairScreening) -> Verdict | None:
    """One inside the other; the better fit of both ways."""
    best: Verdict | None = None
    for part, whole, which, found in (
        (b, a, 0, suspicion.second_in_first),
        (a, b, 1, suspicion.first_in_second),
    ):
        there = None if found is None else fit_part(part, whole, found[1])
        if (
            there is not None
            and there.area < WHOLE
            and _fits(there)
            and (best is None or there.agreement.mean > best.pixels)
        ):
            change = "framed" if there.outside < FRAME else "cut"
            best = Verdict("part", change, there.agreement.mean, there.box, which)
    return best


def _fits(there: PartMatch) -> bool:
    agreement = there.agreement
    return (
        there.correlation >= PART_CORRELATION
        and agreement.mean >= PART_MEAN
        and int(agreement.textured.sum()) >= PART_BLOCKS
        and agreement.fraction_above(GOOD_BLOCK) >= PART_SHARE
    )
