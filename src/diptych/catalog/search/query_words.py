"""Tokenise a query into words, quoted texts, operators and names of picture files.

A query means the same however the shell has split it: `beach - people` may arrive as one string or as three.
So the words of a command line are joined by spaces and split again here. Two cases need more than the joined
string: file names that contain spaces, which are looked up on disk, and a phrase behind an attached sign
(`-"old people"`), whose quotes the shell has removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych.media.folders.files import is_picture

Sign = Literal["", "+", "-"]

# A quoted text with its sign and weight, or a run of characters without spaces.
_CUT = re.compile(r'(?P<sign>[+-]?)(?:(?P<weight>\d+(?:\.\d+)?):)?"(?P<quoted>[^"]*)"|(?P<word>\S+)')
# A sign attached to a word. Not "->", "--" and "+-", which people type as text.
_ATTACHED = re.compile(r"([+-])(?=\w|#\d|~/|/\w|\.\.?/)")
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?):(?=[^\s\d])")  # "12:30" is a time
_LONGEST_PATH = 4096  # characters


@dataclass(frozen=True)
class QueryWord:
    """One token of a query.

    Attributes
    ----------
    text : str
        Without quotes, sign and weight.
    kind : {"word", "quoted", "picture", "operator"}
        "picture" is the name of an existing picture file.
    sign : {"", "+", "-"}
        Attached, as in ``-people``: it applies to this token only.
    weight : str
        E.g. ``2`` in ``2:people``; "" without one.
    rest : str
        For a word that begins like a path: the file name that was probably meant, up to the next suffix of a
        picture, for error messages.
    """

    text: str
    kind: Literal["word", "quoted", "picture", "operator"] = "word"
    sign: Sign = ""
    weight: str = ""
    rest: str = ""

    @property
    def as_written(self) -> str:
        """Text with its weight: in the middle of a text "2:red" is not a weight but a word."""
        return f"{self.weight}:{self.text}" if self.weight and self.kind == "word" else self.text


def cut_query(query: str | Sequence[str]) -> list[QueryWord]:
    """Tokenise a query, given whole or as the words of a command line.

    Examples
    --------
    >>> [(word.kind, word.text) for word in cut_query("beach - 'people'")]
    [('word', 'beach'), ('operator', '-'), ('word', "'people'")]
    >>> cut_query(["beach - people"]) == cut_query(["beach", "-", "people"])
    True
    >>> cut_query(["beach", "-old people"])[1]
    QueryWord(text='old people', kind='quoted', sign='-', weight='', rest='')
    """
    text = query if isinstance(query, str) else _joined(query)
    cuts = list(_CUT.finditer(text))
    # Positions where a file name may end. There are few, so looking up every start with every end is cheap.
    ends = [n for n, cut in enumerate(cuts) if cut["word"] and is_picture(Path(cut["word"]).name)]
    words: list[QueryWord] = []
    at = 0
    while at < len(cuts):
        ends = [end for end in ends if end >= at]
        picture, after = _picture_at(text, cuts, at, ends)
        words.append(picture or _word_at(text, cuts, at, ends))
        at = after
    return words


def _joined(words: Sequence[str]) -> str:
    """Join the words of a command line; restore the quotes of phrases behind an attached sign."""
    if len(words) == 1:
        return words[0]  # a whole query in quotes: in "-old people" the sign applies to "old" only
    return " ".join(_with_quotes(word) for word in words)


def _with_quotes(word: str) -> str:
    signed = _ATTACHED.match(word)
    inside = word.split()
    if not signed or len(inside) < 2 or '"' in word or {"+", "-"} & set(inside) or is_file(word[1:]):
        return word
    weight = _WEIGHT.match(word, signed.end())
    start = weight.end() if weight else signed.end()
    return f'{word[:start]}"{word[start:]}"'


def _word_at(text: str, cuts: Sequence[re.Match[str]], at: int, ends: Sequence[int]) -> QueryWord:
    """The token at a position that is not a picture file."""
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
    """The longest name of a picture file that begins at a position, and the position behind it."""
    if cuts[at]["word"] and ends:
        sign, weight, start = _before(cuts[at]["word"])
        begin = cuts[at].start() + start
        for last in reversed(ends):
            name = text[begin : cuts[last].end()]
            if len(name) <= _LONGEST_PATH and is_file(name):
                return QueryWord(name, "picture", sign, weight), last + 1
    return None, at + 1


def _before(word: str) -> tuple[Sign, str, int]:
    """The sign and the weight at the beginning of a word, and the index where the rest begins."""
    signed = _ATTACHED.match(word)
    start = signed.end() if signed else 0
    weight = _WEIGHT.match(word, start)
    sign = _sign(word[:start])
    return (sign, weight.group(1), weight.end()) if weight else (sign, "", start)


def _sign(text: str) -> Sign:
    return "+" if text == "+" else "-" if text == "-" else ""


def is_file(name: str) -> bool:
    """Whether a file of this name exists; any text is allowed."""
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, "~name" of an unknown user
        return False
