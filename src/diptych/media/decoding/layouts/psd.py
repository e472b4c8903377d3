"""PSD and PSB: the merged image at any depth, without extra channels.

Pillow misreads files with extra channels and treats a stored selection as alpha. Photoshop's merged image is
composited over white already, so the channels after the colours are ignored.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PsdImagePlugin

from diptych.media.decoding.iptc import EXIF_RESOURCE, PROFILE_RESOURCE, XMP_RESOURCE, photoshop_resources
from diptych.media.decoding.layouts.lazy import LayoutError, LazyImage, copy_pixels

_BITMAP, _GREY, _INDEXED, _RGB, _CMYK, _MULTI, _DUOTONE, _LAB = 0, 1, 2, 3, 4, 7, 8, 9
_COLOURS = {_BITMAP: 1, _GREY: 1, _INDEXED: 1, _RGB: 3, _CMYK: 4, _MULTI: 1, _DUOTONE: 1, _LAB: 3}
_RAW, _RUNS, _ZIP, _PREDICTED = range(4)


class PsdImage(PsdImagePlugin.PsdImageFile):
    """A PSD opened by Pillow whose merged image is decoded by this package."""

    def load(self) -> Any:
        """Decode the pixels at the first call."""
        if self.tile and self._im is None and self.frame == 1:
            self.tile = []
            assert self.fp is not None
            self.fp.seek(0)
            copy_pixels(self, _decode(self.fp.read()))
        return super().load()


def open_psd(file: BinaryIO, name: str) -> Image.Image:
    """Open a PSD or PSB; no pixels are decoded."""
    try:
        image = PsdImage(file, name)
        for number, _, content in image.resources:
            if number == EXIF_RESOURCE:  # not read by Pillow; needed for the orientation
                image.info.setdefault("exif", content)
        return image
    except (KeyError, SyntaxError, OSError):
        file.seek(0)
        data = file.read()
        _, height, width, _, mode = struct.unpack_from(">HIIHH", data, 12)
        if data[4:6] not in (b"\0\1", b"\0\2") or mode not in _COLOURS:
            raise
        return LazyPsdImage((width, height), data)


class LazyPsdImage(LazyImage):
    """A PSD or PSB that Pillow cannot open because of its depth or size.

    Attributes
    ----------
    resources : list of (int, str, bytes)
        Number, empty name and data of each resource, as in Pillow's PSD class.
    """

    def __init__(self, size: tuple[int, int], data: bytes) -> None:
        resources: dict[int, bytes] = {}
        with contextlib.suppress(struct.error):  # truncated before the resources: only the size is known
            resources = photoshop_resources(_section(data, 1)[0])
        names = {"icc_profile": PROFILE_RESOURCE, "exif": EXIF_RESOURCE, "xmp": XMP_RESOURCE}
        info = {name: resources[number] for name, number in names.items() if number in resources}
        super().__init__("PSD", size, lambda: _decode(data), info)
        self.resources = [(number, "", content) for number, content in resources.items()]


def _section(data: bytes, number: int) -> tuple[bytes, int]:
    """A section's content (0: palette, 1: resources, 2: layers) and the offset of the next section."""
    at = 26
    for index in range(number + 1):
        size = ">Q" if index == 2 and data[4:6] == b"\0\2" else ">I"
        (length,) = struct.unpack_from(size, data, at)
        start = at + struct.calcsize(size)
        at = start + length
    return data[start:at], at


def _decode(data: bytes) -> Image.Image:
    large = data[4:6] == b"\0\2"
    channels, height, width, depth, mode = struct.unpack_from(">HIIHH", data, 12)
    needed = _COLOURS.get(mode, 0)
    if not needed or channels < needed or depth not in (1, 8, 16, 32):
        raise LayoutError(f"a PSD of mode {mode}, {channels} channels, {depth} bits: no known layout")
    colours, at = _section(data, 0)[0], _section(data, 2)[1]
    (compression,) = struct.unpack_from(">H", data, at)
    row = (width * depth + 7) // 8
    planes = _planes(data[at + 2 :], compression, channels, needed, (row, height), large=large)
    return _to_image(_levels(planes, width, depth), mode, colours)


def _planes(
    data: bytes, compression: int, channels: int, needed: int, size: tuple[int, int], *, large: bool
) -> NDArray[np.uint8]:
    """Decompressed rows of the colour channels, (needed, height, row) bytes."""
    row, height = size
    if compression == _RUNS:
        width = 4 if large else 2
        counts = np.frombuffer(data, f">u{width}", channels * height).reshape(channels, height)
        at, planes = width * channels * height, []
        for plane in range(needed):
            length = int(counts[plane].sum())
            packed = data[at : at + length]
            image = Image.frombytes("L", (row, height), packed, "packbits", "L")
            planes.append(np.asarray(image))
            at += length
        return np.stack(planes)
    if compression == _ZIP:
        data = zlib.decompressobj().decompress(data, needed * height * row)
    elif compression != _RAW:
        raise LayoutError(f"a PSD whose merged picture has compression {compression}: no known layout")
    if len(data) < needed * height * row:
        raise OSError("image file is truncated")
    return np.frombuffer(data, np.uint8, needed * height * row).reshape(needed, height, row)


def _levels(planes: NDArray[np.uint8], width: int, depth: int) -> NDArray[np.uint8]:
    """Convert samples to 8 bits, (planes, height, width)."""
    if depth == 1:
        return np.asarray(255 * (1 - np.unpackbits(planes, axis=2)[..., :width]), np.uint8)
    if depth == 32:  # linear light from 0 to 1, encoded with the sRGB curve
        light = np.clip(np.nan_to_num(np.ascontiguousarray(planes).view(">f4")), 0, 1)
        encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
        return np.asarray(np.rint(encoded * 255), np.uint8)
    return planes[..., :: depth // 8][..., :width]


def _to_image(levels: NDArray[np.uint8], mode: int, colours: bytes) -> Image.Image:
    if mode == _INDEXED and len(colours) >= 768:
        table = np.frombuffer(colours, np.uint8, 768).reshape(3, 256).T
        return Image.fromarray(table[levels[0]])
    if mode == _RGB:
        return Image.fromarray(np.ascontiguousarray(np.moveaxis(levels, 0, -1)))
    if mode in (_CMYK, _LAB):
        kind = "CMYK" if mode == _CMYK else "LAB"
        # CMYK is stored inverted.
        values = np.moveaxis(255 - levels if mode == _CMYK else levels ^ _OF_LAB, 0, -1)
        return Image.frombytes(
            kind, (levels.shape[2], levels.shape[1]), np.ascontiguousarray(values).tobytes()
        )
    return Image.fromarray(np.ascontiguousarray(levels[0]))


_OF_LAB = np.array([0, 128, 128], np.uint8)[:, None, None]  # Pillow's a and b are signed
