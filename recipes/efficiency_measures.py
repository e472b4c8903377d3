"""How the study of recipes/efficiency_study.py scores pictures against texts, whatever was trained.

A model of contrast gives scaled cosines; one that predicts gives the logarithm of how likely it finds a text,
a caption's being the sum over its tokens and a bag's the mean. Zero-shot, the answer is the most likely
prompt. That is the plain reading, the paper's. Two more are read off the same scores:

even       each prompt's score less the logarithm of its mean likelihood over all pictures measured: what is
           left is what the picture says, without how common the words are (it looks at the test pictures,
           not at their labels)
per token  a caption's score over its number of tokens, so that short names have no advantage
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.datasets import CaptionDataset, ImageDataset, load_captioned, load_labelled
from diptych.inputs import load_tokenizer, preprocess_batch
from diptych.media import load_image
from diptych.model.clip import CLIP
from diptych.stats.metrics import accuracy, recall_at_k
from diptych.training import TrainConfig
from diptych.training.data.order import hash_keys
from diptych.training.data.sources.captions import with_article
from diptych.training.objectives.predicting import Classification
from diptych.weights import ModelSpec

Scores = NDArray[np.float64]

CHUNK = 250  # pictures at a time


@dataclass(frozen=True, eq=False)
class Sheet:
    """Pictures and texts, and which belong together.

    Attributes
    ----------
    images : (N, 3, S, S) float32
    labels : (N,) int64
        Column of each picture's text.
    tokens : (K, L) int64
    names : tuple of K str
        The classes; empty if the texts are captions.
    classes : mapping of name to names
        Which classes to tell apart, each set on its own pictures.
    """

    images: Tensor
    labels: NDArray[np.int64]
    tokens: Tensor
    names: tuple[str, ...] = ()
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, some: Sequence[str]) -> Sheet:
        """The pictures of some classes, to be told apart among them."""
        columns = [self.names.index(name) for name in some]
        rows = np.flatnonzero(np.isin(self.labels, columns))
        own = np.array([columns.index(label) for label in self.labels[rows]])
        return Sheet(self.images[rows], own, self.tokens[columns], tuple(some))


def labels(path: Path, spec: ModelSpec, count: int, classes: Mapping[str, Sequence[str]]) -> Sheet:
    """Labelled pictures with a prompt for each class."""
    found = load_labelled(path).sample(count)
    prompts = [f"a photo of {with_article(name)}." for name in found.class_names]
    tokens = torch.from_numpy(load_tokenizer(spec.tokenizer)(prompts))
    return Sheet(_pixels(found, spec), found.labels, tokens, found.class_names, classes)


def captions(path: Path, spec: ModelSpec, count: int) -> Sheet:
    """Captioned pictures with the first caption of each."""
    found = load_captioned(path).sample(count)
    tokens = torch.from_numpy(load_tokenizer(spec.tokenizer)([texts[0] for texts in found.captions]))
    return Sheet(_pixels(found, spec), np.arange(len(found)), tokens)


def _pixels(found: ImageDataset | CaptionDataset, spec: ModelSpec) -> Tensor:
    pictures = [load_image(data) for _, data in found]
    return torch.from_numpy(preprocess_batch(pictures, spec.preprocess))


def measure(trained: Any, config: TrainConfig, sheets: Mapping[str, Sheet]) -> dict[str, float]:
    """Accuracy on each set of classes, and recall at 10 both ways on captions, each in all readings."""
    found: dict[str, float] = {}
    for sheet in sheets.values():
        for name, some in sheet.classes.items():
            # What learned labels has no answer for a class that it was never told of.
            if config.objective != "classes" or set(some) <= set(config.classes):
                part = sheet.of(some)
                found |= _accuracies(name, score(trained, part, config.classes), part, config.objective)
        if not sheet.names and config.objective != "classes":
            found |= _retrieval(score(trained, sheet), sheet)
    return found


@torch.no_grad()
def score(trained: Any, sheet: Sheet, known: Sequence[str] = ()) -> Scores:
    """How well each text fits each picture, (N, K); for what learned labels, those of `known`."""
    parts = []
    for start in range(0, len(sheet.images), CHUNK):
        images = sheet.images[start : start + CHUNK].contiguous(memory_format=torch.channels_last)
        if isinstance(trained, Classification):
            parts.append(trained.score(images)[:, _columns(sheet.names, known)])
        elif isinstance(trained, CLIP):
            parts.append(trained.logits(images, sheet.tokens))
        else:
            parts.append(trained.score(images, sheet.tokens))
    return torch.cat(parts).double().numpy()


def _columns(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where labels stand among those that were learned, which are sorted by their numbers."""
    order = np.argsort(hash_keys(known).view(np.int64))
    place = {known[n]: column for column, n in enumerate(order)}
    return [place[name] for name in names]


def even(scores: Scores) -> Scores:
    """Each text's scores less the logarithm of its mean likelihood.

    Examples
    --------
    >>> even(np.log([[0.2, 0.04], [0.6, 0.02]])).round(2).tolist()
    [[-0.69, 0.29], [0.41, -0.41]]
    """
    top = scores.max(0)
    level: Scores = scores - (top + np.log(np.exp(scores - top).mean(0)))
    return level


def _accuracies(name: str, scores: Scores, sheet: Sheet, objective: str) -> dict[str, float]:
    found = {name: accuracy(scores, sheet.labels), f"{name}, even": accuracy(even(scores), sheet.labels)}
    if objective == "captions":
        asked = sheet.tokens.argmax(1).numpy()  # of a text every token but the first is asked for
        found[f"{name}, per token"] = accuracy(scores / asked, sheet.labels)
    return found


def _retrieval(scores: Scores, sheet: Sheet) -> dict[str, float]:
    own = sheet.labels
    return {
        "picture of a caption": recall_at_k(scores.T, own, own, 10),
        "caption of a picture": recall_at_k(scores, own, own, 10),
        "caption of a picture, even": recall_at_k(even(scores), own, own, 10),
    }
