"""Faces and the built-in lists of labels: how often is a person named by an animal?

    python benchmarks/default_labels.py [--model MODEL] [--faces fairface-val-a.tar]

Each face gets the nearest label of the words of `diptych map`, of the labels of `diptych demo`, and of these
with "person" added, as the demo does for the user's own pictures. Animals are the labels in the sections
"mammals", "birds" and "other animals" of the words. A map names clusters, not single pictures, so its figure
is what a cluster of one face would be called. `diptych audit bias` compares groups of people; this does not.
"""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
from common import arguments, machine
from numpy.typing import NDArray

import diptych
from diptych.audits.bias.people import load_pictures
from diptych.catalog.map.naming import NameVocabulary, bare, read_words
from diptych.cli.classify.demo import PERSON, demo_labels
from diptych.cli.shared.labels import prompts_for
from diptych.embedding.batches import collect, embed_images
from diptych.encoder import Encoder
from diptych.stats.intervals import proportion
from diptych.zeroshot import ZeroShotClassifier

SECTIONS = {"mammals", "birds", "other animals"}
PLACES = {"zoo", "aquarium", "farm", "pet shop", "coral reef", "shell", "spider web", "bird's nest"}


def animals() -> set[str]:
    """Animals among the words of the map, without articles."""
    text = (files("diptych.catalog") / "data" / "words.txt").read_text(encoding="utf-8")
    names, section = set(), ""
    for line in text.splitlines():
        if line.startswith("# "):
            section = line.removeprefix("# ")
        elif line and section in SECTIONS:
            names.add(bare(line))
    return names - PLACES


def nearest_labels(encoder: Encoder, faces: NDArray[np.float32]) -> dict[str, list[str]]:
    """List of labels -> the nearest label of each face, without articles."""
    words = NameVocabulary.of(encoder, read_words())
    named = {"words of map": [bare(words.words[n]) for n in (faces @ words.rows.T).argmax(1)]}
    labels = [label.word for label in demo_labels()]
    for title, offered in (("labels of demo", labels), (f"and {PERSON!r}", [*labels, PERSON])):
        classifier = ZeroShotClassifier(encoder, templates=None).fit(prompts_for(offered))
        named[title] = list(classifier.predict(faces))
    return named


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--faces", type=Path, help="a folder or a tar archive; by default FairFace's")
    options = parser.parse_args()
    print(machine())
    encoder = diptych.load(options.model)
    faces = load_pictures(options.faces or options.shared / "data" / "fairface-val-a.tar")
    embedded = collect(embed_images(encoder, faces), encoder.dim)
    assert not embedded.failures, embedded.failures[0]
    names = animals()
    print(f"{len(embedded.vectors):,} faces, {encoder.spec.name}, {encoder.identity[:19]}\n")
    print("| labels | named by an animal | the animals | other names |\n| --- | --- | --- | --- |")
    for title, nearest in nearest_labels(encoder, embedded.vectors).items():
        share = proportion([name in names for name in nearest])
        counts = Counter(nearest).most_common()
        called = ", ".join(f"{name} {count}" for name, count in counts if name in names) or "none"
        others = ", ".join([f"{name} {count}" for name, count in counts if name not in names][:6])
        print(f"| {title} | {share} | {called} | {others}, ... |")


if __name__ == "__main__":
    main()
