"""Evaluators of `diptych train --pairs`: held-out pairs, sample sheets, and data sets of --keep-up."""

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
from diptych.cli.shared.console import print_message, progress
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

MOST = 1000  # pairs: recall among them is fast to measure and stable enough to compare epochs
COMPARED = 20_000  # training pairs that are compared with the validation pictures
SHOWN, TOP = 8, 4  # pictures of a sample sheet, and texts for each


def selection_metric(source: Source) -> str:
    """The metric of held-out pairs that selects the best checkpoint."""
    return "acc1" if _labelled(source, _sample(source)) else "image_retrieval_recall@10"


def held_out_evaluator(source: Source, config: TrainConfig, *, samples: bool = True) -> Evaluator:
    """Evaluator for held-out pairs: recall at 1 and 10 in both directions, or accuracy.

    Metric names are CLIP_benchmark's. Labelled pictures give accuracy, since recall at 10 means little with
    few classes. Of the pairs, which must not be used for training, 1,000 chosen by hash are measured; pairs
    with the same label or caption all count as right answers. With `samples`, each evaluation also draws a
    sheet of pictures with their best texts into the run's folder; with several processes, only rank 0 does.
    """
    chosen = _sample(source)
    labelled = _labelled(source, chosen)

    def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
        from diptych.training import sample_file

        encoder = _encoder(model, config)
        scored = _score_pairs(encoder, source, chosen, config.workers, labelled)
        if scored is None:
            return {}
        if samples:
            _write_sheet(scored, source, encoder.logit_scale, sample_file(Path(config.out), step), step)
        pictures, texts, scores = scored.pictures, scored.texts, scored.scores
        if labelled:
            return {"acc1": float(metrics.hits(scores, pictures, 1).mean())}
        return {
            f"{side}_retrieval_recall@{k}": metrics.recall_at_k(*arguments, k)
            for side, arguments in (
                ("image", (scores.T, texts, pictures)),
                ("text", (scores, pictures, texts)),
            )
            for k in (1, 10)
        }

    return evaluate


def kept_evaluators(paths: Sequence[Path], config: TrainConfig) -> dict[str, Evaluator]:
    """Evaluators for the data sets of --keep-up by name; each measures 1,000 pictures."""
    from diptych.evaluation import Measure, open_measure
    from diptych.evaluation.protocols.measures import distinct

    def evaluator(measure: Measure) -> Evaluator:
        small = dataclasses.replace(measure, dataset=measure.dataset.sample(MOST))

        def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
            result = small(_encoder(model, config), threads=config.workers)
            return {measure.metric: result.metrics[measure.metric]}

        return evaluate

    return {measure.name: evaluator(measure) for measure in distinct([open_measure(path) for path in paths])}


def warn_of_shared(train: Source, held_out: Source | None, keep_up: Sequence[Path], *, quiet: bool) -> None:
    """Warn of pictures that are in both the training data and the validation data.

    At most 20,000 training pairs, evenly spaced, are compared with the pairs that `held_out_evaluator` uses
    and with the data sets of --keep-up.
    """
    from diptych.evaluation import open_measure

    if held_out is None and not keep_up:
        return
    measured = {} if held_out is None else {"val": _digests(held_out, _sample(held_out))}
    measured |= {str(path): list(open_measure(path).dataset.digests()) for path in keep_up}
    indices = np.unique(
        np.linspace(0, max(len(train) - 1, 0), min(len(train), COMPARED)).astype(int)
    ).tolist()
    with progress("comparing pictures", len(indices), unit="pairs", quiet=quiet) as advance:
        training = set(_digests(train, indices, advance))
    pairs = (
        "the training pairs" if len(indices) == len(train) else f"{len(indices):,} training pairs compared"
    )
    for name, digests in measured.items():
        if shared := sum(digest in training for digest in digests):
            verb = "is" if shared == 1 else "are"
            print_message(
                "warning",
                f"{shared:,} of {counted(len(digests), 'picture')} of {name} {verb} also among {pairs}: the "
                "results do not show how the model does on new pictures",
            )


