"""Pictures of one scene that are not one picture: bursts, and the same place a moment later.

Told by how near their vectors lie beside chance pairs of the same collection, by their rough layout, and by
the camera's clock where there is one. Never a reason to remove anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.database import in_batches
from diptych.catalog.database.spaces import Space
from diptych.matching.verdicts import Verdict

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database

LAYOUT = 0.6  # least correlation of the thumbnails of one scene
REACH = 1.3  # from the median of chance pairs past their nearest hundredth: what the cosine has to reach
SHOT = 0.8  # the same, for what one camera took within `BURST`, whatever the layout
BURST = timedelta(minutes=1)
MOMENT = timedelta(hours=1)  # apart at most, by one camera: another shot, not another file of the same
SAMPLE = 1000


@dataclass(frozen=True)
class CameraShot:
    """When and with what a picture was taken, by its EXIF data."""

    taken: datetime
    camera: str

    def since(self, other: CameraShot | None) -> timedelta | None:
        """The time between two shots of one camera; None for others, or where the clock says the same."""
        if other is None or self.camera != other.camera or self.taken == other.taken:
            return None
        return abs(self.taken - other.taken)


class Scenes:
    """What a space tells of scenes.

    Parameters
    ----------
    space : Space
    contents : sequence of int
        The pictures that will be asked about.
    """

    def __init__(self, space: Space, contents: Sequence[int]) -> None:
        self.median, self.high = chance_cosines(space)
        self.shots = shots_of(space.database, contents)

    def verdict(
        self, a: int, b: int, verdict: Verdict | None, layout: float, cosine: float
    ) -> Verdict | None:
        """The pixels' verdict on two pictures, or that of time and vectors.

        Parameters
        ----------
        a, b : int
            Contents.
        verdict : Verdict, optional
            By their pixels.
        layout : float
            Correlation of their thumbnails.
        cosine : float
            Of their vectors.
        """
        shot = self.shots.get(a)
        apart = shot.since(self.shots.get(b)) if shot is not None else None
        if verdict is not None:
            # However alike two files look: a camera that says two moments means two pictures.
            another = apart is not None and apart <= MOMENT
            return replace(verdict, tier="scene", change="another moment") if another else verdict
        if apart is not None and apart <= BURST and cosine >= self._reached(SHOT):
            return Verdict("scene", "another moment", layout)
        return self.alike(layout, cosine)

    def alike(self, layout: float, cosine: float) -> Verdict | None:
        """Whether layout and vectors say that it is one scene."""
        if layout >= LAYOUT and cosine >= self._reached(REACH):
            return Verdict("scene", "alike", layout)
        return None

    def _reached(self, reach: float) -> float:
        return self.median + reach * (self.high - self.median)


def chance_cosines(space: Space) -> tuple[float, float]:
    """The median cosine of chance pairs of a space, and the one that a hundredth of them reaches."""
    rows = space.sample(SAMPLE)[1]
    if len(rows) < 2:
        return 0.0, 1.0
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    median, high = np.quantile(cosines, [0.5, 0.99]).tolist()
    return median, max(high, median + 0.05)  # a collection of one scene has no spread to go by


def shots_of(database: Database, contents: Sequence[int]) -> dict[int, CameraShot]:
    """The shots of those pictures whose camera told its name and the time."""
    found = {}
    for marks, part in in_batches(contents):
        for content, taken, camera in database.all(
            f"SELECT id, taken, camera FROM contents WHERE id IN ({marks}) "
            "AND taken IS NOT NULL AND camera <> ''",
            part,
        ):
            found[content] = CameraShot(datetime.fromisoformat(taken), camera)
    return found
