"""Audit of fine-grained classification (paper, section 3.1.5: fine-grained tasks are among the weakest).

An image is classified among all classes, among the similar classes of its own group, and, as a control,
among as many classes from other groups. The groups come from a file or from the similarity of the model's
text embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.audits.base import Audit, estimate_bars, verdict_cell
from diptych.audits.labels.class_groups import class_indices, group_similar_classes
from diptych.audits.prompt_scores import Floats, answer_probabilities, class_embeddings, top1_hits
from diptych.datasets import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Bars, Cell, Estimate, Section, Table
from diptych.stats.intervals import proportion
from diptych.stats.metrics import confusions
from diptych.stats.significance import NOT_ENOUGH, against_chance, beside_chance, decide, paired_claim

_REPEATS = 20  # random sets of distant classes for each image
_MOST_CONFUSED = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class FineGrainedAudit(Audit):
    """Result of the fine-grained audit.

    Attributes
    ----------
    groups : mapping of group to its classes
        Groups of at least two classes.
    by_texts : bool
        Whether the groups come from the model's text embeddings, so that another model has others.
    everything, everything_chance : Estimate and float
        Accuracy among all classes, on images of all classes.
    group_right, group_chance : Estimate and float
        Share of answers among all classes in the correct group; from here on only images in groups.
    near, near_chance : Estimate and float
        Accuracy among the classes of the image's own group.
    distant, distant_chance : Estimate and float
        Accuracy among as many classes: its own, and random ones from other groups.
    cost : Estimate
        Distant minus near, on the same images with as many answers: the cost of similarity.
    each : mapping of group to (Estimate, float)
        Accuracy within the group, and its chance.
    errors_inside : Estimate or None
        Share of wrong answers that stay in the group; None without wrong answers.
    confused : sequence of (class, answer, count, share of the class)
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
    def _title(self) -> str:
        return f"Near and distant classes: {self.dataset}"

    def _sections(self) -> list[Section]:
        rows: list[list[Cell]] = [
            ["all classes", self.everything, self.everything_chance],
            ["the right group", self.group_right, self.group_chance],
            ["its own group", self.near, self.near_chance],
            ["as many distant ones", self.distant, self.distant_chance],
        ]
        groups: list[list[Cell]] = [
            [name, len(self.groups[name]), accuracy, chance, verdict_cell(self.verdicts[f"group {name}"])]
            for name, (accuracy, chance) in sorted(self.each.items(), key=lambda pair: pair[1][0].value)
        ]
        plot = Bars(
            values=estimate_bars({name: accuracy for name, (accuracy, _) in self.each.items()}),
            x="accuracy in the group",
        )
        source = "by the model's own texts" if self.by_texts else "from the file"
        return [
            Section(
                "Does it distinguish near classes?",
                self._statements(),
                {"among": Table(["among", "accuracy", "chance"], rows)},
            ),
            Section(
                f"Groups, {source}",
                [f"{name}: {', '.join(members)}." for name, members in self.groups.items()],
                {"groups": Table(["group", "classes", "accuracy", "chance", "verdict"], groups)},
                {"groups": plot} if self.each else {},
            ),
            Section("Most often confused", tables={"confused": self._confused()}),
        ]

    @property
    def failed_controls(self) -> list[str]:
        """Distant classes that are not shown to be distinguished either."""
        verdict, figures = self.verdicts["distant"], f"{self.distant}, chance {self.distant_chance:.3f}"
        if verdict == "above":
            return []
        if verdict == NOT_ENOUGH:
            return [
                f"The control is undecided, not enough to say: accuracy among distant classes is {figures}."
            ]
        return [
            f"The control fails: distant classes are not distinguished either ({figures}). The results on "
            "near classes say nothing about similarity."
        ]

    def _statements(self) -> list[str]:
        cost = {
            "above": f"Similar classes cost {self.cost} of accuracy",
            "at": f"Similar classes cost almost nothing ({self.cost})",
            "below": f"Similar classes are even easier here, by {-self.cost.value:.3f}",
            NOT_ENOUGH: f"Not enough to say whether similarity costs accuracy ({self.cost})",
        }[self.verdicts["cost of nearness"]]
        near = self.verdicts["near"]
        statements = [
            f"{cost}: accuracy within the own group is "
            f"{beside_chance(self.near, self.near_chance, near)}; among as many distant classes it is "
            f"{self.distant}."
        ]
        if near in ("at", "below"):
            statements.append("This model does not distinguish the classes of these groups.")
        if self.errors_inside is not None:
            statements.append(
                f"Of its wrong answers among all classes, {self.errors_inside} stay in the right group; for "
                f"random errors it would be {self.errors_inside_chance:.3f}."
            )
        if self.by_texts:
            statements.append(
                "The groups are this model's own. To compare models, save them (--save-groups) and give "
                "every model the same file (--groups)."
            )
        return statements

    def _confused(self) -> Table:
        rows: list[list[Cell]] = [list(row) for row in self.confused]
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
    """Compare accuracy among similar classes with accuracy among distant ones.

    Parameters
    ----------
    groups : mapping of group to class names, optional
        By default clusters of the model's text embeddings.
    count : int, optional
        Number of clusters; by default a third of the classes, so that groups stay small.
    seed : int
        Seed of the distant classes.

    Raises
    ------
    InputError
        No group has two classes, or one group has all of them.
    DataError
        A group has an unknown class.
    """
    names = dataset.class_names
    weights = class_embeddings(encoder, names, templates)
    group_indices = _group_indices(weights, names, groups, count)
    setup, rng = Setup.of(**settings), np.random.default_rng([seed, 500])
    embedded = setup.embed(encoder, dataset)
    labels = dataset.labels[embedded.positions]
    scores = embedded.embeddings @ weights.T
    probabilities, hits = answer_probabilities(scores), top1_hits(scores, labels)
    group_of_class = _group_of_class(len(names), group_indices)
    rows = np.flatnonzero(group_of_class[labels] >= 0)
    if not len(rows):
        raise InputError(f"no picture of {dataset.name} is of a class in a group")
    in_own_group = _in_own_group(group_of_class, labels[rows])  # (n, C)
    near_hits = top1_hits(np.where(in_own_group, scores[rows], -np.inf), labels[rows])
    group_sizes = in_own_group.sum(axis=1)
    # There may be fewer classes outside a group than in it.
    answer_counts = np.minimum(group_sizes, len(names) - group_sizes + 1)
    drawn_near_hits = _mean_hits_of_draws(scores[rows], labels[rows], in_own_group, answer_counts, rng)
    paired_near_hits = np.where(answer_counts == group_sizes, near_hits, drawn_near_hits)
    distant_hits = _mean_hits_of_draws(scores[rows], labels[rows], ~in_own_group, answer_counts, rng)
    answers = probabilities[rows].argmax(axis=1)
    is_wrong = answers != labels[rows]
    by_group = _accuracy_by_group(near_hits, group_of_class[labels[rows]], group_indices)
    claims = {
        "near": against_chance(proportion(near_hits), float((1 / group_sizes).mean())),
        "distant": against_chance(proportion(distant_hits), float((1 / answer_counts).mean())),
        "cost of nearness": paired_claim(distant_hits, paired_near_hits),
        **{f"group {name}": against_chance(*pair) for name, pair in by_group.items()},
    }
    return FineGrainedAudit(
        verdicts=decide(claims),
        facts=setup.facts(encoder, dataset),
        failures=embedded.failures,
        dataset=dataset.name,
        groups={name: [names[index] for index in members] for name, members in group_indices.items()},
        by_texts=groups is None,
        everything=proportion(hits),
        everything_chance=1 / len(names),
        group_right=proportion((probabilities[rows] * in_own_group).sum(axis=1)),
        group_chance=float(group_sizes.mean() / len(names)),
        near=claims["near"].estimate,
        near_chance=claims["near"].null,
        distant=claims["distant"].estimate,
        distant_chance=claims["distant"].null,
        cost=claims["cost of nearness"].estimate,
        each=by_group,
        errors_inside=proportion(in_own_group[is_wrong, answers[is_wrong]]) if is_wrong.any() else None,
        errors_inside_chance=float(((group_sizes - 1) / (len(names) - 1)).mean()),
        confused=_most_confused(probabilities, labels, names),
    )


