"""Hard negatives: nearly right captions for the caption of a pair, read from a file.

The file is JSON lines: ``{"caption": "a man bites a dog", "negatives": ["a dog bites a man"]}``, where the
caption is spelt as in the pairs. Their loss is in `diptych.training.losses.hard_negatives`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diptych.errors import DataError
from diptych.files.text_files import lines_of, read_text_file
from diptych.files.unicode_text import without_surrogates
from diptych.training.data.order import UInts, mix, unit

_MAX_BYTES = 2**32  # of the file: enough for one line per caption of a large data set


class Negatives:
    """The hard negatives of captions.

    Parameters
    ----------
    path : path
        JSON lines of "caption" and "negatives", a list; lines of one caption are joined.
    each : int
        Hard negatives per pair and step.

    Raises
    ------
    DataError
        The file cannot be read, or a line has another form; the message names it.

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
            lines = lines_of(read_text_file(Path(path).expanduser(), _MAX_BYTES))
        except DataError as error:
            raise DataError(f"{path} cannot be read as a file of negatives: {error}") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                caption, negatives = _parse(line, f"{path}, line {number}")
                texts = self._known.setdefault(caption, [])
                texts += [text for text in dict.fromkeys(negatives) if text != caption and text not in texts]

    def __len__(self) -> int:
        """Number of captions that have hard negatives."""
        return sum(map(bool, self._known.values()))

    def of(self, captions: Sequence[str], numbers: UInts) -> list[list[str]]:
        """Choose `each` hard negatives for every caption.

        Parameters
        ----------
        captions : sequence of N str
        numbers : (N,) uint64
            Visit numbers, on which the choice depends.

        Returns
        -------
        list of N lists of `each` str
            All different; filled up with the caption itself where it has fewer.
        """
        values = unit(mix(numbers, 3))
        return [self._choose(text, value) for text, value in zip(captions, values.tolist(), strict=True)]

    def _choose(self, caption: str, value: float) -> list[str]:
        negatives = self._known.get(caption, [])
        # More than needed: a random choice without replacement, seeded by the visit.
        if len(negatives) > self.each:
            chosen = np.random.default_rng(int(value * 2**53)).choice(
                len(negatives), self.each, replace=False
            )
            return [negatives[n] for n in chosen]
        return negatives + [caption] * (self.each - len(negatives))


def _parse(line: str, source: str) -> tuple[str, list[str]]:
    try:
        value = without_surrogates(json.loads(line))
        caption, negatives = value["caption"], value["negatives"]
        is_list = isinstance(negatives, list) and all(isinstance(text, str) for text in negatives)
        if isinstance(caption, str) and is_list:
            return caption.strip(), [text.strip() for text in negatives if text.strip()]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(f'{source} is {line[:60]!r}: expected {{"caption": "...", "negatives": ["...", ...]}}')
