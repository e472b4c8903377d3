"""Prompt template sets, and the class names of the data sets they were written for.

The wording is the paper's, unchanged, including "a photo of a apple.": the published figures were measured
with it. The data file is read at the first use.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from diptych.errors import TextError

_OWN: dict[str, tuple[str, ...]] = {
    "plain": ("a photo of a {}.",),
    "bare": ("{}",),
    # Seven of the 80, chosen by forward selection in the paper's notebook on prompts.
    "imagenet7": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
}
_ALIASES = {"imagenet80": "imagenet"}


@cache
def _data() -> dict[str, dict[str, Any]]:
    """The data file: set -> {title, classes, templates, folders?}."""
    text = (files("diptych.zeroshot") / "data" / "prompts.json").read_text(encoding="utf-8")
    sets: dict[str, dict[str, Any]] = json.loads(text)
    return sets


class _Templates(Mapping[str, tuple[str, ...]]):
    """Template sets by name; their data file is read at the first access."""

    def __getitem__(self, name: str) -> tuple[str, ...]:
        if name in _OWN:
            return _OWN[name]
        return tuple(_data()[_ALIASES.get(name, name)]["templates"])

    def __iter__(self) -> Iterator[str]:
        yield from (*_OWN, *_ALIASES, *_data())

    def __len__(self) -> int:
        return len(_OWN) + len(_ALIASES) + len(_data())

    def __repr__(self) -> str:
        return f"TEMPLATES({', '.join(self)})"


TEMPLATES: Mapping[str, tuple[str, ...]] = _Templates()
"""Template sets by name: "plain", "bare", "imagenet80", "imagenet7", one for each data set of the paper."""


def class_texts(name: str) -> tuple[tuple[str, ...], ...]:
    """Texts of each class of a data set of the paper, in its order; several for classes with synonyms.

    Raises
    ------
    TextError
        No data set of that name.

    Examples
    --------
    >>> class_texts("fer2013")[3]
    ('happy', 'smiling')
    """
    classes = _set(name)["classes"]
    return tuple((texts,) if isinstance(texts, str) else tuple(texts) for texts in classes)


def class_names(name: str) -> tuple[str, ...]:
    """Class names of a data set of the paper, in its order.

    Examples
    --------
    >>> class_names("cifar10")[:3]
    ('airplane', 'automobile', 'bird')
    >>> len(class_names("imagenet"))
    1000
    """
    return tuple(texts[0] for texts in class_texts(name))


def folder_names(name: str) -> dict[str, str]:
    """Folder name -> class name of a data set, in the order of the classes.

    ImageNet's folders are WordNet ids, and those of Caltech-101 differ from the class names; in other data
    sets a folder has the name of its class.

    Examples
    --------
    >>> folder_names("imagenet")["n01440764"], folder_names("caltech101")["car_side"]
    ('tench', 'side of a car')
    """
    folders = _set(name).get("folders")
    return dict(folders) if folders else {text: text for text in class_names(name)}


def expand(names: Sequence[str], templates: str | Sequence[str] | None = "plain") -> list[str]:
    """Insert every name into every template; all prompts of the first name come first.

    Parameters
    ----------
    templates : str, sequence of str or None
        Name of a set in `TEMPLATES`, one template or several; "{}" stands for the name. None: the names are
        complete prompts.

    Raises
    ------
    TextError
        An unknown set, no template, or a template without "{}".

    Examples
    --------
    >>> expand(["dog", "cat"], ["a {}.", "the {}."])
    ['a dog.', 'the dog.', 'a cat.', 'the cat.']
    >>> expand(["a dog asleep on a sofa"], None)
    ['a dog asleep on a sofa']
    """
    return [template.replace("{}", name) for name in names for template in resolve(templates)]


def resolve(templates: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the templates of a name or sequence; None gives the bare name ("{}").

    Raises
    ------
    TextError
        An unknown set, no template, or a template without "{}".
    """
    if templates is None:
        return _OWN["bare"]
    if isinstance(templates, str) and "{}" not in templates:
        if templates not in TEMPLATES:
            similar = _similar(templates, TEMPLATES)
            raise TextError(f"no template set is called {templates!r}{similar}; or give templates with {{}}")
        return TEMPLATES[templates]
    chosen = (templates,) if isinstance(templates, str) else tuple(templates)
    invalid = [template for template in chosen if "{}" not in template]
    if invalid or not chosen:
        raise TextError(f"{invalid or 'no template'}: expected templates with {{}} where the name goes")
    return chosen


def _set(name: str) -> dict[str, Any]:
    try:
        return _data()[_ALIASES.get(name, name)]
    except KeyError:
        hint = ", which is a set of templates without class names" if name in _OWN else ""
        raise TextError(f"no class names are known for {name!r}{hint}{_similar(name, _data())}") from None


def _similar(name: str, known: Collection[str]) -> str:
    """Suggest similar names, then list all."""
    similar = difflib.get_close_matches(name.lower(), list(known), n=3)
    suggestion = f" (did you mean {', '.join(similar)}?)" if similar else ""
    return f"{suggestion}: there are {', '.join(known)}"
