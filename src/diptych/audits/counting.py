"""Can it count? Pictures with a known number of things, and prompts that name numbers (paper, section 3.1.5).

The pictures are drawn here, or come with their counts (CLEVR; folders named like numbers). In half of the
drawn ones every thing has one size, so that more things are more colour; in the other half all things of a
picture together have one area, so that colour does not give the number away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.audits import scenes
from diptych.audits.asking import Floats, answer_shares, confusion, text_rows
from diptych.audits.drawn import Drawn, drawn
from diptych.audits.outcome import Audit, bars
from diptych.audits.verdicts import against, mean, share, verdict
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError
from diptych.evaluation import ImageDataset, Settings
from diptych.evaluation.settings import Setup
from diptych.reports import Bars, Estimate, Heatmap, Section, Table

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
WORDS += ("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
WORDS += ("nineteen", "twenty")
# {n}: the number in words; {d}: in digits; {things}: what is counted.
TEMPLATES = (
    "a photo of {n} {things}.",
    "{n} {things}",
    "there are {n} {things} in the picture.",
    "a picture with exactly {n} {things}.",
    "a photo of {d} {things}.",
)
SIZES = ("things of one size", "one area for all")
GROUNDS = ("plain", "textured")


@dataclass(frozen=True, kw_only=True, eq=False)
class Counting(Audit):
    """How well numbers are told.

    Attributes
    ----------
    dataset : str
    numbers : sequence of int
        The answers to choose from.
    accuracy : Estimate
        With the mean of all prompts as each answer's row.
    error, error_chance : Estimate and float
        Mean distance between answer and truth; of answers by lot.
    correlation : float
        Between truth and answer (Pearson): whether answers rise with the count at all; 0 by lot.
    templates : mapping of str to Estimate
        Accuracy of each prompt alone.
    by_number : mapping of str to Estimate
    ranges : mapping of str to (Estimate, float)
        "1-3" -> accuracy among pictures and answers up to three, and its chance.
    conditions : mapping of str to Estimate
        How the picture was drawn -> accuracy; empty for pictures from outside.
    confusion : sequence of sequences of float
        Share of each answer (column) among pictures of each number (row).
    """

    dataset: str
    numbers: Sequence[int]
    accuracy: Estimate
    error: Estimate
    error_chance: float
    correlation: float
    templates: Mapping[str, Estimate]
    by_number: Mapping[str, Estimate]
    ranges: Mapping[str, tuple[Estimate, float]]
    conditions: Mapping[str, Estimate]
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
        return [
            Section("Does it count?", self._statements(), self._tables(), self._plots()),
            Section("Which number for which", [_CONFUSION], plots={"confusion": self._heat()}),
        ]

    def _statements(self) -> list[str]:
        found = verdict(self.accuracy, self.chance)
        plain = {
            "at": "At chance: this model does not count.",
            "below": "Below chance: it does not count, and something else drives its answers.",
            "above": "Above chance: numbers change its answers. The errors below say whether that is counting.",
        }[found]
        return [
            f"{plain} Accuracy {against(self.accuracy, self.chance)}; {self.accuracy.n} pictures.",
            f"The answer is off by {self.error} on average; answers by lot are off by {self.error_chance:.2f}. "
            f"Answers and counts correlate by {self.correlation:.2f} (0: unrelated, 1: in step).",
            _trend(self.ranges),
        ]

    def _tables(self) -> dict[str, Table]:
        rows = [[name, one, chance, skill(one, chance), verdict(one, chance)] for name, (one, chance) in self.ranges.items()]
        columns = ["numbers", "accuracy", "chance", "skill", "chance is"]
        ways = {**self.templates, **self.conditions}
        return {
            "ranges": Table(columns[:4] + ["verdict"], rows, _SKILL),
            "prompts": Table(
                ["prompt or picture", "accuracy", "verdict"],
                [[name, one, verdict(one, self.chance)] for name, one in ways.items()],
                f"Chance is {self.chance:.3f}. One interval in twenty misses by chance.",
            ),
        }

    def _plots(self) -> dict[str, Bars]:
        return {
            "by_number": Bars(
                values=bars(self.by_number), x="accuracy", title="By number of things", levels={"chance": self.chance}
            )
        }

    def _heat(self) -> Heatmap:
        names = [str(number) for number in self.numbers]
        return Heatmap(rows=names, columns=names, values=self.confusion, x="answer", y="things in the picture")


_CONFUSION = "A model that counts has its answers on the diagonal; one that prefers a word has a full column."
_SKILL = "Skill is (accuracy - chance) / (1 - chance): 0 by lot, 1 without a mistake, whatever the number of answers."


def skill(accuracy: Estimate, chance: float) -> float:
    """How much of the way from chance to perfect.

    Examples
    --------
    >>> skill(Estimate(0.55), 0.1)
    0.5
    """
    return round((accuracy.value - chance) / (1 - chance), 6)


def audit_counting(
    encoder: Encoder,
    dataset: ImageDataset | None = None,
    *,
    most: int = 10,
    each: int = 40,
    things: str = "objects",
    templates: Sequence[str] = TEMPLATES,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> Counting:
    """Ask how many things there are.

    Parameters
    ----------
    encoder : Encoder
    dataset : ImageDataset, optional
        Pictures with counts as class names ("3", "three"); by default they are drawn.
    most, each : int
        Of drawn pictures: the largest count, and pictures of each.
    things : str
        With `dataset`: what is counted, in the plural. Drawn things are called by their shape.
    templates : sequence of str
        Prompts with {n} (the number in words) or {d} (in digits), and {things}.
    seed : int
    **settings
        See `Settings`.

    Raises
    ------
    InputError
        Fewer than two numbers, more than twenty, or a template without its number.
    DataError
        Class names that are no numbers.
    """
    for template in templates:
        if "{n}" not in template and "{d}" not in template:
            raise InputError(f"the template {template!r} names no number: expected {{n}} or {{d}} in it")
    setup = Setup.of(**settings)
    pictures = draw_counts(most, each, seed) if dataset is None else dataset
    numbers = [number_of(name, pictures.name) for name in pictures.class_names]
    if len(set(numbers)) < 2:
        raise InputError(f"counting among {sorted(set(numbers))}: expected at least two different numbers")
    found = setup.embed(encoder, pictures)
    nouns = list(scenes.SHAPES) if dataset is None else [things]
    noun_of = (np.arange(len(pictures)) // (4 * most)) % len(nouns)  # as `_scene` has it
    rows = _number_rows(encoder, templates, numbers, nouns, plural=dataset is not None)  # (T+1, S, C, dim)
    scores = np.einsum("nd,tncd->tnc", found.rows, rows[:, noun_of[found.positions]])
    order = np.argsort(numbers)
    return _figures(
        setup.facts(encoder, pictures),
        pictures,
        found.positions,
        [answer_shares(table[:, order]) for table in scores],
        np.argsort(order)[pictures.labels[found.positions]],
        [numbers[index] for index in order],
        templates,
        found.failures,
    )


def number_of(name: str, where: str = "the data") -> int:
    """The number that a class name says, in digits or in words.

    Examples
    --------
    >>> number_of("3"), number_of("three"), number_of("count 7")
    (3, 3, 7)
    """
    said = name.lower().split()[-1] if name.split() else ""
    if said in WORDS:
        return WORDS.index(said)
    if said.isascii() and said.isdecimal() and int(said) < len(WORDS):
        return int(said)
    raise DataError(
        f"{where} has a class {name!r}, which is no number: expected folders named 0 to {len(WORDS) - 1} in "
        "digits or in English words"
    )


def draw_counts(most: int, each: int, seed: int) -> Drawn:
    """`each` pictures of every count from 1 to `most`, all ways of drawing equally often."""
    if not 2 <= most < len(WORDS) or each < 1:
        raise InputError(f"counts up to {most}, {each} pictures each: expected 2 to {len(WORDS) - 1}, and 1 or more")
    labels = [index % most for index in range(most * each)]
    names = [str(number) for number in range(1, most + 1)]
    made = f"counts v{scenes.VERSION} seed {seed} most {most}"
    return drawn("drawn counts", lambda index: scenes.draw(_scene(index, most, seed)), labels, names, made=made)


def _scene(index: int, most: int, seed: int) -> scenes.Scene:
    """Picture `index`: the count changes fastest, then the sizes, the background, the shape."""
    rng = np.random.default_rng([seed, index, 1])
    count, turn = index % most + 1, index // most
    shape = list(scenes.SHAPES)[turn // 4 % len(scenes.SHAPES)]
    colour = list(scenes.COLOURS)[int(rng.integers(len(scenes.COLOURS)))]
    largest = 0.55 / np.sqrt(most)  # so that as many as there may be find their places
    sizes = [float(rng.uniform(0.6, 1.0) * largest) if turn % 2 == 0 else float(largest * np.sqrt(most / count))] * count
    places = scenes.scatter(rng, sizes)
    ground = scenes.BACKGROUNDS[0] if turn // 2 % 2 == 0 else scenes.BACKGROUNDS[1 + int(rng.integers(3))]
    return scenes.Scene(
        tuple(scenes.Thing(shape, colour, x, y, size) for (x, y), size in zip(places, sizes, strict=True)),
        ground,
        int(rng.integers(2**31)),
    )


def _number_rows(
    encoder: Encoder, templates: Sequence[str], numbers: Sequence[int], nouns: Sequence[str], *, plural: bool
) -> NDArray[np.float32]:
    """Rows of every number: for each template, and last for their mean, (T + 1, S, C, dim)."""
    texts = [
        [[_prompt(template, number, noun, plural) for template in templates] for number in numbers] for noun in nouns
    ]
    alone = [[texts[s][c][t]] for t in range(len(templates)) for s in range(len(nouns)) for c in range(len(numbers))]
    together = [texts[s][c] for s in range(len(nouns)) for c in range(len(numbers))]
    rows = text_rows(encoder, alone + together)
    return rows.reshape(len(templates) + 1, len(nouns), len(numbers), encoder.dim)


def _prompt(template: str, number: int, noun: str, plural: bool) -> str:
    """A template filled in, in the singular where there is one.

    Examples
    --------
    >>> _prompt("there are {n} {things} in the picture.", 1, "star", False)
    'there is one star in the picture.'
    >>> _prompt("{n} {things}", 4, "cross", False)
    'four crosses'
    """
    if number == 1:
        template = template.replace("there are", "there is")
        things = noun.removesuffix("s") if plural else noun
    else:
        things = noun if plural else noun + ("es" if noun.endswith("s") else "s")
    return template.replace("{n}", WORDS[number]).replace("{d}", str(number)).replace("{things}", things)


def _figures(
    facts: Mapping[str, str],
    pictures: ImageDataset,
    positions: NDArray[np.intp],
    shares: Sequence[Floats],
    labels: NDArray[np.int64],
    numbers: Sequence[int],
    templates: Sequence[str],
    failures: Sequence,
) -> Counting:
    ...
