"""Phrasings of class names: sentences around a name, its forms, synonyms, misspellings.

A phrasing is one text per class. `wording.py` measures their effect on accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diptych.audits.labels.class_groups import read_text_lists
from diptych.errors import DataError, counted
from diptych.inputs.nouns import plural, with_article

PLAIN = "a photo of a {}."
SENTENCES = (
    "{}", "{}.", "a {}", "a photo of the {}.", "a picture of a {}.", "an image of a {}.",
    "this is a {}.", "there is a {} in the picture.", "a good photo of a {}.",
    "a blurry photo of a {}.", "a close-up photo of a {}.", "itap of a {}.", "the photo shows a {}",
    "what you see here is called a {}.",
)  # fmt: skip
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # a QWERTY keyboard; each row is shifted right by half a key


@dataclass(frozen=True)
class Phrasing:
    """One text for every class.

    Attributes
    ----------
    family : str
        sentence, form, synonym, 1 edit or 2 edits.
    name : str
        Name in tables.
    texts : tuple of str
        A prompt per class.
    """

    family: str
    name: str
    texts: tuple[str, ...]


def phrasings(
    names: Sequence[str],
    *,
    sentences: Sequence[str] = SENTENCES,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    misspellings: int = 5,
    seed: int = 0,
) -> list[Phrasing]:
    """All phrasings of these classes; the plain one comes first.

    Parameters
    ----------
    sentences : sequence of str
        Templates with {}.
    synonyms : mapping of class to other words, optional
        The k-th synonyms of all classes form one phrasing; a class with fewer synonyms keeps its name.
    misspellings : int
        Random draws for each number of edits.
    seed : int
        Seed of the misspellings.

    Raises
    ------
    DataError
        Synonyms are given for an unknown class.

    Examples
    --------
    >>> [phrasing.texts[0] for phrasing in phrasings(["dog"], sentences=["{}"], misspellings=0)]
    ['a photo of a dog.', 'dog', 'a photo of dog.', 'a photo of a DOG.', 'A PHOTO OF A DOG.', \
'a photo of a Dog.', 'a photo of dogs.', 'a photo of an dog.']
    """
    result = [Phrasing("sentence", PLAIN, fill_template(names, PLAIN))]
    result += [
        Phrasing("sentence", sentence, fill_template(names, sentence))
        for sentence in sentences
        if sentence != PLAIN
    ]
    result += [Phrasing("form", name, change(names)) for name, change in _FORMS.items()]
    result += _synonym_phrasings(names, synonyms or {})
    for edits in (1, 2):
        for draw in range(misspellings):
            rng = np.random.default_rng([seed, 600, edits, draw])
            texts = fill_template([with_typos(name, edits, rng) for name in names], PLAIN)
            family = counted(edits, "edit")
            result.append(Phrasing(family, f"{family}, draw {draw + 1}", texts))
    return result


def fill_template(names: Sequence[str], template: str) -> tuple[str, ...]:
    """Fill a template with every name."""
    return tuple(template.replace("{}", name) for name in names)


def with_wrong_article(name: str) -> str:
    """Prepend the wrong one of "a" and "an".

    Examples
    --------
    >>> with_wrong_article("airplane"), with_wrong_article("truck")
    ('a airplane', 'an truck')
    """
    return f"{'a' if with_article(name).startswith('an ') else 'an'} {name}"


def with_typos(name: str, edits: int, rng: np.random.Generator) -> str:
    """Misspell a name with typing errors: a neighbouring key, a letter missing, doubled, or two swapped.

    The result differs from the name by at most `edits` errors; a name without letters is unchanged.

    Examples
    --------
    >>> with_typos("airplane", 1, np.random.default_rng(0)) != "airplane"
    True
    >>> with_typos("42", 1, np.random.default_rng(0))
    '42'
    """
    if not any(letter.isalpha() for letter in name):
        return name
    for _ in range(100):
        text = name
        for _ in range(edits):
            text = _with_typo(text, rng)
        if text != name and text.strip():
            return text
    return name  # for example a single letter, which leaves few possible errors


def _with_typo(text: str, rng: np.random.Generator) -> str:
    letter_indices = [index for index, letter in enumerate(text) if letter.isalpha()]
    if not letter_indices:
        return text
    index = letter_indices[int(rng.integers(len(letter_indices)))]
    kind = int(rng.integers(4))
    if kind == 0 and len(letter_indices) > 1:
        return text[:index] + text[index + 1 :]
    if kind == 1:
        return text[: index + 1] + text[index:]
    if kind == 2 and index + 1 < len(text):
        return text[:index] + text[index + 1] + text[index] + text[index + 2 :]
    keys = neighbours(text[index])
    return text[:index] + (keys[int(rng.integers(len(keys)))] if keys else text[index]) + text[index + 1 :]


def neighbours(letter: str) -> str:
    """Letters on the keys that touch this letter's key.

    Examples
    --------
    >>> neighbours("g"), neighbours("q"), neighbours("é")
    ('tyfhvb', 'wa', '')
    """
    lower = letter.lower()
    row = next((index for index, keys in enumerate(_ROWS) if lower in keys), None)
    if row is None:
        return ""
    index = _ROWS[row].index(lower)
    keys = ""
    for row_index, columns in (
        (row - 1, (index, index + 1)),
        (row, (index - 1, index + 1)),
        (row + 1, (index - 1, index)),
    ):
        if 0 <= row_index < len(_ROWS):
            letters = _ROWS[row_index]
            keys += "".join(letters[column] for column in columns if 0 <= column < len(letters))
    return keys.upper() if letter.isupper() else keys


def load_synonyms(path: str | Path) -> dict[str, list[str]]:
    """Read synonyms from a JSON file, {"dog": ["hound", "puppy"], ...}; DataError for anything else."""
    return read_text_lists(path, "class -> other words for it")


def _synonym_phrasings(names: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> list[Phrasing]:
    unknown = sorted(set(synonyms) - set(names))
    if unknown:
        raise DataError(
            f"synonyms are given for {', '.join(map(repr, unknown[:5]))}, which the data does not have; its "
            f"classes are {', '.join(list(names)[:20])}"
        )
    longest = max((len(words) for words in synonyms.values()), default=0)
    result = []
    for rank in range(longest):
        words = [synonyms[name][rank] if rank < len(synonyms.get(name, ())) else name for name in names]
        result.append(Phrasing("synonym", f"synonym {rank + 1}", fill_template(words, PLAIN)))
    return result


_FORMS: dict[str, Callable[[Sequence[str]], tuple[str, ...]]] = {
    "no article": lambda names: fill_template(names, "a photo of {}."),
    "NAME": lambda names: fill_template([name.upper() for name in names], PLAIN),
    "ALL IN CAPITALS": lambda names: tuple(text.upper() for text in fill_template(names, PLAIN)),
    "Name": lambda names: fill_template([name.title() for name in names], PLAIN),
    "plural": lambda names: fill_template([plural(name) for name in names], "a photo of {}."),
    "wrong article": lambda names: fill_template(
        [with_wrong_article(name) for name in names], "a photo of {}."
    ),
}
