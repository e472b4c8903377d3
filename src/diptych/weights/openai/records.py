"""The storages of torch's files: in a zip (TorchScript, `torch.save`), or in a row (torch before 1.6).

Every size that a file claims is compared with what the file holds before memory is asked for: all storages
together are no larger than the file, all tensors together at most twice the storages they view.
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

from diptych.weights.openai.steps import Storage, View, broken
from diptych.weights.spec import State

LARGEST_PICKLE = 64 << 20  # bytes; that of ViT-L/14 has 0.1 MB
_LARGEST_NOTE = 16  # bytes; byteorder is a word
_MOST_SHARING = 2  # bytes of tensors over bytes of storages; each tensor becomes a copy of its own


class Records(ABC):
    """Storages that are read when a tensor views them.

    Parameters
    ----------
    path : Path
        Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def tensors(self, views: Mapping[str, View]) -> State:
        """Read the tensors that these views describe.

        Parameters
        ----------
        views : mapping of str to View
            By name. Storages that none of them views are not read.

        Raises
        ------
        WeightsError
            A storage is missing, of another size than claimed, or viewed too often.
        """
        uses = Counter(view.storage for view in views.values())
        held = sum(self.check(storage) for storage in uses)
        if held > self.path.stat().st_size:
            raise broken(self.path, f"its storages claim {held} bytes, more than the file has")
        asked = sum(math.prod(view.size) * view.storage.dtype.itemsize for view in views.values())
        if asked > _MOST_SHARING * held:
            raise broken(self.path, f"its tensors claim {asked} bytes of storages that have {held}")
        left, loaded = Counter(uses), dict[Storage, Tensor]()
        state: State = {}
        for name, view in views.items():
            storage = view.storage
            flat = loaded.pop(storage) if storage in loaded else self.load(storage)
            tensor = flat.as_strided(view.size, view.stride, view.offset)
            # A storage that one tensor fills needs no copy; a part of one would keep the rest in memory.
            alone = uses[storage] == 1 and tensor.numel() == storage.count and _is_dense(view)
            # The order in memory is kept: a run goes on to the last bit only with the layout it had.
            state[name] = tensor if alone else tensor.clone(memory_format=torch.preserve_format)
            left[storage] -= 1
            if left[storage]:
                loaded[storage] = flat
        return state

    @abstractmethod
    def check(self, storage: Storage) -> int:
        """Return the bytes of a storage, if the file really has them."""

    @abstractmethod
    def load(self, storage: Storage) -> Tensor:
        """Read a storage, flat."""


class ZipRecords(Records):
    """The storages of a zip, `NAME/data/KEY`, each stored as it is."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        super().__init__(path)
        self._archive = archive
        self._root = _root(archive, path)

    def pickle(self) -> bytes:
        """Return the pickle that says what views which storage."""
        return _small(self._archive, f"{self._root}data.pkl", LARGEST_PICKLE, self.path)

    def check(self, storage: Storage) -> int:
        """Return the bytes of a storage, if the archive really has them."""
        if not storage.key.isdecimal():
            raise broken(self.path, f"its storage is named {storage.key[:60]!r}, expected a number")
        size = storage.count * storage.dtype.itemsize
        info = self._archive.NameToInfo.get(f"{self._root}data/{storage.key}")
        if info is None or info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
            held = "is missing" if info is None else f"has {info.file_size} bytes"
            raise broken(self.path, f"storage {storage.key} {held}, the pickle claims {size}")
        if info.compress_size != size or size > self.path.stat().st_size:
            raise broken(self.path, f"storage {storage.key} claims {size} bytes, more than the file has")
        return size

    def load(self, storage: Storage) -> Tensor:
        """Read a storage, flat; the zip's CRC is checked."""
        with self._archive.open(f"{self._root}data/{storage.key}") as record:
            return _fill(record, storage, self.path)  # type: ignore[arg-type]


