"""What `diptych train --pairs` measures while it goes: retrieval on the pairs that it held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from diptych.embedding import Embedded, embed_images, embed_texts
from diptych.evaluation import metrics

if TYPE_CHECKING:
    from diptych.model.clip import CLIP
    from diptych.training import Evaluator, Source, TrainConfig

MOST = 1000  # pairs: recall among them is quick to get and steady enough to compare evaluations


def held_out_retrieval(source: Source, config: TrainConfig) -> Evaluator:
    """Recall at 1 and 10 both ways among held-out pairs, under CLIP_benchmark's names.

    Parameters
    ----------
    source : Source
        Pairs that are not trained on; the first 1,000 are used.
    config : TrainConfig
        Says how the model reads pictures and texts.
    """
    numbers = {source.key(index): index for index in range(min(MOST, len(source)))}

    def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
        from diptych.encoders import TorchEncoder

        encoder = TorchEncoder(model, config.spec, threads=config.workers)
        items = ((key, source.image(index)) for key, index in numbers.items())
        found = [e for e in embed_images(encoder, items, threads=config.workers) if isinstance(e, Embedded)]
        captions = [source.captions(numbers[e.key])[:1] for e in found]
        kept = [row for row, texts in enumerate(captions) if texts]
        if not kept:
            return {}
        images = np.stack([found[row].vector for row in kept])  # (N, E)
        texts = embed_texts(encoder, [captions[row][0] for row in kept])  # (N, E)
        own = np.arange(len(kept))
        return {
            f"{side}_retrieval_recall@{k}": metrics.recall_at_k(scores, own, own, k)
            for side, scores in (("image", texts @ images.T), ("text", images @ texts.T))
            for k in (1, 10)
            if k <= len(kept)
        }

    return evaluate
