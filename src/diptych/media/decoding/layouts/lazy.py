"""An opened picture whose pixels are worked out by this package once they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from diptych.errors import ImageError


class LayoutError(ImageError):
    """A sound file, of a layout that no decoder at hand reads; another one may."""


class LazyImage(Image.Image):
    """A picture of a known size; its mode is known once it is loaded.

    Parameters
    ----------
    format : str
        As Pillow names it.
    size : (int, int)
    decode : callable
        Gives the picture; called once.
    info : dict, optional
        Profile and metadata.
    """

    def __init__(
        self,
        format: str,
        size: tuple[int, int],
        decode: Callable[[], Image.Image],
        info: dict[Any, Any] | None = None,
    ) -> None:
        super().__init__()
        self.format: str | None = format
        self._mode, self._size = "RGB", size
        self._decode: Callable[[], Image.Image] | None = decode
        self.info = dict(info or {})

    def load(self) -> Any:
        """Work the pixels out, the first time."""
        if self._decode is not None:
            decode, self._decode = self._decode, None
            take_pixels(self, decode())
        return super().load()


def take_pixels(image: Any, picture: Image.Image) -> None:
    """Put the pixels of one picture into another, which keeps its metadata."""
    picture.load()
    image.im, image._mode, image.palette, image._size = (
        picture.im,
        picture.mode,
        picture.palette,
        picture.size,
    )
