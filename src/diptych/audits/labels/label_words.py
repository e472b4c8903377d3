"""Warnings from the words of labels alone: people, crime, animals, insults, homographs, overlaps, spelling.

The word lists are data (`data/labels.json`) and short on purpose; they warn and do not forbid.
`class_design.py` tests the labels with a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations, islice, product
from typing import Any, Literal, TypeAlias

from diptych.errors import listed
from diptych.inputs.vocabulary import whole_words
from diptych.zeroshot import class_names
from diptych.zeroshot.templates import TEMPLATES

Severity: TypeAlias = Literal["serious", "notice"]

_IRREGULAR = {"people": "person", "women": "woman", "men": "man", "children": "child", "mice": "mouse"}
_IRREGULAR |= {
    f"{stem}ves": f"{stem}f" for stem in ("thie", "shel", "hal", "loa", "scar", "lea", "wol", "cal", "hoo")
}
_IRREGULAR |= {f"{stem}ves": f"{stem}fe" for stem in ("kni", "wi", "li")}
_IRREGULAR |= {"geese": "goose", "feet": "foot", "teeth": "tooth"}
_PEOPLE_ENDINGS = ("man", "woman", "person", "boy", "girl")  # of compounds: policewoman, salesperson
_NO_PLURALS = {"ramen", "omen", "specimen", "abdomen", "regimen", "stamen", "acumen", "bitumen"}
_MAX_PAIRS = 8  # pairs that get a warning each
_STOP_WORDS = {"a", "an", "the", "of", "photo", "picture", "image", "some", "two", "one"}

_CRIME = (
    "Labels that accuse people by their looks: {}. A picture shows no crime; the paper (section 7.1) found "
    "such classes given to some groups far more often. Leave them out, or run `diptych audit bias`."
)
_ANIMAL = (
    "{} beside labels of people ({}): a person who is called an animal is harmed (paper, section 7.1). Split "
    "the list, or run `diptych audit bias`."
)
_PEOPLE = (
    "Labels that describe people: {}. Their accuracy will differ between groups: run `diptych audit "
    "bias` on pictures like yours first."
)


@dataclass(frozen=True)
class LabelWarning:
    """A problem of a list of labels that should be checked before the list is used.

    Attributes
    ----------
    kind : str
        "attractor", "synonyms", "no catch-all", "unsure", "repeated", "harm", "people", "derogatory",
        "ambiguous", "overlap", "misspelt", "unused".
    severity : "serious" or "notice"
    """

    kind: str
    severity: Severity
    labels: tuple[str, ...]
    message: str


@cache
def _data() -> dict[str, Any]:
    """Content of the data file."""
    text = (files("diptych.audits") / "data" / "labels.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


@cache
def word_lists() -> dict[str, tuple[str, ...]]:
    """Word lists by name."""
    return {name: tuple(words) for name, words in _data().items() if name not in ("note", "related", "kinds")}


def singular(word: str) -> str:
    """Singular of an English noun, by its ending; other words stay nearly unchanged.

    Examples
    --------
    >>> [singular(word) for word in ("thieves", "policewomen", "monkeys", "babies", "boxes", "glass")]
    ['thief', 'policewoman', 'monkey', 'baby', 'box', 'glass']
    """
    if word in _NO_PLURALS:
        return word
    for plural, single in _IRREGULAR.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + single
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def words_of(label: str) -> list[str]:
    """Words of a label in lower case and in the singular.

    Examples
    --------
    >>> words_of("Apes, a doctor's photo")
    ['ape', 'a', 'doctor', 'photo']
    """
    return [
        singular(word.removesuffix("'s"))
        for word in re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", label.lower())
    ]


def labels_containing(labels: Iterable[str], kinds: Sequence[str]) -> tuple[str, ...]:
    """Labels that contain a word of these lists as a whole word, in the singular or the plural.

    Compounds that end in a word for people count too, except for a list of those that name no people.

    Examples
    --------
    >>> labels = ["a photo of two women", "a womaniser", "a dog", "policewoman", "a talisman"]
    >>> labels_containing(labels, ["person"])
    ('a photo of two women', 'policewoman')
    >>> labels_containing(["thieves", "drug dealers", "a leaf"], ["crime"])
    ('thieves', 'drug dealers')
    """
    phrases = {tuple(words_of(phrase)) for kind in kinds for phrase in word_lists()[kind]}
    return tuple(label for label in labels if _holds(words_of(label), phrases, "person" in kinds))


def _holds(words: Sequence[str], phrases: Collection[tuple[str, ...]], people: bool) -> bool:
    """Whether the words contain a phrase, or (`people`) a compound that ends in a word for people."""
    longest = max(map(len, phrases), default=0)
    parts = {
        tuple(words[start : start + size])
        for size in range(1, longest + 1)
        for start in range(len(words) - size + 1)
    }
    if parts & set(phrases):
        return True
    return people and any(
        word.endswith(_PEOPLE_ENDINGS) and word not in word_lists()["not_people"] for word in words
    )


def has_catch_all(labels: Iterable[str]) -> bool:
    """Whether a label means "none of the others".

    Examples
    --------
    >>> has_catch_all(["dog", "Something else"]), has_catch_all(["dog", "a mother"])
    (True, False)
    >>> has_catch_all(["a dog on a plain background"]), has_catch_all(["an empty background", "dog"])
    (False, True)
    """
    return any(_is_catch_all(label) for label in labels)


def _is_catch_all(label: str) -> bool:
    text = " ".join(re.findall(r"[^\W\d_]+", label.lower()))
    text = re.sub(r"^(a|an|the|some)? ?(photo|picture|image) of ", "", text)
    text = re.sub(r"^(a|an|the|only|just) ", "", text)
    if text in word_lists()["catch_all"] or re.fullmatch(
        r"(plain |empty |blank |mere )?background( only)?", text
    ):
        return True
    # "other animals", "none of the above", "something else entirely", but not "another dog"
    return text.startswith(
        ("other ", "none of ", "unknown ", "something else ", "anything else ", "nothing ")
    )


def overlapping_labels(labels: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield pairs of labels whose words overlap in meaning, and the reason; a model may separate them.

    Examples
    --------
    >>> list(overlapping_labels(["dog", "puppies", "car"]))
    [('dog', 'puppies', 'they mean nearly the same')]
    >>> list(overlapping_labels(["person", "man", "red car", "car"]))[0]
    ('person', 'man', "'man' is a kind of 'person'")
    >>> list(overlapping_labels(["red car", "car"]))
    [('red car', 'car', "'red car' is a kind of 'car'")]
    """
    indices_of: dict[tuple[str, ...], list[int]] = {}  # words of a label -> indices of the labels
    for index, label in enumerate(labels):
        if words := tuple(word for word in words_of(label) if word not in _STOP_WORDS):
            indices_of.setdefault(words, []).append(index)
    reasons: dict[tuple[int, int], str] = {}
    for wide, narrow in _subclass_pairs(indices_of):
        reason = f"{labels[narrow]!r} is a kind of {labels[wide]!r}"
        reasons.setdefault((min(wide, narrow), max(wide, narrow)), reason)
    for group in _data()["related"]:
        alike = [
            indices_of.get(words, []) for words in dict.fromkeys(tuple(words_of(phrase)) for phrase in group)
        ]
        for mine, others in combinations(alike, 2):
            for first, second in product(mine, others):
                reasons.setdefault((min(first, second), max(first, second)), "they mean nearly the same")
    for (first, second), reason in sorted(reasons.items()):
        yield labels[first], labels[second], reason


