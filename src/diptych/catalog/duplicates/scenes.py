"""Different pictures of the same scene: bursts, and the same location a moment later.

Detected by the cosine of their vectors relative to random pairs of the collection, by the correlation of
their thumbnails, and by the time and camera in the EXIF data. Pictures of a scene are never removed as
copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.database import select_in
from diptych.catalog.database.spaces import Space
from diptych.matching.verdicts import Verdict

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database

LAYOUT = 0.6  # least correlation of the thumbnails of a scene
# Least cosine of a scene: median + factor * (99th percentile - median) of the cosines of random pairs. E.g.
# median 0.5 and 99th percentile 0.7: 0.76 with the factor 1.3, and 0.66 with 0.8.
SCENE_FACTOR = 1.3
BURST_FACTOR = 0.8  # for pictures that one camera took within `BURST`, whatever their layout
BURST = timedelta(minutes=1)
# Similar files that one camera took at different times within this are different pictures.
MOMENT = timedelta(hours=1)
SAMPLE = 1000


@dataclass(frozen=True)
class CameraShot:
    """The time and the camera of a picture, from its EXIF data."""

    taken: datetime
    camera: str

    def since(self, other: CameraShot | None) -> timedelta | None:
        """Time between two shots of one camera; None for different cameras, or at the same time."""
        if other is None or self.camera != other.camera or self.taken == other.taken:
            return None
        return abs(self.taken - other.taken)


class Scenes:
    """Decides whether two pictures show the same scene; `contents` are those that will be compared."""

    def __init__(self, space: Space, contents: Sequence[int]) -> None:
        self.median, self.high = chance_cosines(space)
        self.shots = shots_of(space.database, contents)

    def verdict(
        self, a: int, b: int, verdict: Verdict | None, layout: float, cosine: float
    ) -> Verdict | None:
        """The verdict by pixels, corrected by capture times; without one, a verdict by times and vectors.

        `verdict` is that by pixels, `layout` the correlation of the thumbnails, `cosine` that of the vectors.
        """
        shot = self.shots.get(a)
        elapsed = shot.since(self.shots.get(b)) if shot is not None else None
        if verdict is not None:
            # However similar two files are: two capture times of one camera mean two pictures.
            is_another_shot = elapsed is not None and elapsed <= MOMENT
            return replace(verdict, tier="scene", change="another moment") if is_another_shot else verdict
        if elapsed is not None and elapsed <= BURST and cosine >= self._threshold(BURST_FACTOR):
            return Verdict("scene", "another moment", layout)
        return self.alike(layout, cosine)

    def alike(self, layout: float, cosine: float) -> Verdict | None:
        """The verdict "scene" if layout and vectors are similar enough, else None."""
        if layout >= LAYOUT and cosine >= self._threshold(SCENE_FACTOR):
            return Verdict("scene", "alike", layout)
        return None

    def _threshold(self, factor: float) -> float:
        return self.median + factor * (self.high - self.median)


def chance_cosines(space: Space) -> tuple[float, float]:
    """Median and 99th percentile of the cosines of random pairs of a space."""
    embeddings = space.sample(SAMPLE)[1]
    if len(embeddings) < 2:
        return 0.0, 1.0
    cosines = (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]  # each pair once
    median, high = np.quantile(cosines, [0.5, 0.99]).tolist()
    return median, max(high, median + 0.05)  # the cosines of a collection of one scene hardly vary


def shots_of(database: Database, contents: Sequence[int]) -> dict[int, CameraShot]:
    """The shots of those pictures whose EXIF data name the camera and the time."""
    sql = "SELECT id, taken, camera FROM contents WHERE taken IS NOT NULL AND camera <> '' AND id IN ({})"
    rows = select_in(database, sql, contents)
    return {content: CameraShot(datetime.fromisoformat(taken), camera) for content, taken, camera in rows}
