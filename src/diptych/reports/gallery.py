"""A grid of captioned images, used like a plot in a report."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE = 128  # pixels of the longer side of an image
_LETTERS = 24  # per line of a caption


@dataclass(frozen=True, eq=False)
class Gallery:
    """Captioned images, row by row.

    Attributes
    ----------
    images : sequence of (caption, image)
    columns : int
    title : str

    Examples
    --------
    >>> from PIL import Image
    >>> Gallery([("red", Image.new("RGB", (40, 40), "red"))] * 7, columns=5).size
    (7.5, 3.3)
    """

    images: Sequence[tuple[str, Image]]
    columns: int = 5
    title: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        columns_used = max(1, min(self.columns, len(self.images)))
        return 1.5 * columns_used, round(
            (1.0 + self._caption_height) * 1.36 * ceil(len(self.images) / columns_used), 1
        )

    @property
    def _caption_height(self) -> float:
        """Space for captions below an image, relative to the image's height."""
        lines = max((len(_lines(caption)) for caption, _ in self.images), default=0)
        return 0.1 + 0.115 * lines

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib's axes."""
        columns_used = max(1, min(self.columns, len(self.images)))
        step = 1.0 + self._caption_height
        for number, (caption, image) in enumerate(self.images):
            left, top = (number % columns_used) * 1.1, -(number // columns_used) * step
            tile = image.convert("RGB")
            tile.thumbnail((_TILE, _TILE))
            width, height = tile.width / max(tile.size), tile.height / max(tile.size)
            axes.imshow(np.asarray(tile), extent=(left, left + width, top - height, top), aspect="equal")
            corners = (
                (left, left + width, left + width, left, left),
                (top, top, top - height, top - height, top),
            )
            axes.plot(*corners, color="0.7", linewidth=0.5)  # a frame, for images with white borders
            axes.text(left, top - 1.04, "\n".join(_lines(caption)), fontsize=6.5, va="top")
        axes.set(xlim=(-0.02, columns_used * 1.1), ylim=(-ceil(len(self.images) / columns_used) * step, 0.02))
        axes.set_title(self.title)
        axes.axis("off")


def _lines(caption: str) -> list[str]:
    return [line for part in caption.split("\n") for line in textwrap.wrap(part, _LETTERS) or [""]]
