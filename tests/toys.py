"""A toy implementation of `diptych.encoder.Encoder`: pictures by mean colour, texts by named colours.

`ToyEncoder` replaces a model in the tests of most rooms: deterministic, instant, without weights. A text
that names no colour gets the vector of a grey picture. `picture`, `picture_bytes`, `tar_bytes` and
`write_latin` create its inputs.
"""

from __future__ import annotations

import io
import itertools
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


@dataclass
class ToyEncoder:
    identity: str = "toy:colours"
    dim: int = 4
    input_size: int = 8
    logit_scale: float = 20.0
    logit_bias: float = 0.0
    calls: list[tuple[str, int]] = field(default_factory=list)  # (kind, number of items) of each call

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        self.calls.append(("images", len(images)))
        return self._rows([np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(("texts", len(texts)))
        named = [
            [COLOURS[word] for word in re.findall("[a-z]+", text.lower()) if word in COLOURS]
            for text in texts
        ]
        return self._rows([np.mean(colours, 0) if colours else np.full(3, 127.5) for colours in named])

    def _rows(self, colours: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        rows = np.full((len(colours), self.dim), 0.25, dtype=np.float32)
        rows[:, :3] = np.reshape(colours, (-1, 3)) / 255 - 0.5
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def picture(colour: str | tuple[int, int, int], size: tuple[int, int] = (16, 12)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, COLOURS[colour] if isinstance(colour, str) else colour)


def picture_bytes(colour: str | tuple[int, int, int], size: tuple[int, int] = (16, 12)) -> bytes:
    """The same picture as a PNG file."""
    buffer = io.BytesIO()
    picture(colour, size).save(buffer, "PNG")
    return buffer.getvalue()


def tar_bytes(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """A tar archive of these files in this order; mode "w:gz" compresses it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_latin(path: Path, *texts: bytes) -> None:
    """Write a Parquet table of texts, "text", and of one-element lists, "texts"; some may not be UTF-8."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ends = pa.array([0, *itertools.accumulate(map(len, texts))], pa.int32()).buffers()[1]
    column = pa.StringArray.from_buffers(len(texts), ends, pa.py_buffer(b"".join(texts)))
    lists = pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), column)
    pq.write_table(pa.table({"text": column, "texts": lists}), path)