def _subclass_pairs(indices_of: Mapping[tuple[str, ...], Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield (index of a general label, index of a label that is a kind of it)."""
    for words, mine in indices_of.items():
        # The last words are the head noun: a red car is a car, a car park is not.
        for general in (words[start:] for start in range(1, len(words))):
            yield from product(indices_of.get(general, ()), mine)
    for group in _data()["kinds"]:
        head, *members = (indices_of.get(tuple(words_of(phrase)), ()) for phrase in group)
        yield from product(head, (index for member in members for index in member))


def text_warnings(labels: Sequence[str]) -> list[LabelWarning]:
    """Warnings that need no model, only the words of the labels."""
    crime, insult = labels_containing(labels, ["crime"]), labels_containing(labels, ["derogatory"])
    people, origin = labels_containing(labels, ["person"]), labels_containing(labels, ["origin"])
    animals = labels_containing(labels, ["non_human"])
    warnings: list[LabelWarning] = []
    if insult:
        warnings.append(
            LabelWarning("derogatory", "serious", insult, f"Labels that degrade people: {_quoted(insult)}.")
        )
    if crime:
        warnings.append(LabelWarning("harm", "serious", crime, _CRIME.format(_quoted(crime))))
    if animals and (people or origin):
        message = _ANIMAL.format(_quoted(animals), _quoted(people or origin))
        warnings.append(LabelWarning("harm", "serious", animals, message))
    if people or origin:
        described = tuple(dict.fromkeys((*people, *origin)))
        warnings.append(LabelWarning("people", "notice", described, _PEOPLE.format(_quoted(described))))
    if ambiguous := tuple(label for label in labels if label.lower().strip() in word_lists()["ambiguous"]):
        message = (
            f"Words that mean more than one thing: {_quoted(ambiguous)}. Say which, as in 'a crane, a bird'."
        )
        warnings.append(LabelWarning("ambiguous", "notice", ambiguous, message))
    pairs = list(overlapping_labels(list(dict.fromkeys(labels))))
    for first, second, why in pairs[:_MAX_PAIRS]:
        message = f"{first!r} and {second!r} overlap: {why}. A picture of one may be called the other."
        warnings.append(LabelWarning("overlap", "notice", (first, second), message))
    if more_pairs := [f"{first!r} and {second!r}" for first, second, _ in pairs[_MAX_PAIRS:]]:
        listing = ", ".join(more_pairs[:20])
        message = f"More pairs that overlap, {len(more_pairs)}: {listing}{', ...' * (len(more_pairs) > 20)}."
        warnings.append(LabelWarning("overlap", "notice", (), message))
    for label, word, meant in islice(misspelt_words(labels), 2 * _MAX_PAIRS):
        context = "" if label.lower() == word else f" in {label!r}"
        warnings.append(
            LabelWarning("misspelt", "notice", (label,), f"{word!r}{context}: is {meant!r} meant?")
        )
    return warnings


def _quoted(labels: Sequence[str]) -> str:
    """Quote the first few distinct labels."""
    return listed(dict.fromkeys(labels), 5)


_MIN_LETTERS = 5  # letters: nearly all shorter words are one typo away from another word
_MAX_RANK = 20_000  # only the most frequent words of the vocabulary: rarer ones include misspellings


def misspelt_words(labels: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (label, word, probably intended noun) for words that look misspelt.

    A word is known if it is one token of CLIP's byte-pair vocabulary, which was learned from web captions.
    The vocabulary is not a dictionary and lacks rare words. So an unknown word is reported only together with
    a similar noun, and names within a label ("American Wigeon") and verb forms are accepted.

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
    words = _known()
    return any(form in words for form in (word, word.removesuffix("s"), word.removesuffix("es")))


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
