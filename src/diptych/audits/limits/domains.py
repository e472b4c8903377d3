"""Domains a model may never have seen: photographs, paintings, cartoons, sketches of the same classes.

Accuracy in each, the gap to the best one, and whether it helps to name the domain in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from diptych.audits.base import Audit, estimate_bars
from diptych.audits.labels.phrasings import with_article
from diptych.audits.prompt_scores import Floats, answer_embeddings, top1_hits
from diptych.datasets import ImageDataset
from diptych.embedding.batches import Failed
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Bars, Cell, Estimate, Heatmap, Section, Table
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
from diptych.zeroshot import expand


@dataclass(frozen=True)
class DomainResult:
    """One domain.

    Attributes
    ----------
    accuracy : Estimate
    gap : Estimate
        Best domain minus this one; other pictures. The interval holds for all pairs of domains together.
    lower : Verdict
        "above" where the best is higher beyond what a best of so many is anyway (`disparity.py`).
    named : Estimate
        Accuracy with the domain in the prompt ("a sketch of a {}.").
    gained : Estimate
        By that, on the same pictures.
    recalls : mapping of class to float
        Accuracy within each class; classes without pictures are left out.
    """

    accuracy: Estimate
    gap: Estimate
    lower: Verdict
    named: Estimate
    gained: Estimate
    recalls: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainAudit(Audit):
    """How far accuracy reaches from one domain to others.

    Attributes
    ----------
    dataset : str
    chance : float
    domains : mapping of name to Domain
    best : str
        The domain with the highest accuracy.
    """

    dataset: str
    chance: float
    domains: Mapping[str, DomainResult]
    best: str

    @property
    def title(self) -> str:
        """What the report is called."""
        return f"Domains: {self.dataset}"

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        rows: list[list[Cell]] = [
            [name, one.accuracy, one.gap, one.gained] for name, one in self.domains.items()
        ]
        caption = (
            f"gap: accuracy in {self.best} minus that here, its interval for all pairs of domains; naming: "
            "what it gains to name the domain in the prompt, on the same pictures. Chance is "
            f"{self.chance:.3f}. The best of several is best by luck, too: gaps are tested for all pairs "
            "together, by shuffles."
        )
        classes = list(dict.fromkeys(name for one in self.domains.values() for name in one.recalls))
        heat = Heatmap(
            rows=list(self.domains),
            columns=classes,
            values=[
                [one.recalls.get(name, float("nan")) for name in classes] for one in self.domains.values()
            ],
            title="accuracy within each class",
        )
        plot = Bars(
            values=estimate_bars({name: one.accuracy for name, one in self.domains.items()}),
            x="accuracy",
            levels={"chance": self.chance},
        )
        return [
            Section(
                "Does it hold outside photographs?",
                self._statements(),
                {"domains": Table(["domain", "accuracy", "gap", "naming"], rows, caption)},
                {"domains": plot, "classes": heat},
            )
        ]

    def _statements(self) -> list[str]:
        best = self.domains[self.best]
        others = {name: one for name, one in self.domains.items() if name != self.best}
        worst = min(others, key=lambda name: others[name].accuracy.value)
        lower = [name for name, one in others.items() if one.lower == "above"]
        unclear = [name for name, one in others.items() if one.lower == NOT_ENOUGH]
        found = [
            f"Best in {self.best} ({best.accuracy}), worst in {worst} ({others[worst].accuracy}): a gap of "
            f"{others[worst].gap}.",
        ]
        if lower:
            found.append(f"Lower than the best: {', '.join(lower)}.")
        if unclear:
            found.append(f"Not enough to say whether lower than the best: {', '.join(unclear)}.")
        naming = {name: self.verdicts[f"naming {name}"] for name in self.domains}
        helped = [name for name, one in naming.items() if one == "above"]
        if helped or any(one != NOT_ENOUGH for one in naming.values()):
            found.append(f"Naming the domain in the prompt helps in: {', '.join(helped) or 'none shown'}.")
        else:
            found.append("Not enough to say whether naming the domain in the prompt helps anywhere.")
        return found

    @property
    def failed_controls(self) -> list[str]:
        """Domains in which the classes are not told at all."""
        chances = {name: self.verdicts[f"accuracy {name}"] for name in self.domains}
        found = []
        if blind := [name for name, one in chances.items() if one in ("at", "below")]:
            found.append(f"Not above chance, so the classes are not told there: {', '.join(blind)}.")
        if unclear := [name for name, one in chances.items() if one == NOT_ENOUGH]:
            found.append(f"Not enough to say whether above chance: {', '.join(unclear)}.")
        return found


def audit_domains(
    encoder: Encoder,
    domains: Mapping[str, ImageDataset],
    *,
    name: str = "domains",
    templates: str | Sequence[str] = "plain",
    **settings: Unpack[Settings],
) -> DomainAudit:
    """Accuracy in one domain after another.

    Parameters
    ----------
    encoder : Encoder
    domains : mapping of name to ImageDataset
        Classes of all domains together are the answers in each.
    name : str
        Of the whole data set.
    templates : str or sequence of str
        Prompts; those that name a domain put its name in place of "photo".
    **settings
        See `Settings`.

    Raises
    ------
    InputError
        Fewer than two domains.
    """
    if len(domains) < 2:
        raise InputError(f"{len(domains)} domain in {name}: expected at least two to compare")
    setup = Setup.of(**settings)
    classes = list(dict.fromkeys(one for data in domains.values() for one in data.class_names))
    plain = answer_embeddings(encoder, [expand([one], templates) for one in classes])
    plain_hits: dict[str, Floats] = {}
    named_hits: dict[str, Floats] = {}
    recalls: dict[str, dict[str, float]] = {}
    failures: list[Failed] = []
    for domain, data in domains.items():
        found = setup.embed(encoder, data)
        failures += found.failures
        labels = np.array([classes.index(one) for one in data.class_names])[data.labels[found.positions]]
        told = answer_embeddings(encoder, [expand([one], domain_prompt(domain)) for one in classes])
        plain_hits[domain] = top1_hits(found.rows @ plain.T, labels)
        named_hits[domain] = top1_hits(found.rows @ told.T, labels)
        means = class_means(plain_hits[domain], labels, len(classes))
        recalls[domain] = {
            one: float(value) for one, value in zip(classes, means, strict=True) if value == value
        }
    claims: dict[str, Claim] = {}
    for domain, hits in plain_hits.items():
        claims[f"accuracy {domain}"] = against_chance(proportion(hits), 1 / len(classes))
        claims[f"naming {domain}"] = paired_claim(named_hits[domain], hits)
    accuracy = {domain: claims[f"accuracy {domain}"].estimate for domain in domains}
    best = max(accuracy, key=lambda one: accuracy[one].value)
    gaps = _gaps(plain_hits, accuracy, best)
    # Half of the level for what is said of gaps, half for the rest.
    return DomainAudit(
        facts=setup.facts(encoder, *domains.values()),
        failures=tuple(failures),
        dataset=name,
        chance=1 / len(classes),
        verdicts=decide(claims, LEVEL / 2) | {f"gap {one}": pair[1] for one, pair in gaps.items()},
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
    """The best domain minus each, and whether that is more than the best of equal ones would be above it."""
    codes = np.repeat(np.arange(len(hits)), [len(one) for one in hits.values()])
    joined = {"accuracy": np.concatenate(list(hits.values()))}
    (tested,) = disparities(joined, list(hits), codes, "domain", minimum=MINIMUM)
    pairs = {one.low: one for one in tested.pairs if one.high == best}
    found: dict[str, tuple[Estimate, Verdict]] = {}
    for domain in hits:
        if domain in pairs:
            gap, p = pairs[domain].gap, pairs[domain].p
            same = gap.high is not None and gap.high < SAME
            found[domain] = (gap, "above" if p <= LEVEL / 2 else "at" if same else NOT_ENOUGH)
        elif domain == best:
            found[domain] = (Estimate(0.0), "at")
        else:  # too few pictures here or there
            found[domain] = (difference(accuracy[best], accuracy[domain]), NOT_ENOUGH)
    return found


def domain_prompt(domain: str) -> str:
    """A prompt that names a domain.

    Examples
    --------
    >>> domain_prompt("art_painting"), domain_prompt("Sketch")
    ('an art painting of a {}.', 'a sketch of a {}.')
    """
    return f"{with_article(domain.replace('_', ' ').lower())} of a {{}}."
