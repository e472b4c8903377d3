"""Compositional benchmarks: selection of an image's caption among similar ones, such as reordered words.

Winoground's scores (Thrush et al. 2022, arXiv 2204.03162, equations 1 to 3) and the accuracies of ARO
(Yuksekgonul et al. 2023, arXiv 2210.01936) and SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610). A tie counts
as wrong, as in the code of all three: a model that gives equal scores gets 0 here, not chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.compositional import Case, CompositionalBenchmark, SelectionTask
from diptych.datasets.formats.archives import ImageEntry
from diptych.embedding.batches import Failed, embed_texts
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation.protocols.classification import at_positions
from diptych.evaluation.protocols.features import DatasetEmbeddings
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import ends, mean_over_classes, proportion

Embeddings = NDArray[np.float32]
Floats = NDArray[np.float64]
Hits = dict[str, Floats]  # metric -> (N,) 0 or 1


def evaluate_compositional(
    encoder: Encoder, benchmark: CompositionalBenchmark, **settings: Unpack[Settings]
) -> list[Result]:
    """Evaluate an encoder on every task of a benchmark; images shared by tasks are encoded once.

    Parameters
    ----------
    benchmark : CompositionalBenchmark
        From `load_compositional`.
    **settings
        See `Settings`.

    Returns
    -------
    list of Result
        One per task, with CLIP_benchmark's names of metrics. For cases with two images: `text_acc` (each
        image scores its own caption highest), `image_acc` (each caption scores its own image highest) and
        `acc` (both, Winoground's group score). For cases with one image: `acc`. For ARO also `macro_acc`: the
        mean over the relations or pairs of attributes that its authors count. `n` counts cases; cases with an
        unreadable image are left out, and the image is among the failures. `details["categories"]` has the
        figures of each category.

    Raises
    ------
    DataError
        No readable image, or none of a task.
    """
    setup = Setup.of(**settings)
    embedded = setup.embed(encoder, benchmark.pictures)
    texts = {text: None for task in benchmark.tasks for case in task.cases for text in case.captions}
    with setup.stage(f"{benchmark.name}: captions", len(texts)) as advance:
        caption_embeddings = embed_texts(encoder, texts, progress=advance)
    captions = dict(zip(texts, caption_embeddings, strict=True))
    return [_measure(setup, encoder, task, embedded, captions) for task in benchmark.tasks]


def _measure(
    setup: Setup,
    encoder: Encoder,
    task: SelectionTask,
    embedded: DatasetEmbeddings,
    caption_embeddings: Mapping[str, Embeddings],
) -> Result:
    """Compute the result of one task."""
    row_of = np.full(len(task.pictures), -1, dtype=np.intp)
    row_of[embedded.positions] = np.arange(len(embedded.positions))
    positions = np.array(
        [index for index, case in enumerate(task.cases) if (row_of[list(case.images)] >= 0).all()],
        dtype=np.intp,
    )
    failures = _failures(task, embedded, row_of)
    if not len(positions):
        raise DataError(
            f"none of the {len(task)} cases of {task.name} has pictures that can be read; the first: "
            + (f"{failures[0].key}: {failures[0].reason}" if failures else "it has no case")
        )
    cases = [task.cases[index] for index in positions]
    hits = case_hits(
        [embedded.embeddings[row_of[list(case.images)]] for case in cases],
        [np.stack([caption_embeddings[text] for text in case.captions]) for case in cases],
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
        outcomes={name: at_positions(each, positions, len(task)) for name, each in hits.items()},
        per_class=per_class,
        details={"categories": _categories(cases, hits, groups, set(per_class))},
    )


def _files_of(task: SelectionTask, cases: Sequence[Case]) -> NDArray[np.intp]:
    """Number of the image file of each case: cases of one file are not independent."""
    number: dict[ImageEntry, int] = {}
    entries = [task.pictures.entries[case.images[0]] for case in cases]
    return np.array([number.setdefault(entry, len(number)) for entry in entries], dtype=np.intp)


def _macro(acc: Floats, labels: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    """Accuracy of each counted category; empty if the benchmark has no mean over categories."""
    counted = labels >= 0
    means = metrics.class_means(acc[counted], labels[counted], len(names))
    return {name: float(mean) for name, mean in zip(names, means, strict=True) if not np.isnan(mean)}


def case_hits(images: Sequence[Embeddings], captions: Sequence[Embeddings]) -> Hits:
    """Outcomes of cases: 1 if every image or caption of a case scores its own partner strictly highest.

    Parameters
    ----------
    images : sequence of N (I, D) arrays
        Normalised embeddings of the images of each case.
    captions : sequence of N (C, D) arrays
        Normalised embeddings of its captions, C at least I: those of the images in their order, then wrong
        ones.

    Returns
    -------
    dict
        "acc", and for cases with several images "text_acc" and "image_acc". Cosines that differ by less
        than `metrics.ROUNDING` tie.

    Examples
    --------
    >>> images = np.array([[1.0, 0.0], [0.6, 0.8]])
    >>> captions = np.array([[0.8, 0.6], [0.0, 1.0]])
    >>> (images @ captions.T).round(2).tolist()        # the second image scores the wrong caption highest
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
    """Expected figures of a model with random scores.

    With two images and two captions, both images score their own caption highest in 1 of 4 cases, both
    captions their own image in 1 of 4, and all four hold in 1 of 6: in 4 of the 24 orders of four scores, the
    two right scores are above the two wrong ones.

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


def _failures(
    task: SelectionTask, embedded: DatasetEmbeddings, row_of: NDArray[np.intp]
) -> tuple[Failed, ...]:
    """Unreadable images of the task, each once, and skipped records."""
    reasons = {failure.key: failure.reason for failure in embedded.failures}
    keys = task.pictures.keys
    unread_images = sorted(
        {image_index for case in task.cases for image_index in case.images if row_of[image_index] < 0}
    )
    unread = dict.fromkeys(keys[image_index] for image_index in unread_images)
    return (
        *(Failed(key, reasons.get(key, "it could not be read")) for key in unread),
        *(Failed(key, reason) for key, reason in task.skipped),
    )


def _categories(
    cases: Sequence[Case], hits: Hits, groups: NDArray[np.intp], counted: set[str]
) -> list[dict[str, Any]]:
    """Figures of each category of each kind, the largest category of a kind first."""
    positions_of: dict[tuple[str, str], list[int]] = {}
    for index, case in enumerate(cases):
        for kind, category in case.categories.items():
            positions_of.setdefault((kind, category), []).append(index)
    summaries = []
    for (kind, category), indices in sorted(
        positions_of.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1])
    ):
        estimates = {name: proportion(each[indices], groups[indices]) for name, each in hits.items()}
        summaries.append(
            {
                "kind": kind,
                "category": category,
                "n": len(indices),
                "metrics": {name: item.value for name, item in estimates.items()},
                "intervals": {name: list(ends(item)) for name, item in estimates.items()},
                **({"counted": category in counted} if counted else {}),
            }
        )
    return summaries
