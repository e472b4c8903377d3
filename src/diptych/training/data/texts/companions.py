"""Texts that go with every pair of a batch: pairs of texts, nodes of a label tree, words of captions.

A *text pair* is two texts of one meaning: a name and its definition, two synonyms, or two languages. The text
tower learns from them that "perro" is a dog and what a beaver is, without pictures. A *tree node* is a name
("dog", "vehicle") whose probability for a picture a classifier knows: the sum over its classes. Its text is
trained towards these probabilities (`losses/multi_label.py`). A *caption word* is a thing that the picture's
captions name (`caption_words.py`).

All are drawn for each visit from its number, as crops and captions are, so batches stay independent of
processes and resuming. Tokens of a batch are (B, 1 + K + C, L): caption, K hard negatives, C companions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError
from diptych.training.data.order import UInts, mix, unit
from diptych.training.data.texts.caption_words import CaptionWords, WordTexts
from diptych.training.data.texts.prompts import Prompts
from diptych.training.data.texts.synsets import Synset, read_synsets

# Salts of a visit's number, beside those that `order.uniforms` lists.
_PAIR, _NODE = 5, 6
# Columns of a row of random numbers.
_TAKE, _SYNSET, _KIND, _FIRST, _SECOND, _TEMPLATE, _TEMPLATE_2, _CLASS, _STRENGTH = range(9)
_COLUMNS = 9
STRENGTHS = 2**20  # steps of a random number that travels as an integer
NODE_COLUMNS = 3  # numbers of a node among the samples of a visit, see `NodeTexts.of`


@dataclass(frozen=True, kw_only=True)
class TextPairs:
    """Pairs of texts of one meaning, which train the text tower alone.

    Parameters
    ----------
    path : str
        File of synsets (`synsets.py`).
    fraction : float
        Of the visits that bring a text pair, up to 1.
    weight : float
        Of the loss: InfoNCE between first and second texts.
    synonyms, translations : float
        Shares of the pairs that are two names of a language, or of two languages; the others are a name and
        the definition.
    epochs_alone : int
        First epochs of the run that train the text pairs alone, with one for every visit.
    """

    path: str
    fraction: float = 0.3
    weight: float = 0.5
    synonyms: float = 0.2
    translations: float = 0.3
    epochs_alone: int = 0

    def __post_init__(self) -> None:
        for name in ("fraction", "synonyms", "translations"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"text_pairs.{name} is {getattr(self, name)}: expected a share from 0 to 1")
        if self.weight < 0 or self.epochs_alone < 0:
            raise DataError("text_pairs.weight and text_pairs.epochs_alone: expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class LabelTree:
    """A tree of classes, whose classifier teaches the names of all its nodes.

    Parameters
    ----------
    path : str
        File of synsets with `classes` (`synsets.py`).
    classifier : str
        File of an image classifier (`weights/backbones`): the teacher. Its tower must be that of the model,
        as with `start_image`.
    weight : float
        Of the loss.
    synthetic : float
        Share of the visits to which a made-up feature vector is added: the picture's own, moved towards a
        class below the node. So every node meets pictures that show it.
    other_languages : float
        Share of the texts in another language than English, where the node has a name in it.
    """

    path: str
    classifier: str
    weight: float = 1.0
    synthetic: float = 0.5
    other_languages: float = 0.3

    def __post_init__(self) -> None:
        for name in ("synthetic", "other_languages"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"label_tree.{name} is {getattr(self, name)}: expected a share from 0 to 1")
        if self.weight < 0:
            raise DataError(f"label_tree.weight is {self.weight}: expected 0 or more")


class PairTexts:
    """Draws the text pairs of visits.

    Examples
    --------
    >>> dog = Synset({"en": ("dog",), "es": ("perro",)}, "a domestic animal that barks")
    >>> texts = PairTexts([dog], TextPairs(path="", fraction=1.0, translations=0.0))
    >>> texts.of(np.array([3], np.uint64), alone=False)
    [('dog', 'a domestic animal that barks')]
    """

    def __init__(self, synsets: Sequence[Synset], config: TextPairs) -> None:
        self.config = config
        kinds = [
            [synset for synset in synsets if synset.definition],
            [synset for synset in synsets if max(map(len, synset.names.values())) > 1],
            [synset for synset in synsets if len(synset.names) > 1],
        ]
        # A kind that the file has no synset of is left out.
        available = np.array([bool(kind) for kind in kinds], np.float64)
        if not available.any():
            raise DataError(f"{config.path} has no synset with a definition, synonyms or two languages")
        shares = np.array([1 - config.synonyms - config.translations, config.synonyms, config.translations])
        shares = shares.clip(0) * available
        shares = shares if shares.any() else available
        self._shares = np.cumsum(shares / shares.sum())
        self._kinds = [_Drawn(kind) for kind in kinds]
        self._prompts = Prompts()

    def of(self, numbers: UInts, *, alone: bool) -> list[tuple[str, str]]:
        """The pair of each visit; two empty texts where a visit brings none.

        Parameters
        ----------
        numbers : (B,) uint64
            Visit numbers.
        alone : bool
            Every visit brings one.
        """
        random = unit(mix(mix(numbers, _PAIR)[:, None], np.arange(_COLUMNS)[None, :]))  # (B, COLUMNS)
        fraction = 1.0 if alone else self.config.fraction
        return [self._pair(row) if row[_TAKE] < fraction else ("", "") for row in random.tolist()]

    def _pair(self, random: list[float]) -> tuple[str, str]:
        kind = int(np.searchsorted(self._shares, random[_KIND], side="right").clip(max=2))
        synset = self._kinds[kind].draw(random[_SYNSET])
        languages = sorted(synset.names, key=lambda language: (language != "en", language))
        if kind == 0:
            first = self._prompts.of_name(
                synset, languages[0], name=random[_FIRST], template=random[_TEMPLATE]
            )
            return first, synset.definition
        if kind == 1:
            language = max(languages, key=lambda language: len(synset.names[language]))
            names = synset.names[language]
            chosen = int(random[_FIRST] * len(names))
            # Another name of the same list: e.g. 3 names, chosen = 2: (2 + 1 + {0, 1}) % 3 is 0 or 1.
            other = (chosen + 1 + int(random[_SECOND] * (len(names) - 1))) % len(names)
            return (
                self._prompts.fill(language, names[chosen], random[_TEMPLATE]),
                self._prompts.fill(language, names[other], random[_TEMPLATE_2]),
            )
        language = languages[1 + int(random[_CLASS] * (len(languages) - 1))]
        return (
            self._prompts.of_name(synset, language, name=random[_FIRST], template=random[_TEMPLATE]),
            self._prompts.of_name(synset, languages[0], name=random[_SECOND], template=random[_TEMPLATE_2]),
        )


class NodeTexts:
    """Draws the tree nodes of visits."""

    def __init__(self, synsets: Sequence[Synset], config: LabelTree) -> None:
        self.config = config
        self.synsets = [synset for synset in synsets if synset.classes]
        if not self.synsets:
            raise DataError(f"{config.path} has no synset with classes")
        self._drawn = _Drawn(self.synsets)
        self._prompts = Prompts()

    def of(self, numbers: UInts) -> tuple[list[str], NDArray[np.int64]]:
        """Text and numbers of each visit's node.

        Returns
        -------
        texts : list of str
        nodes : (B, 3) int64
            Number of the node; a class below it, or -1 where no made-up features are added; and a random
            number from 0 to `STRENGTHS` that decides how far these are moved.
        """
        random = unit(mix(mix(numbers, _NODE)[:, None], np.arange(_COLUMNS)[None, :]))
        nodes, texts = np.empty((len(numbers), NODE_COLUMNS), np.int64), []
        for number, row in enumerate(random.tolist()):
            node = self._drawn.number(row[_SYNSET])
            synset = self.synsets[node]
            texts.append(
                self._prompts.of_synset(
                    synset,
                    self.config.other_languages,
                    kind=row[_KIND],
                    language=row[_SECOND],
                    name=row[_FIRST],
                    template=row[_TEMPLATE],
                )
            )
            is_synthetic = row[_TAKE] < self.config.synthetic
            below = synset.classes[int(row[_CLASS] * len(synset.classes))] if is_synthetic else -1
            nodes[number] = node, below, int(row[_STRENGTH] * STRENGTHS)
        return texts, nodes


@dataclass(frozen=True)
class CompanionTexts:
    """The companions of the pairs of a run."""

    pairs: PairTexts | None = None
    nodes: NodeTexts | None = None
    words: WordTexts | None = None
    epochs_alone: int = 0

    @classmethod
    def open(
        cls, pairs: TextPairs | None, tree: LabelTree | None, words: CaptionWords | None = None
    ) -> CompanionTexts | None:
        """Read the files of a config; None if it has no companions."""
        if pairs is None and tree is None and words is None:
            return None
        return cls(
            None if pairs is None else PairTexts(read_synsets(pairs.path), pairs),
            None if tree is None else NodeTexts(read_synsets(tree.path), tree),
            None if words is None else WordTexts(read_synsets(words.path), words),
            0 if pairs is None else pairs.epochs_alone,
        )

    def of(
        self, numbers: UInts, epoch: int, captions: Sequence[Sequence[str]]
    ) -> tuple[list[list[str]], NDArray[np.int64]]:
        """The companions of each visit.

        Parameters
        ----------
        numbers : (B,) uint64
            Visit numbers.
        captions : sequence of B sequences of str
            All captions of each record; none for a labelled one.

        Returns
        -------
        texts : list of B lists of C str
        samples : (B, D) int64
            Numbers of the node (`NodeTexts.of`) and of the words (`WordTexts.of`), as far as there are such.
        """
        columns: list[list[str]] = []
        samples = [np.empty((len(numbers), 0), np.int64)]
        if self.pairs is not None:
            drawn = self.pairs.of(numbers, alone=epoch < self.epochs_alone)
            columns += [[first for first, _ in drawn], [second for _, second in drawn]]
        if self.nodes is not None:
            texts, nodes = self.nodes.of(numbers)
            columns.append(texts)
            samples.append(nodes)
        if self.words is not None:
            texts, words = self.words.of(numbers, captions)
            columns.append(texts)
            samples.append(words)
        return [list(row) for row in zip(*columns, strict=True)], np.concatenate(samples, axis=1)


class _Drawn:
    """Synsets, drawn by their weights."""

    def __init__(self, synsets: Sequence[Synset]) -> None:
        self._synsets = synsets
        weights = np.cumsum([synset.weight for synset in synsets])
        if len(synsets) and not weights[-1] > 0:
            raise DataError("the weights of all synsets are 0: expected one above 0")
        self._bounds = weights / weights[-1] if len(synsets) else weights

    def number(self, random: float) -> int:
        return int(np.searchsorted(self._bounds, random, side="right").clip(max=len(self._synsets) - 1))

    def draw(self, random: float) -> Synset:
        return self._synsets[self.number(random)]
