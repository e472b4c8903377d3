"""Synsets: things with their names in several languages, a definition, and classes of a classifier.

The file is JSON lines, plain or gzipped, one synset a line; all keys but "names" may be left out:
``{"names": {"en": ["dog", "domestic dog"], "es": ["perro"]}, "definition": "a domestic animal that barks",
"classes": [151, 152], "weight": 2.0, "forms": ["dog", "dogs"]}``. WordNet's synsets (Miller 1995) and
the nodes of a tree of classes have this form: a node's classes are the leaves below it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.files.text_files import lines_of, read_text_file
from diptych.files.unicode_text import without_surrogates

_MAX_BYTES = 2**30  # of the file
_EXPECTED = '{"names": {"en": ["dog"]}, "definition": "...", "classes": [151], "weight": 1.0}'


@dataclass(frozen=True)
class Synset:
    """A thing and its names.

    Attributes
    ----------
    names : mapping of str to tuple of str
        By language code; the most usual name first.
    definition : str
        "" if unknown.
    classes : tuple of int
        Numbers of the classes that belong to it.
    weight : float
        How often it is drawn, relative to the others.
    forms : tuple of str
        Spellings in captions, lower case: "dog", "dogs".
    """

    names: Mapping[str, tuple[str, ...]]
    definition: str = ""
    classes: tuple[int, ...] = ()
    weight: float = 1.0
    forms: tuple[str, ...] = ()


def read_synsets(path: str | Path) -> list[Synset]:
    """Read a file of synsets.

    Raises
    ------
    DataError
        The file cannot be read or has no synset, or a line has another form; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "synsets.jsonl"
    >>> _ = file.write_text('{"names": {"en": ["dog"], "es": ["perro"]}, "classes": [3]}')
    >>> read_synsets(file)[0].names["es"]
    ('perro',)
    """
    path = Path(path).expanduser()
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as file:
                text = file.read(_MAX_BYTES).decode("utf-8")
        else:
            text = read_text_file(path, _MAX_BYTES)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, DataError) as error:
        raise DataError(f"{path} cannot be read as a file of synsets: {error}") from error
    synsets = [
        _parse(line, f"{path}, line {number}")
        for number, line in enumerate(lines_of(text), start=1)
        if line.strip()
    ]
    if not synsets:
        raise DataError(f"{path} has no synset: expected lines such as {_EXPECTED}")
    return synsets


def _parse(line: str, source: str) -> Synset:
    try:
        value: Any = without_surrogates(json.loads(line))
        names = {
            str(language): tuple(_texts(texts)) for language, texts in value["names"].items() if _texts(texts)
        }
        definition, classes = value.get("definition", ""), tuple(value.get("classes", ()))
        weight = float(value.get("weight", 1.0))
        is_valid = (
            bool(names)
            and isinstance(definition, str)
            and all(type(number) is int and number >= 0 for number in classes)
            and 0 <= weight < float("inf")
        )
        if is_valid:
            return Synset(names, definition.strip(), classes, weight, tuple(_texts(value.get("forms", []))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise DataError(f"{source} is {line[:60]!r}: expected {_EXPECTED}")


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise TypeError(values)
    return [text.strip() for text in values if text.strip()]
