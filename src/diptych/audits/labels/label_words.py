"""What a list of labels says about itself, read as words: people, crime, animals, insults, homographs.

The word lists are data (`data/labels.json`), short on purpose; they warn and do not forbid. What a model
makes of the labels is `class_design.py`'s.
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

from diptych.audits.labels.label_spelling import misspelt

Severity: TypeAlias = Literal["serious", "notice"]

_IRREGULAR = {"people": "person", "women": "woman", "men": "man", "children": "child", "mice": "mouse"}
_IRREGULAR |= {
    f"{stem}ves": f"{stem}f" for stem in ("thie", "shel", "hal", "loa", "scar", "lea", "wol", "cal", "hoo")
}
_IRREGULAR |= {
    "knives": "knife",
    "wives": "wife",
    "lives": "life",
    "geese": "goose",
    "feet": "foot",
    "teeth": "tooth",
}
_PEOPLE_ENDINGS = ("man", "woman", "person", "boy", "girl")  # of compounds: policewoman, salesperson
_NO_PLURALS = {"ramen", "omen", "specimen", "abdomen", "regimen", "stamen", "acumen", "bitumen"}
_SHOWN = 8  # pairs that are told one by one
_FILLERS = {"a", "an", "the", "of", "photo", "picture", "image", "some", "two", "one"}

_CRIME = (
    "Labels that accuse people by their looks: {}. A picture shows no crime; the paper (section 7.1) found "
    "such classes given to some groups far more often. Leave them out, or run `diptych audit bias`."
)
_ANIMAL = (
    "{} beside labels of people ({}): a person who is called an animal is harmed (paper, section 7.1). Part "
    "the lists, or run `diptych audit bias`."
)
_PEOPLE = (
    "Labels that describe people: {}. How right they are will differ between groups: run `diptych audit "
    "bias` on pictures like yours first."
)


@dataclass(frozen=True)
class LabelWarning:
    """Something about a list of labels that should be looked at before it is used.

    Attributes
    ----------
    kind : str
        "attractor", "synonyms", "no catch-all", "unsure", "repeated", "harm", "people", "derogatory",
        "ambiguous", "overlap", "misspelt", "unused".
    severity : "serious" or "notice"
    labels : tuple of str
    message : str
    """

    kind: str
    severity: Severity
    labels: tuple[str, ...]
    message: str


@cache
def _data() -> dict[str, Any]:
    """The data file."""
    text = (files("diptych.audits") / "data" / "labels.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


@cache
def word_lists() -> dict[str, tuple[str, ...]]:
    """The lists of words by name."""
    return {name: tuple(words) for name, words in _data().items() if name not in ("note", "related", "kinds")}


def singular(word: str) -> str:
    """The singular of an English noun, by its ending; a word that is none stays about as it is.

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
    """The words of a label in lower case and in the singular.

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
    """The labels that hold a word of these lists as a whole word, in the singular or the plural.

    Compounds that end in a word for people count as one, but for those that name no people.

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
    """Whether one of the phrases stands among the words, or a compound that ends in a word for people."""
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
    """Whether a label as a whole stands for whatever the others are not.

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
    """Pairs of labels that overlap in meaning as words, and why; a model may see them otherwise.

    Examples
    --------
    >>> list(overlapping_labels(["dog", "puppies", "car"]))
    [('dog', 'puppies', 'they mean nearly the same')]
    >>> list(overlapping_labels(["person", "man", "red car", "car"]))[0]
    ('person', 'man', "'man' is a kind of 'person'")
    >>> list(overlapping_labels(["red car", "car"]))
    [('red car', 'car', "'red car' is a kind of 'car'")]
    """
    places: dict[tuple[str, ...], list[int]] = {}  # the words of a label -> where it stands
    for place, label in enumerate(labels):
        if words := tuple(word for word in words_of(label) if word not in _FILLERS):
            places.setdefault(words, []).append(place)
    found: dict[tuple[int, int], str] = {}
    for wide, narrow in _kinds(places):
        why = f"{labels[narrow]!r} is a kind of {labels[wide]!r}"
        found.setdefault((min(wide, narrow), max(wide, narrow)), why)
    for group in _data()["related"]:
        alike = [places.get(words, []) for words in dict.fromkeys(tuple(words_of(one)) for one in group)]
        for mine, others in combinations(alike, 2):
            for one, other in product(mine, others):
                found.setdefault((min(one, other), max(one, other)), "they mean nearly the same")
    for (one, other), why in sorted(found.items()):
        yield labels[one], labels[other], why


def _kinds(places: Mapping[tuple[str, ...], Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Where a label stands and where another that is a kind of it."""
    for words, mine in places.items():
        # The last words say what a thing is: a red car is a car, a car park is none.
        for general in (words[start:] for start in range(1, len(words))):
            yield from product(places.get(general, ()), mine)
    for group in _data()["kinds"]:
        head, *members = (places.get(tuple(words_of(one)), ()) for one in group)
        yield from product(head, (place for member in members for place in member))


def text_warnings(labels: Sequence[str]) -> list[LabelWarning]:
    """Warnings that need no model."""
    crime, insult = labels_containing(labels, ["crime"]), labels_containing(labels, ["derogatory"])
    people, origin = labels_containing(labels, ["person"]), labels_containing(labels, ["origin"])
    animals = labels_containing(labels, ["non_human"])
    found: list[LabelWarning] = []
    if insult:
        found.append(
            LabelWarning("derogatory", "serious", insult, f"Labels that degrade people: {_some(insult)}.")
        )
    if crime:
        found.append(LabelWarning("harm", "serious", crime, _CRIME.format(_some(crime))))
    if animals and (people or origin):
        told = _ANIMAL.format(_some(animals), _some(people or origin))
        found.append(LabelWarning("harm", "serious", animals, told))
    if people or origin:
        every = tuple(dict.fromkeys((*people, *origin)))
        found.append(LabelWarning("people", "notice", every, _PEOPLE.format(_some(every))))
    if several := tuple(label for label in labels if label.lower().strip() in word_lists()["ambiguous"]):
        told = f"Words that mean more than one thing: {_some(several)}. Say which, as in 'a crane, a bird'."
        found.append(LabelWarning("ambiguous", "notice", several, told))
    pairs = list(overlapping_labels(list(dict.fromkeys(labels))))
    for first, second, why in pairs[:_SHOWN]:
        told = f"{first!r} and {second!r} overlap: {why}. A picture of one may be called the other."
        found.append(LabelWarning("overlap", "notice", (first, second), told))
    if more := [f"{first!r} and {second!r}" for first, second, _ in pairs[_SHOWN:]]:
        told = f"More pairs that overlap, {len(more)}: {', '.join(more[:20])}{', ...' * (len(more) > 20)}."
        found.append(LabelWarning("overlap", "notice", (), told))
    for label, word, meant in islice(misspelt(labels), 2 * _SHOWN):
        where = "" if label.lower() == word else f" in {label!r}"
        found.append(LabelWarning("misspelt", "notice", (label,), f"{word!r}{where}: is {meant!r} meant?"))
    return found


def _some(labels: Sequence[str], most: int = 5) -> str:
    """The first few, quoted.

    Examples
    --------
    >>> _some(["a", "b", "a"])
    "'a', 'b'"
    """
    once = list(dict.fromkeys(labels))
    return ", ".join(map(repr, once[:most])) + (f" and {len(once) - most} more" if len(once) > most else "")
