"""Can it count? Pictures with a known number of things, and prompts that name numbers (paper, section 3.1.5).

The pictures are drawn by `counts.py`, or come with their counts: CLEVR, or folders named like numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from diptych.audits.base import Audit, estimate_bars, verdict_cell
from diptych.audits.limits import scenes
from diptych.audits.limits.count_scenes import conditions, draw_counts, parse_number, plural, prompt, scene
from diptych.audits.prompt_scores import Floats, answer_embeddings, answer_probabilities, confusion, top1_hits
from diptych.datasets import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Bars, Cell, Estimate, Heatmap, Section, Table
from diptych.stats.intervals import bounded_mean, correlation, proportion
from diptych.stats.significance import NOT_ENOUGH, against_chance, beside_chance, decide

TEMPLATES = (
    "a photo of {n} {things}.",
    "{n} {things}",
    "there are {n} {things} in the picture.",
    "a picture with exactly {n} {things}.",
    "a photo of {d} {things}.",
)
_UP_TO = (3, 5, 10)  # as few answers as a person names at a glance, and more
_SKILL = (
    "Skill is (accuracy - chance) / (1 - chance): 0 by lot and 1 without a mistake, however many answers "
    "there are to choose from."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CountingAudit(Audit):
    """How well numbers are told.

    Attributes
    ----------
    dataset : str
    numbers : sequence of int
        The answers to choose from.
    accuracy : Estimate
        Each answer's row is the mean of all its prompts.
    error, error_chance : Estimate and float
        Mean distance between answer and truth; that of answers by lot.
    correlation : Estimate or None
        Of truth and answer (Pearson): 0 by lot; None where every answer is the same.
    templates : mapping of str to Estimate
        Accuracy of each prompt alone.
    by_number : mapping of str to Estimate
    ranges : mapping of str to (Estimate, float)
        "1-3" -> accuracy among pictures and answers up to three, and its chance.
    drawn : mapping of str to Estimate
        How the picture was drawn -> accuracy; empty for pictures from outside.
    confusion : sequence of sequences of float
        Share of each answer (column) among pictures of each number (row).
    """

    dataset: str
    numbers: Sequence[int]
    accuracy: Estimate
    error: Estimate
    error_chance: float
    correlation: Estimate | None
    templates: Mapping[str, Estimate]
    by_number: Mapping[str, Estimate]
    ranges: Mapping[str, tuple[Estimate, float]]
    drawn: Mapping[str, Estimate]
    confusion: Sequence[Sequence[float]]

    @property
    def chance(self) -> float:
        """Accuracy by lot."""
        return 1 / len(self.numbers)

    @property
    def title(self) -> str:
        """What the report is called."""
        return f"Counting: {self.dataset}"

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        names = [str(number) for number in self.numbers]
        heat = Heatmap(
            rows=names, columns=names, values=self.confusion, x="answer", y="things in the picture"
        )
        each = Bars(values=estimate_bars(self.by_number), x="accuracy", levels={"chance": self.chance})
        return [
            Section("Does it count?", self._statements(), {"ranges": self._ranges()}),
            Section("By prompt and by picture", [], {"ways": self._ways()}, {"by_number": each}),
            Section(
                "Which answer for which number",
                ["Counting lies on the diagonal; a full column is a word that is always preferred."],
                plots={"confusion": heat},
            ),
        ]

    def _statements(self) -> list[str]:
        verdict = self.verdicts["accuracy"]
        plain = {
            "at": "At chance: this model does not count.",
            "below": "Below chance: this model does not count; something else decides its answers.",
            "above": "Above chance: the number of things changes the answer.",
            NOT_ENOUGH: "Not enough to say whether this model counts.",
        }[verdict]
        told = "none, all answers are the same" if self.correlation is None else str(self.correlation)
        return [
            f"{plain} Accuracy {beside_chance(self.accuracy, self.chance, verdict)}, on "
            f"{self.accuracy.n:,} pictures.",
            f"Answers are off by {self.error} on average; by lot it would be {self.error_chance:.2f}. "
            f"Correlation of answer and number: {told}.",
            *([trend(self.ranges)] if len(self.ranges) > 1 and verdict != NOT_ENOUGH else []),
        ]

    def _ranges(self) -> Table:
        rows: list[list[Cell]] = [
            [name, one, chance, skill(one, chance), verdict_cell(self.verdicts[f"numbers {name}"])]
            for name, (one, chance) in self.ranges.items()
        ]
        return Table(["numbers", "accuracy", "chance", "skill", "verdict"], rows, _SKILL)

    def _ways(self) -> Table:
        ways = {**self.templates, **self.drawn}
        rows: list[list[Cell]] = [
            [name, one, verdict_cell(self.verdicts[name])] for name, one in ways.items()
        ]
        caption = f"Chance is {self.chance:.3f}. Verdicts of the whole audit are corrected together (Holm)."
        return Table(["prompt or picture", "accuracy", "verdict"], rows, caption)


def skill(accuracy: Estimate, chance: float) -> float:
    """How much of the way from chance to perfect.

    Examples
    --------
    >>> skill(Estimate(0.55), 0.1)
    0.5
    """
    return round((accuracy.value - chance) / (1 - chance), 6) + 0.0  # no minus before a zero


def trend(ranges: Mapping[str, tuple[Estimate, float]]) -> str:
    """Whether fewer answers are told apart better, beyond what chance gives.

    Examples
    --------
    >>> trend({"1-3": (Estimate(0.6, 0.5, 0.7), 1 / 3), "1-10": (Estimate(0.1, 0.05, 0.15), 0.1)})
    'With fewer numbers accuracy rises, from 0.100 (1-10) to 0.600 (1-3); skill, which takes chance away, \
goes from 0.00 to 0.40.'
    """
    (few, (best, low)), *_, (many, (all_of_them, high)) = ranges.items()
    rises = "rises" if best.value > all_of_them.value else "does not rise"
    start, end = (round(skill(*one), 2) + 0.0 for one in ((all_of_them, high), (best, low)))
    return (
        f"With fewer numbers accuracy {rises}, from {all_of_them.value:.3f} ({many}) to {best.value:.3f} "
        f"({few}); skill, which takes chance away, goes from {start:.2f} to {end:.2f}."
    )


def audit_counting(
    encoder: Encoder,
    dataset: ImageDataset | None = None,
    *,
    most: int = 10,
    each: int = 48,
    things: str = "objects",
    templates: Sequence[str] = TEMPLATES,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> CountingAudit:
    """Ask how many things there are.

    Parameters
    ----------
    encoder : Encoder
    dataset : ImageDataset, optional
        Pictures with counts as class names ("3", "three"); by default they are drawn.
    most, each : int
        Of drawn pictures: the largest count, and how many of each.
    things : str
        With `dataset`: what is counted, in the plural. Drawn things are called by their shape.
    templates : sequence of str
        Prompts with {n} (the number in words) or {d} (in digits), and {things}.
    seed : int
        Of the drawn pictures.
    **settings
        See `Settings`.

    Raises
    ------
    InputError
        Fewer than two numbers, a number without a word, or a template without a number.
    DataError
        Class names that are no numbers, or no picture that can be read.
    """
    lacking = [one for one in templates if "{n}" not in one and "{d}" not in one]
    if lacking or not templates:
        raise InputError(f"{lacking or 'no template'}: expected {{n}} or {{d}} where the number goes")
    setup = Setup.of(**settings)
    pictures = draw_counts(most, each, seed) if dataset is None else dataset
    named = [parse_number(name, pictures.name) for name in pictures.class_names]
    numbers = sorted(set(named))
    if len(numbers) < 2:
        raise InputError(
            f"{pictures.name} has only the number {numbers}: expected at least two to tell apart"
        )
    found = setup.embed(encoder, pictures)
    positions = found.positions.tolist()
    how = [] if dataset is not None else [conditions(position, most) for position in positions]
    nouns = [things] if dataset is not None else [plural(shape) for shape in scenes.SHAPES]
    nouns_of = np.array([nouns.index(plural(shape)) for _, _, shape in how] or [0] * len(positions))
    rows = _number_rows(encoder, templates, numbers, nouns)  # (T + 1, S, C, dim)
    scores = [np.einsum("nd,ncd->nc", found.rows, one[nouns_of]) for one in rows]  # (N, C) each
    labels = np.array([numbers.index(named[pictures.labels[position]]) for position in positions])
    shares = answer_probabilities(scores[-1])
    distance = abs(np.subtract.outer(numbers, numbers))
    accuracies = [proportion(top1_hits(table, labels)) for table in scores]  # by template, then of their mean
    accuracy, prompts = accuracies[-1], dict(zip(templates, accuracies, strict=False))
    ranges = _ranges(scores[-1], labels, numbers)
    ways = _by_condition(top1_hits(scores[-1], labels), how)
    chances = {f"numbers {name}": pair for name, pair in ranges.items()}
    whole = {"accuracy": accuracy, **prompts, **ways}
    chances |= {name: (one, 1 / len(numbers)) for name, one in whole.items()}
    return CountingAudit(
        facts=setup.facts(encoder, pictures),
        failures=found.failures,
        samples=_samples(len(pictures), most, seed) if dataset is None else (),
        dataset=pictures.name,
        numbers=numbers,
        verdicts=decide({name: against_chance(*pair) for name, pair in chances.items()}),
        accuracy=accuracy,
        error=bounded_mean((shares * distance[labels]).sum(axis=1), float(distance.max())),
        error_chance=float(distance[labels].mean()),
        correlation=correlation(shares @ np.array(numbers), np.array(numbers)[labels]),
        templates=prompts,
        by_number={
            str(number): proportion(shares[labels == index, index])
            for index, number in enumerate(numbers)
            if (labels == index).any()
        },
        ranges=ranges,
        drawn=ways,
        confusion=confusion(shares, labels),
    )


def _samples(count: int, most: int, seed: int) -> list[tuple[str, Image]]:
    """Drawn pictures of every number with their counts."""
    return [
        (str(index % most + 1), scenes.draw(scene(index, most, seed)))
        for index in range(0, min(count, 20 * (most + 1)), most + 1)
    ]


def _number_rows(
    encoder: Encoder, templates: Sequence[str], numbers: Sequence[int], nouns: Sequence[str]
) -> NDArray[np.float32]:
    """Rows of every number: for each template, and last for the mean of all, (T + 1, S, C, dim)."""
    sets: list[Sequence[str]] = [[one] for one in templates]
    answers = [
        [prompt(template, number, noun) for template in chosen]
        for chosen in (*sets, templates)
        for noun in nouns
        for number in numbers
    ]
    return answer_embeddings(encoder, answers).reshape(len(templates) + 1, len(nouns), len(numbers), -1)


def _ranges(
    scores: NDArray[np.floating], labels: NDArray[np.integer], numbers: Sequence[int]
) -> dict[str, tuple[Estimate, float]]:
    """Accuracy among the first few numbers, then among more of them, then all."""
    tops = [top for top in _UP_TO if numbers[0] < top < numbers[-1]] + [numbers[-1]]
    found = {}
    for top in tops:
        count = sum(number <= top for number in numbers)
        kept = labels < count
        if count > 1 and kept.any():
            name = f"{numbers[0]}-{numbers[count - 1]}"
            found[name] = (proportion(top1_hits(scores[kept, :count], labels[kept])), 1 / count)
    return found


def _by_condition(hits: Floats, how: Sequence[tuple[str, ...]]) -> dict[str, Estimate]:
    """Accuracy for every way in which pictures were drawn."""
    names = list(dict.fromkeys(name for which in zip(*how, strict=True) for name in which))
    return {name: proportion(hits[[name in one for one in how]]) for name in names}
