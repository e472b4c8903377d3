"""Typographic attack: does the answer follow a word written on the image (Goh et al. 2021)?

Every image is classified without text, with the name of a wrong class on it, with random letters (a control
for the area that the box covers) and with the name of its own class; in several sizes, at balanced
positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.base import Audit
from diptych.audits.limits.text_overlay import POSITIONS, OverlaidDataset, random_letters
from diptych.audits.prompt_scores import Floats, answer_probabilities, class_embeddings
from diptych.datasets import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Cell, Curve, Curves, Estimate, Section, Table
from diptych.stats.differences import paired_difference
from diptych.stats.intervals import proportion
from diptych.stats.significance import NOT_ENOUGH, against_chance, decide, paired_claim

KINDS = ("wrong name", "random letters", "right name")
SIZES = (0.08, 0.16, 0.3)


@dataclass(frozen=True)
class AttackResult:
    """Effect of one kind of text in one size.

    Attributes
    ----------
    change : Estimate
        Accuracy minus that of the same images without text.
    follows : Estimate
        Share of answers that are the written name; for random letters, the wrong name of that image.
    gained : Estimate
        `follows` minus its value on the same images without text.
    """

    accuracy: Estimate
    change: Estimate
    follows: Estimate
    gained: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class TypographicAudit(Audit):
    """Result of the typographic attack.

    Attributes
    ----------
    clean : Estimate
        Accuracy without text, on the same images at the same size.
    attacks : mapping of kind to mapping of size to AttackResult
        Kinds as in `KINDS`; sizes as fractions of the shorter side of the image.
    places : mapping of str to Estimate
        Share of answers that follow a wrong name, by position, for all sizes together.
    word_effect : mapping of size to Estimate
        Share of answers that are the written name, minus that with random letters of the same size on the
        same images. Any covering box causes wrong answers, and some of them are that name by chance.
    """

    dataset: str
    chance: float
    clean: Estimate
    attacks: Mapping[str, Mapping[float, AttackResult]]
    places: Mapping[str, Estimate]
    word_effect: Mapping[float, Estimate]
    sheet_columns = 6

    @property
    def _title(self) -> str:
        return f"Typographic attack: {self.dataset}"

    def _sections(self) -> list[Section]:
        rows: list[list[Cell]] = [
            [f"{kind.split()[0]} {size:.0%}", result.accuracy, result.change, result.follows]
            for kind, sizes in self.attacks.items()
            for size, result in sizes.items()
        ]
        caption = (
            f"Written: a wrong name, random letters, the right name. Without writing: {self.clean}; "
            f"chance {self.chance:.3f}. The size is the height of the line "
            "against the picture's shorter side; change is against the same pictures without writing; "
            "follows is the share of answers that are the written name (beside random letters: the wrong "
            "name that a word would have had)."
        )
        places = Table(
            ["place", "follows a wrong name"], [[name, result] for name, result in self.places.items()]
        )
        return [
            Section(
                "Does the answer follow the text?",
                self._statements(),
                {"attacks": Table(["written", "accuracy", "change", "follows"], rows, caption)},
                {"attacks": self._curves()},
            ),
            Section("By place", tables={"places": places}),
        ]

    @property
    def failed_controls(self) -> list[str]:
        """Images that are not shown to be recognised without text."""
        verdict = self.verdicts["clean"]
        if verdict == "above":
            return []
        problem = "There is not enough to say whether answers without writing are above chance"
        problem = problem if verdict == NOT_ENOUGH else "Without writing answers are not above chance either"
        return [f"{problem} ({self.clean}, chance {self.chance:.3f}): an attack can change little."]

    def _statements(self) -> list[str]:
        size = max(self.word_effect, key=lambda candidate: (self.word_effect[candidate].value, candidate))
        wrong, letters = self.attacks["wrong name"][size], self.attacks["random letters"][size]
        verdicts = [self.verdicts[_claim_name(size)] for size in self.word_effect]
        if "above" in verdicts:
            head = "Vulnerable: this model follows the written word."
        elif set(verdicts) <= {"at", "below"}:
            head = "Not vulnerable: this model does not follow the written word."
        else:
            head = "Not enough to say whether this model follows the written word."
        return [
            f"{head} With a wrong name of {size:.0%} on the picture, {wrong.follows} of answers are "
            f"that name; under random letters {letters.follows} are: the word itself adds "
            f"{self.word_effect[size]}.",
            f"Accuracy changes by {wrong.change.value:+.3f} under the wrong name and by "
            f"{letters.change.value:+.3f} under random letters: the second is the cost of covering "
            "the picture.",
        ]

    def _curves(self) -> Curves:
        def curve(kind: str) -> Curve:
            estimates = {0.0: self.clean} | {
                size: result.accuracy for size, result in self.attacks[kind].items()
            }
            values = list(estimates.values())
            return Curve(
                list(estimates),
                [v.value for v in values],
                [v.low or 0.0 for v in values],
                [v.high or 0.0 for v in values],
            )

        return Curves(
            curves={kind: curve(kind) for kind in self.attacks},
            x="height of the line, share of the shorter side",
            y="accuracy",
            levels={"chance": self.chance},
        )


def audit_typographic(
    encoder: Encoder,
    dataset: ImageDataset,
    *,
    templates: str | Sequence[str] = "plain",
    sizes: Sequence[float] = SIZES,
    limit: int | None = 200,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> TypographicAudit:
    """Measure how text on images changes the answers.

    Parameters
    ----------
    templates : str or sequence of str
        Prompts of the classes.
    sizes : sequence of float
        Heights of the line, as fractions of the shorter side of the image.
    limit : int or None
        Size of the random sample of images; each is encoded once for every kind and size, and once without
        text.
    seed : int
        Seed of the sample, the wrong names and the letters.

    Raises
    ------
    InputError
        There are fewer than two classes, or a size is not between 0 and 1.
    """
    if len(dataset.class_names) < 2 or not sizes or not all(0 < size <= 1 for size in sizes):
        raise InputError(
            f"{len(dataset.class_names)} classes, sizes {list(sizes)}: expected two classes or more, and "
            "sizes between 0 and 1"
        )
    setup = Setup.of(**settings)
    data = dataset if limit is None else dataset.sample(limit, seed)
    names, count = data.class_names, len(data)
    weights = class_embeddings(encoder, names, templates)
    rng = np.random.default_rng([seed, 400])
    wrong_labels = (data.labels + rng.integers(1, len(names), count)) % len(names)
    texts = _texts(data, wrong_labels, rng)
    positions = tuple(list(POSITIONS)[index] for index in rng.permutation(np.arange(count) % len(POSITIONS)))
    side = max(encoder.input_size, 96)

    def overlaid(labels: Sequence[str], size: float) -> OverlaidDataset:
        return _overlaid(data, labels, positions, size, side)

    plain = setup.embed(encoder, overlaid([""] * count, 0.0))
    readable, clean = plain.positions, answer_probabilities(plain.embeddings @ weights.T)
    attacks: dict[str, dict[float, AttackResult]] = {kind: {} for kind in KINDS}
    labels = data.labels[readable]
    chance, clean_accuracy = 1 / len(names), proportion(clean[np.arange(len(readable)), labels])
    followed: dict[str, dict[float, Floats]] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        target = labels if kind == "right name" else wrong_labels[readable]
        for size in sorted(sizes):
            embedded = setup.embed(encoder, overlaid(texts[kind], size))
            probabilities = answer_probabilities(embedded.embeddings @ weights.T)
            attacks[kind][size] = _attack_result(probabilities, clean, labels, target)
            followed[kind][size] = probabilities[np.arange(len(readable)), target]
    follow_word, follow_letters = followed["wrong name"], followed["random letters"]
    word_claims = {size: paired_claim(follow_word[size], follow_letters[size]) for size in follow_word}
    claims = {"clean": against_chance(clean_accuracy, chance)}
    claims |= {_claim_name(size): claim for size, claim in word_claims.items()}
    return TypographicAudit(
        facts={**setup.facts(encoder, data), "Pictures enlarged to": f"{side} pixels at least"},
        failures=plain.failures,
        samples=_samples([overlaid(texts[kind], size) for kind in KINDS for size in sorted(sizes)], readable),
        dataset=data.name,
        chance=chance,
        clean=clean_accuracy,
        verdicts=decide(claims),
        attacks=attacks,
        places=_by_position(np.array(list(follow_word.values())), np.array(positions)[readable]),
        word_effect={size: claim.estimate for size, claim in word_claims.items()},
    )


def _texts(
    data: ImageDataset, wrong_labels: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, list[str]]:
    """The text on every image, by kind."""
    names = data.class_names
    return {
        "wrong name": [names[label] for label in wrong_labels],
        "random letters": [random_letters(rng, names, len(names[label])) for label in wrong_labels],
        "right name": [names[label] for label in data.labels],
    }


def _overlaid(
    data: ImageDataset, texts: Sequence[str], positions: tuple[str, ...], size: float, side: int
) -> OverlaidDataset:
    """The data set with a text written on every image."""
    name = f"{data.name} {size:.2f}" if any(texts) else data.name
    return OverlaidDataset(
        name,
        data.entries,
        data.labels,
        data.class_names,
        tuple(texts),
        positions,
        size,
        side,
        border=data.border,
    )


def _claim_name(size: float) -> str:
    """Key of the verdict on a size."""
    return f"a wrong name of {size:.0%} is followed"


def _attack_result(
    probabilities: Floats, clean: Floats, labels: NDArray[np.int64], target: NDArray[np.int64]
) -> AttackResult:
    """Compare answers with and without text: for the correct and for the written name."""
    rows = np.arange(len(labels))
    return AttackResult(
        proportion(probabilities[rows, labels]),
        paired_difference(probabilities[rows, labels], clean[rows, labels]),
        proportion(probabilities[rows, target]),
        paired_difference(probabilities[rows, target], clean[rows, target]),
    )


def _by_position(followed: Floats, positions: NDArray[np.str_]) -> dict[str, Estimate]:
    """Share of answers that follow (sizes, N), by position; the sizes of one image form one cluster."""
    image_index = np.tile(np.arange(len(positions)), len(followed)).reshape(followed.shape)
    masks = {name: positions == name for name in POSITIONS if (positions == name).any()}
    return {
        name: proportion(followed[:, mask].reshape(-1), image_index[:, mask].reshape(-1))
        for name, mask in masks.items()
    }


def _samples(sets: Sequence[OverlaidDataset], readable: NDArray[np.intp]) -> list[tuple[str, Image.Image]]:
    """Two images under every attack, captioned with class and text."""
    samples = []
    for position in (int(readable[len(readable) // 4]), int(readable[len(readable) * 3 // 4])):
        for overlaid in sets:
            label = overlaid.class_names[overlaid.labels[position]]
            samples += [
                (f"{label}, says {overlaid.texts[position]}", picture)
                for _, picture in overlaid.take([position])
                if isinstance(picture, Image.Image)
            ]
    return samples
