"""Images cropped to a box in pixels, as in ARO's test cases."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from diptych.datasets import contents
from diptych.datasets.dataset import ImageCollection
from diptych.datasets.formats.archives import Content, ImageEntry, Unread
from diptych.errors import ImageError
from diptych.media import Limits, load_image

Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom; pixels


@dataclass(frozen=True, eq=False)
class Regions(ImageCollection):
    """Images with an optional box; entries of the same image are consecutive.

    Attributes
    ----------
    boxes : tuple of Box or None
        One per entry: left, top, right, bottom in pixels; None: the whole image. Pixels outside the image are
        black, as with Pillow's `crop`, which ARO's evaluation uses.
    """

    boxes: tuple[Box | None, ...]
    per_image = ("boxes",)

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        positions, keys = self._places(), self.keys
        for (_, content), positions_of_image in zip(
            contents.walk(tuple(positions)), positions.values(), strict=True
        ):
            boxes = [self.boxes[position] for position in positions_of_image]
            shown: Iterable[Content] = [content] * len(boxes) if not any(boxes) else _parts(content, boxes)
            for position, content in zip(positions_of_image, shown, strict=True):
                yield keys[position], content

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each image, with its box if it has one: "1.jpg, box 0 0 50 80"."""
        return tuple(
            str(entry.name) if box is None else f"{entry.name}, box {' '.join(f'{side:g}' for side in box)}"
            for entry, box in zip(self.entries, self.boxes, strict=True)
        )

    def digests(self, progress: Callable[[int], object] | None = None) -> tuple[bytes, ...]:
        """Hash of the content of each image and its box."""
        positions = self._places()
        digests = dict(zip(positions, contents.image_digests(tuple(positions), progress), strict=True))
        return tuple(
            digests[entry] if box is None else digest_of(digests[entry], repr(box).encode())
            for entry, box in zip(self.entries, self.boxes, strict=True)
        )

    def _places(self) -> dict[ImageEntry, list[int]]:
        """Image -> positions of its entries, in order."""
        positions: dict[ImageEntry, list[int]] = {}
        for position, entry in enumerate(self.entries):
            positions.setdefault(entry, []).append(position)
        return positions


def _parts(content: Content, boxes: Sequence[Box | None]) -> Iterator[Content]:
    """Yield crops of one image, which is decoded once; `Unread` for impossible crops."""
    try:
        image = load_image(content, srgb=False)
    except (ImageError, OSError) as error:
        reason = content.reason if isinstance(content, Unread) else str(error)
        yield from [Unread.because(reason)] * len(boxes)
        return
    for box in boxes:
        left, top, right, bottom = box or (0, 0, image.width, image.height)
        try:
            Limits().check_size(round(right) - round(left), round(bottom) - round(top))
            if left >= image.width or top >= image.height or right <= 0 or bottom <= 0:
                raise ImageError(f"its box lies outside of the {image.width} x {image.height} pixels")
        except ImageError as error:
            yield Unread.because(str(error))
        else:
            yield image.crop((round(left), round(top), round(right), round(bottom)))


def digest_of(*parts: bytes) -> bytes:
    """Combine digests, or a digest and a description of the crop, to one digest."""
    return hashlib.blake2b(b"".join(parts), digest_size=contents.DIGEST_BYTES).digest()