def _group_of_class(count: int, group_indices: Mapping[str, Sequence[int]]) -> NDArray[np.int64]:
    """Number of the group of each class, (C,); -1 for classes in no group."""
    groups = np.full(count, -1)
    for number, members in enumerate(group_indices.values()):
        groups[members] = number
    return groups


def _group_indices(
    weights: NDArray[np.float32],
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None,
    count: int | None,
) -> dict[str, list[int]]:
    """Groups of at least two classes, as class indices."""
    if groups is None:
        clusters = max(2, round(len(names) / 3)) if count is None else count
        lists = group_similar_classes(weights, min(clusters, len(names)))
        result = {f"like {names[members[0]]}": members for members in lists}
    else:
        result = class_indices(groups, names)
    result = {name: members for name, members in result.items() if len(members) > 1}
    if not result or any(len(members) == len(names) for members in result.values()):
        raise InputError(
            f"{len(result)} groups of two or more of the {len(names)} classes: expected at least one, and "
            "none that holds all classes"
        )
    return result


def _accuracy_by_group(
    near_hits: Floats, group_of_image: NDArray[np.int64], group_indices: Mapping[str, Sequence[int]]
) -> dict[str, tuple[Estimate, float]]:
    """Accuracy within each group that has images, and its chance."""
    return {
        name: (proportion(near_hits[group_of_image == number]), 1 / len(members))
        for number, (name, members) in enumerate(group_indices.items())
        if (group_of_image == number).any()
    }


def _in_own_group(group_of_class: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each class is in the group of each image, (n, C)."""
    mask: NDArray[np.bool_] = group_of_class[None, :] == group_of_class[labels][:, None]
    return mask


def _mean_hits_of_draws(
    scores: NDArray[np.floating],
    labels: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    answer_counts: NDArray[np.int64],
    rng: np.random.Generator,
) -> Floats:
    """Mean hits among the own class and `answer_counts` - 1 random allowed ones, over repeated draws.

    Each draw ranks the classes of a row by random keys: the own class first (-1), forbidden ones last (inf);
    the first `answer_counts` ranks are the answers.
    """
    rows = np.arange(len(labels))
    total: Floats = np.zeros(len(labels))
    for _ in range(_REPEATS):
        order = np.where(allowed, rng.random(allowed.shape), np.inf)
        order[rows, labels] = -1.0
        chosen = order.argsort(axis=1).argsort(axis=1) < answer_counts[:, None]
        total += top1_hits(np.where(chosen, scores, -np.inf), labels)
    return total / _REPEATS


def _most_confused(
    shares: Floats, labels: NDArray[np.int64], names: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """The most frequent wrong answers, and their share of the images of their class."""
    counts = np.bincount(labels, minlength=len(names))
    pairs: list[Any] = confusions(labels, shares.argmax(axis=1), len(names), _MOST_CONFUSED)
    return [(names[right], names[given], times, times / int(counts[right])) for right, given, times in pairs]