class LegacyRecords(Records):
    """The storages of a file of torch before 1.6: one after another, each with its count before it.

    Parameters
    ----------
    path : Path
    start : int
        Where the first one begins.
    keys : list of str
        Of the storages, in their order.
    storages : mapping of str to Storage
        By key, as the pickle describes them.
    """

    def __init__(self, path: Path, start: int, keys: list[str], storages: Mapping[str, Storage]) -> None:
        super().__init__(path)
        self._starts: dict[str, int] = {}
        for key in keys:
            storage = storages.get(key)
            if storage is None:
                raise broken(path, f"its storage {key[:60]!r} is used by no tensor")
            self._starts[key] = start + 8
            start += 8 + storage.count * storage.dtype.itemsize

    def check(self, storage: Storage) -> int:
        """Return the bytes of a storage, if the file really has them."""
        size = storage.count * storage.dtype.itemsize
        start = self._starts.get(storage.key)
        if start is None or start + size > self.path.stat().st_size:
            raise broken(self.path, f"storage {storage.key[:60]} claims {size} bytes, more than the file has")
        return size

    def load(self, storage: Storage) -> Tensor:
        """Read a storage, flat."""
        with self.path.open("rb") as file:
            file.seek(self._starts[storage.key] - 8)
            if int.from_bytes(file.read(8), "little") != storage.count:
                raise broken(self.path, f"storage {storage.key} has another count than the pickle claims")
            return _fill(file, storage, self.path)


def _fill(file: BinaryIO, storage: Storage, path: Path) -> Tensor:
    """The next bytes of a file as a storage, without a second copy."""
    if storage.count == 0:
        return torch.empty(0, dtype=storage.dtype)
    data = bytearray(storage.count * storage.dtype.itemsize)
    view, done = memoryview(data), 0
    while done < len(data):
        count = file.readinto(view[done : done + (1 << 24)])  # type: ignore[attr-defined]
        if not count:
            raise broken(path, f"storage {storage.key} ends after {done} bytes of {len(data)}")
        done += count
    file.read(1)  # at the end of a record the zip compares the CRC
    return torch.frombuffer(data, dtype=storage.dtype)


def _is_dense(view: View) -> bool:
    """Whether every number of a tensor has a place of its own, without gaps, in whatever order of axes.

    Worked example: sizes (2, 3, 4), strides (12, 1, 3): channels last. By stride: 1 of 3, 3 of 4, 12 of 2;
    each stride is the product of the sizes before it (1, 3, 12), so it is dense.
    """
    expected = 1
    for stride, size in sorted(zip(view.stride, view.size, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip of torch's; whatever is wrong with it becomes a WeightsError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise broken(path, str(error)) from error
    except zipfile.BadZipFile as error:
        raise broken(path, str(error)) from error


def _root(archive: zipfile.ZipFile, path: Path) -> str:
    """The folder all of an archive lies in, with its slash."""
    names = archive.namelist()
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
            raise broken(path, f"it holds the name {name[:100]!r}, which points outside of it")
    roots = [name.removesuffix("data.pkl") for name in names if PurePosixPath(name).name == "data.pkl"]
    if len(roots) != 1 or roots[0].count("/") != 1:
        raise broken(path, f"expected one NAME/data.pkl in it, found {', '.join(roots[:3])[:100] or 'none'}")
    order = f"{roots[0]}byteorder"
    if order in names and _small(archive, order, _LARGEST_NOTE, path) != b"little":
        raise broken(path, "its numbers are not little-endian")
    return roots[0]


def _small(archive: zipfile.ZipFile, name: str, largest: int, path: Path) -> bytes:
    """A record that cannot unpack to more than the file holds: stored as it is, of a bounded size."""
    info = archive.getinfo(name)
    if info.file_size > largest:
        raise broken(path, f"its record {name} claims {info.file_size} bytes, more than {largest}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise broken(path, f"its record {name} is compressed, which no such archive does")
    return archive.read(info)
