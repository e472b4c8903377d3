"""Scores of pictures against texts for recipes/efficiency_study.py, for every training objective.

A contrastive model gives scaled cosines; a predictive one gives the log-likelihood of a text (the sum over
the tokens of a caption, the mean over a bag of words). Zero-shot, the answer is the prompt with the highest
score, as in the paper. Two variants use the same scores:

- even: the score minus the logarithm of the mean likelihood of the prompt over all test pictures, which
  removes the frequency of the words (it uses the test pictures, not their labels)
- per token: the score of a caption divided by its number of tokens, so that short names have no advantage
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
from diptych.inputs.nouns import with_article
from diptych.media import load_image
from diptych.model.clip import CLIP
from diptych.stats.metrics import accuracy, recall_at_k
from diptych.training import TrainConfig
from diptych.training.data.order import hash_keys
from diptych.training.objectives.predicting import Classification
from diptych.weights import ModelSpec

Scores = NDArray[np.float64]

CHUNK = 250  # pictures at a time


@dataclass(frozen=True, eq=False)
class TestSet:
    """Test images and texts, and which belong together.

    Attributes
    ----------
    images : (N, 3, S, S) float32
    labels : (N,) int64
        Index of the text of each image.
    tokens : (K, L) int64
    names : tuple of K str
        Class names; empty if the texts are captions.
    classes : mapping of name to names
        Sets of classes; each is classified on its own images.
    """

    images: Tensor
    labels: NDArray[np.int64]
    tokens: Tensor
    names: tuple[str, ...] = ()
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> TestSet:
        """The images of some classes, to classify among these classes."""
        columns = [self.names.index(name) for name in names]
        rows = np.flatnonzero(np.isin(self.labels, columns))
        own = np.array([columns.index(label) for label in self.labels[rows]])
        return TestSet(self.images[rows], own, self.tokens[columns], tuple(names))


def labelled_test_set(
    path: Path, spec: ModelSpec, count: int, classes: Mapping[str, Sequence[str]]
) -> TestSet:
    """Labelled images with a prompt for each class."""
    dataset = load_labelled(path).sample(count)
    prompts = [f"a photo of {with_article(name)}." for name in dataset.class_names]
    tokens = torch.from_numpy(load_tokenizer(spec.tokenizer)(prompts))
    return TestSet(_pixels(dataset, spec), dataset.labels, tokens, dataset.class_names, classes)


def captioned_test_set(path: Path, spec: ModelSpec, count: int) -> TestSet:
    """Captioned images with the first caption of each."""
    dataset = load_captioned(path).sample(count)
    tokens = torch.from_numpy(load_tokenizer(spec.tokenizer)([texts[0] for texts in dataset.captions]))
    return TestSet(_pixels(dataset, spec), np.arange(len(dataset)), tokens)


def _pixels(dataset: ImageDataset | CaptionDataset, spec: ModelSpec) -> Tensor:
    pictures = [load_image(data) for _, data in dataset]
    return torch.from_numpy(preprocess_batch(pictures, spec.preprocess))


def measure(trained: Any, config: TrainConfig, sheets: Mapping[str, TestSet]) -> dict[str, float]:
    """Accuracy on each set of classes, and recall at 10 in both directions on captions, in all variants."""
    metrics: dict[str, float] = {}
    for sheet in sheets.values():
        for name, names in sheet.classes.items():
            # A classifier of labels has no output for classes that it was not trained on.
            if config.objective != "classes" or set(names) <= set(config.classes):
                part = sheet.of(names)
                metrics |= _accuracies(name, score(trained, part, config.classes), part, config.objective)
        if not sheet.names and config.objective != "classes":
            metrics |= _retrieval(score(trained, sheet), sheet)
    return metrics


@torch.no_grad()
def score(trained: Any, sheet: TestSet, classes: Sequence[str] = ()) -> Scores:
    """Score of each text for each image, (N, K); `classes` are the labels of a trained classifier."""
    parts = []
    for start in range(0, len(sheet.images), CHUNK):
        images = sheet.images[start : start + CHUNK].contiguous(memory_format=torch.channels_last)
        if isinstance(trained, Classification):
            parts.append(trained.score(images)[:, _columns(sheet.names, classes)])
        elif isinstance(trained, CLIP):
            parts.append(trained.logits(images, sheet.tokens))
        else:
            parts.append(trained.score(images, sheet.tokens))
    return torch.cat(parts).double().numpy()


def _columns(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Output columns of labels; the classifier sorts its labels by their hashes."""
    order = np.argsort(hash_keys(classes).view(np.int64))
    column_of = {classes[n]: column for column, n in enumerate(order)}
    return [column_of[name] for name in names]


def even(scores: Scores) -> Scores:
    """Subtract from the scores of each text the logarithm of its mean likelihood.

    Examples
    --------
    >>> even(np.log([[0.2, 0.04], [0.6, 0.02]])).round(2).tolist()
    [[-0.69, 0.29], [0.41, -0.41]]
    """
    top = scores.max(0)
    normalised: Scores = scores - (top + np.log(np.exp(scores - top).mean(0)))
    return normalised


def _accuracies(name: str, scores: Scores, sheet: TestSet, objective: str) -> dict[str, float]:
    accuracies = {name: accuracy(scores, sheet.labels), f"{name}, even": accuracy(even(scores), sheet.labels)}
    if objective == "captions":
        token_counts = sheet.tokens.argmax(1).numpy()  # every token but the first is predicted
        accuracies[f"{name}, per token"] = accuracy(scores / token_counts, sheet.labels)
    return accuracies


def _retrieval(scores: Scores, sheet: TestSet) -> dict[str, float]:
    own = sheet.labels
    return {
        "picture of a caption": recall_at_k(scores.T, own, own, 10),
        "caption of a picture": recall_at_k(scores, own, own, 10),
        "caption of a picture, even": recall_at_k(even(scores), own, own, 10),
    }
