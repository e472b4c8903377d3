"""Linear probe (paper, section 3.2 and appendix A.3): logistic regression on frozen image features.

The L2 strength is chosen on validation images; then the classifier is fitted on training and validation
images together and evaluated on the test images. Fits are in `logistic`, the search in
`regularisation_search`, the choice of validation images in `splits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation.probes import logistic, transfer
from diptych.evaluation.probes.logistic import LinearFit, StrengthSearch
from diptych.evaluation.probes.regularisation_search import MAX_TRIALS
from diptych.evaluation.probes.splits import split_validation
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result

TASK = "linear_probe"  # CLIP_benchmark's


def evaluate_linear_probe(
    encoder: Encoder,
    train: ImageDataset,
    test: ImageDataset,
    *,
    validation: ImageDataset | None = None,
    features: transfer.Features = "tower",
    c: float | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    also: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Result:
    """Fit a linear classifier on the features of one data set and evaluate it on another.

    Parameters
    ----------
    train, test : ImageDataset
        With the same classes, by name; a class that `test` lacks can still be predicted.
    validation : ImageDataset, optional
        For choosing the L2 strength; then used for training, too. By default a fraction of each class of
        `train`.
    features : "tower" or "embeddings"
        Features before the projection, as in the paper, or normalised embeddings of the shared space.
    c : float, optional
        1 / lambda; by default it is searched.
    validation_fraction, seed : float, int
        Fraction of each class of `train` for validation, and the seed of the split.
    also : sequence of str
        As for `evaluate_zero_shot`.
    **settings
        See `Settings`.

    Returns
    -------
    Result
        acc1, acc5 (with more than five classes) and mean_per_class_recall of the readable test images.
        `details` has the strength, the search, the number of fits that did not converge, and that of training
        images.

    Raises
    ------
    DataError
        Classes that do not match, no readable image, or no image for validation.
    InputError
        An encoder without features before the projection.
    MissingExtraError
        SciPy is not installed.

    References
    ----------
    Radford et al. 2021, arXiv 2103.00020, appendix A.3.
    """
    setup = Setup.of(**settings)
    shared = transfer.check_parts(setup, train, test, validation)
    train_part = transfer.embed_part(setup, encoder, train, train, features)
    test_part = transfer.embed_part(setup, encoder, train, test, features)
    validation_part = (
        None if validation is None else transfer.embed_part(setup, encoder, train, validation, features)
    )
    with setup.stage(f"{test.name}: strengths of L2", MAX_TRIALS) as advance:
        features_used, labels, strength_search = select_strength(
            train_part, validation_part, c, validation_fraction, seed, advance
        )
    with setup.stage(f"{test.name}: fit", None):
        fit = logistic.fit(features_used, labels, strength_search.c if strength_search else float(c or 0))
    count = len(train.class_names)
    figures = transfer.answers(fit.scores(test_part.features, count), test_part, train.class_names, also=also)
    train_parts = [part for part in (train_part, validation_part) if part is not None]
    details = {
        "features": features,
        "width": features_used.shape[1],
        **shared,
        "validation": _validation_details(validation, strength_search, validation_fraction, seed),
        "pictures": len(labels),
        "pictures_per_class": len(labels) / len(np.unique(labels)),
        "untaught": transfer.untaught(labels, train.class_names),
        "confusions": figures.pop("confusions"),
        **fit_details(fit, strength_search),
    }
    failures = transfer.all_failures(test_part, *train_parts)
    return setup.result(encoder, test, task=TASK, failures=failures, details=details, **figures)


def select_strength(
    train_part: transfer.EmbeddedPart,
    validation_part: transfer.EmbeddedPart | None,
    c: float | None,
    validation_fraction: float,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64], StrengthSearch | None]:
    """Choose the L2 strength, and return the features and labels of the final fit and the search, if any.

    Raises
    ------
    DataError
        No image for validation.
    """
    train_features, labels, strength_search = train_part.features, train_part.labels, None
    if validation_part is not None:
        if c is None:
            strength_search = logistic.search(
                train_features, labels, validation_part.features, validation_part.labels, progress
            )
        train_features = np.concatenate([train_features, validation_part.features])
        return train_features, np.concatenate([labels, validation_part.labels]), strength_search
    if c is None:
        train_indices, validation_indices = split_validation(labels, validation_fraction, seed)
        if not len(validation_indices):
            raise DataError(
                f"each class of {train_part.dataset.name} has one picture, so none is left to choose the "
                "strength of L2: give a validation set, or a strength (c)"
            )
        strength_search = logistic.search(
            train_features[train_indices],
            labels[train_indices],
            train_features[validation_indices],
            labels[validation_indices],
            progress,
        )
    return train_features, labels, strength_search


def fit_details(fit: LinearFit, strength_search: StrengthSearch | None) -> dict[str, Any]:
    """Plain values of a fit and its search, for a result's details."""
    trials = [] if strength_search is None else [asdict(trial) for trial in strength_search.tried]
    return {
        "c": fit.c,
        "lambda": 1 / fit.c,
        "iterations": fit.iterations,
        "converged": fit.converged,
        "search": trials,
        "unfinished": sum(not trial["converged"] for trial in trials) + (not fit.converged),
    }


def _validation_details(
    validation: ImageDataset | None,
    strength_search: StrengthSearch | None,
    validation_fraction: float,
    seed: int,
) -> dict[str, Any] | None:
    """Describe the validation data for a result's details; None without a search."""
    if strength_search is None:
        return None
    if validation is not None:
        return {"data": validation.name, "fingerprint": validation.fingerprint}
    return {"share": validation_fraction, "seed": seed}
