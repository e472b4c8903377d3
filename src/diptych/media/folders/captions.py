"""Captions beside a picture: the text of KEY.txt, the fields of KEY.json. Knows no file and no archive."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from diptych.errors import DataError
from diptych.files.text_files import decode_text

DEFAULT_FIELDS = ("captions", "caption", "text")


def captions_of_text(data: bytes, name: str = "a caption", *, cut: bool = False) -> tuple[str, ...]:
    r"""Read KEY.txt: the whole file is one caption, white space trimmed; none if it is empty.

    Parameters
    ----------
    data : bytes
        In the encoding it has, see `text_files`. What is no text gives no caption, with a warning.
    name : str
        For the warning.
    cut : bool
        These are the first bytes of a longer file.

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
    r"""Read KEY.json as an object; an empty one where it is not (the record then has no caption).

    JSON can spell half of a surrogate pair, which no file, table or database takes: it becomes U+FFFD.

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


def without_surrogates(value: Any) -> Any:
    r"""A value out of JSON, each half of a surrogate pair in its strings replaced by U+FFFD.

    Examples
    --------
    >>> without_surrogates({"caption": ["\ud800 dog"]}) == {"caption": ["\ufffd dog"]}
    True
    """
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {without_surrogates(name): without_surrogates(inner) for name, inner in value.items()}
    return [without_surrogates(inner) for inner in value] if isinstance(value, list) else value


def captions_of_fields(fields: Mapping[str, Any], name: str | None = None) -> tuple[str, ...]:
    """Take the captions out of a record's fields.

    Parameters
    ----------
    fields : mapping
        The JSON object beside the picture.
    name : str, optional
        The field that holds a string or a list of strings; by default the first of "captions", "caption",
        "text" that holds any.

    Returns
    -------
    tuple of str
        Trimmed, empty ones and other types left out.

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
        found = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
        if found:
            return found
    return ()
