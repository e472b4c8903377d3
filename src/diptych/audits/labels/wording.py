"""Sensitivity to the wording of prompts: accuracy of many phrasings of a class (paper, section 3.1.4).

Images are encoded once; every phrasing is compared with the plain one on the same images.
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
    """Result of one phrasing.

    Attributes
    ----------
    family, name : str
        As in `Phrasing`.
    example : str
        Its text for the first class.
    change : Estimate
        Accuracy minus that of the plain phrasing, on the same images.
    moved : float
        Share of images whose answer differs from that of the plain phrasing.
    """

    family: str
    name: str
    example: str
    accuracy: Estimate
    change: Estimate
    moved: float


@dataclass(frozen=True, kw_only=True, eq=False)
class WordingAudit(Audit):
    """Result of the wording audit.

    Attributes
    ----------
    plain : Estimate
        Accuracy of "a photo of a {}."
    worded : sequence of PhrasingResult
        All phrasings, the plain one first.
    together : Estimate
        Accuracy of all sentences together, their embeddings averaged.
    together_change : Estimate
        `together` minus the plain phrasing.
    spread : Estimate
        Best minus worst phrasing on the same images.
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
    def _title(self) -> str:
        return f"Wording: {self.dataset}"

    @property
    def best(self) -> PhrasingResult:
        """The phrasing with the highest accuracy."""
        return max(self.worded, key=lambda result: result.accuracy.value)

    @property
    def worst(self) -> PhrasingResult:
        """The phrasing with the lowest accuracy."""
        return min(self.worded, key=lambda result: result.accuracy.value)

    def _sections(self) -> list[Section]:
        rows: list[list[Cell]] = [
            [result.name, result.accuracy, result.change, result.moved] for result in self.worded
        ]
        caption = (
            f"change: accuracy minus that of {PLAIN!r} on the same pictures; moved: share of answers that "
            f"change. Chance is {self.chance:.3f}. Whether a change is more than noise "
            "is decided for all phrasings together (Holm)."
        )
        families: list[list[Cell]] = [
            [name, sum(result.family == name for result in self.worded), *figures]
            for name, figures in self.families.items()
        ]
        plot = Bars(
            values={
                _label(result): (result.accuracy.value, result.accuracy.low, result.accuracy.high)
                for result in sorted(self.worded, key=lambda result: -result.accuracy.value)
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
        statements = [
            f"The best and the worst of {len(self.worded)} phrasings differ in accuracy by {self.spread} "
            f"on the same {self.plain.n:,} pictures: {high.accuracy.value:.3f} ({high.example!r}) and "
            f"{low.accuracy.value:.3f} ({low.example!r}). Selected on these pictures, both look more "
            "extreme than they are.",
            f"The plain phrasing gets {beside_chance(self.plain, self.chance, self.verdicts[PLAIN])}. All "
            f"sentences averaged get {self.together}, a change of {self.together_change}.",
        ]
        # The verdict under the plain phrasing's name compares it with chance, not with another phrasing.
        others = [result for result in self.worded if result.name in self.verdicts and result.name != PLAIN]
        if all(self.verdicts[result.name] == NOT_ENOUGH for result in others):
            statements.append("Not enough to say whether any phrasing is worse or better than the plain one.")
            return statements
        for verdict, word in (("below", "worse"), ("above", "better")):
            if decided := [result for result in others if self.verdicts[result.name] == verdict]:
                are = "phrasings are" if len(decided) > 1 else "phrasing is"
                statements.append(f"{len(decided)} {are} {word} than the plain one: {_listed(decided)}.")
        if not any(self.verdicts[result.name] in ("above", "below") for result in others):
            statements.append(
                f"None of {len(others)} phrasings is shown to be worse or better than the plain one."
            )
        return statements

    @property
    def failed_controls(self) -> list[str]:
        """A plain phrasing that is not shown to be above chance."""
        verdict = self.verdicts[PLAIN]
        if verdict == "above":
            return []
        problem = "There is not enough to say whether the plain phrasing is above chance"
        problem = problem if verdict == NOT_ENOUGH else "The plain phrasing is not above chance"
        return [f"{problem}: differences between phrasings mean little."]


def _label(result: PhrasingResult) -> str:
    return result.name if result.name.startswith(result.family) else f"{result.family}: {result.name}"


def _listed(results: Sequence[PhrasingResult], most: int = 8) -> str:
    text = "; ".join(map(_label, results[:most]))
    return text + (f" and {len(results) - most} more" if len(results) > most else "")


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
    """Measure zero-shot accuracy with many phrasings of the same classes.

    Parameters
    ----------
    sentences, synonyms, misspellings, seed
        See `phrasings`.

    Raises
    ------
    DataError
        Synonyms are given for unknown classes, or no image can be read.
    """
    names = dataset.class_names
    variants = phrasings(names, sentences=sentences, synonyms=synonyms, misspellings=misspellings, seed=seed)
    setup = Setup.of(**settings)
    embedded = setup.embed(encoder, dataset)
    labels = dataset.labels[embedded.positions]
    sentence_variants = [variant for variant in variants if variant.family == "sentence"]
    prompts = [[text] for variant in variants for text in variant.texts]
    prompts += [[variant.texts[index] for variant in sentence_variants] for index in range(len(names))]
    embeddings = answer_embeddings(encoder, prompts).reshape(len(variants) + 1, len(names), -1)
    tables = [embedded.embeddings @ item.T for item in embeddings]
    hits = [top1_hits(table, labels) for table in tables]
    plain = answer_probabilities(tables[0])
    worded = [
        _phrasing_result(
            variant, item, hits[0], 1 - float((answer_probabilities(table) * plain).sum(axis=1).mean())
        )
        for variant, item, table in zip(variants, hits, tables, strict=False)
    ]
    means = [item.mean() for item in hits[:-1]]
    changes = [paired_claim(item, hits[0]) for item in hits]
    claims: dict[str, Claim] = {PLAIN: against_chance(worded[0].accuracy, 1 / len(names))}
    claims |= {variant.name: item for variant, item in zip(variants[1:], changes[1:-1], strict=True)}
    claims["all sentences together"] = changes[-1]
    return WordingAudit(
        verdicts=decide(claims),
        facts=setup.facts(encoder, dataset),
        failures=embedded.failures,
        dataset=dataset.name,
        chance=1 / len(names),
        plain=worded[0].accuracy,
        worded=worded,
        together=proportion(hits[-1]),
        together_change=changes[-1].estimate,
        spread=paired_difference(hits[int(np.argmax(means))], hits[int(np.argmin(means))]),
        families=_families(worded),
    )


def _phrasing_result(phrasing: Phrasing, hits: Floats, plain: Floats, moved: float) -> PhrasingResult:
    change = paired_difference(hits, plain)
    return PhrasingResult(
        phrasing.family, phrasing.name, phrasing.texts[0], proportion(hits), change, moved + 0.0
    )


def _families(results: Sequence[PhrasingResult]) -> dict[str, tuple[float, float, float]]:
    """Mean, worst and best accuracy of each family of phrasings."""
    families = {}
    for family in dict.fromkeys(result.family for result in results):
        values = [result.accuracy.value for result in results if result.family == family]
        families[family] = (float(np.mean(values)), min(values), max(values))
    return families
