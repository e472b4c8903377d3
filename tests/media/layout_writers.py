"""Writers for TIFF, BMP, PSD and PCX in every layout that the standards allow."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SHORT, LONG, LONG8 = 3, 4, 16
RAW, DEFLATE, PACKBITS = 1, 8, 32773
Samples = np.ndarray  # (H, W, S)


def packed_bits(rows: np.ndarray, bits: int) -> bytes:
    """Pack samples (H, N) of this number of bits, highest bit first, each row padded to bytes."""
    shifts = np.arange(bits - 1, -1, -1)
    single = (rows[..., None].astype(np.uint64) >> shifts.astype(np.uint64)) & np.uint64(1)
    return np.packbits(single.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def stored(block: Samples, bits: int, order: str) -> bytes:
    rows = block.reshape(len(block), -1)
    if bits == 24:
        parts = rows.astype(">u4")[..., None].view(np.uint8)[..., 1:]
        return (parts if order == ">" else parts[..., ::-1]).tobytes()
    if bits % 8:
        return packed_bits(rows, bits)
    return rows.astype(rows.dtype.newbyteorder(order)).tobytes()


def packbits(data: bytes) -> bytes:
    """PackBits with literals only, which is valid."""
    parts = (data[at : at + 128] for at in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


COMPRESS = {RAW: bytes, DEFLATE: zlib.compress, PACKBITS: packbits}


def tiff(
    samples: Samples,
    photometric: int,
    *,
    bits: int,
    order: str = "<",
    planar: bool = False,
    compression: int = RAW,
    predictor: int = 1,
    tile: tuple[int, int] | None = None,
    big: bool = False,
    rows: int = 7,
    extra: tuple[int, ...] = (),
    format: int = 1,
    tags: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    """A TIFF of these samples, whose type has the bit depth."""
    height, width, count = samples.shape
    planes = [samples[..., i : i + 1] for i in range(count)] if planar else [samples]
    across, down = tile or (width, rows)
    pieces = []
    for plane in planes:
        for top in range(0, height, down):
            for left in range(0, width, across):
                block = plane[top : top + down, left : left + across]
                if tile:
                    fill = ((0, down - block.shape[0]), (0, across - block.shape[1]), (0, 0))
                    block = np.pad(block, fill)
                if predictor == 2:
                    block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
                pieces.append(COMPRESS[compression](stored(block, bits, order)))
    address = LONG8 if big else LONG
    entries: dict[int, tuple[int, list[int]]] = {
        256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [bits] * count),
        259: (SHORT, [compression]), 262: (SHORT, [photometric]), 277: (SHORT, [count]),
        284: (SHORT, [2 if planar else 1]),
        317: (SHORT, [predictor]), 339: (SHORT, [format] * count), **(tags or {}),
    }  # fmt: skip
    if predictor == 1:
        del entries[317]
    if extra:
        entries[338] = (SHORT, list(extra))
    if tile:
        entries |= {322: (LONG, [across]), 323: (LONG, [down])}
    else:
        entries[278] = (LONG, [down])
    data = bytearray(16 if big else 8)
    starts = []
    for piece in pieces:
        starts.append(len(data))
        data += piece + b"\0" * (len(piece) % 2)
    entries[324 if tile else 273] = (address, starts)
    entries[325 if tile else 279] = (address, [len(piece) for piece in pieces])
    return _with_directory(data, entries, order, big=big)


def _with_directory(
    data: bytearray, entries: dict[int, tuple[int, list[int]]], order: str, *, big: bool
) -> bytes:
    letters = {SHORT: "H", LONG: "I", LONG8: "Q"}
    head, room = ("Q", 8) if big else ("H", 4)
    size = "Q" if big else "I"
    values = {}
    for tag, (kind, numbers) in entries.items():
        packed = struct.pack(f"{order}{len(numbers)}{letters[kind]}", *numbers)
        if len(packed) > room:
            at = len(data)
            data += packed + b"\0" * (len(packed) % 2)
            packed = struct.pack(f"{order}{size}", at)
        values[tag] = struct.pack(f"{order}HH{size}", tag, kind, len(numbers)) + packed.ljust(room, b"\0")
    start = len(data)
    data += struct.pack(f"{order}{head}", len(values)) + b"".join(values[tag] for tag in sorted(values))
    data += bytes(8 if big else 4)
    mark = b"II" if order == "<" else b"MM"
    if big:
        data[:16] = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, start)
    else:
        data[:8] = mark + struct.pack(f"{order}HI", 42, start)
    return bytes(data)


# ------------------------------------------------------------------------------------------------- BMP


def bmp(
    rows: list[bytes],
    size: tuple[int, int],
    bits: int,
    *,
    header: int = 40,
    compression: int = 0,
    palette: np.ndarray | None = None,
    masks: tuple[int, ...] = (),
    top_down: bool = False,
    tail: bytes = b"",
    colours: int = 0,
) -> bytes:
    """A BMP of these rows from top to bottom; they are padded to four bytes and reversed here."""
    width, height = size
    lines = [row + bytes(-len(row) % 4) for row in rows] if compression not in (1, 2) else rows
    pixels = b"".join(lines if top_down or compression in (1, 2) else reversed(lines))
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        tall = -height if top_down else height
        info = struct.pack(
            "<IiiHHIIiiII", header, width, tall, 1, bits, compression, len(pixels), 0, 0, colours, 0
        )
        info = info.ljust(header, b"\0")
        if masks and header >= 52:
            info = info[:40] + struct.pack(f"<{len(masks)}I", *masks) + info[40 + 4 * len(masks) :]
        elif masks:
            info += struct.pack(f"<{len(masks)}I", *masks)
    table = b""
    if palette is not None:
        entry = b"" if header == 12 else b"\0"
        table = b"".join(bytes(colour[::-1].tolist()) + entry for colour in palette)
    at = 14 + len(info) + len(table)
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + info + table + pixels + tail


# ------------------------------------------------------------------------------------------ PSD and PCX


def psd(planes: np.ndarray, mode: int, *, depth: int = 8, runs: bool = False, colours: bytes = b"") -> bytes:
    """A PSD without layers whose merged picture has these planes, (C, H, W)."""
    count, height, width = planes.shape
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", count, height, width, depth, mode)
    head += struct.pack(">I", len(colours)) + colours + bytes(8)
    rows = [packed_bits(row[None], 1) if depth == 1 else row.tobytes() for plane in planes for row in plane]
    if runs:
        rows = [packbits(row) for row in rows]
        return head + b"\0\1" + struct.pack(f">{len(rows)}H", *map(len, rows)) + b"".join(rows)
    return head + b"\0\0" + b"".join(rows)


def pcx_bits(bits: np.ndarray, palette: tuple[tuple[int, ...], tuple[int, ...]], version: int = 5) -> bytes:
    """A 1-bit PCX, (H, W) of 0 and 1, with two colours in its header."""
    height, width = bits.shape
    stride = (width + 7) // 8 + ((width + 7) // 8) % 2
    head = struct.pack("<BBBBHHHHHH", 10, version, 1, 1, 0, 0, width - 1, height - 1, 72, 72)
    head += bytes(value for colour in palette for value in colour).ljust(48, b"\0")
    head += struct.pack("<BBHH", 0, 1, stride, 1)
    rows = b"".join(row.ljust(stride, b"\0") for row in (packed_bits(line[None], 1) for line in bits))
    # Bytes from 0xC0 on would be run counts.
    runs = b"".join(bytes([0xC1, value]) if value >= 0xC0 else bytes([value]) for value in rows)
    return head.ljust(128, b"\0") + runs
