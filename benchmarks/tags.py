"""Precision and recall of the tags of `diptych tag`, against the words of captions.

    python benchmarks/tags.py [--model MODEL] [--pictures flickr8k-test.tar ...]

A tag is correct if a caption of the picture has one of the words of the label. Captions do not name
everything, so precision is underestimated. The cut-off of a search is printed for comparison.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from common import arguments, machine
from numpy.typing import NDArray

import diptych
from diptych.catalog.relevance import DEFAULT_CUTOFF, Background, RelevanceScale
from diptych.catalog.tags.tagging import LEAST
from diptych.cli.shared.labels import prompts_for
from diptych.datasets import load_captioned
from diptych.embedding.batches import collect, embed_images
from diptych.zeroshot import ZeroShotClassifier

WORDS = {
    "dog": r"\bdogs?\b|pupp",
    "snow": "snow",
    "beach": "beach|sand|shore",
    "bicycle": "bicycl|bike|cycl",
    "motorcycle": "motorc|motorbike|dirt ?bike|motocross",
    "swimming pool": r"\bpool",
    "climbing": "climb",
    "skateboard": "skateboard",
    "football": "football|soccer",
    "basketball": "basketball",
    "mountain": "mountain",
    "water": r"water|ocean|\bsea\b|lake|river|pool|wave",
    "crowd": "crowd|group|people",
    "horse": r"\bhorses?\b",
    "street": "street|road|sidewalk|city",
    "car": r"\bcars?\b",
    "child": r"child|\bkids?\b|boy|girl|toddler|baby",
}
LEVELS = (0.5, 0.7, 0.8, LEAST, 0.95, 0.98)


def table_cells(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> str:
    """Format the number of tags, precision and recall as table cells."""
    correct = (predicted & true).sum()
    return f"{predicted.sum():,} | {correct / max(predicted.sum(), 1):.2f} | {correct / true.sum():.2f}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--pictures", type=Path, nargs="*", help="captioned; by default Flickr8k's test")
    options = parser.parse_args()
    print(machine())
    encoder = diptych.load(options.model)
    vectors, captions = [], []
    for path in options.pictures or [options.shared / "data" / "flickr8k-test.tar"]:
        dataset = load_captioned(path)
        embedded = collect(embed_images(encoder, dataset), encoder.dim)
        assert not embedded.failures, embedded.failures[0]
        vectors.append(embedded.vectors)
        captions += [" ".join(texts).lower() for texts in dataset.captions]
    embeddings = np.concatenate(vectors)
    true = np.array([[bool(re.search(words, text)) for words in WORDS.values()] for text in captions])
    classifier = ZeroShotClassifier(encoder, templates=None, activation="softmax", multi_label=True)
    probabilities = classifier.fit(prompts_for(list(WORDS))).predict_proba(embeddings)
    gauge = RelevanceScale.of(Background.of(encoder), embeddings)
    cosines = embeddings @ classifier.weights_.T
    shown = np.stack(
        [gauge.relevance(label_cosines, embeddings, size=len(embeddings)) for label_cosines in cosines.T],
        axis=1,
    )
    print(
        f"{len(embeddings):,} pictures, {len(WORDS)} labels, each in captions of {true.mean():.3f} of them\n"
    )
    print("| given where | tags | right | found |\n| --- | ---: | ---: | ---: |")
    for level in LEVELS:
        print(f"| probability {level:g} or more | {table_cells(probabilities >= level, true)} |")
    print(f"| a search would show it | {table_cells(shown >= DEFAULT_CUTOFF, true)} |")
    print(f"\n| label at {LEAST:g} | tags | right | found |\n| --- | ---: | ---: | ---: |")
    for column, label in enumerate(WORDS):
        print(f"| {label} | {table_cells(probabilities[:, column] >= LEAST, true[:, column])} |")


if __name__ == "__main__":
    main()
