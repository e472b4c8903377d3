"""Read OpenAI's released TorchScript archives as data, without executing anything in them.

Such a file is a zip with a pickle of modules (`NAME/data.pkl`) and one raw record per storage
(`NAME/data/0`, ...). `tensor_pickles` interprets the pickle and `storages` reads the records; here the nested
modules become tensors by dotted name.
"""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.files.pickle_reader import describe
from diptych.weights.openai.storages import ZipStorages, open_zip
from diptych.weights.openai.tensor_pickles import ArchiveReader, ScriptModule, TensorView, invalid_file
from diptych.weights.spec import State

_MAX_DEPTH = 64  # of nested modules; CLIP has 7
_MAX_TENSORS = 100_000


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, from its table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return any(PurePosixPath(name).name == "constants.pkl" for name in names)


def read_archive(path: Path) -> State:
    """Read every parameter and buffer of a TorchScript archive by its dotted name.

    Raises
    ------
    WeightsError
        The archive is damaged, refers to other classes than TorchScript's, or claims sizes that it does not
        have.
    """
    with open_zip(path) as archive:
        storages = ZipStorages(archive, path)
        return storages.tensors(_flatten(ArchiveReader(storages.pickle(), path).read(), path))


def _flatten(value: Any, path: Path) -> dict[str, TensorView]:
    """Tensors of nested modules by dotted name."""
    if not isinstance(value, ScriptModule):
        raise invalid_file(path, f"it holds {describe(value)}, expected a module")
    views: dict[str, TensorView] = {}
    pending: list[tuple[str, ScriptModule, int]] = [("", value, 0)]
    reached = {id(value)}
    # The name of a module is repeated in the name of each tensor in it: a hostile file of 64 KB could demand
    # gigabytes of names. All names together may have as many characters as the file has bytes.
    budget = path.stat().st_size
    while pending:
        prefix, module, depth = pending.pop()
        if depth > _MAX_DEPTH or len(reached) > _MAX_TENSORS or len(views) > _MAX_TENSORS:
            raise invalid_file(path, "its modules are nested without end")
        for name, content in module.attributes.items():
            budget -= len(prefix) + len(name)
            if budget < 0:
                raise invalid_file(path, "the names of its tensors are longer than the file")
            if isinstance(content, TensorView):
                views[prefix + name] = content
            elif isinstance(content, ScriptModule) and _has_contents(content):
                if id(content) in reached:
                    raise invalid_file(path, f"its modules are nested without end: {name!r} is reached twice")
                reached.add(id(content))
                pending.append((f"{prefix}{name}.", content, depth + 1))
    return views


def _has_contents(module: ScriptModule) -> bool:
    """Whether a module contains tensors or modules; one without, such as an activation, may be shared."""
    return any(isinstance(content, TensorView | ScriptModule) for content in module.attributes.values())
