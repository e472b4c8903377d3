"""What `diptych train --pairs` measures while it goes: held-out pairs, samples, and what is to be kept."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diptych.cli.classify.contact_sheet import Card, Sheet, draw
from diptych.cli.shared.console import complain, progress
from diptych.embedding.batches import Embedded, embed_images, embed_texts
from diptych.errors import DataError, counted
from diptych.files.disk import write_atomically
from diptych.media import load_image
from diptych.stats import metrics

if TYPE_CHECKING:
    from diptych.backends import TorchEncoder
    from diptych.model.clip import CLIP
    from diptych.training import Evaluator, TrainConfig
    from diptych.training.data import Source

MOST = 1000  # pairs: recall among them is quick to get and steady enough to compare evaluations
COMPARED = 20_000  # pairs to learn from whose pictures are looked for among those measured on
SHOWN, TOP = 8, 4  # pictures of a sample, and texts with each


def chosen_by(source: Source) -> str:
    """The one metric of held-out pairs to choose a model by."""
    return "acc1" if _labelled(source, _chosen(source)) else "image_retrieval_recall@10"


def held_out_measure(source: Source, config: TrainConfig, *, samples: bool = True) -> Evaluator:
    """Recall at 1 and 10 both ways among held-out pairs, under CLIP_benchmark's names; or accuracy.

    Of labelled pictures the accuracy, for with a few classes a right answer among ten is no feat. Each time,
    a sheet of some of the pictures with the texts found most fitting is drawn into the run's folder.

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
    chosen = _chosen(source)
    labelled = _labelled(source, chosen)

    def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
        from diptych.training import sample_file

        encoder = _encoder(model, config)
        known = _encode(encoder, source, chosen, config.workers, labelled)
        if known is None:
            return {}
        if samples:
            _write_sheet(known, source, encoder.logit_scale, sample_file(Path(config.out), step), step)
        pictures, texts, scores = known.pictures, known.texts, known.scores
        if labelled:
            return {"acc1": float(metrics.hits(scores, pictures, 1).mean())}
        return {
            f"{side}_retrieval_recall@{k}": metrics.recall_at_k(*given, k)
            for side, given in (("image", (scores.T, texts, pictures)), ("text", (scores, pictures, texts)))
            for k in (1, 10)
        }

    return evaluate


def kept(paths: Sequence[Path], config: TrainConfig) -> dict[str, Evaluator]:
    """Evaluators by name: the figure of each data set that is not to get worse, on 1,000 of its pictures."""
    from diptych.evaluation import Measure, open_measure
    from diptych.evaluation.protocols.measures import distinct

    def evaluator(measure: Measure) -> Evaluator:
        small = dataclasses.replace(measure, dataset=measure.dataset.sample(MOST))

        def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
            result = small(_encoder(model, config), threads=config.workers)
            return {measure.metric: result.metrics[measure.metric]}

        return evaluate

    return {measure.name: evaluator(measure) for measure in distinct([open_measure(path) for path in paths])}


def tell_shared(train: Source, held: Source | None, keep_up: Sequence[Path], *, quiet: bool) -> None:
    """Warn of pictures that are measured on and taught too.

    Parameters
    ----------
    train : Source
        Pairs to learn from; of more than 20,000 so many are compared, evenly spread.
    held : Source, optional
        Pairs to validate on; those that `held_out_measure` chooses.
    keep_up : sequence of Path
        Data sets that are not to get worse.
    quiet : bool
        No bar.
    """
    from diptych.evaluation import open_measure

    if held is None and not keep_up:
        return
    measured = {} if held is None else {"val": _digests(held, _chosen(held))}
    measured |= {str(path): list(open_measure(path).dataset.digests()) for path in keep_up}
    rows = np.unique(np.linspace(0, max(len(train) - 1, 0), min(len(train), COMPARED)).astype(int)).tolist()
    with progress("comparing pictures", len(rows), unit="pairs", quiet=quiet) as advance:
        taught = set(_digests(train, rows, advance))
    some = "" if len(rows) == len(train) else f" {len(rows):,} compared of the"
    for name, digests in measured.items():
        if shared := sum(digest in taught for digest in digests):
            complain(
                "warning",
                f"{shared:,} of {len(digests):,} pictures of {name} are among{some} pairs to learn from: its "
                "figures do not tell how new pictures fare",
            )


