"""Labels given on a command line (words, a file or a known set), and their prompts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli.shared.console import print_message
from diptych.cli.shared.options import option
from diptych.errors import DataError, TextError

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.zeroshot import ZeroShotClassifier

_ARTICLES = {"a", "an", "the", "some", "two", "three", "several", "many", "no", "my", "your", "his", "her"}

# Plurals without the ending "s"; the ending itself is no sign of a plural: glass, bus, lens.
_PLURALS = {"people", "men", "women", "children", "mice", "geese", "teeth", "feet", "sheep", "cattle", "oxen"}
_SILENT_H = ("hour", "honest", "honour", "honor", "heir")
_SOUNDS_LIKE_YOU = ("unic", "unif", "unit", "univ", "use", "usual", "ute", "eu", "ewe", "one-", "one ")


def prompt(label: str) -> str:
    """Make a prompt from a label as people type it.

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
    """The indefinite article, by the first sound: an hour, a university."""
    if text.startswith(_SILENT_H):
        return "an"
    return "an" if text[0] in "aeiou" and not text.startswith(_SOUNDS_LIKE_YOU) else "a"


def prompts_for(labels: Any) -> Any:
    """Prompts by label name, for a classifier without templates; a hierarchy keeps its form.

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
    """Drop repeated labels with a warning: equal labels would share one score between them."""
    once = list(dict.fromkeys(labels))
    if len(once) < len(labels):
        repeated = [label for label in once if list(labels).count(label) > 1]
        shown = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
        warnings.warn(f"repeated labels count once: {shown}", UserWarning, stacklevel=2)
    return once


def templates_option(**settings: Any) -> Any:
    """The option `--templates` of commands that by default make a sentence of each label."""
    return option(
        "auto|NAME|TEXT",
        "Prompt templates: auto makes a sentence of each label; or plain, bare, imagenet80, ..., or a "
        "text with {}.",
        **settings,
    )


def fit_classifier(encoder: Encoder, labels: Any, templates: str, **settings: Any) -> ZeroShotClassifier:
    """Fit a classifier to labels, with prompt templates, or with prompts made from the labels by "auto"."""
    from diptych.zeroshot import ZeroShotClassifier

    auto = templates == "auto"
    classifier = ZeroShotClassifier(encoder, templates=None if auto else templates, **settings)
    return classifier.fit(prompts_for(labels) if auto else labels)


def merge_labels(file: Path | None, words: Sequence[str]) -> Any:
    """Read a file of labels, if one is given, and add the labels on the command line.

    Returns a list of distinct labels, or the dictionary of a file that has texts for each label.

    Raises
    ------
    TextError
        The file has texts for each label, so words cannot be added.
    """
    from diptych.zeroshot.label_files import read_labels_file

    labels = read_labels_file(file) if file is not None else []
    if not isinstance(labels, dict):
        return distinct([*labels, *words])
    if words:
        raise TextError(
            f"{file} has texts for each label, so --label cannot add to it: leave one of them out"
        )
    return labels


def class_texts(names: str | None) -> tuple[Any, dict[str, list[str]]]:
    """Read --names: class names from a known set or a JSON file, and the texts of classes with several."""
    if names is None or not Path(names).is_file():
        if names is not None and (Path(names).suffix or len(Path(names).parts) > 1):
            raise DataError(
                f"there is no file {names}: expected JSON with class names, or the name of a known set"
            )
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


def note_language(labels: Any, encoder: Any, *, quiet: bool) -> None:
    """Print a note if the model does not read the language of the labels.

    The encoder needs a `tokenizer` to tell, and `spec.languages` if its languages are stated. `labels` is
    None for a saved classifier.
    """
    from diptych.inputs import first_language_mismatch
    from diptych.zeroshot.labels import read_labels

    tokenizer = getattr(encoder, "tokenizer", None)
    if labels is None or tokenizer is None or quiet:
        return
    texts = [text for label in read_labels(labels) for text in label.texts]
    languages = getattr(getattr(encoder, "spec", None), "languages", ())
    if (sentence := first_language_mismatch(texts, tokenizer, languages)) is not None:
        print_message("note", sentence)
