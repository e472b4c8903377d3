"""Accuracy on pairs of two images and two sentences, where each sentence is true of one image only.

The measure is Winoground's (Thrush et al. 2022, arXiv 2204.03162). Both images contain the same objects and
both sentences the same words: a model that recognises objects but not their relation is at chance, and so is
a model that prefers one sentence for every image.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.base import Audit, estimate_bars
from diptych.audits.generated_images import GeneratedDataset, generated_dataset
from diptych.audits.limits import scenes
from diptych.audits.prompt_scores import Floats, answer_embeddings, top1_hits
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.reports import Bars, Cell, Estimate, Table
from diptych.stats.intervals import proportion
from diptych.stats.metrics import ROUNDING
from diptych.stats.significance import LEVEL, Verdict, against_chance, decide

CHANCE = 0.5
CHANCE_BOTH = 1 / 6  # two correct scores above two wrong ones: 4 of the 24 orders


@dataclass(frozen=True)
class ScenePair:
    """Two scenes with a sentence each, in several wordings.

    Attributes
    ----------
    kind : str
        The property in which the two differ.
    says_first, says_second : tuple of str
        Wordings; the mean of their embeddings represents the sentence.
    """

    kind: str
    first: scenes.Scene
    second: scenes.Scene
    first_texts: tuple[str, ...]
    second_texts: tuple[str, ...]


@dataclass(frozen=True)
class PairAccuracy:
    """Accuracy on one kind of pair.

    Attributes
    ----------
    sentence : Estimate
        Share of images whose own sentence scores higher than the other; chance 1/2.
    picture : Estimate
        Share of sentences whose own image scores higher than the other; chance 1/2.
    both : Estimate
        Share of pairs with both correct scores above both wrong ones; chance 1/6.
    """

    sentence: Estimate
    picture: Estimate
    both: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class PairAudit(Audit):
    """Result of an audit with pairs of scenes.

    Attributes
    ----------
    judged : mapping of kind to PairAccuracy
    """

    judged: Mapping[str, PairAccuracy]
    sheet_columns = 4


def measure_pairs(
    encoder: Encoder,
    pair_of: Callable[[str, int, int], ScenePair],
    kinds: Sequence[str],
    known: Collection[str],
    *,
    each: int,
    seed: int,
    name: str,
    settings: Settings,
    controls: Collection[str] = (),
    shown: int = 1,
) -> dict[str, Any]:
    """Measure accuracy on `each` generated pairs of some kinds; returns the fields of a `PairAudit`.

    `pair_of` makes a pair from a kind, an index and the seed; `shown` pairs of each kind become samples. For
    the `controls` see `sentence_verdicts`. Raises InputError for an unknown kind, or without pairs.
    """
    unknown = sorted(set(kinds) - set(known))
    if unknown or not kinds or each < 1:
        raise InputError(f"{each} pairs of {unknown or 'no kind'}: the kinds are {', '.join(known)}")
    pairs = [pair_of(kind, index, seed) for kind in dict.fromkeys(kinds) for index in range(each)]
    setup = Setup.of(**settings)
    pictures = pair_images(pairs, name, f"seed {seed} {each} of {','.join(kinds)}")
    judged = score_pairs(encoder, pairs, pictures, setup)
    samples = [
        (text, scenes.draw(scene))
        for start in range(0, len(pairs), each)
        for pair in pairs[start : start + shown]
        for text, scene in ((pair.first_texts[0], pair.first), (pair.second_texts[0], pair.second))
    ]
    verdicts = sentence_verdicts(judged, controls)
    facts = setup.facts(encoder, pictures)
    return {"facts": facts, "samples": samples, "judged": judged, "verdicts": verdicts}


def pair_images(pairs: Sequence[ScenePair], name: str, made: str) -> GeneratedDataset:
    """Images of all pairs as a data set: first and second of pair 0, of pair 1, ..."""
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))

    def draw(index: int) -> Image.Image:
        pair = pairs[index // 2]
        return scenes.draw(pair.second if index % 2 else pair.first)

    labels = [kinds.index(pair.kind) for pair in pairs for _ in range(2)]
    return generated_dataset(name, draw, labels, kinds, made=f"{name} v{scenes.VERSION} {made}")


def score_pairs(
    encoder: Encoder, pairs: Sequence[ScenePair], dataset: GeneratedDataset, setup: Setup
) -> dict[str, PairAccuracy]:
    """Accuracy of the encoder on every kind of pair.

    Parameters
    ----------
    pairs : sequence of P pairs
    dataset : GeneratedDataset
        The 2 P images of `pair_images`.
    """
    image_embeddings = setup.embed(encoder, dataset).embeddings.reshape(len(pairs), 2, -1)
    text_embeddings = answer_embeddings(
        encoder, [texts for pair in pairs for texts in (pair.first_texts, pair.second_texts)]
    )
    scores = np.einsum(
        "pid,psd->pis", image_embeddings, text_embeddings.reshape(len(pairs), 2, -1)
    )  # (P, picture, sentence)
    kinds = np.array([pair.kind for pair in pairs])
    return {str(kind): _pair_accuracy(scores[kinds == kind]) for kind in dict.fromkeys(kinds.tolist())}


def pair_accuracy(scores: NDArray[np.floating]) -> Floats:
    """Probability that both correct scores are above both wrong ones, with random order of ties, (P,).

    Parameters
    ----------
    scores : (P, 2, 2)
        Image by sentence; the correct scores are on the diagonal.

    Examples
    --------
    >>> pair_accuracy(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.85], [0.2, 0.8]]])).tolist()
    [1.0, 0.0]
    >>> pair_accuracy(np.zeros((1, 2, 2))).round(4).tolist()        # 1 of the 6 ways to choose two of four
    [0.1667]
    """
    correct = np.stack([scores[:, 0, 0], scores[:, 1, 1]], axis=1)
    wrong = np.stack([scores[:, 0, 1], scores[:, 1, 0]], axis=1)
    lowest_correct, highest_wrong = correct.min(1), wrong.max(1)
    tied_right = (correct <= lowest_correct[:, None] + ROUNDING).sum(1)
    tied_wrong = (wrong >= highest_wrong[:, None] - ROUNDING).sum(1)
    # Only the lowest correct and the highest wrong score matter. If a correct and b wrong scores tie there,
    # one of the C(a + b, a) orders has all correct ones first: a = b = 1: 1/2; a = 2, b = 1: 1/3; a = b = 2:
    # 1/6.
    orders = np.where((tied_right == 2) & (tied_wrong == 2), 6, tied_right + tied_wrong)
    tie = abs(lowest_correct - highest_wrong) <= ROUNDING
    probability: Floats = np.where(tie, 1 / orders, np.where(lowest_correct > highest_wrong, 1.0, 0.0))
    return probability


def sentence_verdicts(
    accuracies: Mapping[str, PairAccuracy], controls: Collection[str] = ()
) -> dict[str, Verdict]:
    """Verdict on the sentence accuracy of each kind, corrected for all kinds.

    If there are controls, they get half of the level and the other kinds the other half.
    """
    claims = {kind: against_chance(accuracy.sentence, CHANCE) for kind, accuracy in accuracies.items()}
    control_claims = {kind: claim for kind, claim in claims.items() if kind in controls}
    other_claims = {kind: claim for kind, claim in claims.items() if kind not in controls}
    if not control_claims or not other_claims:
        return decide(claims)
    verdicts = decide(control_claims, LEVEL / 2) | decide(other_claims, LEVEL / 2)
    return {kind: verdicts[kind] for kind in claims}


def sentence_bars(accuracies: Mapping[str, PairAccuracy]) -> Bars:
    """Plot how often a picture's own sentence scores higher, one bar for each name, beside chance."""
    return Bars(
        values=estimate_bars({name: accuracy.sentence for name, accuracy in accuracies.items()}),
        x="share of pictures whose own sentence scores higher",
        levels={"chance": CHANCE},
    )


