"""What a list of labels says about itself, read as words: people, crime, animals, insults, homographs.

The word lists are data (`data/labels.json`), short on purpose; they warn and do not forbid. What a model
makes of the labels is `class_design.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["serious", "notice"]

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
class Warned:
    """Something about a list of labels that should be looked at before it is used.

    Attributes
    ----------
    kind : str
        "attractor", "synonyms", "no catch-all", "unsure", "repeated", "harm", "people", "derogatory",
        "ambiguous".
    severity : "serious" or "notice"
    labels : tuple of str
    message : str
    """

    kind: str
    severity: Severity
    labels: tuple[str, ...]
    message: str


@cache
def word_lists() -> dict[str, tuple[str, ...]]:
    """The lists by name."""
    read = json.loads((files("diptych.audits") / "data" / "labels.json").read_text(encoding="utf-8"))
    return {name: tuple(words) for name, words in read.items() if name != "note"}


def holding(labels: Iterable[str], kinds: Sequence[str]) -> tuple[str, ...]:
    """The labels that hold a word of these lists as a whole word, in the singular or the plural.

    Examples
    --------
    >>> holding(["a photo of two women", "a womaniser", "a dog"], ["person"])
    ('a photo of two women',)
    """
    words = "|".join(re.escape(word) for kind in kinds for word in word_lists()[kind])
    return tuple(label for label in labels if re.search(rf"\b({words})s?\b", label.lower()))


def has_catch_all(labels: Iterable[str]) -> bool:
    """Whether a label stands for whatever the others are not.

    Examples
    --------
    >>> has_catch_all(["dog", "Something else"]), has_catch_all(["dog", "a mother"])
    (True, False)
    """
    return bool(holding(labels, ["catch_all"]))


def read_words_of(labels: Sequence[str]) -> list[Warned]:
    """Warnings that need no model."""
    crime, insult = holding(labels, ["crime"]), holding(labels, ["derogatory"])
    people, origin = holding(labels, ["person"]), holding(labels, ["origin"])
    animals = holding(labels, ["non_human"])
    found: list[Warned] = []
    if insult:
        found.append(Warned("derogatory", "serious", insult, f"Labels that degrade people: {_some(insult)}."))
    if crime:
        found.append(Warned("harm", "serious", crime, _CRIME.format(_some(crime))))
    if animals and (people or origin):
        told = _ANIMAL.format(_some(animals), _some(people or origin))
        found.append(Warned("harm", "serious", animals, told))
    if people or origin:
        every = tuple(dict.fromkeys((*people, *origin)))
        found.append(Warned("people", "notice", every, _PEOPLE.format(_some(every))))
    if several := tuple(label for label in labels if label.lower().strip() in word_lists()["ambiguous"]):
        told = f"Words that mean more than one thing: {_some(several)}. Say which, as in 'a crane, a bird'."
        found.append(Warned("ambiguous", "notice", several, told))
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
