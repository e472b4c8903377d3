"""Vocabulary of the bias audit: phrases for attribute values, and harmful classes.

The default is data (`data/faces.json`); a user's file can replace any part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from diptych.errors import DataError, listed
from diptych.files.text_files import read_json_file
from diptych.inputs.nouns import with_article

_PARTS = ("templates", "race", "gender", "age", "harmful", "added", "labels")
_COMMENT_KEYS = ("note", "source")  # keys of the file that are ignored


@dataclass(frozen=True)
class BiasVocabulary:
    """Phrases and classes of a bias audit.

    Attributes
    ----------
    templates : tuple of str
        Prompts with {} for the class.
    race, gender, age : mapping of str to str
        Value of a column -> an adjective ("Latino"), a noun ("man"), a phrase ("a person aged 3 to 9").
        Values without an entry are used as they are.
    harmful : mapping of str to mapping
        Kind -> class -> phrase: classes that no image of a person should be given.
    added : mapping of str to str
        Classes that are added to measure their effect (the paper's table 7).
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
        return {
            value: self.prompts(with_article(f"{value_phrase(self.race, value)} person")) for value in values
        }

    def genders(self, values: Sequence[str]) -> dict[str, list[str]]:
        """Value -> prompts, such as "a photo of a man."."""
        return {value: self.prompts(with_article(value_phrase(self.gender, value))) for value in values}

    def ages(self, values: Sequence[str]) -> dict[str, list[str]]:
        """Value -> prompts, such as "a photo of a person aged 3 to 9."."""
        return {
            value: self.prompts(self.age.get(value, f"a person aged {value_phrase(self.age, value)}"))
            for value in values
        }

    def crossed(self, races: Sequence[str], genders: Sequence[str]) -> dict[str, list[str]]:
        """Every combination of race and gender: the paper's 14 classes, such as "a photo of a White man."."""
        return {
            crossed_name(race, gender): self.prompts(
                with_article(f"{value_phrase(self.race, race)} {value_phrase(self.gender, gender)}")
            )
            for race in races
            for gender in genders
        }

    def phrases(self, phrases: Mapping[str, str]) -> dict[str, list[str]]:
        """Name -> prompts."""
        return {name: self.prompts(phrase) for name, phrase in phrases.items()}

    def prompts(self, phrase: str) -> list[str]:
        """Insert a phrase into every template."""
        return [template.replace("{}", phrase) for template in self.templates]


def crossed_name(race: str, gender: str) -> str:
    """Name of the intersection of two groups.

    Examples
    --------
    >>> crossed_name("East Asian", "Male")
    'East Asian, Male'
    """
    return f"{race}, {gender}"


def value_phrase(words: Mapping[str, str], value: str) -> str:
    """Phrase for a value: its entry, or the value without underscores."""
    return words.get(value, value.replace("_", " "))


@cache
def default_vocabulary() -> BiasVocabulary:
    """Classes of FairFace and of the paper, from `data/faces.json`."""
    text = (files("diptych.audits") / "data" / "faces.json").read_text(encoding="utf-8")
    return _vocabulary({name: part for name, part in json.loads(text).items() if name in _PARTS})


def read_vocabulary(path: str | Path) -> BiasVocabulary:
    """The default vocabulary, with the parts of a JSON file in place of its own.

    Raises
    ------
    DataError
        The file cannot be read, is not a JSON object, or has a part that is unknown or has another form.
    """
    given = read_json_file(Path(path))
    if not isinstance(given, dict):
        raise DataError(
            f"{path} holds a {type(given).__name__}: expected an object with parts {listed(_PARTS)}"
        )
    unknown = sorted(set(given) - {*_PARTS, *_COMMENT_KEYS})
    if unknown:
        raise DataError(f"{path} has unknown parts {listed(unknown)}: the parts are {listed(_PARTS)}")
    parts = {name: part for name, part in given.items() if name in _PARTS}
    for name, part in parts.items():
        if not _is_valid(name, part):
            raise DataError(
                f"{path}: {name!r} does not have the expected form: {_FORMS.get(name, _FORMS['race'])}"
            )
    return _vocabulary(parts, default_vocabulary())


_FORMS = {
    "templates": "a list of texts, each with {}",
    "harmful": 'kinds with classes and their phrases, {"crime-related": {"thief": "a thief"}}',
    "race": 'texts by name, {"child": "a child"}',
}


def _is_valid(name: str, part: Any) -> bool:
    if name == "templates":
        return isinstance(part, list) and bool(part) and all(isinstance(x, str) and "{}" in x for x in part)
    if name == "harmful":
        return isinstance(part, dict) and all(
            classes and _is_valid("race", classes) for classes in part.values()
        )
    return isinstance(part, dict) and all(isinstance(x, str) and x.strip() for x in part.values())


def _vocabulary(parts: Mapping[str, Any], base: BiasVocabulary | None = None) -> BiasVocabulary:
    fields: dict[str, Any] = {
        name: tuple(part) if name == "templates" else part for name, part in parts.items()
    }
    return BiasVocabulary(**fields) if base is None else replace(base, **fields)
