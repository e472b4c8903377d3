"""Decode BMP run-length encoding (RLE4 and RLE8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_END_OF_ROW, _END, _MOVE = 0, 1, 2


def unpack_runs(data: bytes, width: int, height: int, *, four_bits: bool) -> tuple[NDArray[np.uint8], float]:
    """Decode palette indices, (height, width) in stored order, and the fraction of the rows that was reached.

    A pair of bytes is a run: number of pixels, colour (with four bits two alternating colours). A first byte
    of 0 is an escape: end of row (00 00), end of image (00 01), move (00 02 dx dy), or a number of single
    pixels, padded to two bytes:

        03 05                  5 5 5
        00 03 01 02 03 00      1 2 3
        00 02 05 01            five pixels to the right, one row further
    """
    pixels = bytearray(width * height)
    x = y = at = 0
    while at + 1 < len(data) and y < height:
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            values = (
                (_two_pixels(value) * ((count + 1) // 2))[:count] if four_bits else bytes((value,)) * count
            )
        elif value == _END_OF_ROW:
            x, y = 0, y + 1
            continue
        elif value == _END:
            return _as_array(pixels, width, height), 1.0
        elif value == _MOVE:
            if at + 1 >= len(data):
                break
            x, y, at = x + data[at], y + data[at + 1], at + 2
            continue
        else:
            length = (value + 1) // 2 if four_bits else value
            raw = data[at : at + length]
            values = (b"".join(map(_two_pixels, raw)) if four_bits else raw)[:value]
            at += length + length % 2
        part = values[: max(width - x, 0)]
        start = y * width + x
        pixels[start : start + len(part)] = part
        x += len(values)
    return _as_array(pixels, width, height), min((y + x / max(width, 1)) / max(height, 1), 1.0)


def _as_array(pixels: bytearray, width: int, height: int) -> NDArray[np.uint8]:
    return np.frombuffer(pixels, np.uint8).reshape(height, width)


def _two_pixels(value: int) -> bytes:
    """The two 4-bit pixels of a byte."""
    return bytes((value >> 4, value & 15))
