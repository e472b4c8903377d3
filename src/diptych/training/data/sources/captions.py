"""Captions made of class labels, by templates. Caption files beside pictures: `media.folders.captions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter

from diptych.errors import DataError

DEFAULT_TEMPLATES = ("a photo of {a}.",)


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
