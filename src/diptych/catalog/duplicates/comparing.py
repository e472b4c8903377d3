"""Compare the new pictures of a catalogue with all of it: propose, screen, judge and store pairs.

Pictures are compared in chunks of some hundred, each committed when it is done, so that an interrupted run
resumes where it stopped. One new picture is compared with its few dozen candidates only.
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
JUDGED_AT_ONCE, CONFIRMED_AT_ONCE = 128, 32  # pairs whose thumbnails, or detail views, are in memory at once

# (content, other content), the smaller number first -> cosine of their vectors, None where not computed yet.
Cosines: TypeAlias = dict[tuple[int, int], float | None]


def compare_new(
    space: Space,
    pairs: PairStore,
    cache: ThumbnailCache,
    *,
    parts: bool,
    only: Collection[int] | None,
    stage: Stage,
) -> None:
    """Compare new pictures with all pictures, and store the pairs that are related.

    With `parts`, pictures are also searched for inside other pictures. `only` restricts the new pictures that
    are compared; all by default.
    """
    contents = contents_of(space)
    depth, depths = DEEP[parts], pairs.depths()
    # As a bit mask: a picture that was compared as a whole only, depth 1, is new for a run with parts (1 & 3
    # = 1), while one that was compared with parts is not new for a run without (3 & 1 = 1).
    fresh = np.array([depths.get(content, 0) & depth != depth for content in contents], bool)
    if only is not None:
        fresh &= np.isin(contents, list(only))
    new = [content for content, is_new in zip(contents, fresh.tolist(), strict=True) if is_new]
    if new:
        comparison = _Comparison(space, contents, cache, parts)
        proposed, unreadable = comparison.propose_by_hash(fresh, new, stage), set[int]()
        with stage("comparing", len(new)) as advance:
            for chunk, related in comparison.compare_chunks(new, proposed):
                # A picture that cannot be read now has to be compared again once it is back.
                pairs.forget(cache.failed.keys() - unreadable)
                unreadable = set(cache.failed)
                pairs.add(related, [content for content in chunk if content not in cache.failed], depth)
                advance(len(chunk))


class _Comparison:
    """The state of one run."""

    def __init__(self, space: Space, contents: Sequence[int], cache: ThumbnailCache, parts: bool) -> None:
        self.contents, self.cache, self.parts = contents, cache, parts
        self.proposer, self.scenes = Proposer(space, contents), Scenes(space, contents)

    def propose_by_hash(
        self, fresh: NDArray[np.bool_], new: Sequence[int], stage: Stage
    ) -> dict[int, set[int]]:
        """Candidates by hashes; each pair is listed under the picture that comes last in `new`."""
        candidates = [self.proposer.by_hash(fresh)]
        if self.parts:
            with stage("reading pictures", len(new)) as advance:
                for chunk in chunks(new):
                    self.cache.grey_thumbnails(chunk)
                    advance(len(chunk))
            self.proposer.index_features(self.cache.local_features(self.contents))
            candidates.append(self.proposer.by_cells(fresh))
        # The pair is judged in the chunk of its last picture, when both are no longer waiting. E.g. new = [5,
        # 9]: (5, 9) is listed under 9, and (5, 2), where 2 is old, under 5.
        order = {content: number for number, content in enumerate(new)}
        proposed: dict[int, set[int]] = defaultdict(set)
        for a, b in np.concatenate(candidates).tolist():
            last, other = (a, b) if order.get(a, -1) > order.get(b, -1) else (b, a)
            proposed[last].add(other)
        return proposed

    def compare_chunks(
        self, new: Sequence[int], proposed: dict[int, set[int]]
    ) -> Iterator[tuple[Sequence[int], list[DuplicatePair]]]:
        """Yield chunks of new pictures, with their related pairs among all pictures up to that chunk.

        Vectors and words propose neighbours in any chunk, so a pair of two new pictures can be proposed
        twice. E.g. chunk 1 proposes (3, 900) and judges it; 900 is in chunk 4 and proposes (900, 3) again,
        which is skipped.
        """
        waiting = set(new)
        compared: dict[int, set[int]] = defaultdict(set)  # waiting picture -> those it was compared with
        for chunk in chunks(new):
            waiting.difference_update(chunk)
            cosines: Cosines = {
                ordered(content, other): None for content in chunk for other in proposed.pop(content, ())
            }
            if self.parts:
                features = self.cache.local_features(chunk)
                cosines.update((ordered(*pair), None) for pair in self.proposer.by_words(features))
            for content, other, cosine in self.proposer.by_vectors(chunk):
                cosines[ordered(content, other)] = cosine
            for content in chunk:
                for other in compared.pop(content, ()):
                    cosines.pop(ordered(content, other), None)
            yield chunk, list(self._related(cosines))
            for a, b in cosines:
                for content, other in ((a, b), (b, a)):
                    if content in waiting:
                        compared[content].add(other)

    def _related(self, cosines: Cosines) -> Iterator[DuplicatePair]:
        """Those of the candidate pairs that are related."""
        grey_thumbnails = self.cache.grey_thumbnails(content for pair in cosines for content in pair)
        screenings = {
            (a, b): screen_pair(grey_thumbnails[a], grey_thumbnails[b], parts=self.parts)
            for a, b in cosines
            if a in grey_thumbnails and b in grey_thumbnails
        }
        passed = sorted(pair for pair, screening in screenings.items() if screening)
        verdicts = self._judge(passed, screenings)
        for (a, b), screening in screenings.items():
            cosine = cosines[a, b]
            # Only for pairs that may become a result: a cosine reads two rows.
            if cosine is None and ((a, b) in verdicts or screening):
                cosine = self.proposer.cosine(a, b)
            verdict = self.scenes.verdict(a, b, verdicts.get((a, b)), screening.plain, cosine or 0.0)
            if verdict is not None:
                bits = self.proposer.bits(a, b, mirrored=verdict.change == "mirrored")
                yield DuplicatePair(a, b, verdict, bits, cosine)

    def _judge(
        self, pairs: Sequence[tuple[int, int]], screenings: Mapping[tuple[int, int], PairScreening]
    ) -> dict[tuple[int, int], Verdict]:
        """Verdicts by pixels; those of tier "picture" are confirmed at high resolution."""
        verdicts: dict[tuple[int, int], Verdict] = {}
        # In this order the pairs of one picture are adjacent, so its thumbnail is decoded once.
        for part in chunks(pairs, JUDGED_AT_ONCE):
            thumbnails = self.cache.thumbnails(content for pair in part for content in pair)
            for a, b in part:
                if a in thumbnails and b in thumbnails:
                    verdict = judge_pair(thumbnails[a], thumbnails[b], screenings[a, b])
                    if verdict is not None:
                        verdicts[a, b] = verdict
        same = [pair for pair, verdict in verdicts.items() if verdict.tier == "picture"]
        for part in chunks(same, CONFIRMED_AT_ONCE):
            views = self.cache.detail_views(content for pair in part for content in pair)
            for a, b in part:
                if a in views and b in views:
                    verdicts[a, b] = confirm_same_image(verdicts[a, b], views[a], views[b])
                else:
                    del verdicts[a, b]
        return verdicts


def contents_of(space: Space) -> list[int]:
    """The content numbers of all pictures of a space, in increasing order."""
    return [
        int(row[0])
        for row in space.database.all(
            "SELECT content FROM vectors WHERE space = ? ORDER BY content", (space.info.id,)
        )
    ]


def ordered(a: int, b: int) -> tuple[int, int]:
    """A pair with the smaller number first, as pairs are stored."""
    return (a, b) if a < b else (b, a)


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Consecutive slices of at most this size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
