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
from diptych.catalog.search.query_words import QueryWord, cut_query, is_file
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.inputs import counted_long_texts
from diptych.media import Source, load_image
from diptych.media.folders.files import is_picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.encoder import FloatArray

Kind = Literal["text", "picture", "stored"]
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
        A whole query in one string, or the words of a command line, from which the shell has taken the
        quotes: both are read alike. ``+`` and ``-`` standing alone begin a term that goes on to the next
        one; written right before a word or quotes, as in ``-people``, they hold for that alone. ``2:`` before
        a term is its weight, ``#17`` is a stored picture, what names a picture file that is there is a
        picture, and the rest is text. Whatever is in quotes is text.

    Raises
    ------
    InputError
        No term, an operator without one, a weight of nothing, or only minuses.

    Examples
    --------
    >>> [str(term) for term in parse_query(["dog in", "the snow", "-", "2:people"])]
    ['"dog in the snow"', '- 2:"people"']
    >>> [str(term) for term in parse_query("a dog -people in the snow")]
    ['"a dog in the snow"', '- "people"']
    >>> [str(term) for term in parse_query('"a red car" + #17')]
    ['"a red car"', '#17']
    >>> parse_query(["-", "people"])
    Traceback (most recent call last):
        ...
    diptych.errors.InputError: the query says only what not to show (- "people"): say what to look for too
    """
    reader = _Reader()
    for piece in cut_query(words):
        reader.read(piece)
    reader.close()
    return _checked(reader.terms)


class _Reader:
    """Pieces of a query become terms; texts of one term go on until an operator or a picture ends it."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self._attached: list[Term] = []  # terms inside the open text, which stand behind it
        self._texts: list[str] = []
        self._sign, self._weight, self._operator = 1.0, 1.0, ""

    def read(self, piece: QueryWord) -> None:
        """Take one more piece."""
        if piece.kind == "operator":
            self.close()
            self._sign, self._operator = (-1.0 if piece.text == "-" else 1.0), piece.text
        elif piece.sign:
            self._attach(piece)
        elif (kind := _kind(piece)) == "text":
            self._add_text(piece)
        else:
            if self._texts:
                self.close()
            weight = float(piece.weight or 1)
            self.terms.append(Term(kind, _value(piece, kind), self._sign * weight))
            self._sign, self._operator = 1.0, ""

    def close(self) -> None:
        """End the open term.

        Raises
        ------
        InputError
            An operator has come, and nothing after it.
        """
        if self._texts:
            self.terms.append(Term("text", " ".join(self._texts), self._sign * self._weight))
        elif self._operator:
            raise InputError(f"nothing stands after {self._operator!r} in the query: a term belongs there")
        self.terms += self._attached
        self._attached, self._texts = [], []
        self._sign, self._weight, self._operator = 1.0, 1.0, ""

    def _attach(self, piece: QueryWord) -> None:
        kind = _kind(piece)
        weight = float(piece.weight or 1)
        if piece.text.strip():
            self._attached.append(Term(kind, _value(piece, kind), -weight if piece.sign == "-" else weight))
        if not self._texts:
            self._sign, self._operator = 1.0, ""  # in "beach + -people" the nearer sign counts

    def _add_text(self, piece: QueryWord) -> None:
        if not self._texts:  # a term begins
            self._weight = float(piece.weight or 1)
            text = piece.text
        else:
            text = piece.as_written
        self._texts += [text] if text.strip() else []


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


def _kind(piece: QueryWord) -> Kind:
    if piece.kind == "quoted":
        return "text"
    if piece.kind == "picture":
        return "picture"
    if _STORED.fullmatch(piece.text):
        return "stored"
    if piece.text.startswith(("/", "./", "../", "~/")):  # nobody looks for such words
        is_there = Path(piece.text).expanduser().exists()
        name, why = (
            (piece.text, "it is not a picture") if is_there else (piece.rest, "there is no such picture")
        )
        raise InputError(f"{name}: {why}. Words that look like a path are put in quotes within the query")
    # A word such as "cat.jpg" that names nothing here is looked for as a text, which is what it then is.
    return "text"


def _value(piece: QueryWord, kind: Kind) -> str:
    return piece.text.removeprefix("#") if kind == "stored" else piece.text


def missing_pictures(terms: Sequence[Term]) -> list[str]:
    """Words that are looked for as texts and look like names of pictures: of ones that are not there.

    Examples
    --------
    >>> missing_pictures(parse_query(["a", "dog", "+", "phto.jpg"]))
    ['phto.jpg']
    """
    words = [word for term in terms if term.kind == "text" for word in term.value.split()]
    return [word for word in words if is_picture(Path(word).name) and not is_file(word)]


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
    encode_images: Callable[[Sequence[Image]], FloatArray] | None = None,
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
    encode_texts, encode_images : callable, optional
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
            row = encode_picture(encoder, Path(term.value).expanduser(), encode_images)
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


def encode_picture(
    encoder: Encoder,
    source: Source,
    encode_images: Callable[[Sequence[Image]], FloatArray] | None = None,
) -> FloatArray:
    """The row of one picture, (dim,) float32; ImageError where it cannot be read."""
    picture = load_image(source, target=encoder.input_size)
    row: FloatArray = (encode_images or encoder.encode_images)([picture])[0]
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
