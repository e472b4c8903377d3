"""Shared parts of the probes: matching classes, features of data sets, and figures of predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.datasets.overlap import check_overlaps
from diptych.embedding.batches import Failed
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError, counted, listed
from diptych.evaluation.protocols.classification import figures
from diptych.evaluation.protocols.features import DatasetEmbeddings
from diptych.evaluation.protocols.settings import Setup
from diptych.stats import metrics

Features: TypeAlias = Literal["tower", "embeddings"]
FEATURES: tuple[Features, ...] = ("tower", "embeddings")

ROLES = ("TRAIN", "TEST", "the validation part")
"""Names of the data sets in messages, as on the command line."""


@dataclass(frozen=True, eq=False)
class EmbeddedPart:
    """Features of a data set, with labels among the classes of the training set.

    Attributes
    ----------
    features : (N, D) float32
        Of the readable images.
    labels : (N,) int64
        Index into the class names of the training set.
    positions : (N,) integers
        Positions of these images in the data set.
    failures : tuple of Failed
        The other images.
    """

    dataset: ImageDataset
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    positions: NDArray[np.intp]
    failures: tuple[Failed, ...]


def match_classes(train: ImageDataset, other: ImageDataset) -> NDArray[np.int64]:
    """Index of each class of another data set among the classes of the training set, by name.

    The other data set may lack classes of `train`, but not the other way round.

    Raises
    ------
    DataError
        A class that `train` lacks, or class names that are not unique.
    """
    if other.class_names == train.class_names:
        return np.arange(len(train.class_names))
    for dataset in (train, other):
        if len(set(dataset.class_names)) < len(dataset.class_names):
            repeated = [name for name in dataset.class_names if dataset.class_names.count(name) > 1]
            raise DataError(
                f"{dataset.name} has several classes called {repeated[0]!r}, and the classes of {train.name} "
                f"and {other.name} are not the same list: give the classes different names"
            )
    index = {name: number for number, name in enumerate(train.class_names)}
    if unknown := [name for name in other.class_names if name not in index]:
        absent = [name for name in train.class_names if name not in set(other.class_names)]
        raise DataError(
            f"{other.name} has {counted(len(unknown), 'class', 'classes')} that {train.name} lacks "
            f"({listed(unknown, 5)}): a class without training pictures cannot be predicted. {train.name} "
            f"has {counted(len(index), 'class', 'classes')}"
            + (f", of which {other.name} lacks {listed(absent, 5)}" if absent else "")
            + "; if only the wording differs, use one file of class names for both"
        )
    return np.array([index[name] for name in other.class_names], dtype=np.int64)


def align_classes(train: ImageDataset, other: ImageDataset) -> ImageDataset:
    """Relabel a data set with the classes of the training set, in its order; see `match_classes`."""
    labels = match_classes(train, other)[other.labels]
    return replace(other, labels=labels, class_names=train.class_names)


def check_parts(setup: Setup, train: ImageDataset, *others: ImageDataset | None) -> dict[str, Any]:
    """Refuse data sets that share many images; return the details of a result on the data used for training.

    Parameters
    ----------
    setup : Setup
        With `allow_overlap`, the error becomes a warning.
    *others : ImageDataset or None
        The test set, and the validation set if there is one.

    Raises
    ------
    DataError
        As for `check_overlaps`.
    """
    parts = [train, *(part for part in others if part is not None)]
    overlaps = check_overlaps(parts, allow=setup.allow_overlap, roles=ROLES[: len(parts)])
    return {
        "train": train.name,
        "train_fingerprint": train.fingerprint,
        "train_pictures": len(train),
        "train_sampled_from": train.sampled_from,
        "overlaps": [overlap.to_dict() for overlap in overlaps],
    }


def embed_part(
    setup: Setup, encoder: Encoder, train: ImageDataset, dataset: ImageDataset, features: Features
) -> EmbeddedPart:
    """Compute the features of a data set, with labels among the classes of `train`.

    Raises
    ------
    DataError
        Classes that do not match, no readable image, or features that are not finite.
    InputError
        Features that the encoder does not have, or an unknown kind of features.
    """
    if features not in FEATURES:
        raise InputError(f"features {features!r}: expected {' or '.join(map(repr, FEATURES))}")
    relabelled = align_classes(train, dataset)
    embedded: DatasetEmbeddings = setup.embed(encoder, dataset, features=features == "tower")
    if not np.isfinite(embedded.embeddings).all():
        raise DataError(
            f"some {features} rows of {dataset.name} are not finite: the encoder's output is broken"
        )
    labels = relabelled.labels[embedded.positions]
    return EmbeddedPart(dataset, embedded.embeddings, labels, embedded.positions, embedded.failures)


def all_failures(test: EmbeddedPart, *others: EmbeddedPart) -> tuple[Failed, ...]:
    """Failures of the test set, then those of the others, preceded by the names of their data sets."""
    rest = (
        Failed(f"{part.dataset.name}/{failure.key}", failure.reason)
        for part in others
        for failure in part.failures
    )
    return (*test.failures, *rest)


def untaught(labels: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """Return classes without training images, and warn: their test images cannot be classified correctly."""
    present = set(np.unique(labels).tolist())
    missing = [name for number, name in enumerate(names) if number not in present]
    if missing:
        warnings.warn(
            f"{len(missing)} of {len(names)} classes have no picture to learn from ({listed(missing, 5)}): "
            "their test pictures count as missed",
            stacklevel=3,
        )
    return missing


def answers(
    scores: NDArray[np.float64],
    test: EmbeddedPart,
    names: Sequence[str],
    tolerance: float = 0.0,
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """Compute a result's figures of predictions: metrics, chance, intervals, outcomes, confusions.

    Parameters
    ----------
    scores : (N, C) floats
        Larger is better; minus infinity for a class that is never predicted.
    test : EmbeddedPart
        With N images.
    names : sequence of C str
        Class names.
    tolerance : float
        Scores within this tie; see `metrics`.
    also : sequence of str
        As for `evaluate_zero_shot`.

    Returns
    -------
    dict
        Keywords of `Setup.result`.
    """
    ks = (1, 5) if len(names) > 5 else (1,)
    hits = np.stack([metrics.hits(scores, test.labels, k, tolerance=tolerance) for k in ks], axis=1)
    binary_scores = scores if len(names) == 2 else None
    return figures(
        hits, scores.argmax(axis=1), test.labels, names, test.positions, test.dataset, also, binary_scores
    )
