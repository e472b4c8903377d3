"""BMP and ICO with all headers, depths and bit masks; other layouts are refused by name.

Pillow supports eleven sets of masks and misinterprets reserved bytes. Rows are stored from the bottom up
unless the height is negative. Alpha is used if a mask declares it and it is not zero everywhere, since many
programs leave the fourth byte at 0.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from diptych.media.decoding.layouts.lazy import LayoutError, LazyImage
from diptych.media.decoding.png import SIGNATURE, open_png

_FILE_HEADER = 14
_CORE, _INFO, _V3, _V5, _OS2 = 12, 40, 56, 124, 64
_PLAIN, _RLE8, _RLE4, _FIELDS, _JPEG, _PNG, _ALPHA_FIELDS = range(7)
_NAMES = {
    3: "Huffman 1D (OS/2)", 4: "RLE24 (OS/2)", 11: "CMYK", 12: "CMYK RLE8", 13: "CMYK RLE4",
}  # fmt: skip
_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_ICON_ALPHA = 0xFF000000
_EMBEDDED = b"DEBM"  # colour space of a V5 header with an embedded profile
_ALLOWED = 0.02  # fraction of the rows that may be missing, as in `truncation`


@dataclass(frozen=True)
class _Header:
    """Parsed header and palette; `pixels` is the offset of the pixels from the beginning of the data."""

    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    palette: NDArray[np.uint8]  # (colours, 3)
    pixels: int

    @property
    def stride(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4


def open_bmp(file: BinaryIO, name: str) -> Image.Image:
    """Open a BMP; no pixels are decoded.

    Raises
    ------
    LayoutError
        A valid header of an unsupported kind.
    SyntaxError
        The header is invalid.
    """
    file.seek(0)
    head = file.read(_FILE_HEADER + _V5 + 4 * 260)
    header = _header(head, _FILE_HEADER, int.from_bytes(head[10:14], "little"))
    file.seek(0)

    def decode() -> Image.Image:
        file.seek(0)
        return _to_image(file.read(), header)

    return LazyImage("BMP", (header.width, header.height), decode, _profile(head, file))


def open_ico(file: BinaryIO, name: str) -> Image.Image:
    """Open the largest image of an icon, with its transparency; no pixels are decoded.

    Raises
    ------
    SyntaxError
        The icon holds no image.
    """
    file.seek(0)
    count = int.from_bytes(file.read(6)[4:], "little")
    entries = [struct.unpack("<BBBBHHII", file.read(16)) for _ in range(count)]
    if not entries:
        raise SyntaxError("an icon without pictures")
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))
    file.seek(best[7])
    data = file.read(best[6])
    if data.startswith(SIGNATURE):
        image = open_png(io.BytesIO(data), name)
        return LazyImage("ICO", image.size, lambda: _load(image), image.info)
    header = _header(data, 0, 0, icon=True)
    return LazyImage("ICO", (header.width, header.height), lambda: _icon(data, header))


def _load(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _header(data: bytes, at: int, pixels: int, *, icon: bool = False) -> _Header:
    size = int.from_bytes(data[at : at + 4], "little")
    if size == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, at + 4)
        compression = colours = 0
        entry = 3
    elif 16 <= size <= _V5:
        width, height, _, bits = struct.unpack_from("<iiHH", data, at + 4)
        compression = struct.unpack_from("<I", data, at + 16)[0] if size >= 20 else 0
        colours = struct.unpack_from("<I", data, at + 32)[0] if size >= 36 else 0
        entry = 4
    else:
        raise SyntaxError(f"a header of {size:,} bytes")
    os2 = size == _OS2 or size < _INFO
    if compression not in (_PLAIN, _RLE8, _RLE4) and (os2 or compression > _ALPHA_FIELDS):
        name = _NAMES.get(compression, f"compression {compression}")
        raise LayoutError(f"a BMP of {bits} bits, {name}: neither Pillow nor this package reads this layout")
    if bits not in (1, 2, 4, 8, 16, 24, 32) and compression not in (_JPEG, _PNG):
        raise LayoutError(f"a BMP of {bits} bits: neither Pillow nor this package reads this layout")
    masks, behind = _masks(data, at, size, bits, compression, icon=icon)
    limit = pixels if pixels > behind else len(data)
    count = 0
    if bits <= 8:
        count = max(0, min(colours or 1 << bits, 1 << bits, (limit - behind) // entry))
    palette = np.frombuffer(data, np.uint8, count * entry, behind).reshape(-1, entry)[:, 2::-1]
    if pixels < behind:
        pixels = behind + (colours if bits > 8 else count) * entry
    return _Header(
        width, abs(height) // (2 if icon else 1), height < 0, bits, compression, masks, palette, pixels
    )


def _masks(
    data: bytes, at: int, size: int, bits: int, compression: int, *, icon: bool
) -> tuple[tuple[int, int, int, int], int]:
    """Bit masks of red, green, blue and alpha, and the offset of the palette."""
    behind = at + size
    default = _MASKS.get(bits, (0, 0, 0, 0))
    if icon and bits == 32:
        default = (*default[:3], _ICON_ALPHA)
    if compression not in (_FIELDS, _ALPHA_FIELDS):
        return default, behind
    number = 4 if size >= _V3 or compression == _ALPHA_FIELDS else 3
    values = struct.unpack_from(f"<{number}I", data, at + _INFO)
    if size == _INFO:  # the masks follow the header instead of being part of it
        behind += 4 * number
    red, green, blue = values[:3]
    if not red | green | blue:
        return default, behind
    return (red, green, blue, values[3] if number == 4 else 0), behind


def _profile(data: bytes, file: BinaryIO) -> dict[str, bytes]:
    at = _FILE_HEADER
    if int.from_bytes(data[at : at + 4], "little") != _V5 or data[at + 56 : at + 60] != _EMBEDDED:
        return {}
    start, length = struct.unpack_from("<II", data, at + 112)
    file.seek(at + start)
    return {"icc_profile": file.read(min(length, 2**24))}


def _to_image(data: bytes, header: _Header) -> Image.Image:
    rest = data[header.pixels :]
    if header.compression == _JPEG:
        return _load(JpegImagePlugin.JpegImageFile(io.BytesIO(rest)))
    if header.compression == _PNG:
        return _load(open_png(io.BytesIO(rest), ""))
    if header.compression in (_RLE8, _RLE4):
        four_bits = header.compression == _RLE4
        indices, complete = _unpack_runs(rest, header.width, header.height, four_bits=four_bits)
        if complete < 1 - _ALLOWED:
            raise OSError("image file is truncated")
        return _flip_rows(_apply_palette(indices, header.palette), header)
    return _flip_rows(_decode_plain(rest, header), header)


def _decode_plain(data: bytes, header: _Header) -> Image.Image:
    height, stride = header.height, header.stride
    rows = _rows(data, height, stride)
    if header.bits == 8:
        return _apply_palette(rows[:, : header.width], header.palette)
    if header.bits < 8:
        bits = np.unpackbits(rows, axis=1)[:, : header.width * header.bits]
        weights = 1 << np.arange(header.bits - 1, -1, -1)
        indices = bits.reshape(height, header.width, header.bits) @ weights.astype(np.uint8)
        return _apply_palette(indices.astype(np.uint8), header.palette)
    size = header.bits // 8
    samples = rows[:, : header.width * size].reshape(height, header.width, size)
    channels = [_channel(samples, mask) for mask in header.masks[:3]]
    if header.masks[3]:
        alpha = _channel(samples, header.masks[3])
        if alpha.any():
            channels.append(alpha)
    return Image.fromarray(np.stack(channels, axis=-1))


def _rows(data: bytes, height: int, stride: int) -> NDArray[np.uint8]:
    """Rows of bytes, (height, stride); a few missing bytes at the end become zero."""
    needed = height * stride
    if len(data) < (1 - _ALLOWED) * needed and len(data) < needed - 4:
        raise OSError("image file is truncated")
    return np.frombuffer(data[:needed].ljust(needed, b"\0"), np.uint8).reshape(height, stride)


def _channel(samples: NDArray[np.uint8], mask: int) -> NDArray[np.uint8]:
    """Extract a channel by its mask and scale it to 0..255; samples (H, W, bytes) -> (H, W).

    E.g. mask 0x7C00 (5 bits): shift 10, maximum 31; the value 16 becomes (16 * 255 + 15) // 31 = 132.
    """
    height, width, size = samples.shape
    if not mask:
        return np.zeros((height, width), np.uint8)
    shift = (mask & -mask).bit_length() - 1
    maximum = mask >> shift
    if maximum == 255 and shift % 8 == 0 and shift // 8 < size:
        return samples[..., shift // 8]  # fast path: a whole byte, as in nearly every file
    values: NDArray[Any] = samples[..., 0].astype(np.uint32)
    for position in range(1, size):
        values |= samples[..., position].astype(np.uint32) << np.uint32(8 * position)
    part = (values & np.uint32(mask)).astype(np.uint64) >> np.uint64(shift)
    return ((part * 255 + maximum // 2) // maximum).astype(np.uint8)


def _apply_palette(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """Apply a palette; indices beyond its end are black."""
    whole = np.zeros((256, 3), np.uint8)
    whole[: len(palette)] = palette
    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(whole.tobytes())
    return image.convert("RGB")


def _flip_rows(image: Image.Image, header: _Header) -> Image.Image:
    return image if header.top_down else image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def _icon(data: bytes, header: _Header) -> Image.Image:
    """Decode an icon; its transparency mask is used if the colours have no alpha channel."""
    image = _to_image(data, header)
    if image.mode == "RGBA":
        return image
    stride = (header.width + 31) // 32 * 4
    start = header.pixels + header.stride * header.height
    mask = data[start : start + stride * header.height]
    if len(mask) == stride * header.height:
        bits = np.unpackbits(np.frombuffer(mask, np.uint8).reshape(-1, stride), axis=1)[:, : header.width]
        hidden = Image.fromarray(((1 - bits) * 255).astype(np.uint8))
        image.putalpha(_flip_rows(hidden, header))
    return image


_END_OF_ROW, _END, _MOVE = 0, 1, 2


def _unpack_runs(data: bytes, width: int, height: int, *, four_bits: bool) -> tuple[NDArray[np.uint8], float]:
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
