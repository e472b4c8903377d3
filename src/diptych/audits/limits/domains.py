"""Audit of domains: photographs, paintings, cartoons, sketches of the same classes.

It measures accuracy in each domain, the gap to the best one, and the effect of naming the domain in the
prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from diptych.audits.base import Audit, accuracy_bars
from diptych.audits.prompt_scores import Floats, class_embeddings, top1_hits
from diptych.datasets import ImageDataset
from diptych.embedding.batches import Failed
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.inputs.nouns import with_article
from diptych.reports import Cell, Estimate, Heatmap, Section, Table
from diptych.stats.differences import difference
from diptych.stats.disparity import disparities
from diptych.stats.intervals import proportion
from diptych.stats.metrics import class_means
from diptych.stats.significance import (
    LEVEL,
    MINIMUM,
    NOT_ENOUGH,
    SAME,
    Claim,
    Verdict,
    against_chance,
    decide,
    paired_claim,
)


@dataclass(frozen=True)
class DomainResult:
    """Result in one domain.

    Attributes
    ----------
    gap : Estimate
        Best domain minus this one, on different images. The interval is simultaneous for all pairs of
        domains.
    lower : Verdict
        "above" if the best is higher than expected of the maximum of equal domains (`stats.disparity`).
    named : Estimate
        Accuracy with the domain in the prompt ("a sketch of a {}.").
    gained : Estimate
        `named` minus `accuracy`, on the same images.
    recalls : mapping of class to float
        Accuracy within each class; classes without images are left out.
    """

    accuracy: Estimate
    gap: Estimate
    lower: Verdict
    named: Estimate
    gained: Estimate
    recalls: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainAudit(Audit):
    """Result of the audit of domains.

    Attributes
    ----------
    best : str
        The domain with the highest accuracy.
    """

    dataset: str
    chance: float
    domains: Mapping[str, DomainResult]
    best: str

    @property
    def _title(self) -> str:
        return f"Domains: {self.dataset}"

    def _sections(self) -> list[Section]:
        rows: list[list[Cell]] = [
            [name, result.accuracy, result.gap, result.gained] for name, result in self.domains.items()
        ]
        caption = (
            f"gap: accuracy in {self.best} minus that here, its interval for all pairs of domains; naming: "
            "change of accuracy when the prompt names the domain, on the same pictures. Chance is "
            f"{self.chance:.3f}. The best of several equal domains is partly luck: gaps are tested for all "
            "pairs together, by shuffles."
        )
        classes = list(dict.fromkeys(name for result in self.domains.values() for name in result.recalls))
        heat = Heatmap(
            rows=list(self.domains),
            columns=classes,
            values=[
                [result.recalls.get(name, float("nan")) for name in classes]
                for result in self.domains.values()
            ],
            title="accuracy within each class",
        )
        accuracies = {name: result.accuracy for name, result in self.domains.items()}
        return [
            Section(
                "Does accuracy hold outside photographs?",
                self._statements(),
                {"domains": Table(["domain", "accuracy", "gap", "naming"], rows, caption)},
                {"domains": accuracy_bars(accuracies, self.chance), "classes": heat},
            )
        ]

    def _statements(self) -> list[str]:
        best = self.domains[self.best]
        others = {name: result for name, result in self.domains.items() if name != self.best}
        worst = min(others, key=lambda name: others[name].accuracy.value)
        lower = [name for name, result in others.items() if result.lower == "above"]
        unclear = [name for name, result in others.items() if result.lower == NOT_ENOUGH]
        statements = [
            f"Best in {self.best} ({best.accuracy}), worst in {worst} ({others[worst].accuracy}): a gap of "
            f"{others[worst].gap}."
        ]
        if lower:
            statements.append(f"Lower than the best: {', '.join(lower)}.")
        if unclear:
            statements.append(f"Not enough to say whether lower than the best: {', '.join(unclear)}.")
        naming_verdicts = {name: self.verdicts[f"naming {name}"] for name in self.domains}
        helped = [name for name, verdict in naming_verdicts.items() if verdict == "above"]
        if helped or any(verdict != NOT_ENOUGH for verdict in naming_verdicts.values()):
            statements.append(
                f"Naming the domain in the prompt helps in: {', '.join(helped) or 'none shown'}."
            )
        else:
            statements.append("Not enough to say whether naming the domain in the prompt helps anywhere.")
        return statements

    @property
    def failed_controls(self) -> list[str]:
        """Domains in which accuracy is not shown to be above chance."""
        verdicts = {name: self.verdicts[f"accuracy {name}"] for name in self.domains}
        statements = []
        if at_chance := [name for name, verdict in verdicts.items() if verdict in ("at", "below")]:
            statements.append(
                f"Not above chance, so the classes are not recognised there: {', '.join(at_chance)}."
            )
        if unclear := [name for name, verdict in verdicts.items() if verdict == NOT_ENOUGH]:
            statements.append(f"Not enough to say whether above chance: {', '.join(unclear)}.")
        return statements


def audit_domains(
    encoder: Encoder,
    domains: Mapping[str, ImageDataset],
    *,
    name: str = "domains",
    templates: str | Sequence[str] = "plain",
    **settings: Unpack[Settings],
) -> DomainAudit:
    """Measure accuracy in several domains.

    Parameters
    ----------
    domains : mapping of name to ImageDataset
        The answers in each domain are the classes of all domains.
    name : str
        Name of the whole data set.
    templates : str or sequence of str
        Prompts; those that name a domain use its name instead of "photo".

    Raises
    ------
    InputError
        Fewer than two domains.
    """
    if len(domains) < 2:
        raise InputError(f"{len(domains)} domain in {name}: expected at least two to compare")
    setup = Setup.of(**settings)
    classes = list(dict.fromkeys(class_name for data in domains.values() for class_name in data.class_names))
    plain = class_embeddings(encoder, classes, templates)
    plain_hits: dict[str, Floats] = {}
    named_hits: dict[str, Floats] = {}
    recalls: dict[str, dict[str, float]] = {}
    failures: list[Failed] = []
    for domain, data in domains.items():
        embedded = setup.embed(encoder, data)
        failures += embedded.failures
        class_indices = np.array([classes.index(class_name) for class_name in data.class_names])
        labels = class_indices[data.labels[embedded.positions]]
        named = class_embeddings(encoder, classes, domain_prompt(domain))
        plain_hits[domain] = top1_hits(embedded.embeddings @ plain.T, labels)
        named_hits[domain] = top1_hits(embedded.embeddings @ named.T, labels)
        means = class_means(plain_hits[domain], labels, len(classes))
        recalls[domain] = {
            class_name: float(recall)
            for class_name, recall in zip(classes, means, strict=True)
            if not np.isnan(recall)
        }
    claims: dict[str, Claim] = {}
    for domain, hits in plain_hits.items():
        claims[f"accuracy {domain}"] = against_chance(proportion(hits), 1 / len(classes))
        claims[f"naming {domain}"] = paired_claim(named_hits[domain], hits)
    accuracy = {domain: claims[f"accuracy {domain}"].estimate for domain in domains}
    best = max(accuracy, key=lambda domain: accuracy[domain].value)
    gaps = _gaps(plain_hits, accuracy, best)
    # Half of the level for the gaps, half for the other claims.
    return DomainAudit(
        facts=setup.facts(encoder, *domains.values()),
        failures=tuple(failures),
        dataset=name,
        chance=1 / len(classes),
        verdicts=decide(claims, LEVEL / 2)
        | {f"gap {domain}": verdict for domain, (_, verdict) in gaps.items()},
        domains={
            domain: DomainResult(
                accuracy[domain],
                *gaps[domain],
                proportion(named_hits[domain]),
                claims[f"naming {domain}"].estimate,
                recalls[domain],
            )
            for domain in domains
        },
        best=best,
    )


def _gaps(
    hits: Mapping[str, Floats], accuracy: Mapping[str, Estimate], best: str
) -> dict[str, tuple[Estimate, Verdict]]:
    """Gap of each domain to the best one, and whether it is more than selection of the best explains."""
    codes = np.repeat(np.arange(len(hits)), [len(domain_hits) for domain_hits in hits.values()])
    joined = {"accuracy": np.concatenate(list(hits.values()))}
    (tested,) = disparities(joined, list(hits), codes, "domain", minimum=MINIMUM)
    pairs = {pair.low: pair for pair in tested.pairs if pair.high == best}
    result: dict[str, tuple[Estimate, Verdict]] = {}
    for domain in hits:
        if domain in pairs:
            gap, p = pairs[domain].gap, pairs[domain].p
            same = gap.high is not None and gap.high < SAME
            result[domain] = (gap, "above" if p <= LEVEL / 2 else "at" if same else NOT_ENOUGH)
        elif domain == best:
            result[domain] = (Estimate(0.0), "at")
        else:  # too few images in one of the two
            result[domain] = (difference(accuracy[best], accuracy[domain]), NOT_ENOUGH)
    return result


def domain_prompt(domain: str) -> str:
    """Prompt template that names a domain.

    Examples
    --------
    >>> domain_prompt("art_painting"), domain_prompt("Sketch")
    ('an art painting of a {}.', 'a sketch of a {}.')
    """
    return f"{with_article(domain.replace('_', ' ').lower())} of a {{}}."
