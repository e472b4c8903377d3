"""From bytes or labels to captions: KEY.txt, JSON fields, templates. Knows no file and no tar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from diptych.errors import DataError

DEFAULT_FIELDS = ("captions", "caption", "text")
DEFAULT_TEMPLATES = ("a photo of {a}.",)


def captions_of_text(data: bytes) -> tuple[str, ...]:
    r"""Read KEY.txt: the whole file is one caption, white space trimmed; none if it is empty.

    Examples
    --------
    >>> captions_of_text(b"a dog in the snow\n")
    ('a dog in the snow',)
    """
    text = data.decode("utf-8-sig", errors="replace").strip()
    return (text,) if text else ()


def parse_json(data: bytes) -> dict[str, Any]:
    """Read KEY.json as an object; an empty one where it is not (the record then has no caption)."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


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


def with_article(name: str) -> str:
    """Put "a" or "an" before a name, by its first letter.

    Examples
    --------
    >>> with_article("airplane"), with_article("dog")
    ('an airplane', 'a dog')
    """
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


class Templates:
    """Sentences with a hole for the label.

    Parameters
    ----------
    templates : sequence of str
        ``{}`` stands for the label, ``{a}`` for the label after "a" or "an", ``{field}`` for another field of
        the record. A template that asks for a field a record lacks is not used for that record.

    Raises
    ------
    DataError
        There is none, or one has a broken or no hole.

    Examples
    --------
    >>> templates = Templates(("a photo of {a}.", "{}, a kind of {kind}"))
    >>> templates.fill("owl", {"kind": "bird"})
    ('a photo of an owl.', 'owl, a kind of bird')
    >>> templates.fill("owl", {})
    ('a photo of an owl.',)
    """

    def __init__(self, templates: Sequence[str]) -> None:
        if isinstance(templates, str) or not templates:
            raise DataError(
                f"templates are {templates!r}: expected at least one, such as ('a photo of {{}}.',)"
            )
        self._templates = [(template, _holes(template)) for template in templates]
        self.fields = frozenset().union(*(holes for _, holes in self._templates)) - {"", "a"}

    def fill(self, label: str, fields: Mapping[str, str]) -> tuple[str, ...]:
        """Write every template whose holes can be filled, in order."""
        known = {**fields, "a": with_article(label)}
        return tuple(
            template.format(label, **known)
            for template, holes in self._templates
            if all(hole == "" or hole in known for hole in holes)
        )


def _holes(template: str) -> frozenset[str]:
    try:
        holes = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise DataError(
            f"template {template!r} cannot be read ({error}): write the label's place as {{}}"
        ) from None
    # Attribute and index access ("{0.x}") would reach into objects; names are all a caption needs.
    if not holes or holes.count("") > 1 or not all(hole == "" or hole.isidentifier() for hole in holes):
        raise DataError(
            f"template {template!r}: expected one {{}} (or {{a}}) for the label and {{field}} for fields"
        )
    return frozenset(holes)
