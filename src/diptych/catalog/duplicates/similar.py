"""Compare a picture that is not in a catalogue with those that are: the same, a part, a whole, or similar.

Uses the same steps as the search for duplicates, without storing the picture. Either picture may be the
whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.catalog.duplicates.comparing import contents_of
from diptych.catalog.duplicates.proposals import ExternalImage, Proposer
from diptych.catalog.duplicates.scenes import Scenes
from diptych.catalog.duplicates.thumbnail_cache import ThumbnailCache, compute_features
from diptych.catalog.store.entries import CatalogEntry, read_entries
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.catalog.store.store import Store
from diptych.errors import CatalogError, InputError
from diptych.files.moving import digest
from diptych.matching.detail_view import DetailView, confirm_same_image
from diptych.matching.hashes import difference_hash, perceptual_hash
from diptych.matching.pixels import SIDE, Thumbnail
from diptych.matching.verdicts import TIERS, Tier, Verdict, judge_pair, screen_pair
from diptych.media.images import load_file

if TYPE_CHECKING:
    from diptych.encoder import Encoder


@dataclass(frozen=True)
class SimilarImage:
    """A picture of the catalogue that is related or similar to an external one.

    Attributes
    ----------
    tier : {"bytes", "picture", "part", "scene", "alike"}
        "alike": only its vector is near.
    cosine : float
        Of the vectors.
    verdict : Verdict, optional
        The evidence; `whole` is 0 for the external picture, 1 for the one of the catalogue.
    """

    entry: CatalogEntry
    tier: Tier | str
    cosine: float
    verdict: Verdict | None = None


class SimilarImageSearch:
    """Compares pictures that are not in a catalogue with those that are and pass a filter.

    Raises
    ------
    CatalogError
        The catalogue is empty, or holds vectors of another encoder.
    InputError
        No picture passes the filter.
    """

    def __init__(self, store: Store, encoder: Encoder, filters: Filter | None = None) -> None:
        space = store.active
        if space is None:
            raise CatalogError(f"{store.folder} holds no pictures yet: index some with  diptych index PATH")
        if space.info.identity != encoder.identity:
            raise CatalogError(
                f"the catalogue holds vectors of {space.info.model_label}: search with that model"
            )
        self.store, self.space, self.encoder, self.filters = store, space, encoder, filters
        allowed = allowed_rows(space, filters) if filters else None
        self.contents = (
            contents_of(space) if allowed is None else sorted(space.contents_of(allowed.tolist()).values())
        )
        if not self.contents:
            raise InputError("no picture passes the filters")
        self._allowed = frozenset(self.contents)
        self.cache = ThumbnailCache(store.database)
        self.proposer, self.scenes = Proposer(space, self.contents, allowed), Scenes(space, self.contents)
        # Only pictures among which duplicates were searched before have local features.
        self.proposer.index_features(self.cache.local_features(self.contents))

    def close(self) -> None:
        """Stop the threads and empty the cache."""
        self.cache.close()

    def search(self, path: Path, *, alike: int = 5) -> list[SimilarImage]:
        """Find pictures that are the same, related or similar: by tier, then the nearest first.

        At most `alike` pictures are only similar.

        Raises
        ------
        ImageError
            The picture cannot be read.
        """
        # Decoded once, for the thumbnail and for the encoder; as in `ThumbnailCache`, half the side of a
        # thumbnail is enough of a target.
        image = load_file(path, target=max(SIDE // 2, self.encoder.input_size))
        thumbnail = Thumbnail.of(image)
        grey, features = compute_features(thumbnail)
        embedding = self.encoder.encode_images([image])[0]
        external = ExternalImage(difference_hash(image), perceptual_hash(image), features, embedding)
        same, cosines = self._same_bytes(path), self.proposer.of_external(external)
        if same is not None:
            # Many pale pictures share hashes and vectors, so the identical file may not be among the
            # candidates.
            cosines.setdefault(same, 1.0)
        grey_thumbnails = self.cache.grey_thumbnails(cosines)
        # Two steps, the cheap one first: tiny thumbnails, which the database holds, reject most candidates;
        # only the others are decoded.
        screenings = {content: screen_pair(grey, other) for content, other in grey_thumbnails.items()}
        thumbnails = self.cache.thumbnails(content for content, screening in screenings.items() if screening)
        verdicts: dict[int, Verdict | None] = {}
        for content, screening in screenings.items():
            other = thumbnails.get(content)
            # The external picture is the first of the pair, so `whole` 0 stands for it.
            verdict = None if other is None else judge_pair(thumbnail, other, screening)
            # Capture times are not compared, since those of an external picture were never read.
            verdicts[content] = verdict or self.scenes.alike(screening.plain, cosines[content])
        self._confirm(path, verdicts)
        return self._results(cosines, verdicts, same, alike)

    def _confirm(self, path: Path, verdicts: dict[int, Verdict | None]) -> None:
        """Confirm verdicts of tier "picture" at high resolution."""
        same = {
            content: verdict
            for content, verdict in verdicts.items()
            if verdict is not None and verdict.tier == "picture"
        }
        if not same:
            return
        external, views = DetailView.at(path), self.cache.detail_views(same)
        for content, verdict in same.items():
            view = views.get(content)
            verdicts[content] = None if view is None else confirm_same_image(verdict, external, view)

    def _same_bytes(self, path: Path) -> int | None:
        matches = self.store.database.all("SELECT id FROM contents WHERE hash = ?", (digest(path),))
        content = int(matches[0][0]) if matches else None
        return content if content in self._allowed else None

    def _results(
        self, cosines: dict[int, float], verdicts: dict[int, Verdict | None], same: int | None, alike: int
    ) -> list[SimilarImage]:
        entries = read_entries(self.store.database, list(cosines), prefer=self.filters)
        results = []
        for content, entry in {entry.content: entry for entry in entries}.items():
            verdict = verdicts.get(content)
            tier = "bytes" if content == same else verdict.tier if verdict else "alike"
            evidence = None if content == same else verdict
            results.append(SimilarImage(entry, tier, cosines[content], evidence))
        order = [*TIERS, "alike"]
        results.sort(key=lambda result: (order.index(result.tier), -result.cosine))
        related = [result for result in results if result.tier != "alike"]
        return related + [result for result in results if result.tier == "alike"][:alike]
