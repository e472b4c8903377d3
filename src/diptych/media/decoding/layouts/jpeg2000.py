"""JPEG 2000 with the ICC profile of its header, which Pillow ignores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, Jpeg2KImagePlugin

from diptych.media.decoding.layouts.boxes import boxes

_HEAD = 2**24  # bytes in which the header must be
_PROFILES = (2, 3)  # methods of the box "colr": restricted and unrestricted ICC profile


def open_jpeg2000(file: BinaryIO, name: str) -> Image.Image:
    """Open a JPEG 2000; no pixels are decoded."""
    file.seek(0)
    profile = next(_profiles(file.read(_HEAD)), None)
    file.seek(0)
    image = Jpeg2KImagePlugin.Jpeg2KImageFile(file, name)
    if profile:
        image.info.setdefault("icc_profile", profile)
    return image


def _profiles(data: bytes) -> Iterator[bytes]:
    for kind, content in boxes(data):
        if kind == b"jp2h":
            for inner, colours in boxes(content):
                if inner == b"colr" and colours[:1] and colours[0] in _PROFILES:
                    yield colours[3:]
