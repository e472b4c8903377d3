"""Few-shot curves (paper, section 3.1.5 and figure 6): a linear probe fitted on k images of each class.

The L2 strength is chosen on min(k, 4) other images of each class, as in CoOp (Zhou et al. 2022, arXiv
2109.01134), which are not used for training. Images are sampled by `splits`, fits are in `logistic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError, counted
from diptych.evaluation.probes import logistic, transfer
from diptych.evaluation.probes.splits import FewShotDraw, draw_shots
from diptych.evaluation.protocols.classification import at_positions
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import bounded_mean, ends, mean_over_classes, over_draws

TASK = "few_shot"
SHOTS = (1, 2, 4, 8, 16)
SEEDS = 3
UNCHECKED_C = 1.0  # scikit-learn's default, without validation images

Hits = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Try:
    """Result of one draw: the fitted classifier and its test outcomes."""

    draw: FewShotDraw
    c: float
    chosen: str  # source of the strength: "validation", "fewer shots" or "none"
    hits: Hits
    recall: float
    iterations: int
    converged: bool
    fits: int
    unfinished: int  # fits that did not converge
    validation: float | None  # validation accuracy


def evaluate_few_shot(
    encoder: Encoder,
    train: ImageDataset,
    test: ImageDataset,
    *,
    validation: ImageDataset | None = None,
    shots: Sequence[int] = SHOTS,
    seeds: int = SEEDS,
    features: transfer.Features = "tower",
    **settings: Unpack[Settings],
) -> Result:
    """Fit linear classifiers on a few images of each class and evaluate them on another data set.

    Parameters
    ----------
    train, test : ImageDataset
        With the same classes, by name.
    validation : ImageDataset, optional
        Source of the validation images; by default the images of `train` that are not shots.
    shots : sequence of int
        Numbers of images per class; a number that no class has is left out and listed in the details.
    seeds : int
        Number of draws for each number of shots, with the seeds 0, 1, ...
    features : "tower" or "embeddings"
        As for `evaluate_linear_probe`.
    **settings
        See `Settings`.

    Returns
    -------
    Result
        `acc1@k` and `mean_per_class_recall@k`, means over draws, with intervals over test images and
        over draws (`intervals.over_draws`). `details["points"]` has every draw, its strength, and classes
        with too few images.

    Raises
    ------
    DataError
        Classes that do not match, no readable image, or no class with as many images as any of `shots`.
    InputError
        Shots or seeds below 1, or an encoder without features before the projection.
    MissingExtraError
        SciPy is not installed.
    """
    shot_counts = _wanted(shots, seeds)
    setup = Setup.of(**settings)
    shared = transfer.check_parts(setup, train, test, validation)
    train_part = transfer.embed_part(setup, encoder, train, train, features)
    test_part = transfer.embed_part(setup, encoder, train, test, features)
    validation_part = (
        train_part if validation is None else transfer.embed_part(setup, encoder, train, validation, features)
    )
    count, largest_class = len(train.class_names), int(np.bincount(train_part.labels).max())
    missing = transfer.untaught(train_part.labels, train.class_names)
    possible_shots = [k for k in shot_counts if k <= largest_class]
    if not possible_shots:
        raise DataError(
            f"{train.name} has at most {counted(largest_class, 'readable picture')} of a class: too few for "
            f"{counted(shot_counts[0], 'shot')}"
        )
    fits: dict[int, list[_Try]] = {k: [] for k in possible_shots}
    with setup.stage(f"{test.name}: few-shot draws", seeds * len(possible_shots)) as advance:
        for seed in range(seeds):
            previous: _Try | None = None
            for k in possible_shots:
                previous = _learn(train_part, validation_part, test_part, k, seed, count, previous)
                fits[k].append(previous)
                advance(1)
    details = {
        "features": features,
        "width": train_part.features.shape[1],
        **shared,
        "validation": None if validation is None else validation.name,
        "seeds": seeds,
        "untaught": missing,
        "too_many_shots": [k for k in shot_counts if k > largest_class],
        "points": [_point(k, fits[k]) for k in possible_shots],
    }
    train_parts = (train_part,) if validation is None else (train_part, validation_part)
    failures = transfer.all_failures(test_part, *train_parts)
    figures = _figures(fits, test_part, count)
    return setup.result(encoder, test, task=TASK, failures=failures, details=details, **figures)


def _wanted(shots: Sequence[int], seeds: int) -> list[int]:
    """Distinct numbers of shots, sorted."""
    if not shots or min(shots) < 1:
        raise InputError(f"shots {list(shots)}: expected numbers of pictures of each class, such as 1, 2, 4")
    if seeds < 1:
        raise InputError(f"{counted(seeds, 'seed')}: expected at least one draw")
    return sorted(set(shots))


def _learn(
    train_part: transfer.EmbeddedPart,
    validation_part: transfer.EmbeddedPart,
    test_part: transfer.EmbeddedPart,
    k: int,
    seed: int,
    count: int,
    previous: _Try | None,
) -> _Try:
    """FewShotDraw shots, choose C, fit, and score the test part."""
    draw = draw_shots(
        train_part.labels, k, seed, None if validation_part is train_part else validation_part.labels
    )
    shot_features, labels = train_part.features[draw.shots], train_part.labels[draw.shots]
    fit_count, unfinished, best_accuracy = 1, 0, None
    if len(draw.validation):
        searched = logistic.search(
            shot_features,
            labels,
            validation_part.features[draw.validation],
            validation_part.labels[draw.validation],
        )
        c, chosen = searched.c, "validation"
        fit_count += len(searched.tried)
        unfinished = sum(not trial.converged for trial in searched.tried)
        best_accuracy = max(trial.accuracy for trial in searched.tried)
    elif previous is not None and previous.chosen != "none":
        c, chosen = previous.c, "fewer shots"
    else:
        c, chosen = UNCHECKED_C, "none"
    fit = logistic.fit(shot_features, labels, c)
    hits = metrics.hits(fit.scores(test_part.features, count), test_part.labels)
    recall = float(np.nanmean(metrics.class_means(hits, test_part.labels, count)))
    unfinished += not fit.converged
    return _Try(
        draw, c, chosen, hits, recall, fit.iterations, fit.converged, fit_count, unfinished, best_accuracy
    )


def _figures(fits: dict[int, list[_Try]], test_part: transfer.EmbeddedPart, count: int) -> dict[str, Any]:
    """Means over draws, as keywords of `Setup.result`."""
    hits = {k: np.mean([fit.hits for fit in fits_of_k], axis=0) for k, fits_of_k in fits.items()}
    recalls = {k: float(np.mean([fit.recall for fit in fits_of_k])) for k, fits_of_k in fits.items()}
    figures = {f"acc1@{k}": float(mean.mean()) for k, mean in hits.items()}
    figures |= {f"mean_per_class_recall@{k}": recall for k, recall in recalls.items()}
    return {
        "metrics": figures,
        "chance": dict.fromkeys(figures, 1 / count),
        "intervals": {
            **{
                f"acc1@{k}": ends(over_draws(bounded_mean(mean), [fit.hits.mean() for fit in fits[k]]))
                for k, mean in hits.items()
            },
            **{
                f"mean_per_class_recall@{k}": ends(
                    over_draws(mean_over_classes(mean, test_part.labels), [fit.recall for fit in fits[k]])
                )
                for k, mean in hits.items()
            },
        },
        "outcomes": {
            f"acc1@{k}": at_positions(mean, test_part.positions, len(test_part.dataset))
            for k, mean in hits.items()
        },
        "n": len(test_part.labels),
        "classes": count,
    }


def _point(k: int, fits: Sequence[_Try]) -> dict[str, Any]:
    """Plain values of all draws of one number of shots."""
    accuracies = [float(fit.hits.mean()) for fit in fits]
    first = fits[0].draw
    return {
        "shots": k,
        "acc1": float(np.mean(accuracies)),
        "least": min(accuracies),
        "most": max(accuracies),
        "pictures": len(first.shots),
        "validation_pictures": len(first.validation),
        "short_classes": len(first.short),
        "unchecked_classes": len(first.unchecked),
        "fits": sum(fit.fits for fit in fits),
        "unfinished": sum(fit.unfinished for fit in fits),
        "draws": [
            {
                "seed": seed,
                "acc1": accuracy,
                "mean_per_class_recall": fit.recall,
                "c": fit.c,
                "chosen": fit.chosen,
                "validation_acc1": fit.validation,
                "iterations": fit.iterations,
                "converged": fit.converged,
            }
            for seed, (accuracy, fit) in enumerate(zip(accuracies, fits, strict=True))
        ],
    }
