"""Learning from one labelled data set and answering on another: classes that match, rows, what answers say.

What learns is the business of `probe`, `few_shot` and `knn`; which pictures teach, of `draws`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.datasets.overlap import check_overlaps
from diptych.embedding.batches import Failed
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError, counted
from diptych.evaluation.protocols.classification import add_figures, figures
from diptych.evaluation.protocols.features import Embedding
from diptych.evaluation.protocols.settings import Setup
from diptych.stats import metrics

Features: TypeAlias = Literal["tower", "embeddings"]
FEATURES: tuple[Features, ...] = ("tower", "embeddings")

ROLES = ("TRAIN", "TEST", "the validation part")
"""What messages call the parts, as the command line does."""

_SHOWN = 5  # names in a message


@dataclass(frozen=True, eq=False)
class Part:
    """A data set as rows, its labels those of the training part's classes.

    Attributes
    ----------
    dataset : ImageDataset
    rows : (N, D) float32
        Of the pictures that could be read.
    labels : (N,) int64
        Into the class names of the training part.
    positions : (N,) integers
        Where these pictures stand in the data set.
    failures : tuple of Failed
        The others.
    """

    dataset: ImageDataset
    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    positions: NDArray[np.intp]
    failures: tuple[Failed, ...]


def matched(train: ImageDataset, other: ImageDataset) -> NDArray[np.int64]:
    """For each class of another data set, its place among the training part's classes, by name.

    A class that `train` has and the other lacks stays among the answers; the other way round nothing could be
    learnt.

    Raises
    ------
    DataError
        A class that `train` lacks, or names that cannot tell the classes apart.
    """
    if other.class_names == train.class_names:
        return np.arange(len(train.class_names))
    for one in (train, other):
        if len(set(one.class_names)) < len(one.class_names):
            repeated = [name for name in one.class_names if one.class_names.count(name) > 1]
            raise DataError(
                f"{one.name} has several classes called {repeated[0]!r}, and the classes of {train.name} and "
                f"{other.name} are not the same list: give the classes names of their own"
            )
    place = {name: number for number, name in enumerate(train.class_names)}
    if unknown := [name for name in other.class_names if name not in place]:
        unseen = [name for name in train.class_names if name not in set(other.class_names)]
        raise DataError(
            f"{other.name} has {len(unknown)} classes that {train.name} has not ({_some(unknown)}): what is "
            f"not taught cannot be told. {train.name} has {counted(len(place), 'class', 'classes')}"
            + (f", of which {other.name} lacks {_some(unseen)}" if unseen else "")
            + "; where only the words differ, one file of names for both makes them equal"
        )
    return np.array([place[name] for name in other.class_names], dtype=np.int64)


def aligned(train: ImageDataset, other: ImageDataset) -> ImageDataset:
    """The same pictures with the training part's classes in its order as answers; see `matched`."""
    labels = matched(train, other)[other.labels]
    return replace(other, labels=labels, class_names=train.class_names)


def check_parts(setup: Setup, train: ImageDataset, *others: ImageDataset | None) -> dict[str, Any]:
    """Refuse parts that share many pictures; what they share, for a result's details.

    Parameters
    ----------
    setup : Setup
        Whose `allow_overlap` makes a warning of the error.
    train : ImageDataset
    *others : ImageDataset or None
        The test part, and the validation part if there is one.

    Raises
    ------
    DataError
        As for `check_overlaps`.
    """
    parts = [train, *(part for part in others if part is not None)]
    overlaps = check_overlaps(parts, allow=setup.allow_overlap, roles=ROLES[: len(parts)])
    return {"overlaps": [asdict(one) for one in overlaps]}


def embed_part(
    setup: Setup, encoder: Encoder, train: ImageDataset, dataset: ImageDataset, features: Features
) -> Part:
    """The rows of a data set, its labels among the classes of `train`.

    Raises
    ------
    DataError
        Classes that do not match, no picture that can be read, or rows that are not finite.
    InputError
        Features that the encoder does not have, or that are none.
    """
    if features not in FEATURES:
        raise InputError(f"features {features!r}: expected {' or '.join(map(repr, FEATURES))}")
    answerable = aligned(train, dataset)
    found: Embedding = setup.embed(encoder, dataset, features=features == "tower")
    if not np.isfinite(found.rows).all():
        raise DataError(
            f"some {features} rows of {dataset.name} are not finite: the encoder's output is broken"
        )
    labels = answerable.labels[found.positions]
    return Part(dataset, found.rows, labels, found.positions, found.failures)


def all_failures(test: Part, *others: Part) -> tuple[Failed, ...]:
    """What could not be read: the test part's, then the others' with the name of their data set before."""
    rest = (Failed(f"{one.dataset.name}/{bad.key}", bad.reason) for one in others for bad in one.failures)
    return (*test.failures, *rest)


def untaught(labels: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """Classes without a picture to learn from; they are told of, for their pictures can only be missed."""
    there = set(np.unique(labels).tolist())
    found = [name for number, name in enumerate(names) if number not in there]
    if found:
        warnings.warn(
            f"{len(found)} of {len(names)} classes have no picture to learn from ({_some(found)}): their "
            "test pictures count as missed",
            stacklevel=3,
        )
    return found


def answers(
    scores: NDArray[np.float64],
    test: Part,
    names: Sequence[str],
    tolerance: float = 0.0,
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """What a result says of answers: figures, chance, intervals, outcomes, per class, confusions.

    Parameters
    ----------
    scores : (N, C) floats
        Larger is better; minus infinity for a class that is never named.
    test : Part
        Of N pictures.
    names : sequence of C str
        The classes.
    tolerance : float
        Scores no further apart than this tie; see `metrics`.
    also : sequence of str
        As for `evaluate_zero_shot`.

    Returns
    -------
    dict
        Keywords of `Setup.result`.
    """
    ks = (1, 5) if len(names) > 5 else (1,)
    hits = np.stack([metrics.hits(scores, test.labels, k, tolerance=tolerance) for k in ks], axis=1)
    told = figures(hits, scores.argmax(axis=1), test.labels, names, test.positions, len(test.dataset))
    two = scores if len(names) == 2 else None
    add_figures(told, also, hits, test.labels, test.positions, test.dataset, two)
    return told


def _some(names: Sequence[str]) -> str:
    """The first few names, quoted, for a message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
