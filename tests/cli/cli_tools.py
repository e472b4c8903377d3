"""Pictures for the tests of the command line: valid, damaged and malicious ones."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Path:
    """Write a small noise picture in the format of the suffix."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noisy_faces(folder: Path) -> Path:
    """Sixteen noise pictures and a table of age, gender and race."""
    rows = ["file,age,gender,race"]
    for number in range(16):
        paint(folder / f"{number}.png", number)
        race, gender = ("White", "Black")[number % 2], ("Male", "Female")[number // 2 % 2]
        rows.append(f"{number}.png,{('3-9', '20-29')[number // 4 % 2]},{gender},{race}")
    (folder / "people.csv").write_text("\n".join(rows))
    return folder


def noisy_flowers(root: Path) -> Path:
    """A folder with one data set, flowers of noise: twelve training and twelve test pictures."""
    for number in range(24):
        part, kind = ("test", "train")[number % 2], ("daisy", "roses")[number // 2 % 2]
        paint(root / "tfflowers" / part / kind / f"{number}.png", number)
    return root


def huge_png(path: Path, side: int = 20_000) -> Path:
    """A PNG of a few hundred bytes that claims `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path
