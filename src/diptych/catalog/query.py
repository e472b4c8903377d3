"""What is asked for: texts, pictures and stored pictures with weights, read from words and made one row.

`"beach" + photo.jpg - "people"`: each term is a row of the shared space, and the query is their weighted sum.
A picture's cosines to pictures spread far more than a text's do, so the weights are first divided by how
much each term's cosines vary over the collection; else a picture would drown every word beside it. A minus
asks for less of something; it is no "not": a row is moved away from the word, nothing is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from diptych.catalog.relevance import TEXT, Part
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.inputs import counted_long_texts
from diptych.media import Source, load_image
from diptych.media.files import is_picture

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

Kind = Literal["text", "picture", "stored"]
_QUOTED = re.compile(r'(?:(\d+(?:\.\d+)?):)?"([^"]*)"|(\S+)')
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?):(?=[^\s\d])")  # "12:30" is a time
_STORED = re.compile(r"#(\d+)")
_LEAST = 1e-3  # weight of a term
_DIGITS = 18  # of a number, at most, that databases take


@dataclass(frozen=True)
class Term:
    """One part of a query.

    Attributes
    ----------
    kind : {"text", "picture", "stored"}
    value : str
        The text, the path of a picture, or the number of a stored one.
    weight : float
        Below zero for less of it.
    """

    kind: Kind
    value: str
    weight: float = 1.0

    def __str__(self) -> str:
        sign = "- " if self.weight < 0 else ""
        weight = "" if abs(self.weight) == 1 else f"{abs(self.weight):g}:"
        shown = f'"{self.value}"' if self.kind == "text" else "#" * (self.kind == "stored") + self.value
        return f"{sign}{weight}{shown}"


def parse_query(words: str | Sequence[str]) -> list[Term]:
    """The terms of a query.

    Parameters
    ----------
    words : str or sequence of str
        A whole query in one string, with quotes, or the words of a command line, from which the shell has
        taken the quotes. ``+`` and ``-`` standing alone begin a term, ``2:`` before it is its weight,
        ``#17`` is a stored picture, what names a picture file that is there is a picture; the rest is text.

    Raises
    ------
    InputError
        No term, an operator without one, a weight of nothing, or only minuses.

    Examples
    --------
    >>> [str(term) for term in parse_query(["dog in", "the snow", "-", "2:people"])]
    ['"dog in the snow"', '- 2:"people"']
    >>> [str(term) for term in parse_query('"a red car" + #17')]
    ['"a red car"', '#17']
    >>> parse_query(["-", "people"])
    Traceback (most recent call last):
        ...
    diptych.errors.InputError: the query says only what not to show (- "people"): say what to look for too
    """
    parts = _split(words) if isinstance(words, str) else _one_string(words)
    terms: list[Term] = []
    texts: list[str] = []  # of a term that is still going on
    sign, weight, open_sign = 1.0, 1.0, ""

    def close() -> None:
        nonlocal texts, sign, weight, open_sign
        if texts:
            terms.append(Term("text", " ".join(texts), sign * weight))
        elif open_sign:
            raise InputError(f"nothing stands after {open_sign!r} in the query: a term belongs there")
        texts, sign, weight, open_sign = [], 1.0, 1.0, ""

    for part, quoted, factor in parts:
        if part in ("+", "-") and not quoted:
            close()
            sign, open_sign = (-1.0 if part == "-" else 1.0), part
            continue
        if not texts:  # a term begins
            found = None if quoted else _WEIGHT.match(part)
            weight = factor if found is None else float(found.group(1))
            part = part if found is None else part[found.end() :]
        kind: Kind = "text" if quoted else _kind(part)
        if kind == "text":
            texts += [part] if part.strip() else []
            continue
        if texts:
            close()
        terms.append(Term(kind, part.removeprefix("#") if kind == "stored" else part, sign * weight))
        sign, weight, open_sign = 1.0, 1.0, ""
    close()
    return _checked(terms)


def _checked(terms: list[Term]) -> list[Term]:
    if not terms:
        raise InputError(
            'the query is empty: say what to look for, as in  diptych search "a dog in the snow"'
        )
    for term in terms:
        if not _LEAST <= abs(term.weight) <= 1 / _LEAST:
            raise InputError(
                f"the weight of {term.value!r} is {abs(term.weight):g}: expected one from {_LEAST:g} to "
                f"{1 / _LEAST:,.0f}; what should not count can be left out"
            )
    if all(term.weight < 0 for term in terms):
        shown = " ".join(map(str, terms))
        raise InputError(f"the query says only what not to show ({shown}): say what to look for too")
    return terms


_Part = tuple[str, bool, float]  # a word or a quoted text, which of the two, the weight before the quotes


def _split(text: str) -> list[_Part]:
    """A query in one string, cut at spaces outside of quotes."""
    return [
        (match[3], False, 1.0) if match[3] else (match[2], True, float(match[1] or 1))
        for match in _QUOTED.finditer(text)
    ]


def _one_string(words: Sequence[str]) -> list[_Part]:
    """Words of a command line; one that holds quotes itself is a query written in one string."""
    parts: list[_Part] = []
    for word in words:
        parts += _split(word) if '"' in word else [(word, False, 1.0)]
    return parts


def _kind(part: str) -> Kind:
    if _STORED.fullmatch(part):
        return "stored"
    if _is_file(part) and is_picture(Path(part).name):
        return "picture"
    if part.startswith(("/", "./", "../", "~/")):  # nobody looks for such words
        is_there = Path(part).expanduser().exists()
        why = "it is not a picture" if is_there else "there is no such picture"
        raise InputError(f"{part}: {why}. Words that look like a path are put in quotes within the query")
    # A word such as "cat.jpg" that names nothing here is looked for as a text, which is what it then is.
    return "text"


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, with a null byte, of a person unknown
        return False


def missing_pictures(terms: Sequence[Term]) -> list[str]:
    """Words that are looked for as texts and look like names of pictures: of ones that are not there.

    Examples
    --------
    >>> missing_pictures(parse_query(["a", "dog", "+", "phto.jpg"]))
    ['phto.jpg']
    """
    words = [word for term in terms if term.kind == "text" for word in term.value.split()]
    return [word for word in words if is_picture(Path(word).name) and not _is_file(word)]


@dataclass(frozen=True, eq=False)
class Asked:
    """A query as a row.

    Attributes
    ----------
    row : (dim,) float32
        Of length one.
    terms : tuple of Term
    long : tuple of str
        Texts longer than the encoder reads, which were read in parts.
    texts : (n, dim) float32
        Rows of the terms that are texts, for whoever asks what of a picture fits the words.
    parts : tuple of (kind, weight)
        What was added up to the row, for `relevance.Gauge`.
    """

    row: FloatArray
    terms: tuple[Term, ...]
    long: tuple[str, ...]
    texts: FloatArray
    parts: tuple[Part, ...] = TEXT


def ask(
    encoder: Encoder,
    terms: Sequence[Term],
    *,
    stored: Callable[[int], FloatArray],
    sample: FloatArray | None = None,
    encode_texts: Callable[[Sequence[str]], FloatArray] | None = None,
) -> Asked:
    """Make a query one row.

    Parameters
    ----------
    encoder : Encoder
    terms : sequence of Term
    stored : callable
        From a stored picture's number to its row; raises for a number that is none.
    sample : (S, dim) float32, optional
        Rows of the collection, by which terms of different kinds are weighed.
    encode_texts : callable, optional
        In place of the encoder's own.
    """
    encode = encode_texts or encoder.encode_texts
    rows: list[FloatArray] = []
    long: list[str] = []
    for term in terms:
        if term.kind == "text":
            row, parts = encode_long(encode, term.value)
            long += [term.value] if parts > 1 else []
        elif term.kind == "picture":
            row = encode_picture(encoder, Path(term.value).expanduser())
        else:
            row = stored(_number(term.value))
        rows.append(row)
    every = np.stack(rows)  # (T, dim)
    weights = np.array([term.weight for term in terms], np.float32)
    if len(terms) > 1 and sample is not None and len(sample) > 1:
        spread = (sample @ every.T).std(0)  # (T,)
        weights = weights / np.maximum(spread, 1e-3)
    combined = weights @ every
    length = float(np.linalg.norm(combined))
    if not math.isfinite(length) or length < 1e-6:
        raise InputError(f"the terms of the query cancel each other out: {' '.join(map(str, terms))}")
    texts = every[[i for i, term in enumerate(terms) if term.kind == "text" and term.weight > 0]]
    # One term alone is the query whatever it weighs.
    told = weights.tolist() if len(terms) > 1 else [1.0]
    made_of = tuple(_part(term, weight) for term, weight in zip(terms, told, strict=True))
    return Asked((combined / length).astype(np.float32), tuple(terms), tuple(long), texts, made_of)


def _number(digits: str) -> int:
    if len(digits) > _DIGITS or not digits.isdecimal():
        shown = digits if len(digits) < 40 else f"{digits[:40]}..."
        raise InputError(f"there is no picture #{shown}: numbers stand in  diptych search --json")
    return int(digits)


def _part(term: Term, weight: float) -> Part:
    """A term as `relevance` sees it."""
    return ("text" if term.kind == "text" else "picture", weight)


def encode_picture(encoder: Encoder, source: Source) -> FloatArray:
    """The row of one picture, (dim,) float32; ImageError where it cannot be read."""
    row: FloatArray = encoder.encode_images([load_image(source, target=encoder.input_size)])[0]
    return row


def encode_long(encode: Callable[[Sequence[str]], FloatArray], text: str) -> tuple[FloatArray, int]:
    """A text of any length as one unit row, and in how many parts it was read.

    An encoder reads its first so many tokens (77 in CLIP) and would not see the rest. A longer text is cut
    between words, at the sentence's end nearest the middle where there is one, until every part fits; the
    parts' rows are averaged by their number of words.
    """
    with counted_long_texts() as tally:
        row = encode([text])
    words = text.split()
    if not tally.cut or len(words) < 2:
        tally.warn(stacklevel=2)  # of one word alone, which cannot be parted
        return row[0], 1
    parts = _parts(encode, text)
    rows = encode(parts)
    mean = np.average(rows, axis=0, weights=[len(part.split()) for part in parts])
    unit: FloatArray = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return unit, len(parts)


def _parts(encode: Callable[[Sequence[str]], FloatArray], text: str) -> list[str]:
    """The text in parts that fit."""
    left, right = _halves(text)
    parts: list[str] = []
    for half in (left, right):
        with counted_long_texts() as tally:
            encode([half])
        parts += _parts(encode, half) if tally.cut and len(half.split()) > 1 else [half]
    return parts


def _halves(text: str) -> tuple[str, str]:
    """Two parts of about one length, cut at a sentence's end in the middle third, else between words.

    Examples
    --------
    >>> _halves("A dog runs. It is wet and cold.")
    ('A dog runs.', 'It is wet and cold.')
    """
    words = text.split()
    middle = len(words) / 2
    ends = [
        i
        for i, word in enumerate(words[:-1], 1)
        if word[-1] in ".!?;" and abs(i - middle) <= len(words) / 6 + 1
    ]
    at = min(ends, key=lambda i: abs(i - middle)) if ends else max(1, round(middle))
    return " ".join(words[:at]), " ".join(words[at:])
