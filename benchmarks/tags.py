"""What tags are worth: labels given by `diptych tag` against the words of captions.

    python benchmarks/tags.py [--model MODEL] [--pictures flickr8k-test.tar ...]

A tag counts as right where one of a picture's captions has one of the label's words. Captions do not name all
there is, so precision is low by that much. Beside the tags' own measure, the cut-off of a search, which asks
another question.
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


def told(given: NDArray[np.bool_], true: NDArray[np.bool_]) -> str:
    """Tags, precision and recall, in a table's cells."""
    right = (given & true).sum()
    return f"{given.sum():,} | {right / max(given.sum(), 1):.2f} | {right / true.sum():.2f}"


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
        found = collect(embed_images(encoder, dataset), encoder.dim)
        assert not found.failures, found.failures[0]
        vectors.append(found.vectors)
        captions += [" ".join(texts).lower() for texts in dataset.captions]
    rows = np.concatenate(vectors)
    true = np.array([[bool(re.search(words, text)) for words in WORDS.values()] for text in captions])
    classifier = ZeroShotClassifier(encoder, templates=None, activation="softmax", multi_label=True)
    judged = classifier.fit(prompts_for(list(WORDS))).predict_proba(rows)
    gauge = RelevanceScale.of(Background.of(encoder), rows)
    cosines = rows @ classifier.weights_.T
    shown = np.stack([gauge.relevance(one, rows, size=len(rows)) for one in cosines.T], axis=1)
    print(f"{len(rows):,} pictures, {len(WORDS)} labels, each in captions of {true.mean():.3f} of them\n")
    print("| given where | tags | right | found |\n| --- | ---: | ---: | ---: |")
    for level in LEVELS:
        print(f"| probability {level:g} or more | {told(judged >= level, true)} |")
    print(f"| a search would show it | {told(shown >= DEFAULT_CUTOFF, true)} |")
    print(f"\n| label at {LEAST:g} | tags | right | found |\n| --- | ---: | ---: | ---: |")
    for column, label in enumerate(WORDS):
        print(f"| {label} | {told(judged[:, column] >= LEAST, true[:, column])} |")


if __name__ == "__main__":
    main()
