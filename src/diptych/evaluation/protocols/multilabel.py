"""Zero-shot multi-label classification, by mean average precision.

Each class ranks all images by their cosine with its prompts (paper, appendix A: VOC 2007 is measured by mean
average precision at eleven points). The metrics are in `diptych.stats.rankings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.multilabel import MultiLabelDataset
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation.protocols.classification import names_for
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import class_cases, ends, resampled_proportion
from diptych.stats.rankings import Ranking, resampled
from diptych.zeroshot.labels import Names, distinct_names
from diptych.zeroshot.templates import resolve


def evaluate_multi_label(
    encoder: Encoder,
    dataset: MultiLabelDataset,
    class_names: Names | None = None,
    *,
    templates: str | Sequence[str] | None = "plain",
    **settings: Unpack[Settings],
) -> Result:
    """Rank the images for each class by its name alone.

    Parameters
    ----------
    class_names, templates, **settings
        As for `evaluate_zero_shot`.

    Returns
    -------
    Result
        mean_average_precision (as in CLIP_benchmark: the area under the steps) and
        mean_average_precision_11_point (as in VOC 2007 and the paper), over the classes with images.

    Raises
    ------
    DataError
        The number of names differs from that of classes, no image is readable, or none has a class.
    """
    names = names_for(dataset, class_names)
    setup = Setup.of(**settings)
    classifier = setup.classifier(encoder, names, templates, dataset.name)
    embedded = setup.embed(encoder, dataset)
    # Equal images may get embeddings that differ in the last bits, depending on the batch: their scores must
    # tie.
    scores = np.round(classifier.cosines(embedded.embeddings).astype(np.float64) / metrics.ROUNDING)
    targets = dataset.targets[embedded.positions]
    ranked = {
        text: Ranking(scores[:, i], targets[:, i])
        for i, text in enumerate(distinct_names(dataset.class_names))
        if (targets[:, i] > 0).any()
    }
    if not ranked:
        raise DataError(f"none of the pictures of {dataset.name} has a class: average precision is undefined")
    positive_fractions = [
        float((column > 0).sum() / (column >= 0).sum()) for column in targets.T if (column > 0).any()
    ]
    precisions = {text: ranking.average_precision() for text, ranking in ranked.items()}
    figures = {
        "mean_average_precision": (Ranking.average_precision, float(np.mean(list(precisions.values())))),
        "mean_average_precision_11_point": (
            Ranking.eleven_points,
            float(np.mean([ranking.eleven_points() for ranking in ranked.values()])),
        ),
    }
    return setup.result(
        encoder,
        dataset,
        task="zeroshot_classification",
        metrics={key: value for key, (_, value) in figures.items()},
        chance=dict.fromkeys(figures, float(np.mean(positive_fractions))),
        intervals=_intervals(figures, ranked, targets),
        n=len(targets),
        classes=len(dataset.class_names),
        templates=None if templates is None else resolve(templates),
        failures=embedded.failures,
        per_class=precisions,
    )


def _intervals(
    figures: Mapping[str, tuple[Callable[..., float], float]],
    ranked: Mapping[str, Ranking],
    targets: NDArray[np.integer],
) -> dict[str, tuple[float, float]]:
    """Intervals of the means over classes, from bootstrap samples, with cases capped by the positives."""
    positives = (targets > 0).sum(axis=0)
    cases = min(class_cases(positives[positives > 0]), len(targets))
    intervals = {}
    for key, (of, value) in figures.items():
        drawn = resampled(
            lambda draw, of=of: _mean([of(ranking, draw) for ranking in ranked.values()]),  # type: ignore[misc]
            len(targets),
            resamples=200,
        )
        intervals[key] = ends(resampled_proportion(value, drawn, cases, len(targets), cap=True))
    return intervals


def _mean(values: Sequence[float]) -> float:
    """Mean of the classes with a positive in a bootstrap sample; NaN if there is none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
