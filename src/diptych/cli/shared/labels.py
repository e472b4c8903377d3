"""Which labels a command line means: words on the line, a file or a known set, and the prompts of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.cli.shared.console import complain
from diptych.errors import DataError

_ARTICLES = {"a", "an", "the", "some", "two", "three", "several", "many", "no", "my", "your", "his", "her"}

# Plurals that no ending tells; an "s" alone tells nothing: glass, bus, lens.
_PLURALS = {"people", "men", "women", "children", "mice", "geese", "teeth", "feet", "sheep", "cattle", "oxen"}
_SILENT_H = ("hour", "honest", "honour", "honor", "heir")
_LIKE_YOU = ("unic", "unif", "unit", "univ", "use", "usual", "ute", "eu", "ewe", "one-", "one ")


def prompt(label: str) -> str:
    """The sentence that stands for a label typed as people type them.

    Examples
    --------
    >>> prompt("cat"), prompt("a cat"), prompt("owl")
    ('a photo of a cat.', 'a photo of a cat.', 'a photo of an owl.')
    >>> prompt("people"), prompt("Paris"), prompt("2 dogs")
    ('a photo of people.', 'a photo of Paris.', 'a photo of 2 dogs.')
    >>> prompt("hour"), prompt("university"), prompt("uninvited guest")
    ('a photo of an hour.', 'a photo of a university.', 'a photo of an uninvited guest.')
    >>> prompt("a dog asleep on a sofa"), prompt("Is it raining?")
    ('a photo of a dog asleep on a sofa.', 'Is it raining?')
    """
    text = label.strip()
    words = text.split()
    if not words or text[-1] in ".?!" or (len(words) > 4 and words[0].lower() not in _ARTICLES):
        return text
    if words[0].lower() in _ARTICLES:
        return f"a photo of {text}."
    if not text[0].islower() or words[-1].lower() in _PLURALS:  # a name, a number, several things
        return f"a photo of {text}."
    return f"a photo of {_article(text)} {text}."


def _article(text: str) -> str:
    """By the first sound: an hour, a university; English keeps few such words."""
    if text.startswith(_SILENT_H):
        return "an"
    return "an" if text[0] in "aeiou" and not text.startswith(_LIKE_YOU) else "a"


def prompts_for(labels: Any) -> Any:
    """Name -> prompts, for a classifier that takes prompts as they are; a hierarchy stays one.

    Examples
    --------
    >>> prompts_for(["dog", "cat"])
    {'dog': ['a photo of a dog.'], 'cat': ['a photo of a cat.']}
    >>> prompts_for({"pet": {"dog": ["dog", "puppy"], "cat": None}})
    {'pet': {'dog': ['a photo of a dog.', 'a photo of a puppy.'], 'cat': ['a photo of a cat.']}}
    """
    if isinstance(labels, dict):
        return {name: _prompts_of(name, value) for name, value in labels.items()}
    return {label: _prompts_of(label, None) for label in labels}


def _prompts_of(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return prompts_for(value)
    texts = [name] if value is None else [value] if isinstance(value, str) else value
    return [prompt(text) for text in texts]


def distinct(labels: Sequence[str]) -> list[str]:
    """Each label once, with a warning about the others: equal labels would only split their score."""
    once = list(dict.fromkeys(labels))
    if len(once) < len(labels):
        repeated = [label for label in once if list(labels).count(label) > 1]
        shown = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
        warnings.warn(f"repeated labels count once: {shown}", UserWarning, stacklevel=2)
    return once


def class_texts(names: str | None) -> tuple[Any, dict[str, list[str]]]:
    """What --names says: class names, of a known set or a JSON file, and the texts of those with several."""
    if names is None or not Path(names).is_file():
        if names is not None and (Path(names).suffix or len(Path(names).parts) > 1):
            raise DataError(f"there is no file {names}: expected JSON with names of classes, or a known set")
        return names, {}
    from diptych.zeroshot.label_files import read_labels_file
    from diptych.zeroshot.labels import read_labels

    given = read_labels_file(Path(names), folders=True)
    if not isinstance(given, dict):
        return given, {}
    labels = read_labels(given)
    if any(label.groups for label in labels):
        raise DataError(f"{names} is a hierarchy: expected folder -> words, or folder -> several texts")
    texts = {label.texts[0]: list(label.texts) for label in labels}
    if len(texts) < len(labels) and any(len(label.texts) > 1 for label in labels):
        raise DataError(f"{names}: two classes begin with the same text, so their texts cannot be told apart")
    return {label.name: label.texts[0] for label in labels}, texts


def tell_language(labels: Any, encoder: Any, *, quiet: bool) -> None:
    """A note where the model will not understand the labels' language; none without a tokenizer to ask.

    Parameters
    ----------
    labels : list, dict or None
        As a classifier takes them; None for those of a saved one.
    encoder : Encoder
        With `tokenizer`, and `spec.languages` where its languages are stated.
    quiet : bool
        Say nothing.
    """
    from diptych.inputs import first_language_mismatch
    from diptych.zeroshot.labels import read_labels

    tokenizer = getattr(encoder, "tokenizer", None)
    if labels is None or tokenizer is None or quiet:
        return
    texts = [text for label in read_labels(labels) for text in label.texts]
    languages = getattr(getattr(encoder, "spec", None), "languages", ())
    if (sentence := first_language_mismatch(texts, tokenizer, languages)) is not None:
        complain("note", sentence)
