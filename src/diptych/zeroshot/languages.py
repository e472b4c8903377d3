"""Class names and prompts in other languages: some are in the package, others are read from files.

A file is JSON: {"language": "de", "templates": ["Foto: {}."], "names": {"dog": "ein Hund", "cat": ["eine
Katze", "ein Kater"]}}. Keys of "names" are the English class names as in results; case does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeGuard

from diptych.errors import DataError, TextError, counted, listed
from diptych.files.text_files import read_text_file


@dataclass(frozen=True)
class Language:
    """Class names and prompts of one language.

    Attributes
    ----------
    code : str
        Such as "de".
    title : str
        English name of the language.
    templates : tuple of str
        Prompts; {} stands for a class.
    names : mapping of str to tuple of str
        English class name in lower case -> its names in the language; several are synonyms.
    """

    code: str
    title: str
    templates: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]

    def class_texts(self, classes: Sequence[str], dataset_name: str) -> dict[str, list[str]]:
        """Names of each class, first name -> all names, in the order of the classes.

        Parameters
        ----------
        classes : sequence of str
            English class names.
        dataset_name : str
            For messages.

        Raises
        ------
        DataError
            A class without a name in this language, or two with the same first name.
        """
        missing = [name for name in classes if name.casefold() not in self.names]
        if missing:
            raise DataError(
                f"{dataset_name} has {counted(len(missing), 'class', 'classes')} without a name in "
                f"{self.title}: {listed(missing, 5)}. Give them in a file: --language FILE with "
                '{"language": "' + self.code + '", "templates": ["...{}..."], "names": {'
                f'"{missing[0]}": "...", ...}}}}'
            )
        texts = {words[0]: list(words) for words in (self.names[name.casefold()] for name in classes)}
        if len(texts) < len(classes):
            raise DataError(
                f"{dataset_name}: two classes have the same first name in {self.title}, so that their "
                "answers could not be distinguished: give each class its own name"
            )
        return texts


@cache
def _shipped() -> dict[str, Any]:
    text = (files("diptych.zeroshot") / "data" / "languages.json").read_text(encoding="utf-8")
    return {code: value for code, value in json.loads(text).items() if code != "note"}


def languages() -> tuple[str, ...]:
    """Codes of the languages in the package, besides English.

    Examples
    --------
    >>> "de" in languages(), "en" in languages()
    (True, False)
    """
    return tuple(_shipped())


def load_language(code: str | Path) -> Language:
    """Load a language by its code, or from a JSON file.

    Parameters
    ----------
    code : str or path
        One of `languages()`, or a file.

    Raises
    ------
    TextError
        No such language and no such file, or a file of another form.

    Examples
    --------
    >>> load_language("es").class_texts(["dog", "Cat"], "toy")
    {'un perro': ['un perro'], 'un gato': ['un gato']}
    """
    if str(code) in _shipped():
        return _language(str(code), _shipped()[str(code)], str(code))
    path = Path(code)
    if not path.is_file():
        raise TextError(
            f"no language {str(code)!r}: there are en, {', '.join(languages())}, or a JSON file with "
            "language, templates and names"
        )
    try:
        value = json.loads(read_text_file(path))
    except ValueError as error:
        raise TextError(f"{path} is not a JSON file of a language: {error}") from error
    return _language(path.stem, value, str(path))


def _language(code: str, value: Any, source: str) -> Language:
    """Validate the content of a file; `source` is its name in messages."""
    expected = 'expected {"language": "de", "templates": ["Foto: {}."], "names": {"dog": "ein Hund"}}'
    if not isinstance(value, dict):
        raise TextError(f"{source} is not an object: {expected}")
    templates, names = value.get("templates"), value.get("names")
    if not _are_texts(templates) or not all("{}" in template for template in templates):
        raise TextError(f"{source}: templates are not a list of texts with {{}}: {expected}")
    if not isinstance(names, dict):
        raise TextError(f"{source}: names are not an object: {expected}")
    words: dict[str, tuple[str, ...]] = {}
    for name, texts in names.items():
        listed = [texts] if isinstance(texts, str) else texts
        if not _are_texts(listed):
            raise TextError(
                f"{source}: the words of {name!r} are neither a text nor a list of texts: {expected}"
            )
        words[name.casefold()] = tuple(listed)
    language_code = str(value.get("language", code))
    return Language(language_code, str(value.get("title", language_code)), tuple(templates), words)


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(text, str) and text.strip() for text in value)
    )
