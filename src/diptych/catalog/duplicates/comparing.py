"""Comparing the new pictures of a catalogue with all of it: proposed, glanced at, looked at, kept.

A few hundred at a time, committed as they go, so that a run that was stopped goes on where it stood. One new
picture among many costs a look at its few dozen candidates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from diptych.catalog.database.spaces import Space
from diptych.catalog.duplicates.pairs import DEEP, DuplicatePair, PairStore
from diptych.catalog.duplicates.proposals import Proposer
from diptych.catalog.duplicates.scenes import Scenes
from diptych.catalog.duplicates.thumbnail_cache import ThumbnailCache
from diptych.matching.detail_view import confirm_same_image
from diptych.matching.verdicts import PairScreening, Verdict, judge_pair, screen_pair
from diptych.progress import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

CHUNK = 256  # pictures compared and committed at once
LOOKED_AT, LOOKED_CLOSER = 128, 32  # pairs whose looks are in memory at once

Cosines: TypeAlias = dict[tuple[int, int], float | None]  # by contents, the smaller number first


def compare_new(
    space: Space,
    pairs: PairStore,
    looks: ThumbnailCache,
    *,
    parts: bool,
    only: Collection[int] | None,
    stage: Stage,
) -> None:
    """Compare what is new with everything, and keep the pairs that belong together.

    Parameters
    ----------
    space : Space
    pairs : PairStore
        Of this space.
    looks : ThumbnailCache
    parts : bool
        Look for parts of pictures, too.
    only : collection of int, optional
        New pictures that count; by default all.
    stage : callable
        `stage(what, total)` gives a context with a progress function.
    """
    contents = contents_of(space)
    depth, done = DEEP[parts], pairs.depths()
    fresh = np.array([done.get(content, 0) & depth != depth for content in contents], bool)
    if only is not None:
        fresh &= np.isin(contents, list(only))
    new = [content for content, is_new in zip(contents, fresh.tolist(), strict=True) if is_new]
    if new:
        comparison = _Comparison(space, contents, looks, parts)
        proposed, away = comparison.by_hash(fresh, new, stage), set[int]()
        with stage("comparing", len(new)) as advance:
            for chunk, found in comparison.by_chunk(new, proposed):
                pairs.forget(looks.failed.keys() - away)  # once they are back, they are new
                away = set(looks.failed)
                pairs.add(found, [one for one in chunk if one not in looks.failed], depth)
                advance(len(chunk))


class _Comparison:
    """One run."""

    def __init__(self, space: Space, contents: Sequence[int], looks: ThumbnailCache, parts: bool) -> None:
        self.contents, self.looks, self.parts = contents, looks, parts
        self.proposer, self.scenes = Proposer(space, contents), Scenes(space, contents)

    def by_hash(self, fresh: NDArray[np.bool_], new: Sequence[int], stage: Stage) -> dict[int, set[int]]:
        """Partners by hashes, at the picture that comes last in `new`."""
        found = [self.proposer.by_hash(fresh)]
        if self.parts:
            with stage("looking at pictures", len(new)) as advance:
                for chunk in chunks(new):
                    self.looks.glances(chunk)
                    advance(len(chunk))
            self.proposer.index_features(self.looks.traces(self.contents))
            found.append(self.proposer.by_cells(fresh))
        order = {content: number for number, content in enumerate(new)}
        proposed: dict[int, set[int]] = defaultdict(set)
        for a, b in np.concatenate(found).tolist():
            last, other = (a, b) if order.get(a, -1) > order.get(b, -1) else (b, a)
            proposed[last].add(other)
        return proposed

    def by_chunk(
        self, new: Sequence[int], proposed: dict[int, set[int]]
    ) -> Iterator[tuple[Sequence[int], list[DuplicatePair]]]:
        """Some of the new pictures, and their pairs with all that do not come later."""
        waiting = set(new)
        done: dict[int, set[int]] = defaultdict(set)  # what a picture still to come was compared with
        for chunk in chunks(new):
            waiting.difference_update(chunk)
            cosines: Cosines = {ordered(one, other): None for one in chunk for other in proposed.pop(one, ())}
            if self.parts:
                traces = self.looks.traces(chunk)
                cosines.update((ordered(*pair), None) for pair in self.proposer.by_words(traces))
            for one, other, cosine in self.proposer.by_vectors(chunk):
                cosines[ordered(one, other)] = cosine
            for one in chunk:
                for other in done.pop(one, ()):
                    cosines.pop(ordered(one, other), None)
            yield chunk, list(self._judged(cosines))
            for a, b in cosines:
                for one, other in ((a, b), (b, a)):
                    if one in waiting:
                        done[one].add(other)

    def _judged(self, cosines: Cosines) -> Iterator[DuplicatePair]:
        """Those of these pairs that belong together."""
        glances = self.looks.glances(one for pair in cosines for one in pair)
        suspicions = {
            (a, b): screen_pair(glances[a], glances[b], parts=self.parts)
            for a, b in cosines
            if a in glances and b in glances
        }
        verdicts = self._by_pixels(sorted(pair for pair, one in suspicions.items() if one), suspicions)
        for (a, b), suspicion in suspicions.items():
            cosine = cosines[a, b]
            if cosine is None and ((a, b) in verdicts or suspicion):
                cosine = self.proposer.cosine(a, b)
            found = self.scenes.verdict(a, b, verdicts.get((a, b)), suspicion.plain, cosine or 0.0)
            if found is not None:
                bits = self.proposer.bits(a, b, mirrored=found.change == "mirrored")
                yield DuplicatePair(a, b, found, bits, cosine)

    def _by_pixels(
        self, pairs: Sequence[tuple[int, int]], suspicions: Mapping[tuple[int, int], PairScreening]
    ) -> dict[tuple[int, int], Verdict]:
        found: dict[tuple[int, int], Verdict] = {}
        for part in chunks(pairs, LOOKED_AT):
            looks = self.looks.looks(one for pair in part for one in pair)
            for a, b in part:
                if a in looks and b in looks:
                    verdict = judge_pair(looks[a], looks[b], suspicions[a, b])
                    if verdict is not None:
                        found[a, b] = verdict
        same = [pair for pair, verdict in found.items() if verdict.tier == "picture"]
        for part in chunks(same, LOOKED_CLOSER):
            closer = self.looks.closer(one for pair in part for one in pair)
            for a, b in part:
                if a in closer and b in closer:
                    found[a, b] = confirm_same_image(found[a, b], closer[a], closer[b])
                else:
                    del found[a, b]
        return found


def contents_of(space: Space) -> list[int]:
    """Every picture of a space, by its number."""
    return [
        int(row[0])
        for row in space.database.all(
            "SELECT content FROM vectors WHERE space = ? ORDER BY content", (space.info.id,)
        )
    ]


def ordered(a: int, b: int) -> tuple[int, int]:
    """A pair by which it is kept."""
    return (a, b) if a < b else (b, a)


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """So many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
