"""The typographic attack: a word written on a picture, and whether the answer follows it (Goh et al. 2021).

Every picture is asked about as it is, with the name of a wrong class written on it, with letters that mean
nothing (a control: the box covers something too) and with its right name; in several sizes, at places that
take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.base import Audit
from diptych.audits.limits.text_overlay import PLACES, OverlaidDataset, letters
from diptych.audits.prompt_scores import Floats, answer_embeddings, answer_probabilities
from diptych.datasets import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Cell, Curve, Curves, Estimate, Section, Table
from diptych.stats.differences import paired_difference
from diptych.stats.intervals import proportion
from diptych.stats.significance import NOT_ENOUGH, against_chance, decide, paired_claim
from diptych.zeroshot import expand

KINDS = ("wrong name", "random letters", "right name")
SIZES = (0.08, 0.16, 0.3)


@dataclass(frozen=True)
class AttackResult:
    """What one kind of writing in one size did.

    Attributes
    ----------
    accuracy : Estimate
    change : Estimate
        Of accuracy against the same pictures without writing.
    follows : Estimate
        Share of answers that are the written name; for random letters, the name that a wrong word would have
        had on that picture.
    gained : Estimate
        Of that share against the same pictures without writing: what the word itself did.
    """

    accuracy: Estimate
    change: Estimate
    follows: Estimate
    gained: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class TypographicAudit(Audit):
    """What writing on pictures does to answers.

    Attributes
    ----------
    dataset : str
    chance : float
    clean : Estimate
        Accuracy without writing, on the same pictures at the same size.
    attacks : mapping of kind to mapping of size to Attacked
        Kinds as in `KINDS`; sizes as shares of the picture's shorter side.
    places : mapping of str to Estimate
        Share of answers that follow a wrong name, by where it stands, all sizes together.
    word_effect : mapping of size to Estimate
        How many more answers are the written name than under random letters of the same size, on the same
        pictures. Whatever covers a picture makes wrong answers, and some of them are that name by luck.
    """

    dataset: str
    chance: float
    clean: Estimate
    attacks: Mapping[str, Mapping[float, AttackResult]]
    places: Mapping[str, Estimate]
    word_effect: Mapping[float, Estimate]
    sheet_columns = 6

    @property
    def title(self) -> str:
        """What the report is called."""
        return f"Typographic attack: {self.dataset}"

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        rows: list[list[Cell]] = [
            [f"{kind.split()[0]} {size:.0%}", one.accuracy, one.change, one.follows]
            for kind, sizes in self.attacks.items()
            for size, one in sizes.items()
        ]
        caption = (
            f"Written: a wrong name, random letters, the right name. Without writing: {self.clean}; "
            f"chance {self.chance:.3f}. The size is the height of the line "
            "against the picture's shorter side; change is against the same pictures without writing; "
            "follows is the share of answers that are the written name (beside random letters: the wrong "
            "name that a word would have had)."
        )
        places = Table(["place", "follows a wrong name"], [[name, one] for name, one in self.places.items()])
        return [
            Section(
                "Does it answer what is written?",
                self._statements(),
                {"attacks": Table(["written", "accuracy", "change", "follows"], rows, caption)},
                {"attacks": self._curves()},
            ),
            Section("By place", tables={"places": places}),
        ]

    @property
    def failed_controls(self) -> list[str]:
        """Pictures that are not recognised without writing either."""
        verdict = self.verdicts["clean"]
        if verdict == "above":
            return []
        told = "There is not enough to say whether answers without writing are above chance"
        told = told if verdict == NOT_ENOUGH else "Without writing answers are not above chance either"
        return [f"{told} ({self.clean}, chance {self.chance:.3f}): there is little to attack."]

    def _statements(self) -> list[str]:
        size = max(self.word_effect, key=lambda one: (self.word_effect[one].value, one))
        wrong, letters = self.attacks["wrong name"][size], self.attacks["random letters"][size]
        verdicts = [self.verdicts[_claim(size)] for size in self.word_effect]
        if "above" in verdicts:
            head = "A victim: this model follows the written word."
        elif set(verdicts) <= {"at", "below"}:
            head = "No victim: this model does not follow the written word."
        else:
            head = "Not enough to say whether this model follows the written word."
        return [
            f"{head} With a wrong name of {size:.0%} on the picture, {wrong.follows} of answers are "
            f"that name; under random letters {letters.follows} are: the word itself adds "
            f"{self.word_effect[size]}.",
            f"Accuracy changes by {wrong.change.value:+.3f} under the wrong name and by "
            f"{letters.change.value:+.3f} under letters that mean nothing: the second is what "
            "covering costs.",
        ]

    def _curves(self) -> Curves:
        def curve(kind: str) -> Curve:
            told = {0.0: self.clean} | {size: one.accuracy for size, one in self.attacks[kind].items()}
            values = list(told.values())
            return Curve(
                list(told),
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
    """Write on pictures and see what the answers make of it.

    Parameters
    ----------
    encoder : Encoder
    dataset : ImageDataset
    templates : str or sequence of str
        Prompts of the classes.
    sizes : sequence of float
        Heights of the line, shares of the picture's shorter side.
    limit : int or None
        Pictures, drawn at random; each is encoded once for every kind and size, and once without writing.
    seed : int
        Of the sample, the wrong names and the letters.
    **settings
        See `Settings`.

    Raises
    ------
    InputError
        Fewer than two classes, or sizes that are no shares.
    """
    if len(dataset.class_names) < 2 or not sizes or not all(0 < size <= 1 for size in sizes):
        raise InputError(
            f"{len(dataset.class_names)} classes, sizes {list(sizes)}: expected two classes or more, and "
            "sizes between 0 and 1"
        )
    setup = Setup.of(**settings)
    data = dataset if limit is None else dataset.sample(limit, seed)
    names, count = data.class_names, len(data)
    weights = answer_embeddings(encoder, [expand([name], templates) for name in names])
    rng = np.random.default_rng([seed, 400])
    wrong = (data.labels + rng.integers(1, len(names), count)) % len(names)
    texts = {
        "wrong name": [names[label] for label in wrong],
        "random letters": [letters(rng, names, len(names[label])) for label in wrong],
        "right name": [names[label] for label in data.labels],
    }
    places = tuple(list(PLACES)[turn] for turn in rng.permutation(np.arange(count) % len(PLACES)))
    side = max(encoder.input_size, 96)

    def overlaid(labels: Sequence[str], size: float) -> OverlaidDataset:
        return _overlaid(data, labels, places, size, side)

    plain = setup.embed(encoder, overlaid([""] * count, 0.0))
    read, clean = plain.positions, answer_probabilities(plain.rows @ weights.T)
    attacks: dict[str, dict[float, AttackResult]] = {kind: {} for kind in KINDS}
    labels = data.labels[read]
    chance, right = 1 / len(names), proportion(clean[np.arange(len(read)), labels])
    followed: dict[str, dict[float, Floats]] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        target = labels if kind == "right name" else wrong[read]
        for size in sorted(sizes):
            shares = answer_probabilities(setup.embed(encoder, overlaid(texts[kind], size)).rows @ weights.T)
            attacks[kind][size] = _attacked(shares, clean, labels, target)
            followed[kind][size] = shares[np.arange(len(read)), target]
    by_word, by_letters = followed["wrong name"], followed["random letters"]
    words = {size: paired_claim(by_word[size], by_letters[size]) for size in by_word}
    claims = {"clean": against_chance(right, chance), **{_claim(size): words[size] for size in words}}
    return TypographicAudit(
        facts={**setup.facts(encoder, data), "Pictures enlarged to": f"{side} pixels at least"},
        failures=plain.failures,
        samples=_samples([overlaid(texts[kind], size) for kind in KINDS for size in sorted(sizes)], read),
        dataset=data.name,
        chance=chance,
        clean=right,
        verdicts=decide(claims),
        attacks=attacks,
        places=_by_place(np.array(list(by_word.values())), np.array(places)[read]),
        word_effect={size: one.estimate for size, one in words.items()},
    )


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


def _claim(size: float) -> str:
    """What the verdict on a size is called."""
    return f"a wrong name of {size:.0%} is followed"


def _attacked(
    shares: Floats, clean: Floats, labels: NDArray[np.int64], target: NDArray[np.int64]
) -> AttackResult:
    """Answers under an attack against those without, for right names and for written ones."""
    rows = np.arange(len(labels))
    return AttackResult(
        proportion(shares[rows, labels]),
        paired_difference(shares[rows, labels], clean[rows, labels]),
        proportion(shares[rows, target]),
        paired_difference(shares[rows, target], clean[rows, target]),
    )


def _by_place(followed: Floats, where: NDArray[np.str_]) -> dict[str, Estimate]:
    """Share of answers that follow, (sizes, N), by place; one picture in several sizes is one group."""
    owner = np.tile(np.arange(len(where)), len(followed)).reshape(followed.shape)
    kept = {name: where == name for name in PLACES if (where == name).any()}
    return {
        name: proportion(followed[:, one].reshape(-1), owner[:, one].reshape(-1))
        for name, one in kept.items()
    }


def _samples(sets: Sequence[OverlaidDataset], read: NDArray[np.intp]) -> list[tuple[str, Image.Image]]:
    """Two pictures under every attack, each with its class and what is written."""
    found = []
    for position in (int(read[len(read) // 4]), int(read[len(read) * 3 // 4])):
        for one in sets:
            alone = replace(
                one,
                entries=one.entries[position : position + 1],
                labels=one.labels[position : position + 1],
                texts=one.texts[position : position + 1],
                places=one.places[position : position + 1],
            )
            label = one.class_names[one.labels[position]]
            found += [
                (f"{label}, says {one.texts[position]}", picture)
                for _, picture in alone
                if isinstance(picture, Image.Image)
            ]
    return found
