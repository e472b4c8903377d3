"""What a prompt's words change: accuracy over many phrasings of the same classes (paper, section 3.1.4).

Pictures are encoded once; every phrasing is compared with the plain one on the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from diptych.audits.base import Audit
from diptych.audits.labels.phrasings import PLAIN, SENTENCES, Phrasing, phrasings
from diptych.audits.prompt_scores import Floats, answer_embeddings, answer_probabilities, top1_hits
from diptych.datasets import ImageDataset
from diptych.encoder import Encoder
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Bars, Cell, Estimate, Section, Table
from diptych.stats.differences import paired_difference
from diptych.stats.intervals import proportion
from diptych.stats.significance import NOT_ENOUGH, Claim, against_chance, beside_chance, decide, paired_claim


@dataclass(frozen=True)
class PhrasingResult:
    """What one phrasing gave.

    Attributes
    ----------
    family, name : str
        As in `Phrasing`.
    example : str
        How it says the first class.
    accuracy : Estimate
    change : Estimate
        Against the plain phrasing, on the same pictures.
    moved : float
        Share of pictures whose answer is another one than under the plain phrasing.
    """

    family: str
    name: str
    example: str
    accuracy: Estimate
    change: Estimate
    moved: float


@dataclass(frozen=True, kw_only=True, eq=False)
class WordingAudit(Audit):
    """How much accuracy depends on words.

    Attributes
    ----------
    dataset : str
    chance : float
    plain : Estimate
        "a photo of a {}."
    worded : sequence of Worded
        Every phrasing, the plain one first.
    together : Estimate
        All sentences at once, their rows averaged.
    together_change : Estimate
        Of that against the plain phrasing.
    spread : Estimate
        Best minus worst phrasing on the same pictures.
    families : mapping of family to (mean, worst, best) accuracy
    """

    dataset: str
    chance: float
    plain: Estimate
    worded: Sequence[PhrasingResult]
    together: Estimate
    together_change: Estimate
    spread: Estimate
    families: Mapping[str, tuple[float, float, float]]

    @property
    def title(self) -> str:
        """What the report is called."""
        return f"Wording: {self.dataset}"

    @property
    def best(self) -> PhrasingResult:
        """The phrasing with the highest accuracy."""
        return max(self.worded, key=lambda one: one.accuracy.value)

    @property
    def worst(self) -> PhrasingResult:
        """The phrasing with the lowest accuracy."""
        return min(self.worded, key=lambda one: one.accuracy.value)

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        rows: list[list[Cell]] = [[one.name, one.accuracy, one.change, one.moved] for one in self.worded]
        caption = (
            f"change: accuracy minus that of {PLAIN!r} on the same pictures; moved: share of answers that "
            f"become other ones. Chance is {self.chance:.3f}. Whether a change is more than noise "
            "is decided for all phrasings together (Holm)."
        )
        families: list[list[Cell]] = [
            [name, sum(one.family == name for one in self.worded), *figures]
            for name, figures in self.families.items()
        ]
        plot = Bars(
            values={
                _label(one): (one.accuracy.value, one.accuracy.low, one.accuracy.high)
                for one in sorted(self.worded, key=lambda one: -one.accuracy.value)
            },
            x="accuracy",
            levels={"plain": self.plain.value, "chance": self.chance},
        )
        return [
            Section(
                "How much do words matter?",
                self._statements(),
                {"families": Table(["family", "phrasings", "mean", "worst", "best"], families)},
            ),
            Section(
                "Every phrasing",
                [],
                {"phrasings": Table(["phrasing", "accuracy", "change", "moved"], rows, caption)},
                {"phrasings": plot},
            ),
        ]

    def _statements(self) -> list[str]:
        low, high = self.worst, self.best
        found = [
            f"Between the best and the worst of {len(self.worded)} phrasings lie {self.spread} of accuracy "
            f"on the same {self.plain.n:,} pictures: {high.accuracy.value:.3f} ({high.example!r}) and "
            f"{low.accuracy.value:.3f} ({low.example!r}). Picked on these pictures, both look more "
            "extreme than they are.",
            f"The plain phrasing gets {beside_chance(self.plain, self.chance, self.verdicts[PLAIN])}. All "
            f"sentences averaged get {self.together}, a change of {self.together_change}.",
        ]
        # The verdict kept under the plain phrasing's name is on chance, not on a change.
        others = [one for one in self.worded if one.name in self.verdicts and one.name != PLAIN]
        if all(self.verdicts[one.name] == NOT_ENOUGH for one in others):
            found.append("Not enough to say whether any phrasing is worse or better than the plain one.")
            return found
        for verdict, word in (("below", "worse"), ("above", "better")):
            if named := [one for one in others if self.verdicts[one.name] == verdict]:
                are = "phrasings are" if len(named) > 1 else "phrasing is"
                found.append(f"{len(named)} {are} {word} than the plain one: {_listed(named)}.")
        if not any(self.verdicts[one.name] in ("above", "below") for one in others):
            found.append(
                f"None of {len(others)} phrasings is shown to be worse or better than the plain one."
            )
        return found

    @property
    def failed_controls(self) -> list[str]:
        """A plain phrasing that is not above chance."""
        verdict = self.verdicts[PLAIN]
        if verdict == "above":
            return []
        told = "There is not enough to say whether the plain phrasing is above chance"
        told = told if verdict == NOT_ENOUGH else "The plain phrasing is not above chance"
        return [f"{told}: differences between phrasings mean little."]


def _label(one: PhrasingResult) -> str:
    return one.name if one.name.startswith(one.family) else f"{one.family}: {one.name}"


def _listed(worded: Sequence[PhrasingResult], most: int = 8) -> str:
    told = "; ".join(map(_label, worded[:most]))
    return told + (f" and {len(worded) - most} more" if len(worded) > most else "")


def audit_wording(
    encoder: Encoder,
    dataset: ImageDataset,
    *,
    sentences: Sequence[str] = SENTENCES,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    misspellings: int = 5,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> WordingAudit:
    """Say the same classes in many ways.

    Parameters
    ----------
    encoder : Encoder
    dataset : ImageDataset
    sentences, synonyms, misspellings, seed
        See `phrasings`.
    **settings
        See `Settings`.

    Raises
    ------
    DataError
        Synonyms of classes that are not there, or no picture that can be read.
    """
    names = dataset.class_names
    ways = phrasings(names, sentences=sentences, synonyms=synonyms, misspellings=misspellings, seed=seed)
    setup = Setup.of(**settings)
    found = setup.embed(encoder, dataset)
    labels = dataset.labels[found.positions]
    spoken = [way for way in ways if way.family == "sentence"]
    prompts = [[text] for way in ways for text in way.texts]
    prompts += [[way.texts[index] for way in spoken] for index in range(len(names))]
    rows = answer_embeddings(encoder, prompts).reshape(len(ways) + 1, len(names), -1)
    tables = [found.rows @ one.T for one in rows]
    hits = [top1_hits(table, labels) for table in tables]
    plain = answer_probabilities(tables[0])
    worded = [
        _worded(way, one, hits[0], 1 - float((answer_probabilities(table) * plain).sum(axis=1).mean()))
        for way, one, table in zip(ways, hits, tables, strict=False)
    ]
    means = [one.mean() for one in hits[:-1]]
    changes = [paired_claim(one, hits[0]) for one in hits]
    claims: dict[str, Claim] = {PLAIN: against_chance(worded[0].accuracy, 1 / len(names))}
    claims |= {way.name: one for way, one in zip(ways[1:], changes[1:-1], strict=True)}
    claims["all sentences together"] = changes[-1]
    return WordingAudit(
        verdicts=decide(claims),
        facts=setup.facts(encoder, dataset),
        failures=found.failures,
        dataset=dataset.name,
        chance=1 / len(names),
        plain=worded[0].accuracy,
        worded=worded,
        together=proportion(hits[-1]),
        together_change=changes[-1].estimate,
        spread=paired_difference(hits[int(np.argmax(means))], hits[int(np.argmin(means))]),
        families=_families(worded),
    )


def _worded(way: Phrasing, hits: Floats, plain: Floats, moved: float) -> PhrasingResult:
    change = paired_difference(hits, plain)
    return PhrasingResult(way.family, way.name, way.texts[0], proportion(hits), change, moved + 0.0)


def _families(worded: Sequence[PhrasingResult]) -> dict[str, tuple[float, float, float]]:
    """Mean, worst and best accuracy of each family."""
    found = {}
    for family in dict.fromkeys(one.family for one in worded):
        values = [one.accuracy.value for one in worded if one.family == family]
        found[family] = (float(np.mean(values)), min(values), max(values))
    return found
