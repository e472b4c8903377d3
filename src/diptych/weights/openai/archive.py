"""OpenAI's released files: TorchScript archives, read as data.

Such a file is a zip with a pickle of modules (`NAME/data.pkl`) and one raw record per storage
(`NAME/data/0`, ...). The pickle is `steps`' work, which runs nothing, and the storages `records`'; here
modules become tensors by dotted name.
"""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.files.pickle_reader import describe
from diptych.weights.openai.records import ZipRecords, opened
from diptych.weights.openai.steps import Module, Reader, View, broken
from diptych.weights.spec import State

_DEEPEST = 64  # modules inside modules; CLIP has 7
_MOST_TENSORS = 100_000


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
    with opened(path) as archive:
        records = ZipRecords(archive, path)
        return records.tensors(_flatten(Reader(records.pickle(), path).read(), path))


def _flatten(value: Any, path: Path) -> dict[str, View]:
    """Tensors by dotted name, from modules inside modules."""
    if not isinstance(value, Module):
        raise broken(path, f"it holds {describe(value)}, expected a module")
    views: dict[str, View] = {}
    waiting: list[tuple[str, Module, int]] = [("", value, 0)]
    reached = {id(value)}
    # A long name of a module is repeated in the name of each tensor in it: 64 KB could ask for gigabytes.
    budget = path.stat().st_size
    while waiting:
        prefix, module, depth = waiting.pop()
        if depth > _DEEPEST or len(reached) > _MOST_TENSORS or len(views) > _MOST_TENSORS:
            raise broken(path, "its modules are nested without end")
        for name, content in module.attributes.items():
            budget -= len(prefix) + len(name)
            if budget < 0:
                raise broken(path, "the names of its tensors are longer than the file")
            if isinstance(content, View):
                views[prefix + name] = content
            elif isinstance(content, Module) and _holds(content):
                if id(content) in reached:
                    raise broken(path, f"its modules are nested without end: {name!r} is reached twice")
                reached.add(id(content))
                waiting.append((f"{prefix}{name}.", content, depth + 1))
    return views


def _holds(module: Module) -> bool:
    """Whether tensors or modules are in it; one without, such as an activation, may be shared."""
    return any(isinstance(content, View | Module) for content in module.attributes.values())
