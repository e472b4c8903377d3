"""A picture from outside against a catalogue: is it in there, or part of one, or one part of it.

The same comparison as for duplicates, without the picture being taken in. "Is any of ours in there" and "is
this in ours" are one question: either may be the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """A picture of the catalogue that has to do with one from outside.

    Attributes
    ----------
    entry : CatalogEntry
    tier : {"bytes", "picture", "part", "scene", "alike"}
        "alike": near by its vector, and nothing more.
    cosine : float
        Of the vectors.
    verdict : Verdict, optional
        The evidence; `whole` 0 means the picture from outside, 1 the one of the catalogue.
    """

    entry: CatalogEntry
    tier: Tier | str
    cosine: float
    verdict: Verdict | None = None


class SimilarImageSearch:
    """A catalogue, ready to be asked about pictures from outside.

    Parameters
    ----------
    store : Store
    encoder : Encoder
    where : Filter, optional
        Only these pictures of the catalogue are looked at.

    Raises
    ------
    CatalogError
        The catalogue is empty, or holds vectors of another encoder.
    InputError
        No picture passes the filter.
    """

    def __init__(self, store: Store, encoder: Encoder, where: Filter | None = None) -> None:
        space = store.active
        if space is None:
            raise CatalogError(f"{store.folder} holds no pictures yet: index some with  diptych index PATH")
        if space.info.identity != encoder.identity:
            raise CatalogError(
                f"the catalogue holds vectors of {space.info.model_label}: ask with that model"
            )
        self.store, self.space, self.encoder, self.where = store, space, encoder, where
        allowed = allowed_rows(space, where) if where else None
        self.contents = (
            contents_of(space) if allowed is None else sorted(space.contents_of(allowed.tolist()).values())
        )
        if not self.contents:
            raise InputError("no picture passes the filters")
        self._among = frozenset(self.contents)
        self.looks = ThumbnailCache(store.database)
        self.proposer, self.scenes = Proposer(space, self.contents, allowed), Scenes(space, self.contents)
        self.proposer.index_features(
            self.looks.traces(self.contents)
        )  # of those that duplicates were looked for among

    def close(self) -> None:
        """Let go of threads and pictures."""
        self.looks.close()

    def search(self, path: Path, *, alike: int = 5) -> list[SimilarImage]:
        """What the catalogue has that is this picture, has to do with it, or looks like it.

        Parameters
        ----------
        path : Path
        alike : int
            How many at most that only look like it.

        Returns
        -------
        list of SimilarImage
            By tier, then the nearest first.

        Raises
        ------
        ImageError
            The picture cannot be read.
        """
        image = load_file(path, target=max(SIDE // 2, self.encoder.input_size))
        look = Thumbnail.of(image)
        glance, traces = compute_features(look)
        row = self.encoder.encode_images([image])[0]
        outsider = ExternalImage(difference_hash(image), perceptual_hash(image), traces, row)
        same, cosines = self._same_bytes(path), self.proposer.of_outsider(outsider)
        if same is not None:
            cosines.setdefault(same, 1.0)  # hashes of pale pictures, and their vectors, propose others
        glances = self.looks.glances(cosines)
        suspicions = {one: screen_pair(glance, other) for one, other in glances.items()}
        looks = self.looks.looks(one for one, suspicion in suspicions.items() if suspicion)
        verdicts: dict[int, Verdict | None] = {}
        for one, suspicion in suspicions.items():
            verdict = judge_pair(look, looks[one], suspicion) if one in looks else None
            verdicts[one] = verdict or self.scenes.alike(suspicion.plain, cosines[one])
        self._confirm(path, verdicts)
        return self._told(cosines, verdicts, same, alike)

    def _confirm(self, path: Path, verdicts: dict[int, Verdict | None]) -> None:
        """Look more closely at what seems to be the same picture."""
        same = {one: told for one, told in verdicts.items() if told is not None and told.tier == "picture"}
        if not same:
            return
        outside, closer = DetailView.at(path), self.looks.closer(same)
        for one, told in same.items():
            verdicts[one] = confirm_same_image(told, outside, closer[one]) if one in closer else None

    def _same_bytes(self, path: Path) -> int | None:
        found = self.store.database.all("SELECT id FROM contents WHERE hash = ?", (digest(path),))
        same = int(found[0][0]) if found else None
        return same if same in self._among else None

    def _told(
        self, cosines: dict[int, float], verdicts: dict[int, Verdict | None], same: int | None, alike: int
    ) -> list[SimilarImage]:
        entries = {
            one.content: one for one in read_entries(self.store.database, list(cosines), prefer=self.where)
        }
        found = []
        for content, entry in entries.items():
            verdict = verdicts.get(content)
            tier = "bytes" if content == same else verdict.tier if verdict else "alike"
            found.append(SimilarImage(entry, tier, cosines[content], None if content == same else verdict))
        order = [*TIERS, "alike"]
        found.sort(key=lambda one: (order.index(one.tier), -one.cosine))
        return [one for one in found if one.tier != "alike"] + _first(found, alike)


def _first(found: Sequence[SimilarImage], most: int) -> list[SimilarImage]:
    return [one for one in found if one.tier == "alike"][:most]
