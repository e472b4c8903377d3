"""Tiny generated image-text pairs for the tests of this folder: pictures, tars, tables, folders."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.training.data.decoders import DecoderPool


def picture(seed: int, size: tuple[int, int] = (40, 32), kind: str = "PNG") -> bytes:
    """An encoded smooth random picture of (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def caption_members(keys: Iterable[int], captions: int = 3) -> list[tuple[str, bytes]]:
    out = []
    for key in keys:
        texts = [f"caption {n} of picture {key}" for n in range(captions)]
        out.append((f"{key:04d}.png", picture(key, (40 + key % 7, 32 + key % 5))))
        out.append((f"{key:04d}.json", json.dumps({"captions": texts}).encode()))
    return out


def class_members(classes: Iterable[str], each: int = 4) -> list[tuple[str, bytes]]:
    return [(f"pack/{name}/{n}.png", picture(n)) for name in classes for n in range(each)]


def decode_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode streams in a thread: starting a worker process takes seconds."""
    monkeypatch.setattr(DecoderPool, "_start", lambda self: ThreadPoolExecutor(self.workers))


def toy_tokenizer(texts: list[str]) -> np.ndarray:
    """Token ids of shape (N, 8) from the letters."""
    rows = [[ord(sign) for sign in text[:8].ljust(8)] for text in texts]
    return np.array(rows, np.int64)
