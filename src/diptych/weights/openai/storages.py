"""Read the storages of torch's files: from a zip (TorchScript, `torch.save`), or in sequence (before 1.6).

Every size that a file claims is checked before memory is allocated: all storages together are no larger than
the file, all tensors together at most twice as large as the storages that they view.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import torch
from torch import Tensor

from diptych.weights.openai.tensor_pickles import Storage, TensorView, invalid_file
from diptych.weights.spec import State

LARGEST_PICKLE = 64 << 20  # bytes; that of ViT-L/14 has 0.1 MB
_LARGEST_BYTEORDER = 16  # bytes; the record holds one word
_MAX_EXPANSION = 2  # bytes of tensors per byte of storages: tensors that share a storage are copied


class StorageFile(ABC):
    """Storages of a file, read when a tensor needs them.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def tensors(self, views: Mapping[str, TensorView]) -> State:
        """Read the tensors that these views describe.

        Parameters
        ----------
        views : mapping of str to TensorView
            Views by name. Storages that none of them uses are not read.

        Raises
        ------
        WeightsError
            A storage is missing or of another size than claimed, or the tensors are too large for their
            storages.
        """
        uses = Counter(view.storage for view in views.values())
        available = sum(self.check(storage) for storage in uses)
        if available > self.path.stat().st_size:
            raise invalid_file(self.path, f"its storages claim {available} bytes, more than the file has")
        requested = sum(math.prod(view.size) * view.storage.dtype.itemsize for view in views.values())
        if requested > _MAX_EXPANSION * available:
            raise invalid_file(
                self.path, f"its tensors claim {requested} bytes of storages that have {available}"
            )
        remaining, loaded = Counter(uses), dict[Storage, Tensor]()
        state: State = {}
        for name, view in views.items():
            storage = view.storage
            flat = loaded.pop(storage) if storage in loaded else self.load(storage)
            tensor = flat.as_strided(view.size, view.stride, view.offset)
            # A tensor that fills its storage needs no copy; a part would keep the whole storage in memory.
            fills_storage = uses[storage] == 1 and tensor.numel() == storage.count and _is_dense(view)
            # The memory format is kept: a resumed run is bit-exact only with the layout that it had.
            state[name] = tensor if fills_storage else tensor.clone(memory_format=torch.preserve_format)
            remaining[storage] -= 1
            if remaining[storage]:
                loaded[storage] = flat
        return state

    @abstractmethod
    def check(self, storage: Storage) -> int:
        """Size of a storage in bytes, after checking that the file has them."""

    @abstractmethod
    def load(self, storage: Storage) -> Tensor:
        """Read a storage as a 1-d tensor."""


class ZipStorages(StorageFile):
    """Storages of a zip: records `NAME/data/KEY`, not compressed."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        super().__init__(path)
        self._archive = archive
        self._archive_root = _archive_root(archive, path)

    def pickle(self) -> bytes:
        """Read the pickle that describes the tensors."""
        return _read_small_record(self._archive, f"{self._archive_root}data.pkl", LARGEST_PICKLE, self.path)

    def check(self, storage: Storage) -> int:
        """Size of a storage in bytes, after checking that the archive has them."""
        if not storage.key.isdecimal():
            raise invalid_file(self.path, f"its storage is named {storage.key[:60]!r}, expected a number")
        size = storage.count * storage.dtype.itemsize
        info = self._archive.NameToInfo.get(f"{self._archive_root}data/{storage.key}")
        if info is None or info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
            available = "is missing" if info is None else f"has {info.file_size} bytes"
            raise invalid_file(self.path, f"storage {storage.key} {available}, the pickle claims {size}")
        if info.compress_size != size or size > self.path.stat().st_size:
            raise invalid_file(
                self.path, f"storage {storage.key} claims {size} bytes, more than the file has"
            )
        return size

    def load(self, storage: Storage) -> Tensor:
        """Read a storage as a 1-d tensor; the zip's CRC is checked."""
        with self._archive.open(f"{self._archive_root}data/{storage.key}") as record:
            return _read_storage(record, storage, self.path)  # type: ignore[arg-type]


