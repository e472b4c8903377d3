"""Choose the classes that no training of the default model sees, for a true zero-shot measurement.

Command:  python recipes/held_out.py
Data:     DIPTYCH_SHARED/data: the class lists of Caltech-101 and open-train, WordNet's nouns, the tree above
          ImageNet's classes
Cost:     seconds
Result:   recipes/held_out.json, which default.py and measure_default.py read

The image tower starts from ImageNet labels and the text tower learns the names of ImageNet's tree. So a class
is eligible only if neither it nor a WordNet synonym or descendant of it is a name of that tree, if it is no
kind of an ImageNet class, and if no training caption contains its name. From the eligible ones a seeded draw
takes 20 of Caltech-101 and 60 of open-train. Their names still occur in WordNet's definitions, which the text
tower reads without pictures.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from default_sources import DATA, HERE, read_captions, synset_rows

from diptych.zeroshot import folder_names

COUNTS = {"caltech101": 20, "open-train": 60}
LEAST = 5  # pictures of a class of open-train
# Classes of Caltech-101 whose names say nothing that a text could describe, or that are parts of others.
UNCLEAR = ("body of", "head of", "face of", "side of", "face", "off center face", "centered face", "wild cat")


def main() -> None:
    """Write the lists, and print them."""
    words = WordNet()
    captions = caption_terms()
    folders = {
        folder: name for folder, name in folder_names("caltech101").items() if eligible(name, words, captions)
    }
    counts = {
        name: entry["count"] for name, entry in json.loads((DATA / "open-classes.json").read_text()).items()
    }
    open_train = [
        name for name, count in counts.items() if count >= LEAST and eligible(name, words, captions)
    ]
    generator = random.Random(0)
    chosen = {
        "caltech101": sorted(generator.sample(sorted(folders), COUNTS["caltech101"])),
        "open-train": sorted(generator.sample(sorted(open_train), COUNTS["open-train"])),
    }
    left_out = {normalise(folders.get(name, name)) for names in chosen.values() for name in names}
    used = {*chosen["open-train"], *(folders[folder] for folder in chosen["caltech101"])}
    others = {*folder_names("caltech101").values(), *counts} - used
    also = sorted(name for name in others if contains_name(normalise(name), left_out))
    about = (
        "Classes left out of training altogether, in every pack; written by recipes/held_out.py, which says "
        "how they were chosen. The names under 'also' contain the name of such a class."
    )
    path = HERE / "held_out.json"
    path.write_text(json.dumps({"about": about, **chosen, "also": also}, indent=1) + "\n", "utf-8")
    print(json.dumps({**chosen, "also": also}, indent=1))


class WordNet:
    """Names of WordNet's nouns, and which of them the tree above ImageNet's classes teaches."""

    def __init__(self) -> None:
        nodes = json.loads(gzip.decompress((DATA / "imagenet-tree.json.gz").read_bytes()))["nodes"]
        imagenet = json.loads((DATA / "imagenet_classes_templates.json").read_text())
        self.taught = {normalise(name) for node in nodes for name in node["names"]}
        self.taught |= {normalise(name) for name in imagenet["classes"]}
        self._classes = set(imagenet["wnids"])
        self._synsets: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = {}
        self._below: dict[str, list[str]] = defaultdict(list)
        self._above: dict[str, list[str]] = {}
        for row in synset_rows():
            self._names[row.wnid] = [normalise(name) for name in row.english]
            for name in self._names[row.wnid]:
                self._synsets[name].append(row.wnid)
            self._above[row.wnid] = row.hypernyms
            for hypernym in row.hypernyms:
                self._below[hypernym].append(row.wnid)

    def related(self, name: str) -> set[str]:
        """The name, its synonyms, and the names of everything below it, in all its senses."""
        below = reach(self._synsets.get(name, []), self._below)
        return {name, *(other for synset in below for other in self._names[synset])}

    def is_kind_of_class(self, name: str) -> bool:
        """Whether it lies below a class of ImageNet, as a willow ptarmigan below the ptarmigan.

        WordNet does not know all names, so the ends of a name count too: a hyacinth macaw is a macaw.
        """
        words = name.split()
        ends = [" ".join(words[start:]) for start in range(len(words))]
        synsets = [synset for end in ends for synset in self._synsets.get(end, [])]
        return not self._classes.isdisjoint(reach(synsets, self._above))


def reach(start: Iterable[str], following: Mapping[str, list[str]]) -> set[str]:
    """Everything that can be reached, the start included."""
    waiting, seen = list(start), set[str]()
    while waiting:
        synset = waiting.pop()
        if synset not in seen:
            seen.add(synset)
            waiting += following.get(synset, [])
    return seen


def caption_terms() -> set[str]:
    """All words and pairs of words of the training captions, normalised."""
    terms: set[str] = set()
    for captions in read_captions():
        for caption in captions:
            tokens = [normalise(token) for token in caption.split()]
            terms.update(tokens)
            terms.update(map(" ".join, pairwise(tokens)))
    return terms


def eligible(name: str, words: WordNet, captions: set[str]) -> bool:
    """Whether a model trained on ImageNet's tree and these captions never learned the class by its names."""
    plain = normalise(name)
    if plain.startswith(UNCLEAR) or plain in captions:
        return False
    return words.related(plain).isdisjoint(words.taught) and not words.is_kind_of_class(plain)


def normalise(name: str) -> str:
    """Lower case, without punctuation, the last word in the singular.

    Examples
    --------
    >>> normalise("Abbott's Boobies"), normalise("stop_sign")
    ("abbotts booby", "stop sign")
    """
    words = re.sub(r"[^a-z0-9]+", " ", name.lower().replace("'", "")).split()
    for ending, singular in (("ies", "y"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("s", "")):
        if words and words[-1].endswith(ending) and not words[-1].endswith("ss"):
            words[-1] = words[-1].removesuffix(ending) + singular
            break
    return " ".join(words)


def contains_name(name: str, left_out: Iterable[str]) -> bool:
    """Whether a name contains a left-out name as whole words: "adjustable wrench" contains "wrench"."""
    return any(f" {other} " in f" {name} " for other in left_out)


if __name__ == "__main__":
    main()
