"""The released toys that `make_released_onnx.py` made, unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

MODELS = ("clip", "siglip", "m_clip", "jina", "xenova", "siglip_js")


def unpack(folder: Path) -> Path:
    """The folder, with every model of `MODELS` in it."""
    with zipfile.ZipFile(Path(__file__).with_name("released_onnx.zip")) as archive:
        archive.extractall(folder)
    return folder