class LegacyStorages(StorageFile):
    """Storages of a file of torch before 1.6: in sequence, each after its element count of 8 bytes.

    Parameters
    ----------
    start : int
        Offset of the first one.
    keys : list of str
        Keys of the storages, in the order of the file.
    storages : mapping of str to Storage
        Storages by key, as the pickle describes them.
    """

    def __init__(self, path: Path, start: int, keys: list[str], storages: Mapping[str, Storage]) -> None:
        super().__init__(path)
        self._starts: dict[str, int] = {}
        for key in keys:
            storage = storages.get(key)
            if storage is None:
                raise invalid_file(path, f"its storage {key[:60]!r} is used by no tensor")
            self._starts[key] = start + 8
            start += 8 + storage.count * storage.dtype.itemsize

    def check(self, storage: Storage) -> int:
        """Size of a storage in bytes, after checking that the file has them."""
        size = storage.count * storage.dtype.itemsize
        start = self._starts.get(storage.key)
        if start is None or start + size > self.path.stat().st_size:
            raise invalid_file(
                self.path, f"storage {storage.key[:60]} claims {size} bytes, more than the file has"
            )
        return size

    def load(self, storage: Storage) -> Tensor:
        """Read a storage as a 1-d tensor."""
        with self.path.open("rb") as file:
            file.seek(self._starts[storage.key] - 8)
            if int.from_bytes(file.read(8), "little") != storage.count:
                raise invalid_file(
                    self.path, f"storage {storage.key} has another count than the pickle claims"
                )
            return _read_storage(file, storage, self.path)


def _read_storage(file: BinaryIO, storage: Storage, path: Path) -> Tensor:
    """Read the next bytes of a file as a storage, without a second copy."""
    if storage.count == 0:
        return torch.empty(0, dtype=storage.dtype)
    data = bytearray(storage.count * storage.dtype.itemsize)
    view, done = memoryview(data), 0
    while done < len(data):
        count = file.readinto(view[done : done + (1 << 24)])  # type: ignore[attr-defined]
        if not count:
            raise invalid_file(path, f"storage {storage.key} ends after {done} bytes of {len(data)}")
        done += count
    file.read(1)  # zipfile checks the CRC when the end of a record is read
    return torch.frombuffer(data, dtype=storage.dtype)


def _is_dense(view: TensorView) -> bool:
    """Whether a tensor's elements fill a block of memory without gaps or overlap, in any order of axes.

    E.g. sizes (2, 3, 4) with strides (12, 1, 3), channels last. Sorted by stride: stride 1 of size 3, stride
    3 of size 4, stride 12 of size 2. Each stride is the product of the sizes before it (1, 3, 12): dense.
    """
    expected = 1
    for stride, size in sorted(zip(view.stride, view.size, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip of torch; any error of the zip becomes a WeightsError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise invalid_file(path, str(error)) from error
    except zipfile.BadZipFile as error:
        raise invalid_file(path, str(error)) from error


def _archive_root(archive: zipfile.ZipFile, path: Path) -> str:
    """Folder that contains everything in an archive, with its slash."""
    names = archive.namelist()
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
            raise invalid_file(path, f"it has a record {name[:100]!r}, which points outside of it")
    roots = [name.removesuffix("data.pkl") for name in names if PurePosixPath(name).name == "data.pkl"]
    if len(roots) != 1 or roots[0].count("/") != 1:
        raise invalid_file(
            path, f"expected one NAME/data.pkl in it, found {', '.join(roots[:3])[:100] or 'none'}"
        )
    order = f"{roots[0]}byteorder"
    if order in names and _read_small_record(archive, order, _LARGEST_BYTEORDER, path) != b"little":
        raise invalid_file(path, "its numbers are not little-endian")
    return roots[0]


def _read_small_record(archive: zipfile.ZipFile, name: str, largest: int, path: Path) -> bytes:
    """Read a small record; refuse a compressed one, which could expand to more than the file's size."""
    info = archive.getinfo(name)
    if info.file_size > largest:
        raise invalid_file(path, f"its record {name} claims {info.file_size} bytes, more than {largest}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise invalid_file(path, f"its record {name} is compressed, which torch never does")
    return archive.read(info)
