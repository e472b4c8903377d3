"""Zero-shot classification (paper, section 3.1): an encoder and labelled pictures give accuracy and chance.

The classifier is `diptych.zeroshot`'s, the pictures come through `diptych.embedding`, the figures from
`metrics.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.embedding import Failed, Progress, collect, embed_images
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation import metrics
from diptych.evaluation.archives import Unread
from diptych.evaluation.datasets import ImageDataset, Pictures
from diptych.evaluation.report import Result
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import Names, read_labels
from diptych.zeroshot.templates import resolve

_ROWS = 4096  # rows of scores at a time: 1,000 classes take 16 MB


def evaluate_zero_shot(
    encoder: Encoder,
    dataset: ImageDataset,
    class_names: Names | None = None,
    *,
    templates: str | Sequence[str] | None = "plain",
    batch_size: int = 64,
    threads: int | None = None,
    exact: bool = True,
    progress: Progress | None = None,
    model: str = "",
    pretrained: str = "",
    command: str = "",
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
    batch_size, threads, exact, progress
        As for `embed_images`.
    model, pretrained, command : str
        Carried into the result.

    Returns
    -------
    Result
        acc1, acc5 (with more than five classes) and mean_per_class_recall over the pictures that could be
        read; the others are its `failures`.

    Raises
    ------
    DataError
        Another number of names than classes, or no picture that can be read.
    """
    names = list(dataset.class_names) if class_names is None else class_names
    if len(read_labels(names)) != len(dataset.class_names):
        given = len(read_labels(names))
        raise DataError(f"{given} class names for the {len(dataset.class_names)} classes of {dataset.name}")
    classifier = ZeroShotClassifier(encoder, templates=templates).fit(names)
    vectors, rows, failures = embed_dataset(
        encoder, dataset, batch_size=batch_size, threads=threads, exact=exact, progress=progress
    )
    labels = dataset.labels[rows]
    count = len(dataset.class_names)
    ks = (1, 5) if count > 5 else (1,)
    hits = _hits(classifier, vectors, labels, ks)  # (N, len(ks))
    recalls = metrics.class_means(hits[:, 0], labels, count)
    figures = {f"acc{k}": float(hits[:, i].mean()) for i, k in enumerate(ks)}
    return Result(
        dataset=dataset.name,
        task="zeroshot_classification",
        model=model,
        pretrained=pretrained,
        metrics={**figures, "mean_per_class_recall": float(np.nanmean(recalls))},
        chance={**{f"acc{k}": k / count for k in ks}, "mean_per_class_recall": 1 / count},
        intervals={f"acc{k}": metrics.bootstrap_interval(hits[:, i]) for i, k in enumerate(ks)},
        n=len(labels),
        classes=count,
        templates=None if templates is None else resolve(templates),
        failures=failures,
        identity=encoder.identity,
        data_fingerprint=dataset.fingerprint,
        exact=exact,
        command=command,
        per_class={
            name: float(recall)
            for name, recall in zip(_distinct(dataset.class_names), recalls, strict=True)
            if not np.isnan(recall)
        },
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as keys: ImageNet has two classes "missile" and two "sunglasses"; repeats get their position.

    Examples
    --------
    >>> _distinct(["missile", "dog", "missile"])
    ['missile', 'dog', 'missile (class 2)']
    """
    taken: set[str] = set(names)
    found: list[str] = []
    seen: set[str] = set()
    for position, name in enumerate(names):
        key = name
        while key in seen or (key != name and key in taken):
            key = f"{name} (class {position})" if key == name else f"{key}'"
        seen.add(key)
        found.append(key)
    return found


def embed_dataset(
    encoder: Encoder,
    dataset: Pictures,
    *,
    batch_size: int,
    threads: int | None,
    exact: bool,
    progress: Progress | None,
) -> tuple[NDArray[np.float32], NDArray[np.intp], tuple[Failed, ...]]:
    """Vectors of a data set, the positions of their pictures in it, and what could not be read.

    Raises
    ------
    DataError
        Nothing could be read.
    """
    unread: dict[str, str] = {}

    def items() -> Iterator[tuple[str, bytes]]:
        for position, (_, data) in enumerate(dataset):  # by position: two shards may use one key
            if isinstance(data, Unread):
                unread[str(position)] = data.reason
            yield str(position), data

    stream = embed_images(
        encoder, items(), batch_size=batch_size, threads=threads, exact=exact, progress=progress
    )
    found = collect(stream, encoder.dim)
    keys = dataset.keys
    failures = tuple(Failed(keys[int(one.key)], unread.get(one.key, one.reason)) for one in found.failures)
    if not found.keys:
        why = f"; the first: {failures[0].key}: {failures[0].reason}" if failures else ""
        raise DataError(f"none of the {len(dataset)} pictures of {dataset.name} could be read{why}")
    return found.vectors, np.array([int(key) for key in found.keys], dtype=np.intp), failures


def _hits(
    classifier: ZeroShotClassifier, vectors: NDArray[np.float32], labels: NDArray[np.int64], ks: Sequence[int]
) -> NDArray[np.float64]:
    """Hits for each k, (N, len(ks)); softmax and sigmoid keep the order of the cosines."""
    blocks = []
    for start in range(0, len(vectors), _ROWS):
        cosines, right = classifier.cosines(vectors[start : start + _ROWS]), labels[start : start + _ROWS]
        blocks.append(
            np.stack([metrics.hits(cosines, right, k, tolerance=metrics.ROUNDING) for k in ks], axis=1)
        )
    return np.concatenate(blocks)
