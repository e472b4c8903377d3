"""What `diptych train --pairs` measures while it goes: retrieval on held-out pairs, and samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diptych.cli.contact_sheet import Card, Sheet, draw
from diptych.disk import write_whole
from diptych.embedding import Embedded, embed_images, embed_texts
from diptych.evaluation import metrics
from diptych.media import load_image

if TYPE_CHECKING:
    from diptych.encoders import TorchEncoder
    from diptych.model.clip import CLIP
    from diptych.pairs import Source
    from diptych.training import Evaluator, TrainConfig

MOST = 1000  # pairs: recall among them is quick to get and steady enough to compare evaluations
SHOWN, TOP = 8, 4  # pictures of a sample, and captions with each


def held_out_retrieval(source: Source, config: TrainConfig, *, samples: bool = True) -> Evaluator:
    """Recall at 1 and 10 both ways among held-out pairs, under CLIP_benchmark's names.

    Each time, a sheet of some of the pictures with the captions that the model finds most fitting is drawn
    into the run's folder.

    Parameters
    ----------
    source : Source
        Pairs that are not trained on; 1,000 of them, chosen by their keys, are used. Pairs of one label or
        one caption are all right answers to each other.
    config : TrainConfig
        Says how the model reads pictures and texts, and where the run's folder is.
    samples : bool
        Draw the sheet: of several processes, one does.
    """
    # By hash: the first thousand of a sorted list would be the first few classes.
    chosen = np.argsort(source.hashes(), kind="stable")[:MOST].tolist()
    numbers = {source.key(index): index for index in chosen}

    def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
        from diptych.encoders import TorchEncoder
        from diptych.training import sample_file

        spec = dataclasses.replace(config, model=model.config).spec  # --set may have changed the shape
        encoder = TorchEncoder(model, spec, threads=config.workers)
        known = _encode(encoder, source, numbers, config.workers)
        if known is None:
            return {}
        if samples:
            _write_sheet(known, source, encoder.logit_scale, sample_file(Path(config.out), step), step)
        scores, own = known.scores, known.answers
        return {
            f"{side}_retrieval_recall@{k}": metrics.recall_at_k(matrix, own, own, k)
            for side, matrix in (("image", scores.T), ("text", scores))
            for k in (1, 10)
        }

    return evaluate


@dataclass(frozen=True)
class _Known:
    """Held-out pairs as the model sees them.

    Attributes
    ----------
    indices : list of int
        Of the records.
    captions : list of str
        The first of each.
    answers : (N,)
        Equal numbers are right answers to each other.
    scores : (N, N)
        Cosines of pictures (rows) and captions.
    """

    indices: list[int]
    captions: list[str]
    answers: NDArray[np.int64]
    scores: NDArray[np.float32]


def _encode(encoder: TorchEncoder, source: Source, numbers: Mapping[str, int], workers: int) -> _Known | None:
    items = ((key, source.image(index)) for key, index in numbers.items())
    found = [e for e in embed_images(encoder, items, threads=workers) if isinstance(e, Embedded)]
    pairs = [(e.vector, numbers[e.key], source.captions(numbers[e.key])) for e in found]
    pairs = [pair for pair in pairs if pair[2]]
    if not pairs:
        return None
    indices, captions = [index for _, index, _ in pairs], [texts[0] for _, _, texts in pairs]
    images = np.stack([vector for vector, _, _ in pairs])  # (N, E)
    texts = embed_texts(encoder, captions)  # (N, E)
    answers = [source.label(index) or caption for index, caption in zip(indices, captions, strict=True)]
    own: NDArray[np.int64] = np.unique(answers, return_inverse=True)[1]
    return _Known(indices, captions, own, images @ texts.T)


def _write_sheet(known: _Known, source: Source, scale: float, path: Path, step: int) -> None:
    sheet = Sheet(
        title=f"Step {step:,}",
        subtitle=f"Held-out pictures, and the most fitting of {len(known.captions):,} captions",
        footer="Scores of all captions add up to 100. * marks a caption that belongs to its picture.",
        cards=list(_cards(known, source, scale)),
    )
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda temporary: draw(sheet).save(temporary, "PNG"))


def _cards(known: _Known, source: Source, scale: float) -> Iterator[Card]:
    for row, index in enumerate(known.indices[:SHOWN]):
        logits = scale * known.scores[row]
        shares = np.exp(logits - logits.max())
        shares *= 100 / shares.sum()
        best = np.argsort(-shares, kind="stable")[:TOP].tolist()
        told = [
            f"* {known.captions[n]}" if known.answers[n] == known.answers[row] else known.captions[n]
            for n in best
        ]
        picture = load_image(source.image(index))
        yield Card(known.captions[row], picture, tuple(zip(told, shares[best].tolist(), strict=True)))
