"""Words of captions as labels: what several captions of a picture name is on it.

A caption is a sentence, and a model that has read only sentences does not know that "snow" alone is a query.
So each visit to a captioned picture brings a word that its captions contain, bare or in a short prompt, also
in another language. It is trained as one of several labels of every picture of the batch
(`losses/multi_label.py`): the target of a word for a picture is 1 if two of the picture's captions contain it
(or its only caption), 1/2 if one does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError
from diptych.training.data.order import UInts, mix, unit
from diptych.training.data.texts.prompts import Prompts
from diptych.training.data.texts.synsets import Synset

MAX_WORDS = 32  # word numbers that a visit carries
_WORD = 7  # salt of a visit's number, beside those that `order.uniforms` lists
_CHOICE, _LANGUAGE, _NAME, _TEMPLATE, _OTHER = range(5)
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, kw_only=True)
class CaptionWords:
    """Words of captions that are trained as labels of pictures.

    Parameters
    ----------
    path : str
        File of synsets (`synsets.py`) with the `forms` that captions use; the `weight` is the word's
        information content, -log(share of the captioned pictures that have it).
    weight : float
        Of the loss.
    other_languages : float
        Share of the texts in another language than English, where the word has a name in it.
    """

    path: str
    weight: float = 1.0
    other_languages: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.other_languages <= 1:
            raise DataError(
                f"caption_words.other_languages is {self.other_languages}: expected a share from 0 to 1"
            )
        if self.weight < 0:
            raise DataError(f"caption_words.weight is {self.weight}: expected 0 or more")


class WordTexts:
    """Draws the words of visits.

    Examples
    --------
    >>> snow = Synset({"en": ("snow",), "es": ("nieve",)}, forms=("snow", "snows"))
    >>> texts = WordTexts([snow], CaptionWords(path="", other_languages=0))
    >>> texts.of(np.array([3], np.uint64), [["A dog in snow.", "Snow!", "a dog"]])[1][0, :4]
    array([ 0,  0,  0, -1])
    """

    def __init__(self, synsets: Sequence[Synset], config: CaptionWords) -> None:
        self.config, self.synsets = config, synsets
        self._numbers: dict[str, int] = {}
        for number, synset in enumerate(synsets):
            for form in synset.forms:
                if not _LETTERS.fullmatch(form):
                    raise DataError(f"{config.path} has the form {form!r}: expected single words of letters")
                self._numbers[form.lower()] = number
        if not self._numbers:
            raise DataError(f"{config.path} has no synset with forms, the spellings in captions")
        self._weights = np.array([synset.weight for synset in synsets])
        self._prompts = Prompts()

    def of(self, numbers: UInts, captions: Sequence[Sequence[str]]) -> tuple[list[str], NDArray[np.int64]]:
        """Text and numbers of each visit's word.

        Parameters
        ----------
        numbers : (B,) uint64
            Visit numbers.
        captions : sequence of B sequences of str
            All captions of each record; none for a labelled one.

        Returns
        -------
        texts : list of str
            "" for a record without a known word.
        words : (B, 1 + MAX_WORDS) int64
            Number of the drawn word; then all words of the record, each once for every caption that contains
            it, twice at most (twice, too, for a record with a single caption). Filled up with -1.
        """
        random = unit(mix(mix(numbers, _WORD)[:, None], np.arange(5)[None, :]))  # (B, 5)
        texts, words = [], np.full((len(numbers), 1 + MAX_WORDS), -1, np.int64)
        for row, (draw, texts_of_record) in enumerate(zip(random.tolist(), captions, strict=True)):
            counts = self._count(texts_of_record)
            listed = [number for number, count in counts.items() for _ in range(count)][:MAX_WORDS]
            words[row, 1 : 1 + len(listed)] = listed
            if not listed:
                texts.append("")
                continue
            # Rare words are drawn more often: "surfboard" rather than "man".
            bounds = np.cumsum(self._weights[listed] + 1e-6)
            chosen = listed[int(np.searchsorted(bounds, draw[_CHOICE] * bounds[-1], side="right"))]
            words[row, 0] = chosen
            texts.append(
                self._prompts.of_synset(
                    self.synsets[chosen],
                    self.config.other_languages,
                    kind=draw[_LANGUAGE],
                    language=draw[_OTHER],
                    name=draw[_NAME],
                    template=draw[_TEMPLATE],
                )
            )
        return texts, words

    def _count(self, captions: Sequence[str]) -> dict[int, int]:
        """Number of captions with each known word, 2 at most."""
        counts: dict[int, int] = {}
        for caption in captions:
            for number in {self._numbers.get(word, -1) for word in _LETTERS.findall(caption.lower())} - {-1}:
                counts[number] = min(2, counts.get(number, 0) + 1)
        # A set has no fixed order, and a single caption is all that is known.
        return {number: 2 if len(captions) == 1 else counts[number] for number in sorted(counts)}