def _digests(
    source: Source, rows: Sequence[int], advance: Callable[[int], object] | None = None
) -> list[bytes]:
    """Digests of the pictures of some records that can be read."""
    from diptych.datasets.contents import content_digest

    digests = []
    for row in rows:
        with contextlib.suppress(DataError):
            digests.append(content_digest(source.image(row)))
        if advance is not None:
            advance(1)
    return digests


def _encoder(model: CLIP, config: TrainConfig) -> TorchEncoder:
    from diptych.backends import TorchEncoder

    now = dataclasses.replace(config, model=model.config)  # --set may have changed the shape
    return TorchEncoder(model, now.spec, tokenizer=now.load_tokenizer(), threads=config.workers)


def _chosen(source: Source) -> list[int]:
    # By hash: the first thousand of a sorted list would be the first few classes.
    found: list[int] = np.argsort(source.hashes(), kind="stable")[:MOST].tolist()
    return found


def _labelled(source: Source, chosen: Sequence[int]) -> bool:
    return all(source.label(index) is not None for index in chosen)


@dataclass(frozen=True)
class _Known:
    """Held-out pairs as the model sees them: N pictures against T texts.

    Attributes
    ----------
    indices : list of int
        Of the pictures' records.
    told : list of str
        The texts: the first caption of each picture, or of each class.
    pictures, texts : (N,) and (T,)
        A picture and a text of equal number belong together.
    scores : (N, T)
        Cosines.
    """

    indices: list[int]
    told: list[str]
    pictures: NDArray[np.int64]
    texts: NDArray[np.int64]
    scores: NDArray[np.float32]


def _encode(
    encoder: TorchEncoder, source: Source, chosen: Sequence[int], workers: int, labelled: bool
) -> _Known | None:
    items = ((str(index), source.image(index)) for index in chosen)
    found = [e for e in embed_images(encoder, items, threads=workers) if isinstance(e, Embedded)]
    pairs = [(e.vector, int(e.key), source.captions(int(e.key))) for e in found]
    pairs = [pair for pair in pairs if pair[2]]
    if not pairs:
        return None
    indices, told = [index for _, index, _ in pairs], [texts[0] for _, _, texts in pairs]
    answers = [source.label(index) or caption for index, caption in zip(indices, told, strict=True)]
    first, pictures = np.unique(answers, return_index=True, return_inverse=True)[1:]
    texts = pictures
    if labelled:  # one text for each class
        told, texts = [told[n] for n in first], np.arange(len(first))
    images = np.stack([vector for vector, _, _ in pairs])  # (N, E)
    return _Known(indices, told, pictures, texts, images @ embed_texts(encoder, told).T)


def _write_sheet(known: _Known, source: Source, scale: float, path: Path, step: int) -> None:
    sheet = Sheet(
        title=f"Step {step:,}",
        subtitle=f"Held-out pictures, and the most fitting of {counted(len(known.told), 'text')}",
        footer="Scores of all texts add up to 100. * marks a text that belongs to its picture.",
        cards=list(_cards(known, source, scale)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: draw(sheet).save(temporary, "PNG"))


def _cards(known: _Known, source: Source, scale: float) -> Iterator[Card]:
    for row, index in enumerate(known.indices[:SHOWN]):
        logits = scale * known.scores[row]
        shares = np.exp(logits - logits.max())
        shares *= 100 / shares.sum()
        best = np.argsort(-shares, kind="stable")[:TOP].tolist()
        right = known.texts == known.pictures[row]
        texts = ["* " * bool(right[n]) + known.told[n] for n in best]
        picture = load_image(source.image(index))
        yield Card(source.key(index), picture, tuple(zip(texts, shares[best].tolist(), strict=True)))
