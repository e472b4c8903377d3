"""The linear probe (paper, section 3.2 and appendix A.3): how well a linear map tells classes apart.

Logistic regression on the features before the projection; the strength of L2 is chosen on validation
pictures, then what teaches and what chose teach together, and the test pictures are named. Fits are
`logistic`'s, the search `peak`'s, which pictures choose `draws`'.
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
from diptych.evaluation.probes import logistic
from diptych.evaluation.probes.logistic import Fit, Searched
from diptych.evaluation.probes.regularisation_search import MOST_TRIED
from diptych.evaluation.probes.splits import split
from diptych.evaluation.probes.transfer import (
    Features,
    Part,
    all_failures,
    answers,
    check_parts,
    embed_part,
    untaught,
)
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result

TASK = "linear_probe"  # CLIP_benchmark's


def evaluate_linear_probe(
    encoder: Encoder,
    train: ImageDataset,
    test: ImageDataset,
    *,
    validation: ImageDataset | None = None,
    features: Features = "tower",
    c: float | None = None,
    share: float = 0.2,
    seed: int = 0,
    also: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Result:
    """Learn a linear classifier on the features of one data set and name the pictures of another.

    Parameters
    ----------
    encoder : Encoder
    train, test : ImageDataset
        Of the same classes, by name; a class that `test` lacks stays among the answers.
    validation : ImageDataset, optional
        Chooses the strength of L2, then teaches too; by default a share of each class of `train`.
    features : "tower" or "embeddings"
        Rows before the projection, as in the paper, or the unit rows of the shared space.
    c : float, optional
        1 / lambda, which is then not looked for.
    share, seed : float, int
        Of each class of `train` for validation, and by which draw.
    also : sequence of str
        As for `evaluate_zero_shot`.
    **settings
        See `Settings`.

    Returns
    -------
    Result
        acc1, acc5 (with more than five classes) and mean_per_class_recall of the test pictures that could be
        read. `details` has the strength, the search, fits that did not converge, and how many pictures
        taught.

    Raises
    ------
    DataError
        Classes that do not match, nothing readable, or nothing to choose the strength on.
    InputError
        An encoder without features before the projection.
    MissingExtraError
        SciPy is not installed.

    References
    ----------
    Radford et al. 2021, arXiv 2103.00020, appendix A.3.
    """
    setup = Setup.of(**settings)
    shared = check_parts(setup, train, test, validation)
    taught = embed_part(setup, encoder, train, train, features)
    asked = embed_part(setup, encoder, train, test, features)
    chosen_on = None if validation is None else embed_part(setup, encoder, train, validation, features)
    with setup.stage(f"{test.name}: strengths of L2", MOST_TRIED) as advance:
        rows, labels, searched = learn_from(taught, chosen_on, c, share, seed, advance)
    with setup.stage(f"{test.name}: fit", None):
        found = logistic.fit(rows, labels, searched.c if searched else float(c or 0))
    count = len(train.class_names)
    told = answers(found.scores(asked.rows, count), asked, train.class_names, also=also)
    others = [part for part in (taught, chosen_on) if part is not None]
    details = {
        "features": features,
        "width": rows.shape[1],
        "train": train.name,
        "train_fingerprint": train.fingerprint,
        "train_pictures": len(train),
        "train_sampled_from": train.sampled_from,
        **shared,
        "validation": _chooser(validation, searched, share, seed),
        "pictures": len(labels),
        "pictures_per_class": len(labels) / len(np.unique(labels)),
        "untaught": untaught(labels, train.class_names),
        "confusions": told.pop("confusions"),
        **told_of(found, searched),
    }
    failures = all_failures(asked, *others)
    return setup.result(encoder, test, task=TASK, failures=failures, details=details, **told)


def learn_from(
    taught: Part,
    chosen_on: Part | None,
    c: float | None,
    share: float,
    seed: int,
    learnt: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64], Searched | None]:
    """All rows and labels that teach in the end, and the search that chose the strength, if one did.

    Raises
    ------
    DataError
        Nothing to choose the strength on.
    """
    rows, labels, found = taught.rows, taught.labels, None
    if chosen_on is not None:
        if c is None:
            found = logistic.search(rows, labels, chosen_on.rows, chosen_on.labels, learnt)
        rows = np.concatenate([rows, chosen_on.rows])
        return rows, np.concatenate([labels, chosen_on.labels]), found
    if c is None:
        teach, choose = split(labels, share, seed)
        if not len(choose):
            raise DataError(
                f"each class of {taught.dataset.name} has one picture, so none is left to choose the "
                "strength of L2 on: give a validation set, or a strength (c)"
            )
        found = logistic.search(rows[teach], labels[teach], rows[choose], labels[choose], learnt)
    return rows, labels, found


def told_of(found: Fit, searched: Searched | None) -> dict[str, Any]:
    """What a fit and its search were, as plain values."""
    tried = [] if searched is None else [asdict(one) for one in searched.tried]
    return {
        "c": found.c,
        "lambda": 1 / found.c,
        "iterations": found.iterations,
        "converged": found.converged,
        "search": tried,
        "unfinished": sum(not one["converged"] for one in tried) + (not found.converged),
    }


def _chooser(
    validation: ImageDataset | None, searched: Searched | None, share: float, seed: int
) -> dict[str, Any] | None:
    """What the strength was chosen on."""
    if searched is None:
        return None
    if validation is not None:
        return {"data": validation.name, "fingerprint": validation.fingerprint}
    return {"share": share, "seed": seed}
