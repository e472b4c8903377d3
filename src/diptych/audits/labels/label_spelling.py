"""Find misspelt words in labels: unknown to CLIP's vocabulary and one typo away from a known noun.

A word is known if it is one token of CLIP's byte-pair vocabulary, which was learned from web captions. The
vocabulary is not a dictionary and lacks rare words. An unknown word is therefore only reported together with
the similar noun, and names within a label ("American Wigeon") and verb forms are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from diptych.inputs.vocabulary import whole_words
from diptych.zeroshot import class_names
from diptych.zeroshot.templates import TEMPLATES

_MIN_LETTERS = 5  # letters: nearly all shorter words are one typo away from another word
_MAX_RANK = 20_000  # only the most frequent words of the vocabulary: rarer ones include misspellings


def misspelt_words(labels: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (label, word, probably intended noun) for words that look misspelt.

    Examples
    --------
    >>> list(misspelt_words(["bycicle", "bicycles", "an elefant", "rose", "quokka"]))
    [('bycicle', 'bycicle', 'bicycle'), ('an elefant', 'elefant', 'elephant')]
    """
    for label in dict.fromkeys(labels):
        words = re.findall(r"[^\W\d_]+", label)
        for word in (text.lower() for text in words if text.islower() or len(words) == 1):
            if (
                len(word) < _MIN_LETTERS
                or word in _nouns()
                or _is_known(word)
                or word.endswith(("ing", "ed"))
            ):
                continue
            near = sorted(noun for noun in _single_typos(word) if noun in _nouns())
            if near:
                yield label, word, near[0]


def _is_known(word: str) -> bool:
    known = _known()
    return any(form in known for form in (word, word.removesuffix("s"), word.removesuffix("es")))


@cache
def _known() -> frozenset[str]:
    return frozenset(whole_words(_MAX_RANK))


@cache
def _nouns() -> frozenset[str]:
    """Words of the class names of known data sets: typical label words, correctly spelt."""
    sets = [name for name in TEMPLATES if name in ("imagenet", "cifar100", "caltech101", "food101", "sun397")]
    words = {
        word for name in sets for text in class_names(name) for word in re.findall(r"[a-z]+", text.lower())
    }
    return frozenset(word for word in words if len(word) >= _MIN_LETTERS - 1)


def _single_typos(word: str) -> Iterator[str]:
    """Every string one human typo away: a letter left out, added, replaced, or two letters swapped.

    Swapped letters may have one letter between them ("bycicle"), and "f" may be written for "ph".
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    for position in range(len(word) + 1):
        left, right = word[:position], word[position:]
        yield from (left + letter + right for letter in letters)
        if right:
            yield left + right[1:]
            yield from (left + letter + right[1:] for letter in letters)
        for distance in (1, 2):
            if len(right) > distance:
                yield left + right[distance] + right[1:distance] + right[0] + right[distance + 1 :]
    yield word.replace("f", "ph")
    yield word.replace("ph", "f")
