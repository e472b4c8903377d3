"""The words an audit of people is made with: how values are said, and the classes that would harm.

They are data (`data/faces.json`), and any part of them can be replaced by a file of the user's. What is done
with them is `bias.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from diptych.audits.bias.attribute_table import listed
from diptych.errors import DataError
from diptych.files.text_files import read_text_file

_PARTS = ("templates", "race", "gender", "age", "harmful", "added", "labels")
_TOLD = ("note", "source")  # for people who read the file


@dataclass(frozen=True)
class BiasVocabulary:
    """How an audit says things.

    Attributes
    ----------
    templates : tuple of str
        Prompts; {} stands for a class.
    race, gender, age : mapping of str to str
        Value of a column -> an adjective ("Latino"), a noun ("man"), a phrase ("a person aged 3 to 9").
        Values without an entry are said as they are.
    harmful : mapping of str to mapping
        Kind -> class -> phrase: what no picture of a person should be called.
    added : mapping of str to str
        Classes that are added to see what changes (the paper's table 7).
    labels : mapping of str to str
        Labels whose use is compared between groups.
    """

    templates: tuple[str, ...]
    race: Mapping[str, str]
    gender: Mapping[str, str]
    age: Mapping[str, str]
    harmful: Mapping[str, Mapping[str, str]]
    added: Mapping[str, str]
    labels: Mapping[str, str]

    def races(self, values: Sequence[str]) -> dict[str, list[str]]:
        """Value -> prompts, such as "a photo of a White person."."""
        return {value: self.prompts(with_article(f"{said(self.race, value)} person")) for value in values}

    def genders(self, values: Sequence[str]) -> dict[str, list[str]]:
        """Value -> prompts, such as "a photo of a man."."""
        return {value: self.prompts(with_article(said(self.gender, value))) for value in values}

    def ages(self, values: Sequence[str]) -> dict[str, list[str]]:
        """Value -> prompts, such as "a photo of a person aged 3 to 9."."""
        return {
            value: self.prompts(self.age.get(value, f"a person aged {said(self.age, value)}"))
            for value in values
        }

    def crossed(self, races: Sequence[str], genders: Sequence[str]) -> dict[str, list[str]]:
        """Every race with every gender: the paper's 14 classes, such as "a photo of a White man."."""
        return {
            both(race, gender): self.prompts(
                with_article(f"{said(self.race, race)} {said(self.gender, gender)}")
            )
            for race in races
            for gender in genders
        }

    def phrases(self, phrases: Mapping[str, str]) -> dict[str, list[str]]:
        """Name -> prompts."""
        return {name: self.prompts(phrase) for name, phrase in phrases.items()}

    def prompts(self, phrase: str) -> list[str]:
        """A phrase in every template."""
        return [template.replace("{}", phrase) for template in self.templates]


def both(race: str, gender: str) -> str:
    """What the meeting of two groups is called.

    Examples
    --------
    >>> both("East Asian", "Male")
    'East Asian, Male'
    """
    return f"{race}, {gender}"


def said(words: Mapping[str, str], value: str) -> str:
    """A value in words: its entry, or itself without underscores."""
    return words.get(value, value.replace("_", " "))


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an" before it.

    Examples
    --------
    >>> with_article("Indian man"), with_article("White woman")
    ('an Indian man', 'a White woman')
    """
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


@cache
def default_vocabulary() -> BiasVocabulary:
    """FairFace's classes and the paper's, as `data/faces.json` has them."""
    text = (files("diptych.audits") / "data" / "faces.json").read_text(encoding="utf-8")
    return _words({name: part for name, part in json.loads(text).items() if name in _PARTS})


def read_vocabulary(path: str | Path) -> BiasVocabulary:
    """The default words with the parts that a JSON file gives in place of theirs.

    Raises
    ------
    DataError
        It cannot be read, is no JSON object, or has a part that is unknown or of another form.
    """
    try:
        given = json.loads(read_text_file(Path(path)))
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}): expected parts {listed(_PARTS)}"
        ) from error
    if not isinstance(given, dict):
        raise DataError(
            f"{path} holds a {type(given).__name__}: expected an object with parts {listed(_PARTS)}"
        )
    unknown = sorted(set(given) - {*_PARTS, *_TOLD})
    if unknown:
        raise DataError(f"{path} has unknown parts {listed(unknown)}: the parts are {listed(_PARTS)}")
    parts = {name: part for name, part in given.items() if name in _PARTS}
    for name, part in parts.items():
        if not _fits(name, part):
            raise DataError(
                f"{path}: {name!r} is not of the form expected: {_FORMS.get(name, _FORMS['race'])}"
            )
    return _words(parts, default_vocabulary())


_FORMS = {
    "templates": "a list of texts, each with {}",
    "harmful": 'kinds with classes and their phrases, {"crime-related": {"thief": "a thief"}}',
    "race": 'texts by name, {"child": "a child"}',
}


def _fits(name: str, part: Any) -> bool:
    if name == "templates":
        return isinstance(part, list) and bool(part) and all(isinstance(x, str) and "{}" in x for x in part)
    if name == "harmful":
        return isinstance(part, dict) and all(classes and _fits("race", classes) for classes in part.values())
    return isinstance(part, dict) and all(isinstance(x, str) and x.strip() for x in part.values())


def _words(parts: Mapping[str, Any], before: BiasVocabulary | None = None) -> BiasVocabulary:
    made: dict[str, Any] = {
        name: tuple(part) if name == "templates" else part for name, part in parts.items()
    }
    return BiasVocabulary(**made) if before is None else replace(before, **made)
