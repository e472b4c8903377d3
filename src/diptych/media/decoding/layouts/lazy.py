"""A PIL image whose pixels are decoded by this package when they are first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from diptych.errors import ImageError


class LayoutError(ImageError):
    """A valid file of a layout that this package does not support; another decoder may read it."""


class LazyImage(Image.Image):
    """An image of known size that is decoded when it is loaded, which also sets its mode.

    Parameters
    ----------
    format : str
        Pillow's name of the format.
    size : (int, int)
    decode : callable
        Returns the decoded image; called once.
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
        """Decode the pixels at the first call."""
        if self._decode is not None:
            decode, self._decode = self._decode, None
            copy_pixels(self, decode())
        return super().load()


def copy_pixels(image: Any, decoded: Image.Image) -> None:
    """Replace the pixels of an image by those of another one, keeping its metadata."""
    decoded.load()
    image.im, image._mode, image.palette, image._size = (
        decoded.im,
        decoded.mode,
        decoded.palette,
        decoded.size,
    )
