"""What `diptych train --pairs` measures while it goes: retrieval on the pairs that it held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from diptych.embedding import Embedded, embed_images, embed_texts
from diptych.evaluation import metrics

if TYPE_CHECKING:
    from diptych.model.clip import CLIP
    from diptych.pairs import Source
    from diptych.training import Evaluator, TrainConfig

MOST = 1000  # pairs: recall among them is quick to get and steady enough to compare evaluations


def held_out_retrieval(source: Source, config: TrainConfig) -> Evaluator:
    """Recall at 1 and 10 both ways among held-out pairs, under CLIP_benchmark's names.

    Parameters
    ----------
    source : Source
        Pairs that are not trained on; 1,000 of them, chosen by their keys, are used. Pairs of one label or
        one caption are all right answers to each other.
    config : TrainConfig
        Says how the model reads pictures and texts.
    """
    # By hash: the first thousand of a sorted list would be the first few classes.
    chosen = np.argsort(source.hashes(), kind="stable")[:MOST].tolist()
    numbers = {source.key(index): index for index in chosen}

    def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
        from diptych.encoders import TorchEncoder

        spec = dataclasses.replace(config, model=model.config).spec  # --set may have changed the shape
        encoder = TorchEncoder(model, spec, threads=config.workers)
        items = ((key, source.image(index)) for key, index in numbers.items())
        found = [e for e in embed_images(encoder, items, threads=config.workers) if isinstance(e, Embedded)]
        pairs = [(e.vector, numbers[e.key], source.captions(numbers[e.key])) for e in found]
        pairs = [pair for pair in pairs if pair[2]]
        if not pairs:
            return {}
        images = np.stack([vector for vector, _, _ in pairs])  # (N, E)
        texts = embed_texts(encoder, [captions[0] for _, _, captions in pairs])  # (N, E)
        answers = [source.label(index) or captions[0] for _, index, captions in pairs]
        own = np.unique(answers, return_inverse=True)[1]  # equal numbers: right answers to each other
        return {
            f"{side}_retrieval_recall@{k}": metrics.recall_at_k(scores, own, own, k)
            for side, scores in (("image", texts @ images.T), ("text", images @ texts.T))
            for k in (1, 10)
        }

    return evaluate
