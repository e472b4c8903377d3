"""Small data sets in their published layouts: idx, CIFAR's batches, shards, Parquet."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.toys import picture_bytes, tar_bytes

Pixels = NDArray[np.uint8]


def noise(count: int, *shape: int, seed: int = 0) -> Pixels:
    """Noise pictures, (count, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def idx_bytes(array: Pixels) -> bytes:
    """The bytes of an idx file."""
    sizes = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_idx(
    folder: Path, part: str, pictures: Pixels, labels: Sequence[int], *, prefix: str = "", gz: bool = False
) -> Path:
    """Write a pair of files like MNIST's; returns the file of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name, array in (("images-idx3", pictures), ("labels-idx1", np.array(labels, dtype=np.uint8))):
        path = folder / f"{prefix}{part}-{name}-ubyte{'.gz' if gz else ''}"
        path.write_bytes(gzip.compress(idx_bytes(array)) if gz else idx_bytes(array))
        results.append(path)
    return results[0]


def python2_batch(values: Mapping[str, Any]) -> bytes:
    """A CIFAR batch as pickled by Python 2: keys and data as byte strings, `data` as numpy.core's array."""

    def text(letters: bytes) -> bytes:
        if len(letters) < 256:
            return b"U" + bytes([len(letters)]) + letters
        return b"T" + len(letters).to_bytes(4, "little") + letters

    def array(pixels: Pixels) -> bytes:
        shape = b"".join(b"J" + side.to_bytes(4, "little") for side in pixels.shape)
        kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87Rq\x05(K\x03" + text(b"|") + b"NNN"
        kind += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        return make + b"(K\x01" + shape + b"\x86" + kind + b"\x89" + text(pixels.tobytes()) + b"tb"

    def one(value: Any) -> bytes:
        if isinstance(value, np.ndarray):
            return array(value)
        if isinstance(value, list):
            return b"](" + b"".join(map(one, value)) + b"e"
        return text(value.encode()) if isinstance(value, str) else b"K" + bytes([value])

    items = b"".join(text(key.encode()) + one(value) for key, value in values.items())
    return b"\x80\x02}q\x01(" + items + b"u."


def write_cifar10(folder: Path, pixels: Pixels, labels: list[int], protocol: int = 0) -> Path:
    """Write the folder of CIFAR-10; two training batches. Protocol 0 is that of Python 2."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, values: dict[str, Any]) -> None:
        old = protocol == 0
        data = python2_batch(values) if old else pickle.dumps(
            {key.encode(): value for key, value in values.items()}, protocol
        )  # fmt: skip
        (folder / name).write_bytes(data)

    half = len(pixels) // 2
    write("test_batch", {"data": pixels, "labels": labels})
    write("data_batch_1", {"data": pixels[:half], "labels": labels[:half]})
    write("data_batch_2", {"data": pixels[half:], "labels": labels[half:]})
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    write("batches.meta", {"label_names": names, "num_vis": 3})
    return folder


def write_shards(
    folder: Path,
    shards: Sequence[Mapping[str, bytes]],
    *,
    names: Sequence[str] = (),
    templates: Sequence[str] = (),
    kind: str = "",
    part: str = "test",
) -> Path:
    """Write a folder in the layout of CLIP_benchmark."""
    (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / part / "nshards.txt").write_text(f"{len(shards)}\n")
    for number, files in enumerate(shards):
        (folder / part / f"{number}.tar").write_bytes(tar_bytes(files))
    for name, lines in (
        ("classnames.txt", names),
        ("zeroshot_classification_templates.txt", templates),
        ("dataset_type.txt", [kind] if kind else []),
    ):
        if lines:
            (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def labelled_shard(colours: Sequence[str], labels: Sequence[int], start: int = 0) -> dict[str, bytes]:
    """Files of a shard: sNNNNNNN.png and .cls."""
    files: dict[str, bytes] = {}
    for number, (colour, label) in enumerate(zip(colours, labels, strict=True), start):
        files |= {f"s{number:07d}.cls": str(label).encode(), f"s{number:07d}.png": picture_bytes(colour)}
    return files
