"""Other words for the same classes: sentences around a name, its forms, synonyms, misspellings.

A phrasing is one text per class. What each does to accuracy is `wording.py`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diptych.audits.labels.class_groups import read_text_lists
from diptych.errors import DataError, counted

PLAIN = "a photo of a {}."
SENTENCES = (
    "{}",
    "{}.",
    "a {}",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "this is a {}.",
    "there is a {} in the picture.",
    "a good photo of a {}.",
    "a blurry photo of a {}.",
    "a close-up photo of a {}.",
    "itap of a {}.",
    "the photo shows a {}",
    "what you see here is called a {}.",
)
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # a QWERTY keyboard; each row stands half a key to the right


@dataclass(frozen=True)
class Phrasing:
    """One way to say all classes.

    Attributes
    ----------
    family : str
        sentence, form, synonym, 1 edit or 2 edits.
    name : str
        What a table calls it.
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
    """Every phrasing of these classes; the plain one comes first.

    Parameters
    ----------
    names : sequence of str
    sentences : sequence of str
        Templates with {}.
    synonyms : mapping of class to other words, optional
        The k-th synonym of every class makes one phrasing; a class with fewer keeps its name.
    misspellings : int
        Draws of each number of edits.
    seed : int
        Of the misspellings.

    Raises
    ------
    DataError
        Synonyms of a class that is not there.

    Examples
    --------
    >>> [one.texts[0] for one in phrasings(["dog"], sentences=["{}"], misspellings=0)]
    ['a photo of a dog.', 'dog', 'a photo of dog.', 'a photo of a DOG.', 'A PHOTO OF A DOG.', \
'a photo of a Dog.', 'a photo of dogs.', 'a photo of an dog.']
    """
    found = [Phrasing("sentence", PLAIN, said(names, PLAIN))]
    found += [Phrasing("sentence", one, said(names, one)) for one in sentences if one != PLAIN]
    found += [Phrasing("form", name, change(names)) for name, change in _FORMS.items()]
    found += _synonyms(names, synonyms or {})
    for edits in (1, 2):
        for draw in range(misspellings):
            rng = np.random.default_rng([seed, 600, edits, draw])
            texts = said([misspelt(name, edits, rng) for name in names], PLAIN)
            family = counted(edits, "edit")
            found.append(Phrasing(family, f"{family}, draw {draw + 1}", texts))
    return found


def said(names: Sequence[str], template: str) -> tuple[str, ...]:
    """A template filled in with every name."""
    return tuple(template.replace("{}", name) for name in names)


def plural(name: str) -> str:
    """A name in the plural, by the rules that hold for most nouns.

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


def article(name: str) -> str:
    """A name with "a" or "an", by its first letter.

    Examples
    --------
    >>> article("airplane"), article("truck")
    ('an airplane', 'a truck')
    """
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def with_wrong_article(name: str) -> str:
    """A name with the article that it should not have.

    Examples
    --------
    >>> with_wrong_article("airplane"), with_wrong_article("truck")
    ('a airplane', 'an truck')
    """
    return f"{'a' if article(name).startswith('an ') else 'an'} {name}"


def misspelt(name: str, edits: int, rng: np.random.Generator) -> str:
    """A name as fingers that slip would type it: a neighbouring key, one too few, one twice, two swapped.

    The result differs from the name and is at most `edits` such slips away; a name without a letter stays.

    Examples
    --------
    >>> misspelt("airplane", 1, np.random.default_rng(0)) != "airplane"
    True
    >>> misspelt("42", 1, np.random.default_rng(0))
    '42'
    """
    if not any(letter.isalpha() for letter in name):
        return name
    for _ in range(100):
        text = name
        for _ in range(edits):
            text = _slip(text, rng)
        if text != name and text.strip():
            return text
    return name  # one letter alone, say: there is little to slip on


def _slip(text: str, rng: np.random.Generator) -> str:
    places = [index for index, letter in enumerate(text) if letter.isalpha()]
    if not places:
        return text
    at = places[int(rng.integers(len(places)))]
    way = int(rng.integers(4))
    if way == 0 and len(places) > 1:
        return text[:at] + text[at + 1 :]
    if way == 1:
        return text[: at + 1] + text[at:]
    if way == 2 and at + 1 < len(text):
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    near = neighbours(text[at])
    return text[:at] + (near[int(rng.integers(len(near)))] if near else text[at]) + text[at + 1 :]


def neighbours(letter: str) -> str:
    """Letters whose keys touch this one's.

    Examples
    --------
    >>> neighbours("g"), neighbours("q"), neighbours("é")
    ('tyfhvb', 'wa', '')
    """
    low = letter.lower()
    row = next((index for index, keys in enumerate(_ROWS) if low in keys), None)
    if row is None:
        return ""
    at = _ROWS[row].index(low)
    found = ""
    for other, places in ((row - 1, (at, at + 1)), (row, (at - 1, at + 1)), (row + 1, (at - 1, at))):
        if 0 <= other < len(_ROWS):
            found += "".join(_ROWS[other][place] for place in places if 0 <= place < len(_ROWS[other]))
    return found.upper() if letter.isupper() else found


def load_synonyms(path: str | Path) -> dict[str, list[str]]:
    """Synonyms from a JSON file, {"dog": ["hound", "puppy"], ...}; DataError where it is no such file."""
    return read_text_lists(path, "synonyms", "class -> other words for it")


def _synonyms(names: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> list[Phrasing]:
    unknown = sorted(set(synonyms) - set(names))
    if unknown:
        raise DataError(
            f"synonyms are given for {', '.join(map(repr, unknown[:5]))}, which the data does not have; its "
            f"classes are {', '.join(list(names)[:20])}"
        )
    most = max((len(words) for words in synonyms.values()), default=0)
    found = []
    for turn in range(most):
        words = [synonyms[name][turn] if turn < len(synonyms.get(name, ())) else name for name in names]
        found.append(Phrasing("synonym", f"synonym {turn + 1}", said(words, PLAIN)))
    return found


_FORMS: dict[str, Callable[[Sequence[str]], tuple[str, ...]]] = {
    "no article": lambda names: said(names, "a photo of {}."),
    "NAME": lambda names: said([name.upper() for name in names], PLAIN),
    "ALL IN CAPITALS": lambda names: tuple(text.upper() for text in said(names, PLAIN)),
    "Name": lambda names: said([name.title() for name in names], PLAIN),
    "plural": lambda names: said([plural(name) for name in names], "a photo of {}."),
    "wrong article": lambda names: said([with_wrong_article(name) for name in names], "a photo of {}."),
}
