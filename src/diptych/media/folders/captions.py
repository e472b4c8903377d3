"""Captions from the content of KEY.txt and KEY.json files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from diptych.errors import DataError
from diptych.files.text_files import decode_text
from diptych.files.unicode_text import without_surrogates

DEFAULT_FIELDS = ("captions", "caption", "text")


def captions_of_text(data: bytes, name: str = "a caption", *, cut: bool = False) -> tuple[str, ...]:
    r"""Read the content of KEY.txt: the whole file is one caption, stripped; none if it is empty.

    Parameters
    ----------
    data : bytes
        In any encoding of `text_files`. Data that is not a text gives a warning and no caption.
    name : str
        Named in the warning.
    cut : bool
        The data is the beginning of a longer file.

    Examples
    --------
    >>> captions_of_text(b"a dog in the snow\n")
    ('a dog in the snow',)
    """
    text = _text(data, name, cut=cut).strip()
    return (text,) if text else ()


def _text(data: bytes, name: str, *, cut: bool = False) -> str:
    try:
        return decode_text(data, name, cut=cut)
    except DataError as error:
        warnings.warn(f"{error}; its captions are left out", UserWarning, stacklevel=4)
        return ""


def parse_json(data: bytes, name: str = "JSON with captions") -> dict[str, Any]:
    r"""Parse the content of KEY.json; an empty dictionary if it is not a JSON object.

    Lone surrogates, which JSON can escape but no file or database can store, are replaced by U+FFFD.

    Examples
    --------
    >>> parse_json(rb'{"caption": "\ud800 dog"}') == {"caption": "\ufffd dog"}
    True
    """
    try:
        value = without_surrogates(json.loads(_text(data, name)))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def captions_of_fields(fields: Mapping[str, Any], name: str | None = None) -> tuple[str, ...]:
    """Extract the captions from the fields of a JSON object.

    Parameters
    ----------
    fields : mapping
        The JSON object.
    name : str, optional
        A field with a string or a list of strings; by default the first of "captions", "caption" and "text"
        that has any.

    Returns
    -------
    tuple of str
        Stripped; empty strings and other types are omitted.

    Examples
    --------
    >>> captions_of_fields({"captions": ["a dog", " a brown dog "], "id": 3})
    ('a dog', 'a brown dog')
    >>> captions_of_fields({"alt": "a cat"}, "alt")
    ('a cat',)
    """
    for field in DEFAULT_FIELDS if name is None else (name,):
        value = fields.get(field)
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        captions = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
        if captions:
            return captions
    return ()
