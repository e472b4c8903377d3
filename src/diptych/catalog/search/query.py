"""Queries of texts, picture files and stored pictures with weights: parsing and encoding.

In `"beach" + photo.jpg - "people"` each term is encoded into the shared space, and the query is the weighted
sum of the terms. Image-to-image cosines vary far more than text-to-image cosines, so each weight is first
divided by the standard deviation of its term's cosines over the collection; otherwise a picture would
outweigh every word beside it. A minus moves the query vector away from a term. It does not exclude anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from diptych.catalog.relevance import TEXT, QueryPart
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
_LEAST_WEIGHT = 1e-3
_MOST_DIGITS = 18  # of a picture number: fits a 64-bit integer column


@dataclass(frozen=True)
class Term:
    """One term of a query."""

    kind: Kind
    value: str  # the text, the path of a picture file, or the number of a stored picture
    weight: float = 1.0  # negative to move the query away from the term

    def __str__(self) -> str:
        sign = "- " if self.weight < 0 else ""
        weight = "" if abs(self.weight) == 1 else f"{abs(self.weight):g}:"
        shown = f'"{self.value}"' if self.kind == "text" else "#" * (self.kind == "stored") + self.value
        return f"{sign}{weight}{shown}"


def parse_query(words: str | Sequence[str]) -> list[Term]:
    """Parse a query into its terms.

    Parameters
    ----------
    words : str or sequence of str
        A whole query in one string, or the words of a command line, whose quotes the shell has removed: both
        are parsed alike. A ``+`` or ``-`` that stands alone begins a term, which extends to the next
        operator. Attached to a word or to quotes, as in ``-people``, it applies to that word only. ``2:``
        before a term is its weight, ``#17`` is a stored picture, and the name of an existing picture file is
        a picture. Everything else, and everything in quotes, is text.

    Raises
    ------
    InputError
        No term, an operator without a term, a weight of zero, or only negative terms.

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
    reader = _TermReader()
    for word in cut_query(words):
        reader.read(word)
    reader.close()
    return _checked(reader.terms)


class _TermReader:
    """Collects words into terms; a text term extends to the next operator or picture."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        # Signed words inside the open text; they follow it as terms of their own.
        self._attached: list[Term] = []
        self._texts: list[str] = []
        self._sign, self._weight, self._operator = 1.0, 1.0, ""

    def read(self, word: QueryWord) -> None:
        """Read the next word."""
        # E.g. the words  dog  in  -  2:people: "dog" opens a text, "in" joins it, "-" closes it and sets the
        # sign, "2:people" opens the next text with weight 2, which `close` adds as -2.
        if word.kind == "operator":
            self.close()
            self._sign, self._operator = (-1.0 if word.text == "-" else 1.0), word.text
        elif word.sign:
            self._attach(word)
        elif (kind := _kind(word)) == "text":
            self._add_text(word)
        else:
            if self._texts:
                self.close()
            weight = float(word.weight or 1)
            self.terms.append(Term(kind, _value(word, kind), self._sign * weight))
            self._sign, self._operator = 1.0, ""

    def close(self) -> None:
        """End the open term.

        Raises
        ------
        InputError
            An operator without a term behind it.
        """
        if self._texts:
            self.terms.append(Term("text", " ".join(self._texts), self._sign * self._weight))
        elif self._operator:
            raise InputError(f"nothing stands after {self._operator!r} in the query: expected a term")
        self.terms += self._attached
        self._attached, self._texts = [], []
        self._sign, self._weight, self._operator = 1.0, 1.0, ""

    def _attach(self, word: QueryWord) -> None:
        kind = _kind(word)
        weight = float(word.weight or 1)
        if word.text.strip():
            self._attached.append(Term(kind, _value(word, kind), -weight if word.sign == "-" else weight))
        if not self._texts:
            self._sign, self._operator = 1.0, ""  # in "beach + -people" the nearer sign counts

    def _add_text(self, word: QueryWord) -> None:
        if not self._texts:  # a term begins
            self._weight = float(word.weight or 1)
            text = word.text
        else:
            text = word.as_written
        self._texts += [text] if text.strip() else []


def _checked(terms: list[Term]) -> list[Term]:
    if not terms:
        raise InputError(
            'the query is empty: say what to look for, as in  diptych search "a dog in the snow"'
        )
    for term in terms:
        if not _LEAST_WEIGHT <= abs(term.weight) <= 1 / _LEAST_WEIGHT:
            raise InputError(
                f"the weight of {term.value!r} is {abs(term.weight):g}: expected one from "
                f"{_LEAST_WEIGHT:g} to {1 / _LEAST_WEIGHT:,.0f}; what should not count can be left out"
            )
    if all(term.weight < 0 for term in terms):
        shown = " ".join(map(str, terms))
        raise InputError(f"the query says only what not to show ({shown}): say what to look for too")
    return terms


def _kind(word: QueryWord) -> Kind:
    if word.kind == "quoted":
        return "text"
    if word.kind == "picture":
        return "picture"
    if _STORED.fullmatch(word.text):
        return "stored"
    if word.text.startswith(("/", "./", "../", "~/")):  # a path, not a search term
        is_there = Path(word.text).expanduser().exists()
        name, reason = (
            (word.text, "it is not a picture") if is_there else (word.rest, "there is no such picture")
        )
        raise InputError(f"{name}: {reason}. To search for words that look like a path, put them in quotes")
    # A word such as "cat.jpg" that names no file is searched as text; `missing_pictures` warns about it.
    return "text"


def _value(word: QueryWord, kind: Kind) -> str:
    return word.text.removeprefix("#") if kind == "stored" else word.text


def missing_pictures(terms: Sequence[Term]) -> list[str]:
    """Words of text terms that look like the names of picture files which do not exist.

    Examples
    --------
    >>> missing_pictures(parse_query(["a", "dog", "+", "phto.jpg"]))
    ['phto.jpg']
    """
    words = [word for term in terms if term.kind == "text" for word in term.value.split()]
    return [word for word in words if is_picture(Path(word).name) and not is_file(word)]


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query as one vector."""

    embedding: FloatArray  # (dim,) float32, of length one
    terms: tuple[Term, ...]
    long_texts: tuple[str, ...]  # texts longer than the encoder's context, which were encoded in parts
    text_embeddings: FloatArray  # (n, dim) float32, of the text terms with a positive weight
    parts: tuple[QueryPart, ...] = TEXT  # the summands of the embedding, for `relevance.RelevanceScale`


