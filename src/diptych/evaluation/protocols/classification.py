"""Zero-shot classification of labelled images (paper, section 3.1), with chance and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.datasets.multilabel import MultiLabelDataset
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import bounded_mean, ends, mean_over_classes, proportion, resampled_proportion
from diptych.stats.rankings import Ranking, placements, resampled
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import Names, distinct_names, read_labels
from diptych.zeroshot.templates import resolve

ALSO = ("roc_auc", "mean_acc1_acc5")
"""Metrics that are measured only if requested."""

_ROWS = 4096  # images scored at a time: with 1,000 classes 16 MB


def evaluate_zero_shot(
    encoder: Encoder,
    dataset: ImageDataset,
    class_names: Names | None = None,
    *,
    templates: str | Sequence[str] | None = "plain",
    also: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Result:
    """Classify each image by the class names alone, and compare with its label.

    Parameters
    ----------
    class_names : names, optional
        Other names of the classes, in the order of `dataset.class_names`: a list, or a mapping with
        synonyms.
    templates : str, sequence of str or None
        As for `ZeroShotClassifier`.
    also : sequence of str
        "roc_auc", with two classes: the area under the ROC curve of the second, as for Hateful Memes.
        "mean_acc1_acc5", with more than five: the mean of both, as for Kinetics-700 (paper, table 9).
    **settings
        See `Settings`.

    Returns
    -------
    Result
        acc1, acc5 (with more than five classes) and mean_per_class_recall over the readable images; the
        others are its `failures`.

    Raises
    ------
    DataError
        The number of names differs from that of classes, no image is readable, or `also` is not defined for
        this number of classes.
    InputError
        `also` has an unknown metric.
    """
    names = names_for(dataset, class_names)
    if len(dataset.class_names) < 2:
        raise DataError(
            f"{dataset.name} has one class, {dataset.class_names[0]!r}: every answer would be right. "
            "Expected a folder for each of two or more classes"
        )
    setup = Setup.of(**settings)
    classifier = setup.classifier(encoder, names, templates, dataset.name)
    embedded = setup.embed(encoder, dataset)
    labels = dataset.labels[embedded.positions]
    count = len(dataset.class_names)
    ks = (1, 5) if count > 5 else (1,)
    embeddings = embedded.embeddings
    hits, confidences, best = _answers(classifier, embeddings, labels, ks)  # (N, len(ks)), (N,), (N,)
    cosines = classifier.cosines(embeddings).astype(np.float64) if also and count == 2 else None  # (N, 2)
    result_figures = figures(
        hits, best, labels, dataset.class_names, embedded.positions, dataset, also, cosines
    )
    return setup.result(
        encoder,
        dataset,
        task="zeroshot_classification",
        templates=None if templates is None else resolve(templates),
        failures=embedded.failures,
        details={
            "calibration": asdict(metrics.calibration(confidences, hits[:, 0])),
            "confusions": result_figures.pop("confusions"),
        },
        **result_figures,
    )


def names_for(dataset: ImageDataset | MultiLabelDataset, class_names: Names | None) -> Names:
    """The given class names, by default those of the data set; DataError if their number differs."""
    names = list(dataset.class_names) if class_names is None else class_names
    if (given := len(read_labels(names))) != len(dataset.class_names):
        raise DataError(f"{given} class names for the {len(dataset.class_names)} classes of {dataset.name}")
    return names


def figures(
    hits: NDArray[np.float64],
    best: NDArray[np.intp],
    labels: NDArray[np.int64],
    names: Sequence[str],
    positions: NDArray[np.intp],
    dataset: ImageDataset,
    also: Sequence[str],
    scores: NDArray[np.float64] | None,
) -> dict[str, Any]:
    """Compute a result's figures of predictions: metrics, chance, intervals, outcomes, confusions.

    Parameters
    ----------
    hits : (N, 1) or (N, 2) floats
        Top-1 and, with more than five classes, top-5 hits.
    best : (N,) integers
        Predicted classes.
    labels : (N,) integers
        Correct classes.
    names : sequence of C str
    positions : (N,) integers
        Positions of the images in their data set.
    dataset : ImageDataset
        The measured data set.
    also : sequence of str
        Some of `ALSO`, as for `evaluate_zero_shot`.
    scores : (N, 2) floats, or None
        Scores of two classes, larger is more confident; None with more classes.

    Returns
    -------
    dict
        Keywords of `Setup.result`, and "confusions" for its details.

    Raises
    ------
    DataError
        A metric of `also` that is not defined for this number of classes.
    InputError
        An unknown metric.
    """
    count, unique_names = len(names), distinct_names(names)
    ks = (1, 5)[: hits.shape[1]]
    recalls = metrics.class_means(hits[:, 0], labels, count)
    result_figures: dict[str, Any] = {
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
            name: float(recall)
            for name, recall in zip(unique_names, recalls, strict=True)
            if not np.isnan(recall)
        },
        "outcomes": {f"acc{k}": at_positions(hits[:, i], positions, len(dataset)) for i, k in enumerate(ks)},
        "confusions": [
            [unique_names[right], unique_names[wrong], times]
            for right, wrong, times in metrics.confusions(labels, best, count)
        ],
    }
    for metric in also:
        if metric not in ALSO:
            raise InputError(f"metric {metric!r}: expected {' or '.join(map(repr, ALSO))}")
        if metric == "roc_auc":
            values = _area(scores, labels, dataset.name)
        else:
            values = _mean_of_both(hits, count, dataset.name)
        values["outcomes"] = at_positions(values["outcomes"], positions, len(dataset))
        for figure, value in values.items():
            result_figures[figure][metric] = value
    return result_figures


def _mean_of_both(hits: NDArray[np.float64], count: int, name: str) -> dict[str, Any]:
    """The mean of acc1 and acc5, with chance, interval and the outcome of each image."""
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
        raise DataError(f"{name}: the area under the ROC curve needs exactly two classes with pictures")
    # Equal images may get embeddings that differ in the last bits, depending on the batch: their scores must
    # tie.
    second = np.round((scores[:, 1] - scores[:, 0]) / metrics.ROUNDING)  # (N,)
    ranked = Ranking(second, labels)
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
    """Hits for each k, (N, len(ks)); probability of the best class, (N,); the best class, (N,)."""
    hits, confidences, best = [], [], []
    for start in range(0, len(vectors), _ROWS):
        embeddings, right = vectors[start : start + _ROWS], labels[start : start + _ROWS]
        cosines = classifier.cosines(embeddings)  # (N, C)
        probabilities = classifier.predict_proba(embeddings)
        # Softmax and sigmoid are monotone, so cosines rank the classes like probabilities.
        hits.append(
            np.stack([metrics.hits(cosines, right, k, tolerance=metrics.ROUNDING) for k in ks], axis=1)
        )
        confidences.append(probabilities.max(axis=1).astype(np.float64))
        best.append(cosines.argmax(axis=1))
    return np.concatenate(hits), np.concatenate(confidences), np.concatenate(best)


def at_positions(values: NDArray[np.float64], positions: NDArray[np.intp], count: int) -> list[float | None]:
    """Put values at their positions in a list of `count` images; None for unreadable images.

    Examples
    --------
    >>> at_positions(np.array([1.0, 0.5]), np.array([0, 2]), 3)
    [1.0, None, 0.5]
    """
    outcomes: list[float | None] = [None] * count
    for position, value in zip(positions.tolist(), values.tolist(), strict=True):
        outcomes[position] = value
    return outcomes
