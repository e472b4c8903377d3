"""Near classes against distant ones (paper, section 3.1.5: fine-grained tasks are among the weakest).

A picture is named among all classes, among those of its own group only, and, as a control, among as many
classes drawn from other groups. The groups come from a file or lie near each other by the model's own texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.audits.base import Audit, estimate_bars, verdict_cell
from diptych.audits.labels.class_groups import class_indices, group_similar_classes
from diptych.audits.prompt_scores import Floats, answer_embeddings, answer_probabilities, top1_hits
from diptych.datasets import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Bars, Cell, Estimate, Section, Table
from diptych.stats.intervals import proportion
from diptych.stats.metrics import confusions
from diptych.stats.significance import NOT_ENOUGH, against_chance, beside_chance, decide, paired_claim
from diptych.zeroshot import expand

_DRAWS = 20  # of distant classes for each picture
_MOST_CONFUSED = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class FineGrainedAudit(Audit):
    """How well near classes are told apart.

    Attributes
    ----------
    dataset : str
    groups : mapping of group to its classes
        Groups of at least two classes.
    by_texts : bool
        They were found by the model's own texts, so another model has others.
    everything, everything_chance : Estimate and float
        Accuracy among all classes; pictures of all classes.
    group_right, group_chance : Estimate and float
        The answer among all classes is at least of the right group; pictures in groups from here on.
    near, near_chance : Estimate and float
        Accuracy among the classes of the picture's own group.
    distant, distant_chance : Estimate and float
        Accuracy among as many classes: its own, and others from outside its group.
    cost : Estimate
        Distant minus near on the same pictures and as many answers: what nearness itself costs.
    each : mapping of group to (Estimate, float)
        Accuracy within the group, and its chance.
    errors_inside : Estimate or None
        Share of wrong answers that stay in the group; None without wrong answers.
    errors_inside_chance : float
    confused : sequence of (right, answer, times, share of the right class)
    """

    dataset: str
    groups: Mapping[str, Sequence[str]]
    by_texts: bool
    everything: Estimate
    everything_chance: float
    group_right: Estimate
    group_chance: float
    near: Estimate
    near_chance: float
    distant: Estimate
    distant_chance: float
    cost: Estimate
    each: Mapping[str, tuple[Estimate, float]]
    errors_inside: Estimate | None
    errors_inside_chance: float
    confused: Sequence[tuple[str, str, int, float]]

    @property
    def title(self) -> str:
        """What the report is called."""
        return f"Near and distant classes: {self.dataset}"

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        rows: list[list[Cell]] = [
            ["all classes", self.everything, self.everything_chance],
            ["the right group", self.group_right, self.group_chance],
            ["its own group", self.near, self.near_chance],
            ["as many distant ones", self.distant, self.distant_chance],
        ]
        groups: list[list[Cell]] = [
            [name, len(self.groups[name]), one, chance, verdict_cell(self.verdicts[f"group {name}"])]
            for name, (one, chance) in sorted(self.each.items(), key=lambda pair: pair[1][0].value)
        ]
        plot = Bars(
            values=estimate_bars({name: one for name, (one, _) in self.each.items()}),
            x="accuracy in the group",
        )
        how = "by the model's own texts" if self.by_texts else "from the file"
        return [
            Section(
                "Does it tell near classes apart?",
                self._statements(),
                {"among": Table(["among", "accuracy", "chance"], rows)},
            ),
            Section(
                f"Groups, {how}",
                [f"{name}: {', '.join(members)}." for name, members in self.groups.items()],
                {"groups": Table(["group", "classes", "accuracy", "chance", "verdict"], groups)},
                {"groups": plot} if self.each else {},
            ),
            Section("Most often confused", tables={"confused": self._confused()}),
        ]

    @property
    def failed_controls(self) -> list[str]:
        """Distant classes that are not told apart either."""
        verdict, figures = self.verdicts["distant"], f"{self.distant}, chance {self.distant_chance:.3f}"
        if verdict == "above":
            return []
        if verdict == NOT_ENOUGH:
            return [
                f"The control is undecided, not enough to say: accuracy among distant classes is {figures}."
            ]
        return [
            f"The control fails: distant classes are not told apart either ({figures}). What is said of near "
            "classes says nothing about nearness."
        ]

    def _statements(self) -> list[str]:
        told = {
            "above": f"Nearness costs {self.cost} of accuracy",
            "at": f"Nearness costs next to nothing ({self.cost})",
            "below": f"Near classes are even easier here, by {-self.cost.value:.3f}",
            NOT_ENOUGH: f"Not enough to say whether nearness costs accuracy ({self.cost})",
        }[self.verdicts["cost of nearness"]]
        near = self.verdicts["near"]
        found = [
            f"{told}: within its own group a picture is named rightly with "
            f"{beside_chance(self.near, self.near_chance, near)}; among as many distant classes with "
            f"{self.distant}."
        ]
        if near in ("at", "below"):
            found.append("This model does not tell the classes of these groups apart.")
        if self.errors_inside is not None:
            found.append(
                f"Of its wrong answers among all classes, {self.errors_inside} stay in the right group; if "
                f"errors fell anywhere, {self.errors_inside_chance:.3f} would."
            )
        if self.by_texts:
            found.append(
                "The groups are this model's own. To compare models, save them (--save-groups) and give "
                "every model the same file (--groups)."
            )
        return found

    def _confused(self) -> Table:
        rows: list[list[Cell]] = [list(one) for one in self.confused]
        return Table(["class", "called", "times", "share of the class"], rows)


def audit_fine_grained(
    encoder: Encoder,
    dataset: ImageDataset,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    count: int | None = None,
    templates: str | Sequence[str] = "plain",
    seed: int = 0,
    **settings: Unpack[Settings],
) -> FineGrainedAudit:
    """Name pictures among near classes and among distant ones.

    Parameters
    ----------
    encoder : Encoder
    dataset : ImageDataset
    groups : mapping of group to class names, optional
        By default the model's own texts decide.
    count : int, optional
        How many groups the texts make; by default a third of the classes, so that groups stay small.
    templates : str or sequence of str
    seed : int
        Of the distant classes.
    **settings
        See `Settings`.

    Raises
    ------
    InputError
        No group has two classes, or one holds all of them.
    DataError
        Groups with unknown classes.
    """
    names = dataset.class_names
    weights = answer_embeddings(encoder, [expand([name], templates) for name in names])
    places = _places(weights, names, groups, count)
    setup = Setup.of(**settings)
    found = setup.embed(encoder, dataset)
    labels = dataset.labels[found.positions]
    scores = found.rows @ weights.T
    shares, hits = answer_probabilities(scores), top1_hits(scores, labels)
    owner = np.full(len(names), -1)
    for number, members in enumerate(places.values()):
        owner[members] = number
    rows = np.flatnonzero(owner[labels] >= 0)
    if not len(rows):
        raise InputError(f"no picture of {dataset.name} is of a class in a group")
    own = _own_group(owner, labels[rows])  # (n, C)
    near = top1_hits(np.where(own, scores[rows], -np.inf), labels[rows])
    size = own.sum(axis=1)
    many = np.minimum(size, len(names) - size + 1)  # a group may hold more classes than there are outside
    rng = np.random.default_rng([seed, 500])
    inner = np.where(many == size, near, _drawn(scores[rows], labels[rows], own, many, rng))
    distant = _drawn(scores[rows], labels[rows], ~own, many, rng)
    wrong = shares[rows].argmax(axis=1) != labels[rows]
    each = _each(near, owner[labels[rows]], places)
    claims = {
        "near": against_chance(proportion(near), float((1 / size).mean())),
        "distant": against_chance(proportion(distant), float((1 / many).mean())),
        "cost of nearness": paired_claim(distant, inner),
        **{f"group {name}": against_chance(*pair) for name, pair in each.items()},
    }
    return FineGrainedAudit(
        verdicts=decide(claims),
        facts=setup.facts(encoder, dataset),
        failures=found.failures,
        dataset=dataset.name,
        groups={name: [names[index] for index in members] for name, members in places.items()},
        by_texts=groups is None,
        everything=proportion(hits),
        everything_chance=1 / len(names),
        group_right=proportion((shares[rows] * own).sum(axis=1)),
        group_chance=float(size.mean() / len(names)),
        near=claims["near"].estimate,
        near_chance=claims["near"].null,
        distant=claims["distant"].estimate,
        distant_chance=claims["distant"].null,
        cost=claims["cost of nearness"].estimate,
        each=each,
        errors_inside=proportion(own[wrong, shares[rows][wrong].argmax(axis=1)]) if wrong.any() else None,
        errors_inside_chance=float(((size - 1) / (len(names) - 1)).mean()),
        confused=_most_confused(shares, labels, names),
    )


def _places(
    weights: NDArray[np.float32],
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None,
    count: int | None,
) -> dict[str, list[int]]:
    """Groups of at least two classes, as positions."""
    if groups is None:
        wanted = max(2, round(len(names) / 3)) if count is None else count
        lists = group_similar_classes(weights, min(wanted, len(names)))
        found = {f"like {names[one[0]]}": one for one in lists}
    else:
        found = class_indices(groups, names)
    found = {name: members for name, members in found.items() if len(members) > 1}
    if not found or any(len(members) == len(names) for members in found.values()):
        raise InputError(
            f"{len(found)} groups of two or more of the {len(names)} classes: expected at least one, and "
            "none that holds all classes"
        )
    return found


def _each(
    near: Floats, owner: NDArray[np.int64], places: Mapping[str, Sequence[int]]
) -> dict[str, tuple[Estimate, float]]:
    """Accuracy within each group that has pictures, and its chance."""
    return {
        name: (proportion(near[owner == number]), 1 / len(members))
        for number, (name, members) in enumerate(places.items())
        if (owner == number).any()
    }


def _own_group(owner: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which classes are in the group of each picture, (n, C)."""
    found: NDArray[np.bool_] = owner[None, :] == owner[labels][:, None]
    return found


def _drawn(
    scores: NDArray[np.floating],
    labels: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    many: NDArray[np.int64],
    rng: np.random.Generator,
) -> Floats:
    """Mean hits among the picture's own class and `many` - 1 of the allowed ones, drawn again and again."""
    rows = np.arange(len(labels))
    total: Floats = np.zeros(len(labels))
    for _ in range(_DRAWS):
        order = np.where(allowed, rng.random(allowed.shape), np.inf)
        order[rows, labels] = -1.0
        chosen = order.argsort(axis=1).argsort(axis=1) < many[:, None]
        total += top1_hits(np.where(chosen, scores, -np.inf), labels)
    return total / _DRAWS


def _most_confused(
    shares: Floats, labels: NDArray[np.int64], names: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """The commonest wrong answers, and which share of their class they are."""
    counts = np.bincount(labels, minlength=len(names))
    pairs: list[Any] = confusions(labels, shares.argmax(axis=1), len(names), _MOST_CONFUSED)
    return [(names[right], names[given], times, times / int(counts[right])) for right, given, times in pairs]
