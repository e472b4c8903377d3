"""Audit of abstract properties in drawings (paper, section 6): same or different, symmetric, upright, sorted.

Every property is tested on pairs of images (`scene_pairs.py`) with the same kind of objects, one with the
property and one without; chance is one half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np

from diptych.audits.base import verdict_cell
from diptych.audits.limits import scenes
from diptych.audits.limits.scene_pairs import (
    PairAudit,
    ScenePair,
    measure_pairs,
    sentence_bars,
    verdict_table,
)
from diptych.audits.limits.scenes import Scene, SceneObject
from diptych.encoder import Encoder
from diptych.evaluation import Settings
from diptych.reports import Section
from diptych.stats.significance import NOT_ENOUGH

# Task -> sentences for "has the property", and for "does not have it".
SENTENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "same": (
        ("two identical shapes.", "a picture of two shapes that are the same.", "the same shape twice."),
        ("two different shapes.", "a picture of two shapes that are not the same.", "two distinct shapes."),
    ),
    "symmetric": (
        ("a symmetric pattern.", "a picture with mirror symmetry.", "the left half mirrors the right half."),
        (
            "an asymmetric pattern.",
            "a picture without symmetry.",
            "the left half differs from the right half.",
        ),
    ),
    "upright": (
        ("an upright heart.", "a heart the right way up.", "a heart that is not rotated."),
        ("a rotated heart.", "a heart turned upside down or on its side.", "a tilted heart."),
    ),
    "sorted": (
        ("circles sorted by size.", "circles in order from small to large.", "a row of growing circles."),
        ("circles in random order.", "circles of mixed sizes in no order.", "an unsorted row of circles."),
    ),
}
QUESTIONS = {
    "same": "same or different",
    "symmetric": "symmetric or not",
    "upright": "upright or rotated",
    "sorted": "sorted by size or not",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class AbstractAudit(PairAudit):
    """Result of the audit of abstract properties; kinds are the tasks of `SENTENCES`."""

    @property
    def _title(self) -> str:
        return "Abstract properties of drawings"

    def _sections(self) -> list[Section]:
        plot = sentence_bars({QUESTIONS[task]: accuracy for task, accuracy in self.judged.items()})
        ends = {"above": ".", NOT_ENOUGH: "."}
        statements = [
            f"{QUESTIONS[task].capitalize()}: {verdict_cell(self.verdicts[task])} ({accuracy.sentence})"
            + ends.get(self.verdicts[task], ": this model does not recognise it.")
            for task, accuracy in self.judged.items()
        ]
        table = verdict_table(
            self.judged,
            self.verdicts,
            "A model may distinguish the pictures (picture above chance) and still choose the wrong words.",
        )
        return [
            Section(
                "Does it recognise abstract properties?", statements, {"abstract": table}, {"abstract": plot}
            )
        ]


def audit_abstract(
    encoder: Encoder,
    *,
    tasks: Sequence[str] = tuple(SENTENCES),
    each: int = 100,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> AbstractAudit:
    """Test properties that are not an object, a colour or a position.

    Parameters
    ----------
    tasks : sequence of str
        Keys of `SENTENCES`.
    each : int
        Pairs of each task, of two images each.

    Raises
    ------
    InputError
        A task is unknown, or there are no pairs.
    """
    fields = measure_pairs(
        encoder,
        puzzle_pair,
        tasks,
        SENTENCES,
        each=each,
        seed=seed,
        name="drawn puzzles",
        settings=settings,
        shown=2,
    )
    return AbstractAudit(**fields)


def puzzle_pair(task: str, index: int, seed: int) -> ScenePair:
    """Pair `index` of a task: the first image has the property, the second does not.

    Examples
    --------
    >>> pair = puzzle_pair("sorted", 0, seed=0)
    >>> sizes = [item.size for item in pair.first.objects]
    >>> sizes == sorted(sizes), sizes == [item.size for item in pair.second.objects]
    (True, False)
    """
    rng = np.random.default_rng([seed, index, 200 + list(SENTENCES).index(task)])
    first, second = _PUZZLES[task](rng)
    return ScenePair(task, first, second, *SENTENCES[task])


def _colour(rng: np.random.Generator) -> str:
    return str(rng.choice(list(scenes.COLOURS)))


def _same(rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Two objects of one shape, or of two shapes; both images use one colour."""
    shape, other_shape = rng.permutation(list(scenes.SHAPES))[:2].tolist()
    colour, (x, u) = _colour(rng), rng.uniform([0.25, 0.7], [0.3, 0.75])
    y, v = rng.uniform(0.35, 0.65, 2)
    left, right = SceneObject(shape, colour, x, y, 0.36), SceneObject(shape, colour, u, v, 0.36)
    return Scene((left, right)), Scene((left, replace(right, shape=other_shape)))


def _symmetric(rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Squares on a grid, the right half a mirror image of the left half, or random."""
    colour, cells = _colour(rng), 6
    half = rng.permutation(cells * cells // 2).reshape(cells, cells // 2) < 8
    random_half = half[:, ::-1]
    while (random_half == half[:, ::-1]).all():
        random_half = rng.permutation(random_half.reshape(-1)).reshape(cells, cells // 2)

    def scene(right: np.ndarray) -> Scene:
        rows, columns = np.nonzero(np.concatenate([half, right], axis=1))
        places = zip(0.125 + columns * 0.15, 0.125 + rows * 0.15, strict=True)
        return Scene(tuple(SceneObject("square", colour, float(x), float(y), 0.2) for x, y in places))

    return scene(half[:, ::-1]), scene(random_half)


def _upright(rng: np.random.Generator) -> tuple[Scene, Scene]:
    size = float(rng.uniform(0.4, 0.7))
    (x, y), turn = scenes.random_positions(rng, [size])[0], float(rng.choice([90.0, 180.0, 270.0]))
    heart = SceneObject("heart", _colour(rng), x, y, size)
    return Scene((heart,)), Scene((replace(heart, turn=turn),))


def _sorted(rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Five circles in a row, growing to the right, or with the same sizes in another order."""
    colour, y = _colour(rng), float(rng.uniform(0.35, 0.65))
    sizes = np.array([0.06, 0.09, 0.12, 0.15, 0.18])
    order = np.arange(5)
    while abs(np.corrcoef(order, np.arange(5))[0, 1]) > 0.5:  # neither increasing nor decreasing overall
        order = rng.permutation(5)

    def scene(row: np.ndarray) -> Scene:
        places = zip(0.12 + 0.19 * np.arange(5), row, strict=True)
        return Scene(tuple(SceneObject("circle", colour, float(x), y, float(size)) for x, size in places))

    return scene(sizes), scene(sizes[order])


_PUZZLES: dict[str, Callable[[np.random.Generator], tuple[Scene, Scene]]] = {
    "same": _same,
    "symmetric": _symmetric,
    "upright": _upright,
    "sorted": _sorted,
}
