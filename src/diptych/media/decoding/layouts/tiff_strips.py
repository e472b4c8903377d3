"""Read the strips and tiles of a TIFF into an array of samples, decompressed by libtiff.

Each strip is passed to libtiff as an image of grey bytes, as wide as a row has bytes and without a predictor.
So libtiff returns the uncompressed bytes whatever the samples are; predictor and byte order are undone with
NumPy.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from diptych.errors import ImageError
from diptych.media.decoding.layouts.lazy import LayoutError
from diptych.media.decoding.layouts.tiff_samples import Layout

_STRIP_OFFSETS, _STRIP_BYTES, _STRIP_ROWS = 273, 279, 278
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SHORT, _LONG = 3, 4
_MOST_STRIPS = 1_000_000
_MOST_EXTRA = 8  # samples beside the colours: transparency, selections, spot inks
_USUAL = 16  # bytes per pixel, such as four samples of 32 bits, for which the limit on pixels is sufficient
_LARGEST = 2**31  # bytes of all samples if a pixel has more than `_USUAL` bytes
_REVERSED = np.array([int(f"{value:08b}"[::-1], 2) for value in range(256)], np.uint8)


def read_samples(data: bytes, layout: Layout) -> NDArray[Any]:
    """Read all samples, (H, W, S) of `Layout.dtype`.

    Parameters
    ----------
    data : bytes
        The whole file.

    Raises
    ------
    ImageError
        Strips or tiles are missing, or outside the file.
    LayoutError
        There are more samples than an image plausibly has.
    OSError
        The data cannot be decompressed.
    """
    _check_samples(layout)
    width, height = layout.size
    planes, depth = (layout.samples, 1) if layout.planar else (1, layout.samples)
    across, down, offsets, lengths = _strips_or_tiles(layout)
    columns, rows = -(-width // across), -(-height // down)
    if len(offsets) < columns * rows * planes or len(lengths) < columns * rows * planes:
        raise ImageError(
            f"{len(offsets)} strips or tiles: expected {columns * rows * planes}, truncated or damaged"
        )
    if len(offsets) > _MOST_STRIPS:
        raise ImageError(f"{len(offsets):,} strips or tiles, over the limit of {_MOST_STRIPS:,}")
    result = np.empty((height, width, layout.samples), layout.dtype)
    strips = iter(zip(offsets, lengths, strict=False))
    for plane in range(planes):
        for top in range(0, rows * down, down):
            for left in range(0, columns * across, across):
                start, length = next(strips)
                # The last strip ends with the image; tiles at the edges are padded to full size.
                strip_height = min(down, height - top) if columns == 1 and across == width else down
                block = _block(data[start : start + length], layout, across, strip_height, depth)
                bottom, right = min(top + down, height), min(left + across, width)
                part = block[: bottom - top, : right - left]
                result[top:bottom, left:right, plane : plane + depth] = part
    return result


def _check_samples(layout: Layout) -> None:
    """Refuse implausibly many samples, before memory is allocated for them."""
    width, height = layout.size
    most = layout.colours + _MOST_EXTRA
    if layout.samples > most:
        raise LayoutError(
            f"a TIFF of {layout.described}: {layout.samples:,} samples, expected at most {most}"
        )
    each = layout.samples * layout.dtype.itemsize
    size = width * height * each
    if each > _USUAL and size > _LARGEST:
        raise LayoutError(
            f"a TIFF of {layout.described}: {size / 2**30:.1f} GiB of samples, over the limit of "
            f"{_LARGEST / 2**30:.0f} GiB"
        )


def _strips_or_tiles(layout: Layout) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """Width and height of a strip or tile, offsets, and lengths in bytes."""
    tags, (width, height) = layout.tags, layout.size
    if _TILE_OFFSETS in tags:
        across, down = int(tags[_TILE_WIDTH]), int(tags[_TILE_HEIGHT])
        if not (0 < across <= 2 * width + 65536 and 0 < down <= 2 * height + 65536):
            raise ImageError(f"tiles of {across} x {down} pixels: damaged")
        return across, down, tuple(tags[_TILE_OFFSETS]), tuple(tags.get(_TILE_BYTES, ()))
    if _STRIP_OFFSETS not in tags:
        raise ImageError("no strips and no tiles: damaged")
    down = min(int(tags.get(_STRIP_ROWS, height)), height) or height
    offsets = tuple(tags[_STRIP_OFFSETS])
    lengths = tuple(tags.get(_STRIP_BYTES, ()))
    if not lengths and layout.compression == 1:  # optional in uncompressed files
        lengths = (down * _row_bytes(layout, width, 1 if layout.planar else layout.samples),) * len(offsets)
    return width, down, offsets, lengths


def _row_bytes(layout: Layout, width: int, depth: int) -> int:
    return -(-width * depth * layout.bits // 8)


def _block(data: bytes, layout: Layout, width: int, height: int, depth: int) -> NDArray[Any]:
    """Decode a strip or tile to samples, (height, width, depth)."""
    across = _row_bytes(layout, width, depth)
    packed = _decompressed(data, layout, across, height)  # (height, across) uint8
    if layout.predictor == 3 and layout.format == 3:
        return _undo_float_predictor(packed, layout, width, depth)
    samples = _samples(packed, layout, width * depth).reshape(height, width, depth)
    if layout.predictor == 2:
        samples = np.cumsum(samples, axis=1, dtype=samples.dtype)
    elif layout.predictor != 1:
        raise ImageError(f"a TIFF of predictor {layout.predictor}: neither Pillow nor this package undoes it")
    return samples


def _decompressed(data: bytes, layout: Layout, across: int, height: int) -> NDArray[np.uint8]:
    needed = across * height
    if layout.compression == 1:
        if len(data) < needed:
            raise OSError("image file is truncated")
        values = np.frombuffer(data, np.uint8, needed)
        return (_REVERSED[values] if layout.fill_order == 2 else values).reshape(height, across)
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(_single_strip_tiff(data, layout, across, height)))
    return np.asarray(image).reshape(height, across)


def _single_strip_tiff(data: bytes, layout: Layout, across: int, height: int) -> bytes:
    """A TIFF with one strip of compressed data, declared as grey pixels of one byte."""
    entries = [
        (256, _LONG, across), (257, _LONG, height), (258, _SHORT, 8), (259, _SHORT, layout.compression),
        (262, _SHORT, 1), (266, _SHORT, layout.fill_order), (_STRIP_OFFSETS, _LONG, 8), (277, _SHORT, 1),
        (_STRIP_ROWS, _LONG, height), (_STRIP_BYTES, _LONG, len(data)),
    ]  # fmt: skip
    start = 8 + len(data) + len(data) % 2
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in sorted(entries):
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", start) + data.ljust(start - 8, b"\0") + directory + bytes(4)


def _samples(packed: NDArray[np.uint8], layout: Layout, count: int) -> NDArray[Any]:
    """Convert rows of bytes to rows of samples, (height, count)."""
    bits, dtype = layout.bits, layout.dtype
    if bits % 8 == 0 and bits != 24:
        stored = dtype.newbyteorder(layout.order)
        return np.ascontiguousarray(packed).view(stored)[:, :count].astype(dtype)
    if bits == 24:
        parts = packed.reshape(len(packed), -1, 3).astype(np.uint32)
        parts = parts if layout.order == ">" else parts[..., ::-1]
        joined: NDArray[Any] = parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]
        return joined[:, :count]
    single = np.unpackbits(packed, axis=1)[:, : count * bits].reshape(len(packed), count, bits)
    value = np.zeros(single.shape[:2], dtype)
    for bit in range(bits):
        value = (value << 1 | single[..., bit]).astype(dtype)
    return value


def _undo_float_predictor(packed: NDArray[np.uint8], layout: Layout, width: int, depth: int) -> NDArray[Any]:
    """Undo the floating-point predictor (Adobe): byte differences, with the bytes of a row split into planes.

    A row of W 32-bit floats is stored as the W highest bytes, then the W second bytes, and so on.
    """
    size = layout.bits // 8
    rows = packed.reshape(len(packed), -1, depth)
    whole = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(len(packed), size, width * depth)
    joined = np.ascontiguousarray(np.moveaxis(whole, 1, 2)).view(layout.dtype.newbyteorder(">"))
    return joined.reshape(len(packed), width, depth).astype(layout.dtype)