def _digests(
    source: Source, indices: Sequence[int], advance: Callable[[int], object] | None = None
) -> list[bytes]:
    """Digests of the pictures at these indices; those that cannot be read are skipped."""
    from diptych.datasets.contents import content_digest

    digests = []
    for index in indices:
        with contextlib.suppress(DataError):
            digests.append(content_digest(source.image(index)))
        if advance is not None:
            advance(1)
    return digests


def _encoder(model: CLIP, config: TrainConfig) -> TorchEncoder:
    from diptych.backends import TorchEncoder

    current = dataclasses.replace(config, model=model.config)  # --set may have changed the architecture
    return TorchEncoder(model, current.spec, tokenizer=current.load_tokenizer(), threads=config.workers)


def _sample(source: Source) -> list[int]:
    # By hash: the first thousand records may all be of the first few classes.
    indices: list[int] = np.argsort(source.hashes(), kind="stable")[:MOST].tolist()
    return indices


def _labelled(source: Source, chosen: Sequence[int]) -> bool:
    return all(source.label(index) is not None for index in chosen)


@dataclass(frozen=True)
class _ScoredPairs:
    """Cosines of N held-out pictures with T texts.

    Attributes
    ----------
    indices : list of int
        Indices of the pictures in the source.
    captions : list of str
        The T texts: the first caption of each picture, or of each class.
    pictures, texts : (N,) and (T,)
        Numbers of right answers: picture n and text t belong together if pictures[n] == texts[t].
    scores : (N, T)
        Cosines.
    """

    indices: list[int]
    captions: list[str]
    pictures: NDArray[np.int64]
    texts: NDArray[np.int64]
    scores: NDArray[np.float32]


def _score_pairs(
    encoder: TorchEncoder, source: Source, chosen: Sequence[int], workers: int, labelled: bool
) -> _ScoredPairs | None:
    """Encode the chosen pairs and compare all pictures with all texts; None if no picture can be read."""
    items = ((str(index), source.image(index)) for index in chosen)
    results = embed_images(encoder, items, threads=workers)
    embedded = [result for result in results if isinstance(result, Embedded)]
    pairs = [(item.vector, int(item.key), source.captions(int(item.key))) for item in embedded]
    pairs = [pair for pair in pairs if pair[2]]
    if not pairs:
        return None
    indices, captions = [index for _, index, _ in pairs], [texts[0] for _, _, texts in pairs]
    answers = [source.label(index) or caption for index, caption in zip(indices, captions, strict=True)]
    first, pictures = np.unique(answers, return_index=True, return_inverse=True)[1:]
    texts = pictures
    if labelled:  # one text for each class
        captions, texts = [captions[n] for n in first], np.arange(len(first))
    images = np.stack([vector for vector, _, _ in pairs])  # (N, E)
    return _ScoredPairs(indices, captions, pictures, texts, images @ embed_texts(encoder, captions).T)


def _write_sheet(scored: _ScoredPairs, source: Source, scale: float, path: Path, step: int) -> None:
    sheet = Sheet(
        title=f"Step {step:,}",
        subtitle=f"Held-out pictures, and the best of {counted(len(scored.captions), 'text')}",
        footer="Scores of all texts add up to 100. * marks a text that belongs to its picture.",
        cards=list(_cards(scored, source, scale)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: draw(sheet).save(temporary, "PNG"))


def _cards(scored: _ScoredPairs, source: Source, scale: float) -> Iterator[Card]:
    for row, index in enumerate(scored.indices[:SHOWN]):
        logits = scale * scored.scores[row]
        percent = np.exp(logits - logits.max())
        percent *= 100 / percent.sum()
        best = np.argsort(-percent, kind="stable")[:TOP].tolist()
        right = scored.texts == scored.pictures[row]
        texts = ["* " * bool(right[n]) + scored.captions[n] for n in best]
        picture = load_image(source.image(index))
        yield Card(source.key(index), picture, tuple(zip(texts, percent[best].tolist(), strict=True)))
