"""Articles and plurals of English nouns, for prompts and captions."""

from __future__ import annotations

import re


def with_article(name: str) -> str:
    """Prefix a name with "a" or "an", by its first letter.

    Examples
    --------
    >>> with_article("airplane"), with_article("Indian man"), with_article("dog")
    ('an airplane', 'an Indian man', 'a dog')
    """
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def plural(name: str) -> str:
    """Plural of a name, by the rules for most nouns.

    Examples
    --------
    >>> [plural(name) for name in ("dog", "bus", "butterfly", "leaf beetle", "toy", "person")]
    ['dogs', 'buses', 'butterflies', 'leaf beetles', 'toys', 'people']
    """
    if name == "person" or name.endswith(" person"):
        return name.removesuffix("person") + "people"
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(s|x|z|ch|sh)$", name) else "s")
