"""Image-text retrieval in both directions, by recall at k.

Scores are computed in blocks of queries; the N x M matrix of all scores is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import CaptionDataset
from diptych.embedding.batches import embed_texts
from diptych.encoder import Encoder
from diptych.evaluation.protocols.classification import at_positions
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.stats import metrics
from diptych.stats.intervals import ends, proportion

Embeddings = NDArray[np.float32]
Owners = NDArray[np.intp]

_SCORES = 16_000_000  # scores at a time: 64 MB


def evaluate_retrieval(
    encoder: Encoder,
    dataset: CaptionDataset,
    ks: Sequence[int] = (1, 5, 10),
    **settings: Unpack[Settings],
) -> Result:
    """Recall at k, text to image (`image_retrieval_recall@k`) and image to text (`text_retrieval_recall@k`).

    Parameters
    ----------
    dataset : CaptionDataset
        The match of a caption is its own image; the matches of an image are all of its captions.
    **settings
        See `Settings`.

    Returns
    -------
    Result
        Over the readable images and their captions. The intervals do not count captions of one image as
        independent.

    Raises
    ------
    DataError
        No readable image.
    """
    setup = Setup.of(**settings)
    embedded = setup.embed(encoder, dataset)
    vectors, captions = embedded.embeddings, [dataset.captions[row] for row in embedded.positions]
    counts = [len(texts) for texts in captions]
    owners = np.repeat(np.arange(len(captions)), counts)  # (M,) picture of each caption
    with setup.stage(f"{dataset.name}: captions", len(owners)) as advance:
        texts = embed_texts(encoder, (text for each in captions for text in each), progress=advance)
    pictures = np.arange(len(captions))
    ways = {
        "image": (_hits(texts, vectors, owners, pictures, ks), owners, _chance(pictures, owners, ks)),
        "text": (_hits(vectors, texts, pictures, owners, ks), pictures, _chance(owners, pictures, ks)),
    }
    figures, chance, intervals, outcomes = {}, {}, {}, {}
    for i, k in enumerate(ks):
        for way, (hits, groups, by_chance) in ways.items():
            name = f"{way}_retrieval_recall@{k}"
            figures[name], chance[name] = float(hits[:, i].mean()), by_chance[i]
            intervals[name] = ends(proportion(hits[:, i], groups))
            own = np.bincount(groups, hits[:, i]) / np.bincount(groups)  # of each picture
            outcomes[name] = at_positions(own, embedded.positions, len(dataset))
    return setup.result(
        encoder,
        dataset,
        task="zeroshot_retrieval",
        metrics=figures,
        chance=chance,
        intervals=intervals,
        n=len(pictures),
        failures=embedded.failures,
        outcomes=outcomes,
    )


def _chance(candidates: Owners, queries: Owners, ks: Sequence[int]) -> list[float]:
    """Recall at each k of random scores: about k / number of images, in both directions."""
    matches = np.bincount(candidates)[queries]
    return [metrics.chance_of_hit(len(candidates), matches, k) for k in ks]


def _hits(
    queries: Embeddings, candidates: Embeddings, rows: Owners, columns: Owners, ks: Sequence[int]
) -> NDArray[np.float64]:
    """Hits of each query at each k, (N, len(ks)), a block of queries at a time."""
    step = max(1, _SCORES // len(candidates))
    blocks = []
    for start in range(0, len(queries), step):
        scores, own = queries[start : start + step] @ candidates.T, rows[start : start + step]  # (step, M)
        blocks.append(metrics.retrieval_hits(scores, own, columns, ks, tolerance=metrics.ROUNDING))
    return np.concatenate(blocks)
