"""Pictures with any number of classes, zero-shot, by average precision.

Each class ranks all pictures by the cosine of its prompts (paper, appendix A: VOC 2007 is measured by mean
average precision at eleven points). The metrics are `rankings.py`'s, reading is `diptych.datasets`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.multilabel import MultiLabelDataset
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import class_cases, ends, resampled_proportion
from diptych.stats.rankings import Ranked, resampled
from diptych.zeroshot.labels import Names, distinct_names, read_labels
from diptych.zeroshot.templates import resolve


def evaluate_multi_label(
    encoder: Encoder,
    dataset: MultiLabelDataset,
    class_names: Names | None = None,
    *,
    templates: str | Sequence[str] | None = "plain",
    **settings: Unpack[Settings],
) -> Result:
    """Rank the pictures for each class by its name alone.

    Parameters
    ----------
    encoder : Encoder
    dataset : MultiLabelDataset
    class_names, templates, **settings
        As for `evaluate_zero_shot`.

    Returns
    -------
    Result
        mean_average_precision (CLIP_benchmark's: the area under the steps) and
        mean_average_precision_11_point (VOC 2007's, and the paper's), over the classes that are there.

    Raises
    ------
    DataError
        Another number of names than classes, no picture that can be read, or no class in any of them.
    """
    names = list(dataset.class_names) if class_names is None else class_names
    if len(read_labels(names)) != len(dataset.class_names):
        given = len(read_labels(names))
        raise DataError(f"{given} class names for the {len(dataset.class_names)} classes of {dataset.name}")
    setup = Setup.of(**settings)
    classifier = setup.classifier(encoder, names, templates, dataset.name)
    found = setup.embed(encoder, dataset)
    # Equal rows may differ in the last bits, by where they stood in a batch: they are to tie.
    scores = np.round(classifier.cosines(found.rows).astype(np.float64) / metrics.ROUNDING)
    targets = dataset.targets[found.positions]
    ranked = {
        text: Ranked(scores[:, i], targets[:, i])
        for i, text in enumerate(distinct_names(dataset.class_names))
        if (targets[:, i] > 0).any()
    }
    if not ranked:
        raise DataError(f"none of the pictures of {dataset.name} has any class: nothing can be ranked")
    shares = [float((column > 0).sum() / (column >= 0).sum()) for column in targets.T if (column > 0).any()]
    each = {text: one.average_precision() for text, one in ranked.items()}
    figures = {
        "mean_average_precision": (Ranked.average_precision, float(np.mean(list(each.values())))),
        "mean_average_precision_11_point": (
            Ranked.eleven_points,
            float(np.mean([one.eleven_points() for one in ranked.values()])),
        ),
    }
    return setup.result(
        encoder,
        dataset,
        task="zeroshot_classification",
        metrics={key: value for key, (_, value) in figures.items()},
        chance=dict.fromkeys(figures, float(np.mean(shares))),
        intervals=_intervals(figures, ranked, targets),
        n=len(targets),
        classes=len(dataset.class_names),
        templates=None if templates is None else resolve(templates),
        failures=found.failures,
        per_class=each,
    )


def _intervals(
    figures: Mapping[str, tuple[Callable[..., float], float]],
    ranked: Mapping[str, Ranked],
    targets: NDArray[np.integer],
) -> dict[str, tuple[float, float]]:
    """Of each mean over classes: from their resampled spread, and never as if right rows were more."""
    positives = (targets > 0).sum(axis=0)
    cases = min(class_cases(positives[positives > 0]), len(targets))
    found = {}
    for key, (of, value) in figures.items():
        drawn = resampled(
            lambda draw, of=of: _mean([of(one, draw) for one in ranked.values()]),  # type: ignore[misc]
            len(targets),
            resamples=200,
        )
        found[key] = ends(resampled_proportion(value, drawn, cases, len(targets), cap=True))
    return found


def _mean(values: Sequence[float]) -> float:
    """Mean of the classes that have a right row in a resample; NaN where none has."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
