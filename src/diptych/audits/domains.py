"""Domains a model may never have seen: photographs, paintings, cartoons, sketches of the same classes.

Accuracy in each, the gap to the best one, and whether it helps to name the domain in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from diptych.audits.asking import hits_of, text_rows
from diptych.audits.outcome import Audit, bars
from diptych.audits.phrasings import article
from diptych.audits.verdicts import difference, mean, share, verdict
from diptych.datasets import ImageDataset
from diptych.embedding import Failed
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.metrics import class_means
from diptych.evaluation.settings import Setup
from diptych.reports import Bars, Cell, Estimate, Heatmap, Section, Table
from diptych.zeroshot import expand


@dataclass(frozen=True)
class Domain:
    """One domain.

    Attributes
    ----------
    accuracy : Estimate
    gap : Estimate
        Best domain minus this one; other pictures, so independent intervals are put together.
    named : Estimate
        Accuracy with the domain in the prompt ("a sketch of a {}.").
    gained : Estimate
        By that, on the same pictures.
    recalls : mapping of class to float
        Accuracy within each class; classes without pictures are left out.
    """

    accuracy: Estimate
    gap: Estimate
    named: Estimate
    gained: Estimate
    recalls: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Domains(Audit):
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
    domains: Mapping[str, Domain]
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
            f"gap: accuracy in {self.best} minus that here; naming: what it gains to name the domain in the "
            f"prompt, on the same pictures. Chance is {self.chance:.3f}."
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
            values=bars({name: one.accuracy for name, one in self.domains.items()}),
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
        lower = [name for name, one in others.items() if verdict(one.gap, 0.0) == "above"]
        blind = [name for name, one in self.domains.items() if verdict(one.accuracy, self.chance) != "above"]
        found = [
            f"Best in {self.best} ({best.accuracy}), worst in {worst} ({others[worst].accuracy}): a gap of "
            f"{others[worst].gap}.",
            "Lower than the best, by their intervals: " + (", ".join(lower) or "none") + ".",
        ]
        if blind:
            found.append(f"Not above chance, so the classes are not told there: {', '.join(blind)}.")
        helped = [name for name, one in self.domains.items() if verdict(one.gained, 0.0) == "above"]
        found.append(f"Naming the domain in the prompt helps in: {', '.join(helped) or 'none'}.")
        return found


def audit_domains(
    encoder: Encoder,
    domains: Mapping[str, ImageDataset],
    *,
    name: str = "domains",
    templates: str | Sequence[str] = "plain",
    **settings: Unpack[Settings],
) -> Domains:
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
    plain = text_rows(encoder, [expand([one], templates) for one in classes])
    figures: dict[str, tuple[Estimate, Estimate, Estimate, dict[str, float]]] = {}
    failures: list[Failed] = []
    for domain, data in domains.items():
        found = setup.embed(encoder, data)
        failures += found.failures
        labels = np.array([classes.index(one) for one in data.class_names])[data.labels[found.positions]]
        told = text_rows(encoder, [expand([one], named_domain(domain)) for one in classes])
        hits, better = hits_of(found.rows @ plain.T, labels), hits_of(found.rows @ told.T, labels)
        recalls = class_means(hits, labels, len(classes))
        figures[domain] = (
            share(hits),
            share(better),
            mean(better - hits),
            {one: float(value) for one, value in zip(classes, recalls, strict=True) if value == value},
        )
    best = max(figures, key=lambda one: figures[one][0].value)
    return Domains(
        facts=setup.facts(encoder, *domains.values()),
        failures=tuple(failures),
        dataset=name,
        chance=1 / len(classes),
        domains={
            domain: Domain(accuracy, difference(figures[best][0], accuracy), named, gained, recalls)
            for domain, (accuracy, named, gained, recalls) in figures.items()
        },
        best=best,
    )


def named_domain(domain: str) -> str:
    """A prompt that names a domain.

    Examples
    --------
    >>> named_domain("art_painting"), named_domain("Sketch")
    ('an art painting of a {}.', 'a sketch of a {}.')
    """
    return f"{article(domain.replace('_', ' ').lower())} of a {{}}."
