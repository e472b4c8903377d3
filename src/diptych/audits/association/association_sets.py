"""Word sets for association tests: the built-in ones, or the user's from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from diptych.errors import DataError, listed
from diptych.files.text_files import read_json_file

_LEAST = 2  # texts in a set: the standard deviation needs two


@dataclass(frozen=True)
class TextSet:
    """A set of texts under one name."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class AssociationTest:
    """Target sets (`x`, `y`) and attribute sets (`a`, `b`) of one association test.

    Attributes
    ----------
    x, y : TextSet or None
        None where images take their place.
    control : bool
        Whether any model that understands language should find x more similar to a. If one does not, its
        other figures mean little.
    """

    name: str
    a: TextSet
    b: TextSet
    x: TextSet | None = None
    y: TextSet | None = None
    control: bool = False


@dataclass(frozen=True)
class AssociationTests:
    """Tests of texts, and tests of images by their groups."""

    texts: tuple[AssociationTest, ...]
    pictures: tuple[AssociationTest, ...]


def default_tests() -> AssociationTests:
    """Built-in tests, from `data/associations.json`."""
    text = (files("diptych.audits") / "data" / "associations.json").read_text("utf-8")
    return _tests(json.loads(text), "built in")


def read_tests(path: str | Path) -> AssociationTests:
    """Read tests from a JSON file.

    "sets" have x, y, a and b, "pictures" have a and b; each of these is a name and its texts.
    A set with "control": true is one that every model should find.

    Raises
    ------
    DataError
        The file cannot be read, or a set does not have that form.
    """
    return _tests(read_json_file(Path(path)), str(path))


def _tests(given: Any, source: str) -> AssociationTests:
    fields = {"note", "sets", "pictures"}
    if not isinstance(given, dict) or not set(given) & {"sets", "pictures"} or set(given) - fields:
        raise DataError(f"{source}: expected an object with 'sets', 'pictures' or both")
    return AssociationTests(
        tuple(
            _test(name, spec, "abxy", source) for name, spec in _object(given.get("sets", {}), source).items()
        ),
        tuple(
            _test(name, spec, "ab", source)
            for name, spec in _object(given.get("pictures", {}), source).items()
        ),
    )


def _object(value: Any, source: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{source}: got a {type(value).__name__}, expected an object with sets by name")
    return value


def _test(name: str, given: Any, parts: str, source: str) -> AssociationTest:
    control = given.get("control", False) if isinstance(given, dict) else None
    if not isinstance(given, dict) or set(given) - {"control"} != set(parts) or not isinstance(control, bool):
        raise DataError(
            f"{source}: set {name!r} needs exactly the parts {listed(sorted(parts))}, and may have "
            "'control', true or false"
        )
    texts = {part: _texts(f"{name}, {part}", given[part], source) for part in parts}
    return AssociationTest(name, **texts, control=control)


def _are_texts(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        return False
    return len(set(value)) >= _LEAST


def _texts(name: str, given: Any, source: str) -> TextSet:
    if isinstance(given, dict) and len(given) == 1:
        title, texts = next(iter(given.items()))
        if _are_texts(texts):
            return TextSet(title, tuple(dict.fromkeys(texts)))
    raise DataError(
        f'{source}: {name} is not of the form {{"name": ["text", "text", ...]}} with at least {_LEAST} texts'
    )
