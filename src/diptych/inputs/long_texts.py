"""Texts over the context length: truncated with one warning for any number of calls, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from diptych.errors import TextError

OnLong = Literal["cut", "refuse"]


class LongTextWarning(UserWarning):
    """Texts over the context length were truncated; one warning per call, with their number."""


@dataclass
class LongTexts:
    """Counts of truncated texts over several calls of a tokenizer.

    Attributes
    ----------
    texts, cut : int
        Number of all texts, and of those that were truncated.
    limit : int
        Context length in tokens, start and end included.
    first : str
        Description of the first truncated text, for the message.
    inner : bool
        Whether this count is nested in another one, which includes these texts and will warn.
    """

    texts: int = 0
    cut: int = 0
    limit: int = 0
    first: str = ""
    inner: bool = False

    def add(self, other: LongTexts) -> None:
        """Add the counts of another instance."""
        self.first = self.first or other.first
        self.texts, self.cut = self.texts + other.texts, self.cut + other.cut
        self.limit = other.limit or self.limit

    def warn(self, stacklevel: int) -> None:
        """Warn if texts were truncated."""
        if self.cut and not self.inner:
            warnings.warn(
                f"{self.cut} of {self.texts} texts are longer than {self.limit} tokens and were cut; "
                f"the first is {self.first}",
                LongTextWarning,
                stacklevel=stacklevel + 1,
            )


_COUNTED: ContextVar[LongTexts | None] = ContextVar("counted", default=None)


@contextmanager
def counted_long_texts(*, silent: bool = False) -> Iterator[LongTexts]:
    """Count the texts that tokenizers truncate within this context, instead of a warning by each call.

    The count is local to this thread (or task). Call `LongTexts.warn` at the end; of nested counts only the
    outermost one warns.

    Parameters
    ----------
    silent : bool
        Do not add this count to an outer one, for texts that are not the user's.

    Examples
    --------
    >>> from diptych.inputs import TokenizerConfig, load_tokenizer
    >>> tokenizer = load_tokenizer(TokenizerConfig(context_length=8))
    >>> with counted_long_texts() as long:
    ...     for batch in (["a cat", "a cat on a red mat by the door"], ["two dogs"]):
    ...         ids = tokenizer(batch)
    >>> long.cut, long.texts, long.first
    (1, 3, "text 1 with 11: 'a cat on a red mat by the door'")
    """
    outer = _COUNTED.get()
    tally = LongTexts(inner=outer is not None)
    token = _COUNTED.set(tally)
    try:
        yield tally
    finally:
        _COUNTED.reset(token)
        if outer is not None and not silent:
            outer.add(tally)


def report_long(texts: Sequence[str], lengths: Sequence[int], limit: int, on_long: OnLong) -> list[int]:
    """Refuse, count or warn about texts over the limit; `lengths` are their numbers of tokens.

    Returns
    -------
    list of int
        Indices of the texts over the limit.

    Raises
    ------
    TextError
        A text is too long and `on_long` is "refuse".
    """
    long = [i for i, length in enumerate(lengths) if length > limit]
    tally = _COUNTED.get()
    if long and on_long == "refuse":
        i = long[0]
        raise TextError(
            f"text {i} has {lengths[i]} tokens, over the limit of {limit} (start and end included): "
            f"{_excerpt(texts[i])}. Shorten it, or let it be cut (on_long='cut')"
        )
    if tally is None and not long:
        return long
    total = LongTexts() if tally is None else tally
    if long and not total.cut:
        total.first = f"text {total.texts + long[0]} with {lengths[long[0]]}: {_excerpt(texts[long[0]])}"
    total.texts, total.cut, total.limit = total.texts + len(texts), total.cut + len(long), limit
    if tally is None:
        total.warn(stacklevel=4)  # this function, _encode, encode or __call__, their caller
    return long


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
