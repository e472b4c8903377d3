"""Accepted forms of class names, flattened to labels: a list, names with several texts, or a hierarchy.

["dog", "cat"]                                      names
{"dog": ["dog", "puppy"], "cat": "cat"}             names with their texts (synonyms)
{"animal": {"dog": ["dog", "puppy"], "cat": None},  a hierarchy, of any depth; None is the name itself
 "vehicle": {"car": None}}
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from diptych.errors import TextError, listed

Texts: TypeAlias = "str | Sequence[str] | None"
# A mapping holds Texts or mappings like itself; mypy has no finite name for that.
Names: TypeAlias = "str | Sequence[str] | Mapping[str, Any]"


@dataclass(frozen=True)
class Label:
    """A class: its name, its texts (synonyms), and its groups, outermost first."""

    name: str
    texts: tuple[str, ...]
    groups: tuple[str, ...] = ()


def read_labels(names: Names) -> tuple[Label, ...]:
    """Flatten class names to labels, in the order given.

    Raises
    ------
    TextError
        No label, a label that is not a text or blank, or a name without texts.

    Examples
    --------
    >>> [(label.name, label.texts) for label in read_labels({"dog": ["dog", "puppy"], "cat": None})]
    [('dog', ('dog', 'puppy')), ('cat', ('cat',))]
    >>> read_labels({"animal": {"dog": None}})[0].groups
    ('animal',)
    """
    labels = tuple(_flat(names, ()))
    if not labels:
        raise TextError('no labels were given: expected at least one class name, such as ["dog", "cat"]')
    return labels


def distinct_names(names: Sequence[str]) -> list[str]:
    """Make names unique: repeats get their position. ImageNet has two classes "missile".

    Examples
    --------
    >>> distinct_names(["missile", "dog", "missile"])
    ['missile', 'dog', 'missile (class 2)']
    """
    taken: set[str] = set(names)
    distinct: list[str] = []
    used: set[str] = set()
    for position, name in enumerate(names):
        key = name
        while key in used or (key != name and key in taken):
            key = f"{name} (class {position})" if key == name else f"{key}'"
        used.add(key)
        distinct.append(key)
    return distinct


def full_names(labels: Sequence[Label]) -> list[str]:
    """Names of labels, preceded by their groups if labels of several groups have the same name.

    Examples
    --------
    >>> full_names(read_labels({"bird": {"crane": None, "owl": None}, "machine": {"crane": None}}))
    ['bird/crane', 'owl', 'machine/crane']
    """
    groups: dict[str, set[tuple[str, ...]]] = {}
    for label in labels:
        groups.setdefault(label.name, set()).add(label.groups)
    return [
        "/".join((*label.groups, label.name)) if len(groups[label.name]) > 1 else label.name
        for label in labels
    ]


def warn_repeats(labels: Sequence[Label]) -> None:
    """Warn of repeated names: they split the probability, and only the first is predicted."""
    repeated = [name for name, count in Counter(full_names(labels)).items() if count > 1]
    if repeated:
        warnings.warn(
            f"labels that come more than once ({listed(repeated, 5)}): equal labels split the probability "
            "between them; give them different names or merge them",
            UserWarning,
            stacklevel=4,
        )


def _flat(names: Names, groups: tuple[str, ...]) -> Iterable[Label]:
    if isinstance(names, Mapping):
        for name, value in names.items():
            if isinstance(value, Mapping):
                yield from _flat(value, (*groups, _text(name)))
            else:
                yield Label(_text(name), _texts(name, value), groups)
        return
    if not isinstance(names, str) and not isinstance(names, Iterable):
        raise TextError(f"labels came as {type(names).__name__}: expected a list of names or a mapping")
    # A string is one label, not a sequence of letters.
    yield from (
        Label(_text(name), (name,), groups) for name in ([names] if isinstance(names, str) else names)
    )


def _texts(name: str, value: Texts) -> tuple[str, ...]:
    texts = (name,) if value is None else (value,) if isinstance(value, str) else tuple(value)
    if not texts:
        raise TextError(
            f"the label {name!r} has no texts: expected at least one, or None for the name itself"
        )
    return tuple(_text(text) for text in texts)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TextError(f"a label came as {type(value).__name__} ({value!r:.40}): expected a text")
    if not value.strip():
        raise TextError("a label is blank: expected a class name in words")
    return value