def verdict_table(
    accuracies: Mapping[str, PairAccuracy], verdicts: Mapping[str, Verdict], caption: str = ""
) -> Table:
    """Table with a row per kind: the proportions, and the verdict on the sentence accuracy."""
    rows: list[list[Cell]] = [
        [kind, accuracy.sentence, verdicts[kind], accuracy.picture, accuracy.both.value]
        for kind, accuracy in accuracies.items()
    ]
    legend = (
        f"sentence: which of two is true of a picture (chance {CHANCE:.3f}; the verdict is on this); "
        f"picture: which of two a sentence is true of (chance {CHANCE:.3f}); both: no mistake in a pair "
        f"(chance {CHANCE_BOTH:.3f}). Verdicts are corrected for all rows together (Holm). "
    )
    return Table(["kind", "sentence", "verdict", "picture", "both"], rows, (legend + caption).strip())


def _pair_accuracy(scores: NDArray[np.floating]) -> PairAccuracy:
    """Accuracy on one kind, from scores (P, 2, 2)."""
    owner = np.repeat(np.arange(len(scores)), 2)
    right = np.tile([0, 1], len(scores))
    transposed = scores.transpose(0, 2, 1)
    return PairAccuracy(
        proportion(top1_hits(scores.reshape(-1, 2), right), owner),
        proportion(top1_hits(transposed.reshape(-1, 2), right), owner),
        proportion(pair_accuracy(scores)),
    )
