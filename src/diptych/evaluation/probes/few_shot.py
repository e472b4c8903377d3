"""Few-shot curves (paper, section 3.1.5 and figure 6): a linear probe learnt from k pictures of each class.

The strength of L2 is chosen on min(k, 4) other pictures of each class, as in CoOp (Zhou et al. 2022, arXiv
2109.01134); these do not teach. Which pictures, `draws` says; fits are `logistic`'s; what zero-shot is worth,
`data_efficiency`.
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
from diptych.evaluation.probes import logistic
from diptych.evaluation.probes.splits import Draw, draw_shots
from diptych.evaluation.probes.transfer import Features, Part, all_failures, check_parts, embed_part, untaught
from diptych.evaluation.protocols.classification import spread
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import bounded_mean, ends, mean_over_classes, over_draws

TASK = "few_shot"
SHOTS = (1, 2, 4, 8, 16)
SEEDS = 3
UNCHECKED_C = 1.0  # scikit-learn's own, where no picture is left to choose on

Hits = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Try:
    """The classifier of one draw, and how it does on the test part."""

    draw: Draw
    c: float
    chosen: str  # how the strength was found
    hits: Hits
    recall: float
    iterations: int
    converged: bool
    fits: int
    unfinished: int  # of these
    validation: float | None  # accuracy there


def evaluate_few_shot(
    encoder: Encoder,
    train: ImageDataset,
    test: ImageDataset,
    *,
    validation: ImageDataset | None = None,
    shots: Sequence[int] = SHOTS,
    seeds: int = SEEDS,
    features: Features = "tower",
    **settings: Unpack[Settings],
) -> Result:
    """Learn linear classifiers from a few pictures of each class and name the pictures of another data set.

    Parameters
    ----------
    encoder : Encoder
    train, test : ImageDataset
        Of the same classes, by name.
    validation : ImageDataset, optional
        Where the pictures that choose the strength of L2 are drawn from; by default `train`, from those that
        are not shots.
    shots : sequence of int
        Pictures of each class; a number that no class has is left out and listed in the details.
    seeds : int
        Draws of each number, by the seeds 0, 1, ...
    features : "tower" or "embeddings"
        As for `evaluate_linear_probe`.
    **settings
        See `Settings`.

    Returns
    -------
    Result
        `acc1@k` and `mean_per_class_recall@k`, means over draws, with intervals over test pictures and
        over draws (`intervals.over_draws`). `details["points"]` has every draw, its strength, and where
        pictures were too few.

    Raises
    ------
    DataError
        Classes that do not match, nothing readable, or no class with as many pictures as any of `shots`.
    InputError
        Shots or seeds below 1, or an encoder without features before the projection.
    MissingExtraError
        SciPy is not installed.
    """
    wanted = _wanted(shots, seeds)
    setup = Setup.of(**settings)
    shared = check_parts(setup, train, test, validation)
    taught = embed_part(setup, encoder, train, train, features)
    asked = embed_part(setup, encoder, train, test, features)
    chooser = taught if validation is None else embed_part(setup, encoder, train, validation, features)
    count, most = len(train.class_names), int(np.bincount(taught.labels).max())
    missing = untaught(taught.labels, train.class_names)
    possible = [k for k in wanted if k <= most]
    if not possible:
        raise DataError(
            f"{train.name} has at most {most} readable pictures of a class: too few for {wanted[0]} shots"
        )
    tries: dict[int, list[_Try]] = {k: [] for k in possible}
    with setup.stage(f"{test.name}: few-shot draws", seeds * len(possible)) as advance:
        for seed in range(seeds):
            before: _Try | None = None
            for k in possible:
                before = _learn(taught, chooser, asked, k, seed, count, before)
                tries[k].append(before)
                advance(1)
    details = {
        "features": features,
        "width": taught.rows.shape[1],
        "train": train.name,
        "train_fingerprint": train.fingerprint,
        "train_pictures": len(train),
        "train_sampled_from": train.sampled_from,
        **shared,
        "validation": None if validation is None else validation.name,
        "seeds": seeds,
        "untaught": missing,
        "too_many_shots": [k for k in wanted if k > most],
        "points": [_point(k, tries[k]) for k in possible],
    }
    others = (taught,) if validation is None else (taught, chooser)
    failures = all_failures(asked, *others)
    told = _figures(tries, asked, count)
    return setup.result(encoder, test, task=TASK, failures=failures, details=details, **told)


def _wanted(shots: Sequence[int], seeds: int) -> list[int]:
    """Numbers of shots in order, each once."""
    if not shots or min(shots) < 1:
        raise InputError(f"shots {list(shots)}: expected numbers of pictures of each class, such as 1, 2, 4")
    if seeds < 1:
        raise InputError(f"{counted(seeds, 'seed')}: expected at least one draw")
    return sorted(set(shots))


def _learn(
    taught: Part, chooser: Part, asked: Part, k: int, seed: int, count: int, before: _Try | None
) -> _Try:
    """Draw shots, choose C, fit, and score the test part."""
    draw = draw_shots(taught.labels, k, seed, None if chooser is taught else chooser.labels)
    rows, labels = taught.rows[draw.shots], taught.labels[draw.shots]
    fits, unfinished, reached = 1, 0, None
    if len(draw.validation):
        searched = logistic.search(
            rows, labels, chooser.rows[draw.validation], chooser.labels[draw.validation]
        )
        c, chosen = searched.c, "validation"
        fits += len(searched.tried)
        unfinished = sum(not one.converged for one in searched.tried)
        reached = max(one.accuracy for one in searched.tried)
    elif before is not None and before.chosen != "none":
        c, chosen = before.c, "fewer shots"
    else:
        c, chosen = UNCHECKED_C, "none"
    found = logistic.fit(rows, labels, c)
    hits = metrics.hits(found.scores(asked.rows, count), asked.labels)
    recall = float(np.nanmean(metrics.class_means(hits, asked.labels, count)))
    unfinished += not found.converged
    return _Try(draw, c, chosen, hits, recall, found.iterations, found.converged, fits, unfinished, reached)


def _figures(tries: dict[int, list[_Try]], asked: Part, count: int) -> dict[str, Any]:
    """Keywords of `Setup.result`: means over draws."""
    hits = {k: np.mean([one.hits for one in draws], axis=0) for k, draws in tries.items()}
    recalls = {k: float(np.mean([one.recall for one in draws])) for k, draws in tries.items()}
    figures = {f"acc1@{k}": float(mean.mean()) for k, mean in hits.items()}
    figures |= {f"mean_per_class_recall@{k}": recall for k, recall in recalls.items()}
    return {
        "metrics": figures,
        "chance": dict.fromkeys(figures, 1 / count),
        "intervals": {
            **{
                f"acc1@{k}": ends(over_draws(bounded_mean(mean), [one.hits.mean() for one in tries[k]]))
                for k, mean in hits.items()
            },
            **{
                f"mean_per_class_recall@{k}": ends(
                    over_draws(mean_over_classes(mean, asked.labels), [one.recall for one in tries[k]])
                )
                for k, mean in hits.items()
            },
        },
        "outcomes": {
            f"acc1@{k}": spread(mean, asked.positions, len(asked.dataset)) for k, mean in hits.items()
        },
        "n": len(asked.labels),
        "classes": count,
    }


def _point(k: int, draws: Sequence[_Try]) -> dict[str, Any]:
    """One number of shots as plain values."""
    accuracies = [float(one.hits.mean()) for one in draws]
    first = draws[0].draw
    return {
        "shots": k,
        "acc1": float(np.mean(accuracies)),
        "least": min(accuracies),
        "most": max(accuracies),
        "pictures": len(first.shots),
        "validation_pictures": len(first.validation),
        "short_classes": len(first.short),
        "unchecked_classes": len(first.unchecked),
        "fits": sum(one.fits for one in draws),
        "unfinished": sum(one.unfinished for one in draws),
        "draws": [
            {
                "seed": seed,
                "acc1": accuracy,
                "mean_per_class_recall": one.recall,
                "c": one.c,
                "chosen": one.chosen,
                "validation_acc1": one.validation,
                "iterations": one.iterations,
                "converged": one.converged,
            }
            for seed, (accuracy, one) in enumerate(zip(accuracies, draws, strict=True))
        ],
    }
