"""Zero-shot tags: every image of a catalogue is classified from its stored embedding, without opening files.

Each label is judged by itself, against neutral texts, as a multi-label classifier does: a tag means "this
label fits". A softmax over the labels would only say which label fits least badly. Labels compete only if a
rule asks for a single label per image.

The cut-off of a search is no measure here. It asks whether the best of all images is more than luck, a test
that few images of dogs can pass in an album of dogs; a tag is decided for each image alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.catalog.annotations.tags import check_origin, set_tags
from diptych.catalog.search.searcher import Searcher
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.embedding.golden import encode_checked
from diptych.errors import InputError
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import full_names, read_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

LEAST = 0.9
"""Probability of a tag: 57 % right and 21 % found with the default model (`benchmarks/tags.py`)."""

BLOCK_ROWS = 4096  # classified and committed at a time
EXAMPLES = 3


@dataclass(frozen=True)
class TagRule:
    """Which labels become tags.

    Attributes
    ----------
    least : float
        Minimum probability of a label against neutral texts.
    top : int, optional
        At most this number of labels per image, the most probable ones.
    exclusive : bool
        Labels exclude each other: an image gets only the label with the largest cosine, if that fits.
    """

    least: float = LEAST
    top: int | None = None
    exclusive: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise InputError(f"least is {self.least}: expected a probability, 0 to 1")
        if self.top is not None and self.top < 1:
            raise InputError(f"top is {self.top}: expected at least 1 label a picture")


@dataclass
class TaggingReport:
    """The result of `tag_pictures`.

    Attributes
    ----------
    judged, tagged, changed : int
        Number of images that were classified, that have a tag now, and whose tags or scores changed.
    counts : dict
        Tag -> number of images, 0 for labels that fit none.
    examples : dict
        Tag -> (score, content) of the best images, at most three.
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
    filters: Filter | None = None,
    write: bool = True,
    progress: Callable[[int], None] | None = None,
) -> TaggingReport:
    """Tag the images of a catalogue with the labels that fit.

    The tags that these images had from this origin are replaced, block by block, each in one transaction. An
    interrupted run is completed by running it again, which also tags images that were indexed since.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted, with the searcher's encoder and `multi_label`; its classes are the tags.
    origin : str
        Name of the list of labels.
    groups : mapping, optional
        Further tags and the labels that imply them: an image with one of these labels gets the tag, too.
    filters : Filter, optional
        Only these images.
    write : bool
        False only counts.
    progress : callable, optional
        Called with the number of images of each block.

    Raises
    ------
    InputError
        An invalid origin, or a classifier whose labels compete.
    CatalogError
        The encoder no longer makes the embeddings of the catalogue.
    """
    origin, rule = check_origin(origin), rule or TagRule()
    if not classifier.multi_label:
        raise InputError("the labels of this classifier compete: make it with multi_label=True")
    # The classifier's texts are compared with embeddings of an earlier day: another encoder, or the same one
    # on a changed runtime, would tag at random without any error.
    encode_checked(searcher.encoder, [], searcher.space.info.golden)
    tagger = _Tagger(searcher, classifier, rule, groups or {})
    outcome = TaggingReport(counts=dict.fromkeys(tagger.tags, 0), examples={tag: [] for tag in tagger.tags})
    for contents, tags in tagger.blocks(allowed_rows(searcher.space, filters)):
        if write:
            outcome.changed += set_tags(
                searcher.store.database, origin, dict(zip(contents, tags, strict=True))
            )
        _count(outcome, contents, tags)
        if progress:
            progress(len(contents))
    return outcome


def group_members(names: Any) -> dict[str, list[str]]:
    """Map each group of hierarchical labels to the labels in it; empty for a plain list of labels.

    Examples
    --------
    >>> group_members({"animal": {"pet": {"dog": None}, "cow": None}})
    {'animal': ['dog', 'cow'], 'pet': ['dog']}
    >>> group_members({"bird": {"crane": None}, "machine": {"crane": None}})
    {'bird': ['bird/crane'], 'machine': ['machine/crane']}
    """
    members: dict[str, list[str]] = {}
    labels = read_labels(names)
    for label, name in zip(labels, full_names(labels), strict=True):  # the names that the classifier uses
        for group in label.groups:
            members.setdefault(group, []).append(name)
    return members


def _count(outcome: TaggingReport, contents: Sequence[int], tags: Sequence[Mapping[str, float]]) -> None:
    outcome.judged += len(contents)
    for content, scores in zip(contents, tags, strict=True):
        outcome.tagged += bool(scores)
        for tag, score in scores.items():
            outcome.counts[tag] += 1
            best = outcome.examples[tag]
            best.append((score, content))
            # Equal scores in order of the content number, so that a run can be repeated with equal examples.
            best.sort(key=lambda example: (-example[0], example[1]))
            del best[EXAMPLES:]


class _Tagger:
    """A classifier with a rule and groups, applied to rows of a space."""

    def __init__(
        self,
        searcher: Searcher,
        classifier: ZeroShotClassifier,
        rule: TagRule,
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        self.searcher, self.classifier, self.rule = searcher, classifier, rule
        self.names = [str(name) for name in classifier.classes_]
        self.columns = {
            tag: [self.names.index(label) for label in labels]
            for tag, labels in groups.items()
            if tag not in self.names  # a group that is a label, too, is classified like any label
        }
        self.tags = [*dict.fromkeys(self.names), *self.columns]

    def blocks(self, rows: RowNumbers) -> Iterator[tuple[list[int], list[dict[str, float]]]]:
        """Yield contents and their tags with scores, in blocks."""
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            # Read again for each block: an index that runs meanwhile may have removed images.
            owners = self.searcher.space.contents_of(block.tolist())
            block = np.array([row for row in block.tolist() if row in owners], np.int64)
            vectors = self.searcher.space.gather(block)  # (n, dim)
            yield [owners[row] for row in block.tolist()], self._tags(vectors)

    def _tags(self, vectors: FloatArray) -> list[dict[str, float]]:
        if not len(vectors):
            return []
        probabilities = self.classifier.predict_proba(vectors)  # (n, L)
        mask = probabilities >= self.rule.least
        if self.rule.exclusive:
            # By cosine: probabilities against neutral texts saturate, and several labels may have 1.0.
            nearest = self.classifier.cosines(vectors).argmax(axis=1)
            mask &= np.arange(mask.shape[1]) == nearest[:, None]
        elif self.rule.top is not None and self.rule.top < mask.shape[1]:
            # The argsort of an argsort is the rank. E.g. probabilities [0.2, 0.9, 0.5]: order [1, 2, 0],
            # ranks [2, 0, 1]; top = 2 keeps the ranks 0 and 1, the labels 1 and 2.
            order = np.argsort(-probabilities, axis=1, kind="stable")
            mask &= np.argsort(order, axis=1, kind="stable") < self.rule.top
        return [self._scores(*row) for row in zip(probabilities, mask, strict=True)]

    def _scores(self, probabilities: FloatArray, mask: NDArray[np.bool_]) -> dict[str, float]:
        """Return the tags of one image; a group has the score of its best label."""
        scores = {self.names[column]: _rounded(probabilities[column]) for column in np.flatnonzero(mask)}
        for tag, columns in self.columns.items():
            if mask[columns].any():
                scores[tag] = _rounded(probabilities[columns][mask[columns]].max())
        return scores


def _rounded(score: float) -> float:
    """Round to four digits, so that a run on another number of threads does not rewrite all scores."""
    return round(float(score), 4)
