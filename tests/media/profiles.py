"""ICC profiles written by hand, for pictures in colour spaces other than sRGB."""

from __future__ import annotations

import struct

import numpy as np
from PIL import ImageCms

D50 = (0.9642, 1.0, 0.8249)
# Columns of red, green and blue in the connection space, as in the published profiles.
P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(gamma: float | None) -> bytes:
    """sRGB's curve, or a power."""
    x = np.linspace(0, 1, 4096)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) if gamma is None else x**gamma
    return b"curv\0\0\0\0" + struct.pack(">I", len(x)) + np.rint(y * 65535).astype(">u2").tobytes()


def packed(
    space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ "
) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, values = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    size = at + len(values)
    header = struct.pack(">I4xI", size, 0x02100000) + kind + space + connection + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + xyz(D50)[8:]
    return header.ljust(128, b"\0") + table + values


def rgb_profile(columns: tuple[tuple[float, ...], ...], gamma: float | None = None) -> bytes:
    tags = {b"wtpt": xyz(D50)}
    tags |= {name: xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return packed(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def grey_profile(gamma: float) -> bytes:
    return packed(b"GRAY", {b"wtpt": xyz(D50), b"kTRC": curve(gamma)})


def ink_profile() -> bytes:
    """A profile for inks in which only black is visible."""
    ramp = bytes(range(256))
    lut = (
        b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    )
    lut += ramp * 4 + bytes([255, 128, 128, 0, 128, 128]) * 8 + ramp * 3
    return packed(b"CMYK", {b"wtpt": xyz(D50), b"A2B0": lut}, b"prtr", b"Lab ")


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