def encode_query(
    encoder: Encoder,
    terms: Sequence[Term],
    *,
    stored: Callable[[int], FloatArray],
    sample: FloatArray | None = None,
    encode_texts: Callable[[Sequence[str]], FloatArray] | None = None,
    encode_images: Callable[[Sequence[Image]], FloatArray] | None = None,
) -> EncodedQuery:
    """Encode the terms of a query and add them up.

    Parameters
    ----------
    stored : callable
        From the number of a stored picture to its embedding; raises for an unknown number.
    sample : (S, dim) float32, optional
        Embeddings drawn from the collection, by which the terms are normalised.
    encode_texts, encode_images : callable, optional
        Used in place of the encoder's methods.
    """
    encode = encode_texts or encoder.encode_texts
    embeddings: list[FloatArray] = []
    long_texts: list[str] = []
    for term in terms:
        if term.kind == "text":
            embedding, part_count = encode_long(encode, term.value)
            long_texts += [term.value] if part_count > 1 else []
        elif term.kind == "picture":
            embedding = encode_picture(encoder, Path(term.value).expanduser(), encode_images)
        else:
            embedding = stored(_number(term.value))
        embeddings.append(embedding)
    stacked = np.stack(embeddings)  # (T, dim)
    weights = np.array([term.weight for term in terms], np.float32)
    if len(terms) > 1 and sample is not None and len(sample) > 1:
        # E.g. standard deviations 0.02 of a text and 0.10 of a picture: unscaled, the picture would count
        # five times as much as the text in `"beach" + photo.jpg`.
        spread = (sample @ stacked.T).std(0)  # (T,)
        weights = weights / np.maximum(spread, 1e-3)
    combined = weights @ stacked
    length = float(np.linalg.norm(combined))
    if not math.isfinite(length) or length < 1e-6:
        raise InputError(f"the terms of the query cancel each other out: {' '.join(map(str, terms))}")
    text_embeddings = stacked[[i for i, term in enumerate(terms) if term.kind == "text" and term.weight > 0]]
    # The weight of a single term has no effect on a vector of length one.
    used_weights = weights.tolist() if len(terms) > 1 else [1.0]
    parts = tuple(_part(term, weight) for term, weight in zip(terms, used_weights, strict=True))
    unit = (combined / length).astype(np.float32)
    return EncodedQuery(unit, tuple(terms), tuple(long_texts), text_embeddings, parts)


def _number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS or not digits.isdecimal():
        shown = digits if len(digits) < 40 else f"{digits[:40]}..."
        raise InputError(f"there is no picture #{shown}: diptych search --json lists the numbers of pictures")
    return int(digits)


def _part(term: Term, weight: float) -> QueryPart:
    """The kind and weight of a term, for `relevance.RelevanceScale`."""
    return ("text" if term.kind == "text" else "picture", weight)


def encode_picture(
    encoder: Encoder,
    source: Source,
    encode_images: Callable[[Sequence[Image]], FloatArray] | None = None,
) -> FloatArray:
    """The embedding of one picture, (dim,) float32; ImageError where it cannot be read."""
    image = load_image(source, target=encoder.input_size)
    embedding: FloatArray = (encode_images or encoder.encode_images)([image])[0]
    return embedding


def encode_long(encode: Callable[[Sequence[str]], FloatArray], text: str) -> tuple[FloatArray, int]:
    """Encode a text of any length into one unit vector; also the number of parts it was encoded in.

    An encoder reads a fixed number of tokens (77 in CLIP) and ignores the rest. A longer text is halved
    between words, preferably at the end of a sentence, until every part fits. The embeddings of the parts are
    averaged, weighted by their number of words.
    """
    with counted_long_texts() as tally:
        embedding = encode([text])
    words = text.split()
    if not tally.cut or len(words) < 2:
        tally.warn(stacklevel=2)  # a single word that is too long cannot be split
        return embedding[0], 1
    parts = _parts(encode, text)
    embeddings = encode(parts)
    mean = np.average(embeddings, axis=0, weights=[len(part.split()) for part in parts])
    unit: FloatArray = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return unit, len(parts)


def _parts(encode: Callable[[Sequence[str]], FloatArray], text: str) -> list[str]:
    """Split a text into parts that fit the context of the encoder."""
    # Halves of halves, until each part fits: a text of 400 words becomes 8 parts of about 50 words.
    left, right = _halves(text)
    parts: list[str] = []
    for half in (left, right):
        with counted_long_texts() as tally:
            encode([half])
        parts += _parts(encode, half) if tally.cut and len(half.split()) > 1 else [half]
    return parts


def _halves(text: str) -> tuple[str, str]:
    """Split a text near its middle: at the end of a sentence in the middle third, else between words.

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
