"""Near misses: captions that are nearly right, from a file, for the caption a pair shows.

The file is JSON lines: ``{"caption": "a man bites a dog", "negatives": ["a dog bites a man"]}``, a caption as
the pairs have it. What is lost to them is `diptych.training.losses.negatives`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diptych.errors import DataError
from diptych.files.text_files import lines_of, read_text_file
from diptych.media.folders.captions import without_surrogates
from diptych.training.data.order import UInts, mix, unit

_MOST = 2**32  # bytes: a line for each caption of a large set


class Negatives:
    """The near misses of every caption that has any.

    Parameters
    ----------
    path : path
        JSON lines of "caption" and "negatives", a list; lines of one caption add up.
    each : int
        How many a pair is given at a time.

    Raises
    ------
    DataError
        The file is not there, or a line is not like that; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "negatives.jsonl"
    >>> _ = file.write_text('{"caption": "a man bites a dog", "negatives": ["a dog bites a man"]}')
    >>> Negatives(file, 2).of(["a man bites a dog", "a cat"], np.array([1, 2], np.uint64))
    [['a dog bites a man', 'a man bites a dog'], ['a cat', 'a cat']]
    """

    def __init__(self, path: str | Path, each: int) -> None:
        self.each = each
        self._known: dict[str, list[str]] = {}
        try:
            lines = lines_of(read_text_file(Path(path).expanduser(), _MOST))
        except DataError as error:
            raise DataError(f"{path} cannot be read as a file of negatives: {error}") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                caption, missed = _parse(line, f"{path}, line {number}")
                known = self._known.setdefault(caption, [])
                known += [text for text in dict.fromkeys(missed) if text != caption and text not in known]

    def __len__(self) -> int:
        """Captions that have near misses."""
        return sum(map(bool, self._known.values()))

    def of(self, captions: Sequence[str], numbers: UInts) -> list[list[str]]:
        """As many near misses as asked for, of each caption.

        Parameters
        ----------
        captions : sequence of N str
        numbers : (N,) uint64
            The visits' numbers; which of many are chosen hangs on nothing else.

        Returns
        -------
        list of N lists of `each` str
            None twice. The caption itself stands where it has no more: a near miss that is none.
        """
        draws = unit(mix(numbers, 3))
        return [self._choose(text, draw) for text, draw in zip(captions, draws.tolist(), strict=True)]

    def _choose(self, caption: str, draw: float) -> list[str]:
        known = self._known.get(caption, [])
        if len(known) > self.each:
            chosen = np.random.default_rng(int(draw * 2**53)).choice(len(known), self.each, replace=False)
            return [known[n] for n in chosen]
        return known + [caption] * (self.each - len(known))


def _parse(line: str, where: str) -> tuple[str, list[str]]:
    try:
        value = without_surrogates(json.loads(line))
        caption, missed = value["caption"], value["negatives"]
        if isinstance(caption, str) and isinstance(missed, list) and all(isinstance(m, str) for m in missed):
            return caption.strip(), [text.strip() for text in missed if text.strip()]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(f'{where} is {line[:60]!r}: expected {{"caption": "...", "negatives": ["...", ...]}}')
