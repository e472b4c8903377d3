"""The indefinite article of a name, for prompts and captions."""

from __future__ import annotations


def with_article(name: str) -> str:
    """Prefix a name with "a" or "an", by its first letter.

    Examples
    --------
    >>> with_article("airplane"), with_article("Indian man"), with_article("dog")
    ('an airplane', 'an Indian man', 'a dog')
    """
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"
