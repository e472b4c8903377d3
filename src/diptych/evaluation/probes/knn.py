"""k-nearest-neighbour classification of images by the cosine of their features.

Ties are resolved by expectation. Training images that tie at the k-th largest cosine share the remaining
votes equally: with k = 3, one image at cosine 0.9 and four at 0.8, the four have half a vote each. Classes
with equal votes share the prediction (`metrics`). The order of the training images never matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.encoder import Encoder, normalize
from diptych.errors import InputError, counted
from diptych.evaluation.probes import transfer
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics

TASK = "knn"
NEIGHBOURS = 20

_SCORES = 8_000_000  # cosines at a time: 32 MB


def evaluate_knn(
    encoder: Encoder,
    train: ImageDataset,
    test: ImageDataset,
    *,
    k: int = NEIGHBOURS,
    temperature: float | None = None,
    features: transfer.Features = "embeddings",
    also: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Result:
    """Classify the images of a data set by their nearest neighbours in a labelled data set.

    Parameters
    ----------
    train, test : ImageDataset
        With the same classes, by name; a class that `test` lacks can still be predicted.
    k : int
        Number of neighbours; with fewer training images all of them vote.
    temperature : float, optional
        Votes are weighted by exp(cosine / temperature), as in DINO with 0.07 (Caron et al. 2021, arXiv
        2104.14294); by default all have the same weight.
    features : "embeddings" or "tower"
        The normalised embeddings of the shared space, or features before the projection.
    also : sequence of str
        As for `evaluate_zero_shot`.
    **settings
        See `Settings`.

    Returns
    -------
    Result
        As for `evaluate_linear_probe`. `details` has "k", the number of voters, and "wanted_k".

    Raises
    ------
    DataError
        Classes that do not match, or no readable image.
    InputError
        An invalid number of neighbours or temperature, or an encoder without these features.
    """
    setup = Setup.of(**settings)
    _check(k, temperature)
    shared = transfer.check_parts(setup, train, test)
    train_part = transfer.embed_part(setup, encoder, train, train, features)
    test_part = transfer.embed_part(setup, encoder, train, test, features)
    count = len(train.class_names)
    scores = votes(train_part.features, train_part.labels, test_part.features, count, k, temperature)
    figures = transfer.answers(scores, test_part, train.class_names, tolerance=metrics.ROUNDING, also=also)
    details = {
        "features": features,
        **shared,
        "pictures": len(train_part.labels),
        "k": min(k, len(train_part.labels)),
        "wanted_k": k,
        "temperature": temperature,
        "untaught": transfer.untaught(train_part.labels, train.class_names),
        "confusions": figures.pop("confusions"),
    }
    failures = transfer.all_failures(test_part, train_part)
    return setup.result(encoder, test, task=TASK, failures=failures, details=details, **figures)


def votes(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    query_features: NDArray[np.float32],
    classes: int,
    k: int = NEIGHBOURS,
    temperature: float | None = None,
) -> NDArray[np.float64]:
    """Fraction of the votes of the k nearest neighbours for each class, (Q, classes).

    Parameters
    ----------
    features, labels : (N, D) and (N,)
    query_features : (Q, D)
    classes, k, temperature
        As for `evaluate_knn`.

    Examples
    --------
    >>> features, labels = np.array([[1, 0], [0, 1], [0, 2], [-1, 0]], np.float32), np.array([0, 1, 1, 0])
    >>> votes(features, labels, np.array([[1, 1]], np.float32), 2, k=3).tolist()     # the first three tie
    [[0.3333333333333333, 0.6666666666666666]]
    >>> votes(features, labels, np.array([[1, 1]], np.float32), 2, k=1).round(3).tolist()
    [[0.333, 0.667]]
    """
    _check(k, temperature)
    neighbours, queries = normalize(features), normalize(query_features)
    k = min(k, len(neighbours))
    vote_shares = np.zeros((len(queries), classes))
    step = max(1, _SCORES // len(neighbours))
    for start in range(0, len(queries), step):
        cosines = queries[start : start + step] @ neighbours.T  # (step, N)
        last = np.partition(cosines, -k, axis=1)[:, -k, None]  # the k-th largest
        nearer = cosines > last + metrics.ROUNDING
        tied = abs(cosines - last) <= metrics.ROUNDING
        tied_weight = (k - nearer.sum(1)) / tied.sum(1)  # votes of each that ties at the k-th cosine
        queried, neighbour = np.nonzero(nearer | tied)
        weight = np.where(nearer, 1.0, tied_weight[:, None])[queried, neighbour]
        if temperature is not None:
            # Relative to the nearest neighbour: exp(1 / 0.01) overflows float32.
            above = (cosines - cosines.max(axis=1, keepdims=True))[queried, neighbour]
            weight *= np.exp(above.astype(np.float64) / temperature)
        class_cell = queried * classes + labels[neighbour]
        block = np.bincount(class_cell, weight, len(cosines) * classes).reshape(-1, classes)
        vote_shares[start : start + step] = block / block.sum(axis=1, keepdims=True)
    return vote_shares


def _check(k: int, temperature: float | None) -> None:
    if k < 1:
        raise InputError(f"{counted(k, 'neighbour')}: expected at least one")
    if temperature is not None and not 0 < temperature < math.inf:
        raise InputError(f"a temperature of {temperature:g}: expected a number above 0, such as 0.07")
