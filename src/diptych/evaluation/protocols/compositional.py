"""Compositional benchmarks: is a picture's own caption preferred to one of the same words in another order?

Winoground's scores (Thrush et al. 2022, arXiv 2204.03162, equations 1 to 3) and the accuracies of ARO
(Yuksekgonul et al. 2023, arXiv 2210.01936) and SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610). A tie is
wrong, as in the code of all three: here a model that gives everything one score gets 0 and not chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.compositional import Case, CompositionalBenchmark, SelectionTask
from diptych.datasets.formats.archives import Entry
from diptych.embedding.batches import Failed, embed_texts
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation.protocols.classification import spread
from diptych.evaluation.protocols.features import Embedding
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import ends, mean_over_classes, proportion

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
Hits = dict[str, Floats]  # metric -> (N,) 0 or 1


def evaluate_compositional(
    encoder: Encoder, benchmark: CompositionalBenchmark, **settings: Unpack[Settings]
) -> list[Result]:
    """Measure every task of a benchmark; the pictures that tasks share are encoded once.

    Parameters
    ----------
    encoder : Encoder
    benchmark : CompositionalBenchmark
        From `load_compositional`.
    **settings
        See `Settings`.

    Returns
    -------
    list of Result
        One per task, with CLIP_benchmark's names of metrics. Of cases with two pictures: `text_acc` (each
        picture prefers its own caption), `image_acc` (each caption prefers its own picture) and `acc` (both,
        Winoground's group score). Of cases with one picture: `acc`. Of ARO `macro_acc`, too: the mean over
        the relations or pairs of attributes that its authors count. `n` counts cases; one with a picture that
        cannot be read is not measured, and the picture is among the failures. `details["categories"]` has
        the figures of each category.

    Raises
    ------
    DataError
        No picture that can be read, or none of the pictures of a task.
    """
    setup = Setup.of(**settings)
    found = setup.embed(encoder, benchmark.pictures)
    texts = {text: None for task in benchmark.tasks for case in task.cases for text in case.captions}
    with setup.stage(f"{benchmark.name}: captions", len(texts)) as advance:
        rows = embed_texts(encoder, texts, progress=advance)
    captions = dict(zip(texts, rows, strict=True))
    return [_measure(setup, encoder, task, found, captions) for task in benchmark.tasks]


def _measure(
    setup: Setup, encoder: Encoder, task: SelectionTask, found: Embedding, captions: Mapping[str, Rows]
) -> Result:
    """The result of one task."""
    row_of = np.full(len(task.pictures), -1, dtype=np.intp)
    row_of[found.positions] = np.arange(len(found.positions))
    positions = np.array(
        [place for place, case in enumerate(task.cases) if (row_of[list(case.images)] >= 0).all()],
        dtype=np.intp,
    )
    failures = _failures(task, found, row_of)
    if not len(positions):
        raise DataError(
            f"none of the {len(task)} cases of {task.name} has pictures that can be read; the first: "
            + (f"{failures[0].key}: {failures[0].reason}" if failures else "it has no case")
        )
    cases = [task.cases[place] for place in positions]
    hits = case_hits(
        [found.rows[row_of[list(case.images)]] for case in cases],
        [np.stack([captions[text] for text in case.captions]) for case in cases],
    )
    groups = _files_of(task, cases)
    figures = {name: float(each.mean()) for name, each in hits.items()}
    intervals = {name: ends(proportion(each, groups)) for name, each in hits.items()}
    labels = task.labels[positions]
    per_class = _macro(hits["acc"], labels, task.class_names)
    if per_class:
        counted = labels >= 0
        figures["macro_acc"] = float(np.mean(list(per_class.values())))
        intervals["macro_acc"] = ends(mean_over_classes(hits["acc"][counted], labels[counted]))
    chance = chance_of(cases[0])
    return setup.result(
        encoder,
        task,
        task="image_caption_selection",
        metrics=figures,
        chance={name: chance.get(name, chance["acc"]) for name in figures},
        intervals=intervals,
        n=len(cases),
        failures=failures,
        outcomes={name: spread(each, positions, len(task)) for name, each in hits.items()},
        per_class=per_class,
        details={"categories": _categories(cases, hits, groups, set(per_class))},
    )


def _files_of(task: SelectionTask, cases: Sequence[Case]) -> NDArray[np.intp]:
    """A number for the picture file of each case: cases of one file are not independent."""
    number: dict[Entry, int] = {}
    entries = [task.pictures.entries[case.images[0]] for case in cases]
    return np.array([number.setdefault(entry, len(number)) for entry in entries], dtype=np.intp)


def _macro(acc: Floats, labels: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    """Accuracy of each category that counts; none where the benchmark has no mean over categories."""
    counted = labels >= 0
    means = metrics.class_means(acc[counted], labels[counted], len(names))
    return {name: float(mean) for name, mean in zip(names, means, strict=True) if not np.isnan(mean)}


def case_hits(images: Sequence[Rows], captions: Sequence[Rows]) -> Hits:
    """Which cases are right: 1 where every picture or caption of a case strictly prefers its own.

    Parameters
    ----------
    images : sequence of N (I, D) arrays
        Unit rows of the pictures of each case.
    captions : sequence of N (C, D) arrays
        Unit rows of its captions, C at least I: those of the pictures in their order, then wrong ones.

    Returns
    -------
    dict
        "acc", and of cases with several pictures "text_acc" and "image_acc". Cosines that differ by less
        than `metrics.ROUNDING` tie.

    Examples
    --------
    >>> images = np.array([[1.0, 0.0], [0.6, 0.8]])
    >>> captions = np.array([[0.8, 0.6], [0.0, 1.0]])
    >>> (images @ captions.T).round(2).tolist()        # the second picture prefers the wrong caption
    [[0.8, 0.0], [0.96, 0.8]]
    >>> {name: hits.tolist() for name, hits in case_hits([images], [captions]).items()}
    {'text_acc': [0.0], 'image_acc': [0.0], 'acc': [0.0]}
    """
    text, image = [], []
    for pictures, texts in zip(images, captions, strict=True):
        scores = (pictures @ texts.T).astype(np.float64)  # (I, C)
        count = len(pictures)
        own = scores[np.arange(count), np.arange(count)]
        right = np.eye(*scores.shape) > 0
        rivals = np.where(right, -np.inf, scores)
        text.append((own > rivals.max(axis=1) + metrics.ROUNDING).all())
        image.append((own > rivals[:, :count].max(axis=0) + metrics.ROUNDING).all())
    both = {"text_acc": np.array(text, dtype=np.float64), "image_acc": np.array(image, dtype=np.float64)}
    acc = both["text_acc"] * both["image_acc"]
    return {**both, "acc": acc} if len(images[0]) > 1 else {"acc": acc}


def chance_of(case: Case) -> dict[str, float]:
    """What a model gets whose scores are drawn at random.

    Of two pictures and two captions both pictures prefer their own caption in 1 of 4 cases, both captions
    their own picture in 1 of 4, and all four hold in 1 of 6: of the 24 orders of four scores, the two right
    ones are above the two wrong ones in 4.

    Examples
    --------
    >>> chance_of(Case((0,), ("a dog on a mat", "a mat on a dog")))
    {'acc': 0.5}
    >>> {name: round(value, 4) for name, value in chance_of(Case((0, 1), ("a", "b"))).items()}
    {'text_acc': 0.25, 'image_acc': 0.25, 'acc': 0.1667}
    """
    if len(case.images) == 1:
        return {"acc": 1 / len(case.captions)}
    return {"text_acc": 1 / 4, "image_acc": 1 / 4, "acc": 1 / 6}


def _failures(task: SelectionTask, found: Embedding, row_of: NDArray[np.intp]) -> tuple[Failed, ...]:
    """Pictures of the task that could not be read, each once, and what the files lack."""
    reasons = {one.key: one.reason for one in found.failures}
    keys = task.pictures.keys
    places = sorted({place for case in task.cases for place in case.images if row_of[place] < 0})
    unread = dict.fromkeys(keys[place] for place in places)
    return (
        *(Failed(key, reasons.get(key, "it could not be read")) for key in unread),
        *(Failed(key, reason) for key, reason in task.skipped),
    )


def _categories(
    cases: Sequence[Case], hits: Hits, groups: NDArray[np.intp], counted: set[str]
) -> list[dict[str, Any]]:
    """The figures of each category of each kind, the largest category of a kind first."""
    rows: dict[tuple[str, str], list[int]] = {}
    for place, case in enumerate(cases):
        for kind, category in case.categories.items():
            rows.setdefault((kind, category), []).append(place)
    found = []
    for (kind, category), places in sorted(
        rows.items(), key=lambda one: (one[0][0], -len(one[1]), one[0][1])
    ):
        estimates = {name: proportion(each[places], groups[places]) for name, each in hits.items()}
        found.append(
            {
                "kind": kind,
                "category": category,
                "n": len(places),
                "metrics": {name: one.value for name, one in estimates.items()},
                "intervals": {name: list(ends(one)) for name, one in estimates.items()},
                **({"counted": category in counted} if counted else {}),
            }
        )
    return found
