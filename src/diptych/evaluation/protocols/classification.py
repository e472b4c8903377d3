"""Zero-shot classification (paper, section 3.1): an encoder and labelled pictures give accuracy and chance.

The classifier is `diptych.zeroshot`'s, the pictures come through `diptych.embedding.batches`, the figures
from `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import bounded_mean, ends, mean_over_classes, proportion, resampled_proportion
from diptych.stats.rankings import Ranked, placements, resampled
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import Names, distinct_names, read_labels
from diptych.zeroshot.templates import resolve

ALSO = ("roc_auc", "mean_acc1_acc5")
"""Metrics that are measured where they are wanted, beside those of every data set."""

_ROWS = 4096  # rows of scores at a time: 1,000 classes take 16 MB


def evaluate_zero_shot(
    encoder: Encoder,
    dataset: ImageDataset,
    class_names: Names | None = None,
    *,
    templates: str | Sequence[str] | None = "plain",
    also: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Result:
    """Name each picture from the class names alone and compare with its label.

    Parameters
    ----------
    encoder : Encoder
    dataset : ImageDataset
    class_names : names, optional
        Other words for the classes, in the order of `dataset.class_names`: a list, or a mapping with
        synonyms.
    templates : str, sequence of str or None
        As for `ZeroShotClassifier`.
    also : sequence of str
        "roc_auc", of two classes: the area under the ROC curve of the second, as for Hateful Memes.
        "mean_acc1_acc5", of more than five: the mean of both, as for Kinetics-700 (paper, table 9).
    **settings
        See `Settings`.

    Returns
    -------
    Result
        acc1, acc5 (with more than five classes) and mean_per_class_recall over the pictures that could be
        read; the others are its `failures`.

    Raises
    ------
    DataError
        Another number of names than classes, no picture that can be read, or a number of classes for which
        `also` is not defined.
    InputError
        `also` has another metric.
    """
    names = list(dataset.class_names) if class_names is None else class_names
    if len(read_labels(names)) != len(dataset.class_names):
        given = len(read_labels(names))
        raise DataError(f"{given} class names for the {len(dataset.class_names)} classes of {dataset.name}")
    if len(dataset.class_names) < 2:
        raise DataError(
            f"{dataset.name} has one class, {dataset.class_names[0]!r}: any model would be right on every "
            "picture. Expected a folder for each of two or more classes"
        )
    setup = Setup.of(**settings)
    classifier = setup.classifier(encoder, names, templates, dataset.name)
    found = setup.embed(encoder, dataset)
    labels = dataset.labels[found.positions]
    count = len(dataset.class_names)
    ks = (1, 5) if count > 5 else (1,)
    hits, sure, best = _answers(classifier, found.rows, labels, ks)  # (N, len(ks)), (N,), (N,)
    told = figures(hits, best, labels, dataset.class_names, found.positions, len(dataset))
    cosines = classifier.cosines(found.rows).astype(np.float64) if also and count == 2 else None  # (N, 2)
    add_figures(told, also, hits, labels, found.positions, dataset, cosines)
    return setup.result(
        encoder,
        dataset,
        task="zeroshot_classification",
        templates=None if templates is None else resolve(templates),
        failures=found.failures,
        details={
            "calibration": asdict(metrics.calibration(sure, hits[:, 0])),
            "confusions": told.pop("confusions"),
        },
        **told,
    )


def figures(
    hits: NDArray[np.float64],
    best: NDArray[np.intp],
    labels: NDArray[np.int64],
    names: Sequence[str],
    positions: NDArray[np.intp],
    pictures: int,
) -> dict[str, Any]:
    """What a result says of answers, however they were found.

    Parameters
    ----------
    hits : (N, 1) or (N, 2) floats
        Whether the right class is the best one, and one of the best five.
    best : (N,) integers
        The class that was named.
    labels : (N,) integers
        The right one.
    names : sequence of C str
    positions : (N,) integers
        Where the pictures stand in their data set, which has so many `pictures`.

    Returns
    -------
    dict
        Keywords of `Setup.result`, and "confusions" for its details.
    """
    count, told = len(names), distinct_names(names)
    ks = (1, 5)[: hits.shape[1]]
    recalls = metrics.class_means(hits[:, 0], labels, count)
    return {
        "metrics": {
            **{f"acc{k}": float(hits[:, i].mean()) for i, k in enumerate(ks)},
            "mean_per_class_recall": float(np.nanmean(recalls)),
        },
        "chance": {**{f"acc{k}": k / count for k in ks}, "mean_per_class_recall": 1 / count},
        "intervals": {
            **{f"acc{k}": ends(proportion(hits[:, i])) for i, k in enumerate(ks)},
            "mean_per_class_recall": ends(mean_over_classes(hits[:, 0], labels)),
        },
        "n": len(labels),
        "classes": count,
        "per_class": {
            name: float(recall) for name, recall in zip(told, recalls, strict=True) if not np.isnan(recall)
        },
        "outcomes": {f"acc{k}": spread(hits[:, i], positions, pictures) for i, k in enumerate(ks)},
        "confusions": [
            [told[right], told[wrong], times]
            for right, wrong, times in metrics.confusions(labels, best, count)
        ],
    }


def add_figures(
    told: dict[str, Any],
    also: Sequence[str],
    hits: NDArray[np.float64],
    labels: NDArray[np.int64],
    positions: NDArray[np.intp],
    dataset: ImageDataset,
    scores: NDArray[np.float64] | None,
) -> None:
    """Add metrics that only some data sets are measured by to what `figures` gave, in place.

    Parameters
    ----------
    told : dict
        From `figures`.
    also : sequence of str
        Some of `ALSO`, as for `evaluate_zero_shot`.
    hits, labels, positions
        As for `figures`.
    dataset : ImageDataset
        That was measured.
    scores : (N, 2) floats, or None
        Of two classes, larger is surer; None where there are more.

    Raises
    ------
    DataError
        Its number of classes is none for which a metric is defined.
    InputError
        No such metric.
    """
    for metric in also:
        if metric not in ALSO:
            raise InputError(f"metric {metric!r}: expected {' or '.join(map(repr, ALSO))}")
        if metric == "roc_auc":
            values = _area(scores, labels, dataset.name)
        else:
            values = _mean_of_both(hits, told["classes"], dataset.name)
        values["outcomes"] = spread(values["outcomes"], positions, len(dataset))
        for figure, value in values.items():
            told[figure][metric] = value


def _mean_of_both(hits: NDArray[np.float64], count: int, name: str) -> dict[str, Any]:
    """The mean of acc1 and acc5, with chance, interval and the outcome of each picture."""
    if hits.shape[1] < 2:
        raise DataError(f"{name} has {count} classes: the mean of acc1 and acc5 needs more than five")
    mean = hits.mean(axis=1)  # of each picture: 0, 1/2 or 1
    return {
        "metrics": float(mean.mean()),
        "chance": (1 + 5) / (2 * count),
        "intervals": ends(bounded_mean(mean)),
        "outcomes": mean,
    }


def _area(scores: NDArray[np.float64] | None, labels: NDArray[np.int64], name: str) -> dict[str, Any]:
    """Area under the ROC curve of the second class, with chance, interval and placements."""
    if scores is None or set(labels.tolist()) != {0, 1}:
        raise DataError(f"{name} has other than two classes with pictures: no area under the ROC curve")
    # Equal rows may differ in the last bits, by where they stood in a batch: they are to tie.
    second = np.round((scores[:, 1] - scores[:, 0]) / metrics.ROUNDING)  # (N,)
    ranked = Ranked(second, labels)
    cases = min(int((labels == 1).sum()), int((labels == 0).sum()))
    area = ranked.area()
    drawn = resampled(ranked.area, len(labels))
    return {
        "metrics": area,
        "chance": 0.5,
        "intervals": ends(resampled_proportion(area, drawn, cases, len(labels), cap=False)),
        "outcomes": placements(second, labels),
    }


def _answers(
    classifier: ZeroShotClassifier, vectors: NDArray[np.float32], labels: NDArray[np.int64], ks: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Hits for each k, (N, len(ks)); probability of the best class, (N,); which that is, (N,)."""
    hits, sure, best = [], [], []
    for start in range(0, len(vectors), _ROWS):
        rows, right = vectors[start : start + _ROWS], labels[start : start + _ROWS]
        cosines, probabilities = classifier.cosines(rows), classifier.predict_proba(rows)  # (N, C)
        # Softmax and sigmoid keep the order of the cosines.
        hits.append(
            np.stack([metrics.hits(cosines, right, k, tolerance=metrics.ROUNDING) for k in ks], axis=1)
        )
        sure.append(probabilities.max(axis=1).astype(np.float64))
        best.append(cosines.argmax(axis=1))
    return np.concatenate(hits), np.concatenate(sure), np.concatenate(best)


def spread(values: NDArray[np.float64], positions: NDArray[np.intp], count: int) -> list[float | None]:
    """Values at their places in a data set of `count` pictures; None where a picture could not be read.

    Examples
    --------
    >>> spread(np.array([1.0, 0.5]), np.array([0, 2]), 3)
    [1.0, None, 0.5]
    """
    found: list[float | None] = [None] * count
    for position, value in zip(positions.tolist(), values.tolist(), strict=True):
        found[position] = value
    return found
