"""Plots, final figures and numbers of pairs needed, from the points of recipes/efficiency_study.py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from diptych.reports import Curve, Curves, save_plot

Legs = Sequence[Any]  # the runs in points.json

OBJECTIVES = ("contrastive", "words", "ngrams", "captions", "classes")
AXES = {"pairs": "pairs seen", "operations": "operations of training (3 x forward)"}
EXAMS = {
    "seen": "accuracy among the 5 classes of CIFAR-10 seen",
    "seen, even": "accuracy among the 5 classes of CIFAR-10 seen, even",
    "unseen": "zero-shot accuracy among the 5 others",
    "unseen, even": "zero-shot accuracy among the 5 others, even",
}
CHANCE = {"chance": 0.2}
MIN_LEVEL = 0.25  # lowest accuracy for which pairs are counted: chance plus four standard errors
# Columns of the table: name in a point -> head in the table.
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
COMPARISONS = (
    ("contrastive", "words"),
    ("words", "captions"),
    ("contrastive", "captions"),
    ("words", "ngrams"),
)


def draw(legs: Legs, out: Path) -> None:
    """Plot the objectives of each tower against pairs and operations, and the towers against operations."""
    towers = {tower: [leg for leg in legs if leg["tower"] == tower] for tower in ("ResNet", "ViT")}
    for exam, y in EXAMS.items():
        name = exam.replace(", ", "-")
        for tower, tower_legs in towers.items():
            for axis, x in AXES.items():
                shown = {objective: curve(tower_legs, objective, exam, axis) for objective in OBJECTIVES}
                _plot(out / f"{name}-{axis}-{tower.lower()}", shown, x, y, tower)
        both = {}
        for objective in ("contrastive", "words", "captions"):
            for tower, tower_legs in towers.items():
                objective_curve = curve(tower_legs, objective, exam, "operations")
                both[f"{objective}, {tower}"] = replace(objective_curve, dashed=tower == "ViT")
        _plot(out / f"{name}-towers", both, AXES["operations"], y, "")


def _plot(path: Path, curves: Mapping[str, Curve], x: str, y: str, title: str) -> None:
    present = {name: objective_curve for name, objective_curve in curves.items() if len(objective_curve.x)}
    if present:
        save_plot(path, Curves(curves=present, x=x, y=y, title=title, log_x=True, levels=CHANCE))


def curve(legs: Legs, objective: str, exam: str, axis: str) -> Curve:
    """Mean over the seeds, with minimum and maximum as a band."""
    points_of_seeds = [list(leg_points(leg, exam, axis)) for leg in legs if leg["objective"] == objective]
    columns = list(zip(*(points for points in points_of_seeds if points), strict=True))
    x = [fmean(point[0] for point in column) for column in columns]
    y = [[point[1] for point in column] for column in columns]
    return Curve(x, [fmean(v) for v in y], [min(v) for v in y], [max(v) for v in y])


def leg_points(leg: Any, exam: str, axis: str) -> Iterator[tuple[float, float]]:
    """Points of a run: (pairs seen or operations, accuracy)."""
    factor = leg["operations"] if axis == "operations" else 1
    for point in leg["points"]:
        if exam in point:
            yield factor * point["pairs"], point[exam]


def pairs_needed(points: Sequence[tuple[float, float]], level: float) -> float:
    """Where a run first reaches a level, interpolated on a logarithmic axis; infinity if it never does.

    Examples
    --------
    >>> pairs_needed([(100, 0.2), (400, 0.4)], 0.3)
    200.0
    """
    before = points[0]
    for x, y in points:
        if y >= level:
            fraction = 0.0 if y == before[1] else (level - before[1]) / (y - before[1])
            return round(math.exp(math.log(before[0]) + fraction * math.log(x / before[0])), 6)
        before = (x, y)
    return math.inf


def ratios(
    legs: Legs, first: tuple[str, str], second: tuple[str, str], exam: str, axis: str
) -> list[tuple[float, bool]]:
    """How many times more the second (objective, tower) needs than the first, for each common seed.

    The level is the lower of their two best accuracies; it is left out if that is near chance. Each ratio
    comes with a flag: True if it is only a lower bound, because the first reached the level at its first
    point.
    """
    result = []
    for seed in sorted({leg["seed"] for leg in legs}):
        both = [
            list(leg_points(leg, exam, axis))
            for objective, tower in (first, second)
            for leg in legs
            if (leg["objective"], leg["tower"], leg["seed"]) == (objective, tower, seed)
        ]
        if len(both) == 2 and all(both):
            level = min(max(y for _, y in run) for run in both)
            if level >= MIN_LEVEL:
                result.append(
                    (pairs_needed(both[1], level) / pairs_needed(both[0], level), both[0][0][1] >= level)
                )
    return result


def table(legs: Legs) -> str:
    """Final figures (mean and half the range over the seeds), and ratios of pairs or operations needed."""
    lines = [f"{'tower':7}{'objective':12}{'rate':>6} " + "".join(f"{name:>8} " for name in FINALS.values())]
    kinds = sorted({(leg["tower"], OBJECTIVES.index(leg["objective"]), leg["lr"]) for leg in legs})
    for tower, number, rate in kinds:
        kind = (tower, OBJECTIVES[number], rate)
        ends = [leg["points"][-1] for leg in legs if (leg["tower"], leg["objective"], leg["lr"]) == kind]
        cells = [_cell([end[name] for end in ends if name in end]) for name in FINALS]
        lines.append(f"{tower:7}{kind[1]:12}{rate:6g} {''.join(cells)}".rstrip())
    head = "how many times more the second needs; >: or more"
    lines += ["", f"{head:62} {'mean':>6} {'least':>6} {'most':>6}   n"]
    return "\n".join([*lines, *_comparison_lines(legs)])


def _cell(values: Sequence[float]) -> str:
    """Format a mean and half the range in nine characters.

    Examples
    --------
    >>> _cell([0.25, 0.27])
    ' .26±.010'
    """
    if not values:
        return " " * 9
    return f"{fmean(values):.2f}"[1:].rjust(4) + f"±{(max(values) - min(values)) / 2:.3f}".replace("0.", ".")


def _comparison_lines(legs: Legs) -> Iterator[str]:
    towers = sorted({leg["tower"] for leg in legs})
    kinds = [((a, tower), (b, tower), axis) for tower in towers for a, b in COMPARISONS for axis in AXES]
    kinds += [((name, "ResNet"), (name, "ViT"), "operations") for name in OBJECTIVES]
    for first, second, axis in kinds:
        for exam in EXAMS:
            pairs_of_ratios = ratios(legs, first, second, exam, axis)
            if pairs_of_ratios:
                values, bound = (
                    [value for value, _ in pairs_of_ratios],
                    " >" if any(low for _, low in pairs_of_ratios) else "  ",
                )
                mean = math.exp(fmean(map(math.log, values)))
                who = f"{' '.join(first)}, {' '.join(second)}: {exam}, {axis}"
                yield f"{who:60}{bound}{mean:7.2f} {min(values):6.2f} {max(values):6.2f} {len(values):3}"
