"""Sets of words for association tests: built in, or the user's in JSON. The tests are `association.py`'s."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from diptych.audits.bias.attribute_table import listed
from diptych.errors import DataError
from diptych.files.text_files import read_text_file

_LEAST = 2  # texts of a set: one has no spread


@dataclass(frozen=True)
class TextSet:
    """A set of texts under one name."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class AssociationTest:
    """What is compared (`x`, `y`), and what it may be nearer to (`a`, `b`).

    Attributes
    ----------
    name : str
    x, y : Texts or None
        None where pictures stand in their place.
    a, b : Texts
    control : bool
        Whether any model that knows language should find x nearer to a: where one does not, its other
        figures say little.
    """

    name: str
    a: TextSet
    b: TextSet
    x: TextSet | None = None
    y: TextSet | None = None
    control: bool = False


@dataclass(frozen=True)
class AssociationTests:
    """Tests of texts, and tests of pictures by their groups."""

    texts: tuple[AssociationTest, ...]
    pictures: tuple[AssociationTest, ...]


def default_tests() -> AssociationTests:
    """The sets of `data/associations.json`."""
    return _tests((files("diptych.audits") / "data" / "associations.json").read_text("utf-8"), "built in")


def read_tests(path: str | Path) -> AssociationTests:
    """Sets from a JSON file: "sets" with x, y, a and b, "pictures" with a and b, each a name and its texts.

    A set with "control": true is one that every model should find.

    Raises
    ------
    DataError
        It cannot be read, or a set is not of that form.
    """
    try:
        text = read_text_file(Path(path))
    except DataError as error:
        raise DataError(f"{path} cannot be read ({error}): expected JSON with association sets") from error
    return _tests(text, str(path))


def _tests(text: str, where: str) -> AssociationTests:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is no JSON: {error}") from error
    known = {"note", "sets", "pictures"}
    if not isinstance(given, dict) or not set(given) & {"sets", "pictures"} or set(given) - known:
        raise DataError(f"{where}: expected an object with 'sets', 'pictures' or both")
    return AssociationTests(
        tuple(_test(name, one, "abxy", where) for name, one in _object(given.get("sets", {}), where).items()),
        tuple(
            _test(name, one, "ab", where) for name, one in _object(given.get("pictures", {}), where).items()
        ),
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: a {type(value).__name__} where sets by name were expected")
    return value


def _test(name: str, given: Any, parts: str, where: str) -> AssociationTest:
    control = given.get("control", False) if isinstance(given, dict) else None
    if not isinstance(given, dict) or set(given) - {"control"} != set(parts) or not isinstance(control, bool):
        raise DataError(
            f"{where}: set {name!r} needs exactly the parts {listed(sorted(parts))}, and may have 'control', "
            "true or false"
        )
    texts = {part: _texts(f"{name}, {part}", given[part], where) for part in parts}
    return AssociationTest(name, **texts, control=control)


def _are_texts(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        return False
    return len(set(value)) >= _LEAST


def _texts(what: str, given: Any, where: str) -> TextSet:
    if isinstance(given, dict) and len(given) == 1:
        title, texts = next(iter(given.items()))
        if _are_texts(texts):
            return TextSet(title, tuple(dict.fromkeys(texts)))
    raise DataError(
        f'{where}: {what} is not of the form {{"name": ["text", "text", ...]}} with at least {_LEAST} texts'
    )
