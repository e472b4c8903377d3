"""A query cut into words, quoted texts, operators and names of pictures, before anything is read into them.

A query is the same however a shell has cut it: `beach - people` in one string, in three, or with the words of
each part together. So the words of a command line are joined by spaces and cut again here. Only two things
need more than the joined string: names of pictures with spaces in them, which are looked up on disk, and a
phrase behind an attached sign (`-"old people"`), from which the shell takes the quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych.media.folders.files import is_picture

Sign = Literal["", "+", "-"]

# A text in quotes, with what may stand right before it, or whatever else stands between spaces.
_CUT = re.compile(r'(?P<sign>[+-]?)(?:(?P<weight>\d+(?:\.\d+)?):)?"(?P<quoted>[^"]*)"|(?P<word>\S+)')
# A sign that belongs to the word behind it. Not "->", "--" and "+-", which people type as text.
_ATTACHED = re.compile(r"([+-])(?=\w|#\d|~/|/\w|\.\.?/)")
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?):(?=[^\s\d])")  # "12:30" is a time
_LONGEST_PATH = 4096  # characters


@dataclass(frozen=True)
class QueryWord:
    """One piece of a query.

    Attributes
    ----------
    text : str
        Without quotes, sign and weight.
    kind : {"word", "quoted", "picture", "operator"}
        A picture is the name of a file that is there.
    sign : {"", "+", "-"}
        Written right before it, as in ``-people``: it holds for this piece alone.
    weight : str
        Written before it, ``2`` in ``2:people``; "" where there is none.
    rest : str
        For a word that begins like a path: the name that was meant, up to the next suffix of a picture.
    """

    text: str
    kind: Literal["word", "quoted", "picture", "operator"] = "word"
    sign: Sign = ""
    weight: str = ""
    rest: str = ""

    @property
    def as_written(self) -> str:
        """With what looks like a weight: in the middle of a text "2:red" is none."""
        return f"{self.weight}:{self.text}" if self.weight and self.kind == "word" else self.text


def cut_query(query: str | Sequence[str]) -> list[QueryWord]:
    """Cut a query, whole or as the words of a command line.

    Parameters
    ----------
    query : str or sequence of str

    Returns
    -------
    list of QueryWord

    Examples
    --------
    >>> [(piece.kind, piece.text) for piece in cut_query("beach - 'people'")]
    [('word', 'beach'), ('operator', '-'), ('word', "'people'")]
    >>> cut_query(["beach - people"]) == cut_query(["beach", "-", "people"])
    True
    >>> cut_query(["beach", "-old people"])[1]
    QueryWord(text='old people', kind='quoted', sign='-', weight='', rest='')
    """
    text = query if isinstance(query, str) else _joined(query)
    cuts = list(_CUT.finditer(text))
    # Where a picture's name may end; few words of a query look like that, however long it is.
    ends = [n for n, cut in enumerate(cuts) if cut["word"] and is_picture(Path(cut["word"]).name)]
    pieces: list[QueryWord] = []
    at = 0
    while at < len(cuts):
        ends = [end for end in ends if end >= at]
        picture, after = _picture_at(text, cuts, at, ends)
        pieces.append(picture or _piece(text, cuts, at, ends))
        at = after
    return pieces


def _joined(words: Sequence[str]) -> str:
    """One string; a phrase that a sign was attached to before the shell took its quotes gets them back."""
    if len(words) == 1:
        return words[0]  # a whole query in quotes: -old is one word in it, and people the next
    return " ".join(_with_quotes(word) for word in words)


def _with_quotes(word: str) -> str:
    signed = _ATTACHED.match(word)
    inside = word.split()
    if not signed or len(inside) < 2 or '"' in word or {"+", "-"} & set(inside) or is_file(word[1:]):
        return word
    weight = _WEIGHT.match(word, signed.end())
    start = weight.end() if weight else signed.end()
    return f'{word[:start]}"{word[start:]}"'


def _piece(text: str, cuts: Sequence[re.Match[str]], at: int, ends: Sequence[int]) -> QueryWord:
    """One cut that is no picture."""
    cut = cuts[at]
    if cut["quoted"] is not None:
        return QueryWord(cut["quoted"], "quoted", _sign(cut["sign"]), cut["weight"] or "")
    word = cut["word"]
    if word in ("+", "-"):
        return QueryWord(word, "operator")
    sign, weight, start = _before(word)
    meant = text[cut.start() + start : cuts[ends[0] if ends else at].end()]
    return QueryWord(word[start:], "word", sign, weight, meant)


def _picture_at(
    text: str, cuts: Sequence[re.Match[str]], at: int, ends: Sequence[int]
) -> tuple[QueryWord | None, int]:
    """The picture whose name begins at a cut, the longest one, and the cut behind it."""
    if cuts[at]["word"] and ends:
        sign, weight, start = _before(cuts[at]["word"])
        begin = cuts[at].start() + start
        for last in reversed(ends):
            name = text[begin : cuts[last].end()]
            if len(name) <= _LONGEST_PATH and is_file(name):
                return QueryWord(name, "picture", sign, weight), last + 1
    return None, at + 1


def _before(word: str) -> tuple[Sign, str, int]:
    """Sign and weight at the beginning of a word, and where the rest begins."""
    signed = _ATTACHED.match(word)
    start = signed.end() if signed else 0
    weight = _WEIGHT.match(word, start)
    sign = _sign(word[:start])
    return (sign, weight.group(1), weight.end()) if weight else (sign, "", start)


def _sign(text: str) -> Sign:
    return "+" if text == "+" else "-" if text == "-" else ""


def is_file(name: str) -> bool:
    """Whether there is a file of this name, which may be any text."""
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, with a null byte, of a person unknown
        return False
