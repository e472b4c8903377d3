"""Tags from words: every picture of a catalogue judged by zero-shot labels, from the vectors it has.

No picture is opened. Each label is judged by itself, against texts about nothing in particular, as the
classifier does for several labels: a tag says "this fits", and not "this is the least wrong of the labels",
which is all that a softmax over labels can say. Labels compete only where one a picture is wanted.

The cut-off of a search is no measure here. It asks whether the best of all pictures is more than luck, which
few pictures of a dog can pass in an album of dogs; a tag asks it of each picture alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.catalog.annotations.tags import check_origin, set_tags
from diptych.catalog.search.searcher import Searcher
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.catalog.store.golden import encode_checked
from diptych.errors import InputError
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import full_names, read_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

LEAST = 0.9
"""Probability of a tag: 57 % right and 21 % found with the default model (`benchmarks/tags.py`)."""

BLOCK_ROWS = 4096  # judged and committed at a time
EXAMPLES = 3


@dataclass(frozen=True)
class TagRule:
    """Which labels become tags.

    Attributes
    ----------
    least : float
        The probability a label must have beside texts about nothing in particular.
    top : int, optional
        At most so many labels a picture, the best ones.
    one : bool
        Labels exclude each other: a picture gets the one that is nearest, if that fits.
    """

    least: float = LEAST
    top: int | None = None
    one: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise InputError(f"least is {self.least}: expected a probability, 0 to 1")
        if self.top is not None and self.top < 1:
            raise InputError(f"top is {self.top}: expected at least 1 label a picture")


@dataclass
class TaggingReport:
    """What came of tagging.

    Attributes
    ----------
    judged, tagged, changed : int
        Pictures that were looked at, that have a tag now, and whose tags or scores are others than before.
    counts : dict
        Tag -> pictures; labels that fit none have 0.
    examples : dict
        Tag -> (score, content) of the best pictures, at most three.
    """

    judged: int = 0
    tagged: int = 0
    changed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[tuple[float, int]]] = field(default_factory=dict)


def tag_pictures(
    searcher: Searcher,
    classifier: ZeroShotClassifier,
    origin: str,
    rule: TagRule | None = None,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    where: Filter | None = None,
    write: bool = True,
    progress: Callable[[int], None] | None = None,
) -> TaggingReport:
    """Give the pictures of a catalogue the labels that fit as tags.

    What these pictures had from this origin is replaced, block by block, each in one transaction; running it
    again finishes what was interrupted, and tags what was indexed since.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted, with the searcher's encoder and `multi_label`; its classes are the tags.
    origin : str
        The name of the list of labels.
    groups : mapping, optional
        Further tags and the labels each of them stands for: a picture with one of these has it too.
    where : Filter, optional
        Only these pictures.
    write : bool
        False counts only.
    progress : callable, optional
        Told how many pictures each block had.

    Raises
    ------
    InputError
        An origin that cannot be one, or a classifier whose labels compete.
    CatalogError
        The encoder no longer makes the catalogue's vectors.
    """
    origin, rule = check_origin(origin), rule or TagRule()
    if not classifier.multi_label:
        raise InputError("the labels of this classifier compete: make it with multi_label=True")
    encode_checked(searcher.encoder, [], searcher.space.info.golden)
    judge = _Judge(searcher, classifier, rule, groups or {})
    rows = _rows(searcher, where)
    outcome = TaggingReport(counts=dict.fromkeys(judge.tags, 0), examples={tag: [] for tag in judge.tags})
    for contents, tags in judge.blocks(rows):
        if write:
            outcome.changed += set_tags(
                searcher.store.database, origin, dict(zip(contents, tags, strict=True))
            )
        _count(outcome, contents, tags)
        if progress:
            progress(len(contents))
    return outcome


def group_members(names: Any) -> dict[str, list[str]]:
    """Group -> the labels in it, of labels that form a hierarchy; empty for a list.

    Examples
    --------
    >>> group_members({"animal": {"pet": {"dog": None}, "cow": None}})
    {'animal': ['dog', 'cow'], 'pet': ['dog']}
    >>> group_members({"bird": {"crane": None}, "machine": {"crane": None}})
    {'bird': ['bird/crane'], 'machine': ['machine/crane']}
    """
    members: dict[str, list[str]] = {}
    labels = read_labels(names)
    for label, name in zip(labels, full_names(labels), strict=True):  # as the classifier calls them
        for group in label.groups:
            members.setdefault(group, []).append(name)
    return members


def _rows(searcher: Searcher, where: Filter | None) -> RowNumbers:
    if where:
        return allowed_rows(searcher.space, where)
    return searcher.space.live_rows()


def _count(outcome: TaggingReport, contents: Sequence[int], tags: Sequence[Mapping[str, float]]) -> None:
    outcome.judged += len(contents)
    for content, given in zip(contents, tags, strict=True):
        outcome.tagged += bool(given)
        for tag, score in given.items():
            outcome.counts[tag] += 1
            best = outcome.examples[tag]
            best.append((score, content))
            best.sort(key=lambda one: (-one[0], one[1]))
            del best[EXAMPLES:]


class _Judge:
    """The labels of a classifier, ready to be held against rows."""

    def __init__(
        self,
        searcher: Searcher,
        classifier: ZeroShotClassifier,
        rule: TagRule,
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        self.searcher, self.classifier, self.rule = searcher, classifier, rule
        names: list[str] = [str(name) for name in classifier.classes_]
        self.names = names
        self.columns = {
            tag: [names.index(label) for label in labels]
            for tag, labels in groups.items()
            if tag not in names  # a label of its own says more than what is below it
        }
        self.tags = [*dict.fromkeys(names), *self.columns]

    def blocks(self, rows: RowNumbers) -> Iterator[tuple[list[int], list[dict[str, float]]]]:
        """Contents and their tags with scores, some thousand at a time."""
        for start in range(0, len(rows), BLOCK_ROWS):
            part = rows[start : start + BLOCK_ROWS]
            owners = self.searcher.space.contents_of(part.tolist())
            part = np.array([row for row in part.tolist() if row in owners], np.int64)
            vectors = self.searcher.space.gather(part)  # (n, dim)
            yield [owners[row] for row in part.tolist()], self._tags(vectors)

    def _tags(self, vectors: FloatArray) -> list[dict[str, float]]:
        if not len(vectors):
            return []
        fit = self.classifier.predict_proba(vectors)  # (n, L)
        given = fit >= self.rule.least
        if self.rule.one:
            nearest = self.classifier.cosines(vectors).argmax(axis=1)
            given &= np.arange(fit.shape[1]) == nearest[:, None]
        elif self.rule.top is not None and self.rule.top < fit.shape[1]:
            order = np.argsort(-fit, axis=1, kind="stable")
            given &= np.argsort(order, axis=1, kind="stable") < self.rule.top
        return [self._named(scores, mask) for scores, mask in zip(fit, given, strict=True)]

    def _named(self, scores: FloatArray, given: NDArray[np.bool_]) -> dict[str, float]:
        named = {self.names[column]: _rounded(scores[column]) for column in np.flatnonzero(given)}
        for tag, columns in self.columns.items():
            if given[columns].any():
                named[tag] = _rounded(scores[columns][given[columns]].max())
        return named


def _rounded(score: float) -> float:
    """Four digits: a score that changes less than that is the same, and nothing is written."""
    return round(float(score), 4)
