"""Two pictures, two sentences, each sentence true of one: what neither words nor looks alone can answer.

The measure is Winoground's (Thrush et al. 2022, arXiv 2204.03162). Both pictures hold the same things and
both sentences the same words, so a model that knows things but not how they stand is at chance. A sentence
that a model always likes best is right once in two. What pictures show is the caller's business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.generated_images import GeneratedDataset, generated_dataset
from diptych.audits.limits import scenes
from diptych.audits.prompt_scores import Floats, answer_embeddings, top1_hits
from diptych.encoder import Encoder
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Cell, Estimate, Table
from diptych.stats.intervals import proportion
from diptych.stats.metrics import ROUNDING
from diptych.stats.significance import LEVEL, Verdict, against_chance, decide

CHANCE = 0.5
CHANCE_BOTH = 1 / 6  # two right ones above two wrong ones: 4 of the 24 orders


@dataclass(frozen=True)
class Pair:
    """Two scenes with a sentence each, in several wordings.

    Attributes
    ----------
    kind : str
        What decides between the two.
    first, second : Scene
    says_first, says_second : tuple of str
        Wordings; the mean of their rows stands for the sentence.
    """

    kind: str
    first: scenes.Scene
    second: scenes.Scene
    first_texts: tuple[str, ...]
    second_texts: tuple[str, ...]


@dataclass(frozen=True)
class PairAccuracy:
    """How one kind of pair was judged.

    Attributes
    ----------
    sentence : Estimate
        Of a picture, its own sentence scores higher than the other; chance 1/2.
    picture : Estimate
        Of a sentence, its own picture scores higher than the other; chance 1/2.
    both : Estimate
        Both right scores are above both wrong ones; chance 1/6.
    """

    sentence: Estimate
    picture: Estimate
    both: Estimate


def pair_images(pairs: Sequence[Pair], name: str, made: str) -> GeneratedDataset:
    """The pictures of all pairs as a data set: first and second of each, one after the other."""
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))

    def draw(index: int) -> Image.Image:
        pair = pairs[index // 2]
        return scenes.draw(pair.second if index % 2 else pair.first)

    labels = [kinds.index(pair.kind) for pair in pairs for _ in range(2)]
    return generated_dataset(name, draw, labels, kinds, made=f"{name} v{scenes.VERSION} {made}")


def score_pairs(
    encoder: Encoder, pairs: Sequence[Pair], pictures: GeneratedDataset, setup: Setup
) -> dict[str, PairAccuracy]:
    """Every kind of pair, judged.

    Parameters
    ----------
    encoder : Encoder
    pairs : sequence of P pairs
    pictures : Drawn
        As `pictures_of` makes them, 2 P.
    setup : Setup

    Returns
    -------
    dict of kind to Judged
    """
    rows = setup.embed(encoder, pictures).rows.reshape(len(pairs), 2, -1)
    said = answer_embeddings(
        encoder, [one for pair in pairs for one in (pair.first_texts, pair.second_texts)]
    )
    scores = np.einsum("pid,psd->pis", rows, said.reshape(len(pairs), 2, -1))  # (P, picture, sentence)
    kinds = np.array([pair.kind for pair in pairs])
    return {str(kind): _judged(scores[kinds == kind]) for kind in dict.fromkeys(kinds.tolist())}


def pair_accuracy(scores: NDArray[np.floating]) -> Floats:
    """Probability that both right scores are above both wrong ones, ties put in random order, (P,).

    Parameters
    ----------
    scores : (P, 2, 2)
        Picture by sentence; the right ones are on the diagonal.

    Examples
    --------
    >>> pair_accuracy(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.85], [0.2, 0.8]]])).tolist()
    [1.0, 0.0]
    >>> pair_accuracy(np.zeros((1, 2, 2))).round(4).tolist()        # 1 of the 6 ways to choose two of four
    [0.1667]
    """
    right = np.stack([scores[:, 0, 0], scores[:, 1, 1]], axis=1)
    wrong = np.stack([scores[:, 0, 1], scores[:, 1, 0]], axis=1)
    least, most = right.min(1), wrong.max(1)
    tied_right = (right <= least[:, None] + ROUNDING).sum(1)
    tied_wrong = (wrong >= most[:, None] - ROUNDING).sum(1)
    # Of a + b that tie, all a right ones come first: one way of choosing a of a + b.
    ways = np.where((tied_right == 2) & (tied_wrong == 2), 6, tied_right + tied_wrong)
    tie = abs(least - most) <= ROUNDING
    found: Floats = np.where(tie, 1 / ways, np.where(least > most, 1.0, 0.0))
    return found


def sentence_verdicts(
    judged: Mapping[str, PairAccuracy], controls: Collection[str] = ()
) -> dict[str, Verdict]:
    """A verdict on the sentences of each kind, corrected for all kinds.

    Controls, which everything else hangs on, share half of the level among themselves.
    """
    claims = {kind: against_chance(one.sentence, CHANCE) for kind, one in judged.items()}
    first = {kind: one for kind, one in claims.items() if kind in controls}
    rest = {kind: one for kind, one in claims.items() if kind not in controls}
    if not first or not rest:
        return decide(claims)
    found = decide(first, LEVEL / 2) | decide(rest, LEVEL / 2)
    return {kind: found[kind] for kind in claims}


def verdict_table(
    judged: Mapping[str, PairAccuracy], verdicts: Mapping[str, Verdict], caption: str = ""
) -> Table:
    """A row per kind: the proportions, and the verdict on the sentence."""
    rows: list[list[Cell]] = [
        [kind, one.sentence, verdicts[kind], one.picture, one.both.value] for kind, one in judged.items()
    ]
    told = (
        f"sentence: which of two is true of a picture (chance {CHANCE:.3f}; the verdict is on this); "
        f"picture: which of two a sentence is true of (chance {CHANCE:.3f}); both: no mistake in a pair "
        f"(chance {CHANCE_BOTH:.3f}). Verdicts are corrected for all rows together (Holm). "
    )
    return Table(["kind", "sentence", "verdict", "picture", "both"], rows, (told + caption).strip())


def _judged(scores: NDArray[np.floating]) -> PairAccuracy:
    """Of one kind, (P, 2, 2)."""
    owner = np.repeat(np.arange(len(scores)), 2)
    right = np.tile([0, 1], len(scores))
    turned = scores.transpose(0, 2, 1)
    return PairAccuracy(
        proportion(top1_hits(scores.reshape(-1, 2), right), owner),
        proportion(top1_hits(turned.reshape(-1, 2), right), owner),
        proportion(pair_accuracy(scores)),
    )
