"""Words of labels that look misspelt: unknown to CLIP's vocabulary and one slip away from a known noun.

A word is known when CLIP's byte-pair vocabulary, made of the captions of the web, has it as one token. That
is no dictionary: rare words are unknown to it too, so an unknown one is told only beside the noun it is near,
and names within a label ("American Wigeon") and forms of verbs are let pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from diptych.inputs.vocabulary import whole_words
from diptych.zeroshot import class_names
from diptych.zeroshot.templates import TEMPLATES

_SHORTEST = 5  # letters: of shorter words nearly all are one slip from another
_FREQUENT = 20_000  # of the vocabulary's words, the commonest: rarer ones are misspelt in captions themselves


def misspelt(labels: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(label, word, noun that is probably meant) of words that look misspelt.

    Examples
    --------
    >>> list(misspelt(["bycicle", "bicycles", "an elefant", "rose", "quokka"]))
    [('bycicle', 'bycicle', 'bicycle'), ('an elefant', 'elefant', 'elephant')]
    """
    for label in dict.fromkeys(labels):
        found = re.findall(r"[^\W\d_]+", label)
        for word in (each.lower() for each in found if each.islower() or len(found) == 1):
            if len(word) < _SHORTEST or word in _nouns() or _is_known(word) or word.endswith(("ing", "ed")):
                continue
            near = sorted(noun for noun in _slips(word) if noun in _nouns())
            if near:
                yield label, word, near[0]


def _is_known(word: str) -> bool:
    known = _known()
    return any(form in known for form in (word, word.removesuffix("s"), word.removesuffix("es")))


@cache
def _known() -> frozenset[str]:
    return frozenset(whole_words(_FREQUENT))


@cache
def _nouns() -> frozenset[str]:
    """Words of the class names of known data sets: what labels mostly are, and spelt well."""
    sets = [name for name in TEMPLATES if name in ("imagenet", "cifar100", "caltech101", "food101", "sun397")]
    words = {
        word for name in sets for text in class_names(name) for word in re.findall(r"[a-z]+", text.lower())
    }
    return frozenset(word for word in words if len(word) >= _SHORTEST - 1)


def _slips(word: str) -> Iterator[str]:
    """Every word one slip away, as people make them: a letter left out, added, wrong, or swapped.

    Two letters swapped may have one between them ("bycicle"), and "f" may stand for "ph".
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    for at in range(len(word) + 1):
        left, right = word[:at], word[at:]
        yield from (left + letter + right for letter in letters)
        if right:
            yield left + right[1:]
            yield from (left + letter + right[1:] for letter in letters)
        for far in (1, 2):
            if len(right) > far:
                yield left + right[far] + right[1:far] + right[0] + right[far + 1 :]
    yield word.replace("f", "ph")
    yield word.replace("ph", "f")
