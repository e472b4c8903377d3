"""Nearest neighbours: a picture is what most of the training pictures most like it are. Nothing is learnt.

Ties are settled by expectation, as everywhere in this room. Several training pictures at the k-th largest
cosine share the places that are left among them equally; classes with equally many votes share the answer
(`metrics`). The order of the training pictures never decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import InputError, counted
from diptych.evaluation.probes.transfer import (
    Features,
    all_failures,
    answers,
    check_parts,
    embed_part,
    untaught,
)
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
    features: Features = "embeddings",
    also: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Result:
    """Name each picture by its nearest neighbours in a labelled data set, by cosine.

    Parameters
    ----------
    encoder : Encoder
    train, test : ImageDataset
        Of the same classes, by name; a class that `test` lacks stays among the answers.
    k : int
        Neighbours; with fewer training pictures all of them vote.
    temperature : float, optional
        Votes weigh exp(cosine / temperature), as in DINO, which takes 0.07 (Caron et al.
        2021, arXiv 2104.14294); by default all weigh the same.
    features : "embeddings" or "tower"
        The unit rows that search compares, or those before the projection.
    also : sequence of str
        As for `evaluate_zero_shot`.
    **settings
        See `Settings`.

    Returns
    -------
    Result
        As for `evaluate_linear_probe`. `details` has "k", how many voted, and "wanted_k".

    Raises
    ------
    DataError
        Classes that do not match, or nothing readable.
    InputError
        A number of neighbours or a temperature that is none, or an encoder without these features.
    """
    setup = Setup.of(**settings)
    _check(k, temperature)
    shared = check_parts(setup, train, test)
    taught = embed_part(setup, encoder, train, train, features)
    asked = embed_part(setup, encoder, train, test, features)
    count = len(train.class_names)
    scores = votes(taught.rows, taught.labels, asked.rows, count, k, temperature)
    told = answers(scores, asked, train.class_names, tolerance=metrics.ROUNDING, also=also)
    details = {
        "features": features,
        "train": train.name,
        "train_fingerprint": train.fingerprint,
        "train_pictures": len(train),
        "train_sampled_from": train.sampled_from,
        **shared,
        "pictures": len(taught.labels),
        "k": min(k, len(taught.labels)),
        "wanted_k": k,
        "temperature": temperature,
        "untaught": untaught(taught.labels, train.class_names),
        "confusions": told.pop("confusions"),
    }
    failures = all_failures(asked, taught)
    return setup.result(encoder, test, task=TASK, failures=failures, details=details, **told)


def votes(
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    queries: NDArray[np.float32],
    classes: int,
    k: int = NEIGHBOURS,
    temperature: float | None = None,
) -> NDArray[np.float64]:
    """How many of the k nearest rows are of each class, as a share of all votes, (Q, classes).

    Parameters
    ----------
    rows, labels : (N, D) and (N,)
    queries : (Q, D)
    classes, k, temperature
        As for `evaluate_knn`.

    Examples
    --------
    >>> rows = np.array([[1, 0], [0, 1], [0, 2], [-1, 0]], np.float32)
    >>> votes(rows, np.array([0, 1, 1, 0]), np.array([[1, 1]], np.float32), 2, k=3).tolist()   # all three tie
    [[0.3333333333333333, 0.6666666666666666]]
    >>> votes(rows, np.array([0, 1, 1, 0]), np.array([[1, 1]], np.float32), 2, k=1).round(3).tolist()
    [[0.333, 0.667]]
    """
    _check(k, temperature)
    near, asked = _unit(rows), _unit(queries)
    k = min(k, len(near))
    found = np.zeros((len(asked), classes))
    step = max(1, _SCORES // len(near))
    for start in range(0, len(asked), step):
        cosines = asked[start : start + step] @ near.T  # (step, N)
        last = np.partition(cosines, len(near) - k, axis=1)[:, len(near) - k, None]  # the k-th largest
        closer = cosines > last + metrics.ROUNDING
        level = abs(cosines - last) <= metrics.ROUNDING
        share = (k - closer.sum(1)) / level.sum(1)  # of a place, for each of those at the k-th cosine
        queried, neighbour = np.nonzero(closer | level)
        weight = np.where(closer, 1.0, share[:, None])[queried, neighbour]
        if temperature is not None:
            # Beside the nearest one: exp(1 / 0.01) is more than float32 holds.
            above = (cosines - cosines.max(axis=1, keepdims=True))[queried, neighbour]
            weight *= np.exp(above.astype(np.float64) / temperature)
        place = queried * classes + labels[neighbour]
        block = np.bincount(place, weight, len(cosines) * classes).reshape(-1, classes)
        found[start : start + step] = block / block.sum(axis=1, keepdims=True)
    return found


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one; a row of zeros stays, and is like nothing."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return found


def _check(k: int, temperature: float | None) -> None:
    if k < 1:
        raise InputError(f"{counted(k, 'neighbour')}: expected at least one")
    if temperature is not None and not 0 < temperature < math.inf:
        raise InputError(f"a temperature of {temperature:g}: expected a number over 0, such as 0.07")
