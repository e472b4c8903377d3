"""OpenAI's released files: TorchScript archives, read as data.

Such a file is a zip with a pickle of modules (`NAME/data.pkl`) and one raw record per storage
(`NAME/data/0`, ...). The pickle is `steps`' work, which runs nothing; here the zip is read, sizes checked
against what the archive really holds before memory is asked for.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from diptych.pickle_reader import told
from diptych.weights.spec import State
from diptych.weights.steps import Module, Reader, Storage, View, broken

_LARGEST_PICKLE = 64 << 20  # bytes; that of ViT-L/14 has 0.1 MB
_LARGEST_NOTE = 16  # bytes; byteorder is a word
_DEEPEST = 64  # modules inside modules; CLIP has 7
_MOST_TENSORS = 100_000
_MOST_SHARING = 2  # bytes of tensors over bytes of storages; each tensor becomes a copy of its own


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, from its table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return any(PurePosixPath(name).name == "constants.pkl" for name in names)


def read_archive(path: Path) -> State:
    """Every parameter and buffer of a TorchScript archive by its dotted name.

    Raises
    ------
    WeightsError
        The archive is broken, names something it has no business with, or claims more than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive, path)
            views = _flatten(Reader(_pickle(archive, root, path), path).read(), path)
            return _Records(archive, root, path).tensors(views)
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise broken(path, str(error)) from error
    except zipfile.BadZipFile as error:
        raise broken(path, str(error)) from error


class _Records:
    """The storages of an archive, each read once."""

    def __init__(self, archive: zipfile.ZipFile, root: str, path: Path) -> None:
        self._archive = archive
        self._root = root
        self._path = path
        self._read: dict[Storage, Tensor] = {}

    def tensors(self, views: dict[str, View]) -> State:
        storages = {view.storage for view in views.values()}
        held = sum(self._check(storage) for storage in storages)
        asked = sum(math.prod(view.size) * view.storage.dtype.itemsize for view in views.values())
        if asked > _MOST_SHARING * held:
            raise broken(self._path, f"its tensors claim {asked} bytes of storages that have {held}")
        return {
            name: self._storage(view.storage)
            .as_strided(view.size, view.stride, view.offset)
            .clone(memory_format=torch.contiguous_format)
            for name, view in views.items()
        }

    def _storage(self, storage: Storage) -> Tensor:
        if storage not in self._read:
            self._read[storage] = self._load(storage)
        return self._read[storage]

    def _check(self, storage: Storage) -> int:
        """The bytes of a storage, if the archive really has them."""
        if not storage.key.isdecimal():
            raise broken(self._path, f"its storage is named {storage.key!r}, expected a number")
        size = storage.count * storage.dtype.itemsize
        info = self._archive.NameToInfo.get(f"{self._root}data/{storage.key}")
        if info is None or info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
            held = "is missing" if info is None else f"has {info.file_size} bytes"
            raise broken(self._path, f"storage {storage.key} {held}, the pickle claims {size}")
        if info.compress_size != size or size > self._path.stat().st_size:
            raise broken(self._path, f"storage {storage.key} claims {size} bytes, more than the file has")
        return size

    def _load(self, storage: Storage) -> Tensor:
        if storage.count == 0:
            return torch.empty(0, dtype=storage.dtype)
        data = self._archive.read(f"{self._root}data/{storage.key}")
        # A bytearray, as torch warns about memory that may not be written to. The zip's CRC is checked here.
        return torch.frombuffer(bytearray(data), dtype=storage.dtype)


def _root(archive: zipfile.ZipFile, path: Path) -> str:
    """The folder all of an archive lies in, with its slash."""
    names = archive.namelist()
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
            raise broken(path, f"it holds the name {name!r}, which points outside of it")
    roots = [name.removesuffix("data.pkl") for name in names if PurePosixPath(name).name == "data.pkl"]
    if len(roots) != 1 or roots[0].count("/") != 1:
        raise broken(path, f"expected one NAME/data.pkl in it, found {roots or 'none'}")
    order = f"{roots[0]}byteorder"
    if order in names and _small(archive, order, _LARGEST_NOTE, path) != b"little":
        raise broken(path, "its numbers are not little-endian")
    return roots[0]


def _pickle(archive: zipfile.ZipFile, root: str, path: Path) -> bytes:
    return _small(archive, f"{root}data.pkl", _LARGEST_PICKLE, path)


def _small(archive: zipfile.ZipFile, name: str, largest: int, path: Path) -> bytes:
    """A record that cannot unpack to more than the file holds: stored as it is, of a bounded size."""
    info = archive.getinfo(name)
    if info.file_size > largest:
        raise broken(path, f"its record {name} claims {info.file_size} bytes, more than {largest}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise broken(path, f"its record {name} is compressed, which no such archive does")
    return archive.read(info)


def _flatten(value: Any, path: Path) -> dict[str, View]:
    """Tensors by dotted name, from modules inside modules."""
    if not isinstance(value, Module):
        raise broken(path, f"it holds {told(value)}, expected a module")
    found: dict[str, View] = {}
    waiting: list[tuple[str, Module, int]] = [("", value, 0)]
    reached = {id(value)}
    while waiting:
        prefix, module, depth = waiting.pop()
        if depth > _DEEPEST or len(reached) > _MOST_TENSORS or len(found) > _MOST_TENSORS:
            raise broken(path, "its modules are nested without end")
        for name, content in module.attributes.items():
            if isinstance(content, View):
                found[prefix + name] = content
            elif isinstance(content, Module) and _holds(content):
                if id(content) in reached:
                    raise broken(path, f"its modules are nested without end: {name!r} is reached twice")
                reached.add(id(content))
                waiting.append((f"{prefix}{name}.", content, depth + 1))
    return found


def _holds(module: Module) -> bool:
    """Whether tensors or modules are in it; one without, such as an activation, may be shared."""
    return any(isinstance(content, View | Module) for content in module.attributes.values())
