"""Pictures in a grid with a caption below each, as one plot among the others of a report.

Which pictures, and what is said of them, is the caller's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE = 128  # pixels a picture gets at most: a sheet is looked at, not measured
_LETTERS = 24  # of a line of a caption


@dataclass(frozen=True, eq=False)
class Gallery:
    """Captioned pictures, row by row.

    Attributes
    ----------
    pictures : sequence of (caption, picture)
    columns : int
    title : str

    Examples
    --------
    >>> from PIL import Image
    >>> Gallery([("red", Image.new("RGB", (40, 40), "red"))] * 7, columns=5).size
    (7.5, 3.3)
    """

    pictures: Sequence[tuple[str, Image]]
    columns: int = 5
    title: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""
        wide = max(1, min(self.columns, len(self.pictures)))
        return 1.5 * wide, round((1.0 + self._room) * 1.36 * ceil(len(self.pictures) / wide), 1)

    @property
    def _room(self) -> float:
        """What captions take below a picture, in pictures."""
        lines = max((len(_lines(caption)) for caption, _ in self.pictures), default=0)
        return 0.1 + 0.115 * lines

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib's axes."""
        wide = max(1, min(self.columns, len(self.pictures)))
        step = 1.0 + self._room
        for number, (caption, picture) in enumerate(self.pictures):
            left, top = (number % wide) * 1.1, -(number // wide) * step
            tile = picture.convert("RGB")
            tile.thumbnail((_TILE, _TILE))
            width, height = tile.width / max(tile.size), tile.height / max(tile.size)
            axes.imshow(np.asarray(tile), extent=(left, left + width, top - height, top), aspect="equal")
            corners = (
                (left, left + width, left + width, left, left),
                (top, top, top - height, top - height, top),
            )
            axes.plot(*corners, color="0.7", linewidth=0.5)  # where a white picture ends
            axes.text(left, top - 1.04, "\n".join(_lines(caption)), fontsize=6.5, va="top")
        axes.set(xlim=(-0.02, wide * 1.1), ylim=(-ceil(len(self.pictures) / wide) * step, 0.02))
        axes.set_title(self.title)
        axes.axis("off")


def _lines(caption: str) -> list[str]:
    return [line for part in caption.split("\n") for line in textwrap.wrap(part, _LETTERS) or [""]]
