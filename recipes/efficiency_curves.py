"""From the points of recipes/efficiency_study.py to plots, final figures, and how many pairs each needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from diptych.reports import Curve, Curves, save_plot

Legs = Sequence[Any]  # as points.json has them

OBJECTIVES = ("contrastive", "words", "ngrams", "captions", "classes")
AXES = {"pairs": "pairs seen", "operations": "operations of training (3 x forward)"}
EXAMS = {
    "seen": "accuracy among the 5 classes of CIFAR-10 seen",
    "seen, even": "accuracy among the 5 classes of CIFAR-10 seen, even",
    "unseen": "zero-shot accuracy among the 5 others",
    "unseen, even": "zero-shot accuracy among the 5 others, even",
}
CHANCE = {"chance": 0.2}
LEAST = 0.25  # an accuracy that pairs are counted to: chance and four standard errors
# Columns of the table: what a point calls it, and what the table does.
FINALS = {
    "seen": "seen",
    "seen, even": "even",
    "seen, per token": "token",
    "unseen": "unseen",
    "unseen, even": "even",
    "picture of a caption": "picture",
    "caption of a picture": "caption",
    "caption of a picture, even": "even",
}
RIVALS = (("contrastive", "words"), ("words", "captions"), ("contrastive", "captions"), ("words", "ngrams"))


def draw(legs: Legs, out: Path) -> None:
    """Each tower's objectives against pairs and against operations; the towers against operations."""
    towers = {tower: [leg for leg in legs if leg["tower"] == tower] for tower in ("ResNet", "ViT")}
    for exam, y in EXAMS.items():
        name = exam.replace(", ", "-")
        for tower, some in towers.items():
            for axis, x in AXES.items():
                shown = {objective: curve(some, objective, exam, axis) for objective in OBJECTIVES}
                _plot(out / f"{name}-{axis}-{tower.lower()}", shown, x, y, tower)
        both = {}
        for objective in ("contrastive", "words", "captions"):
            for tower, some in towers.items():
                found = curve(some, objective, exam, "operations")
                both[f"{objective}, {tower}"] = replace(found, dashed=tower == "ViT")
        _plot(out / f"{name}-towers", both, AXES["operations"], y, "")


def _plot(path: Path, curves: Mapping[str, Curve], x: str, y: str, title: str) -> None:
    there = {name: found for name, found in curves.items() if len(found.x)}
    if there:
        save_plot(path, Curves(curves=there, x=x, y=y, title=title, log_x=True, levels=CHANCE))


def curve(legs: Legs, objective: str, exam: str, axis: str) -> Curve:
    """The mean over the seeds, with the least and the most as a band."""
    of_seeds = [list(places(leg, exam, axis)) for leg in legs if leg["objective"] == objective]
    columns = list(zip(*(places for places in of_seeds if places), strict=True))
    x = [fmean(place[0] for place in column) for column in columns]
    y = [[place[1] for place in column] for column in columns]
    return Curve(x, [fmean(v) for v in y], [min(v) for v in y], [max(v) for v in y])


def places(leg: Any, exam: str, axis: str) -> Iterator[tuple[float, float]]:
    """A run's points: how much was seen or computed, and how well it did."""
    factor = leg["operations"] if axis == "operations" else 1
    for point in leg["points"]:
        if exam in point:
            yield factor * point["pairs"], point[exam]


def needed(run: Sequence[tuple[float, float]], level: float) -> float:
    """Where a run first reaches a level, between two points on a logarithmic axis; infinity if nowhere.

    Examples
    --------
    >>> needed([(100, 0.2), (400, 0.4)], 0.3)
    200.0
    """
    before = run[0]
    for x, y in run:
        if y >= level:
            share = 0.0 if y == before[1] else (level - before[1]) / (y - before[1])
            return round(math.exp(math.log(before[0]) + share * math.log(x / before[0])), 6)
        before = (x, y)
    return math.inf


def ratios(
    legs: Legs, first: tuple[str, str], second: tuple[str, str], exam: str, axis: str
) -> list[tuple[float, bool]]:
    """How many times more the second (objective, tower) needs than the first, for each seed of both.

    Both to the accuracy that the weaker of the two ends with; left out where that is near chance. With each
    number whether it is only a bound, as the first was there at its first point.
    """
    found = []
    for seed in sorted({leg["seed"] for leg in legs}):
        both = [
            list(places(leg, exam, axis))
            for objective, tower in (first, second)
            for leg in legs
            if (leg["objective"], leg["tower"], leg["seed"]) == (objective, tower, seed)
        ]
        if len(both) == 2 and all(both):
            level = min(max(y for _, y in run) for run in both)
            if level >= LEAST:
                found.append((needed(both[1], level) / needed(both[0], level), both[0][0][1] >= level))
    return found


def table(legs: Legs) -> str:
    """Where the runs end (mean and half the spread of the seeds), and what each needs to match another."""
    lines = [f"{'tower':7}{'objective':12}{'rate':>6} " + "".join(f"{name:>8} " for name in FINALS.values())]
    kinds = sorted({(leg["tower"], OBJECTIVES.index(leg["objective"]), leg["lr"]) for leg in legs})
    for tower, number, rate in kinds:
        kind = (tower, OBJECTIVES[number], rate)
        ends = [leg["points"][-1] for leg in legs if (leg["tower"], leg["objective"], leg["lr"]) == kind]
        cells = [_cell([end[name] for end in ends if name in end]) for name in FINALS]
        lines.append(f"{tower:7}{kind[1]:12}{rate:6g} {''.join(cells)}".rstrip())
    told = "how many times more the second needs; >: or more"
    lines += ["", f"{told:62} {'mean':>6} {'least':>6} {'most':>6}   n"]
    return "\n".join([*lines, *_compared(legs)])


def _cell(values: Sequence[float]) -> str:
    """Nine columns.

    Examples
    --------
    >>> _cell([0.25, 0.27])
    ' .26±.010'
    """
    if not values:
        return " " * 9
    return f"{fmean(values):.2f}"[1:].rjust(4) + f"±{(max(values) - min(values)) / 2:.3f}".replace("0.", ".")


def _compared(legs: Legs) -> Iterator[str]:
    towers = sorted({leg["tower"] for leg in legs})
    kinds = [((a, tower), (b, tower), axis) for tower in towers for a, b in RIVALS for axis in AXES]
    kinds += [((name, "ResNet"), (name, "ViT"), "operations") for name in OBJECTIVES]
    for first, second, axis in kinds:
        for exam in EXAMS:
            found = ratios(legs, first, second, exam, axis)
            if found:
                values, bound = [value for value, _ in found], " >" if any(low for _, low in found) else "  "
                mean = math.exp(fmean(map(math.log, values)))
                who = f"{' '.join(first)}, {' '.join(second)}: {exam}, {axis}"
                yield f"{who:60}{bound}{mean:7.2f} {min(values):6.2f} {max(values):6.2f} {len(values):3}"
