"""Captions made from class labels by templates. Caption files beside images: `media.folders.captions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter

from diptych.errors import DataError
from diptych.inputs.nouns import plural, with_article

DEFAULT_TEMPLATES = ("a photo of {a}.",)


class Templates:
    """Sentences with a placeholder for the label.

    Parameters
    ----------
    templates : sequence of str
        ``{}`` stands for the label, ``{a}`` for the label after "a" or "an", ``{s}`` for its plural,
        ``{field}`` for another field of the record. A template with a field that a record lacks is not used
        for that record.

    Raises
    ------
    DataError
        There is no template, or one has a broken placeholder or none.

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
        self._templates = [(template, _placeholders(template)) for template in templates]
        used = frozenset().union(*(placeholders for _, placeholders in self._templates))
        self.fields = used - {"", "a", "s"}

    def fill(self, label: str, fields: Mapping[str, str]) -> tuple[str, ...]:
        """Fill every template whose placeholders are all known, in order."""
        values = {**fields, "a": with_article(label), "s": plural(label)}
        return tuple(
            template.format(label, **values)
            for template, placeholders in self._templates
            if all(placeholder == "" or placeholder in values for placeholder in placeholders)
        )


def _placeholders(template: str) -> frozenset[str]:
    try:
        placeholders = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise DataError(
            f"template {template!r} cannot be read ({error}): write the placeholder of the label as {{}}"
        ) from None
    # Attribute and index access ("{0.x}") would reach into objects; names are all a caption needs.
    if (
        not placeholders
        or placeholders.count("") > 1
        or not all(placeholder == "" or placeholder.isidentifier() for placeholder in placeholders)
    ):
        raise DataError(
            f"template {template!r}: expected {{}}, {{a}} or {{s}} for the label, and {{field}} for fields"
        )
    return frozenset(placeholders)
