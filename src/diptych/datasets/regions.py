"""Pictures of which a part is shown: a box in pixels, as ARO's test cases have one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.datasets import contents
from diptych.datasets.dataset import Pictures
from diptych.datasets.formats.archives import Content, Entry, Unread
from diptych.errors import ImageError
from diptych.media import Limits, load_image

Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom; pixels


@dataclass(frozen=True, eq=False)
class Regions(Pictures):
    """Pictures of which a part may be shown: entries of one picture follow each other.

    Attributes
    ----------
    boxes : tuple of Box or None
        One per entry: left, top, right, bottom in pixels; None: the whole picture. What lies outside the
        picture is black, as Pillow's `crop` and with it ARO's own evaluation have it.
    """

    boxes: tuple[Box | None, ...]

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        places, keys = self._places(), self.keys
        for (_, content), own in zip(contents.walk(tuple(places)), places.values(), strict=True):
            boxes = [self.boxes[place] for place in own]
            shown: Iterable[Content] = [content] * len(boxes) if not any(boxes) else _parts(content, boxes)
            for place, one in zip(own, shown, strict=True):
                yield keys[place], one

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each picture, with the box where a part is shown: "1.jpg, box 0 0 50 80"."""
        return tuple(
            str(entry.name) if box is None else f"{entry.name}, box {' '.join(f'{one:g}' for one in box)}"
            for entry, box in zip(self.entries, self.boxes, strict=True)
        )

    def digests(self, progress: Callable[[int], object] | None = None) -> tuple[bytes, ...]:
        """A hash of the content of each picture, and of the part that is shown."""
        places = self._places()
        known = dict(zip(places, contents.image_digests(tuple(places), progress), strict=True))
        return tuple(
            known[entry] if box is None else digest_of(known[entry], repr(box).encode())
            for entry, box in zip(self.entries, self.boxes, strict=True)
        )

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Regions:
        """The parts at these positions."""
        entries, boxes = (tuple(values[row] for row in rows) for values in (self.entries, self.boxes))
        return replace(self, entries=entries, boxes=boxes)  # type: ignore[arg-type]  # two tuples of two kinds

    def _places(self) -> dict[Entry, list[int]]:
        """Each picture once, in order -> its positions."""
        found: dict[Entry, list[int]] = {}
        for place, entry in enumerate(self.entries):
            found.setdefault(entry, []).append(place)
        return found


def _parts(content: Content, boxes: Sequence[Box | None]) -> Iterator[Content]:
    """Parts of one picture, which is decoded once; what cannot be shown comes as `Unread`."""
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
    """One digest of several, or of a digest and what was done to the picture."""
    return hashlib.blake2b(b"".join(parts), digest_size=contents.DIGEST_BYTES).digest()
