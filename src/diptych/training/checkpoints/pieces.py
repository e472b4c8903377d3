"""Checkpoints of models in pieces (FSDP2), looked at before torch.distributed.checkpoint unpickles them.

Its metadata and its plain values are pickles that it loads without a limit on what they name, so a run folder
from somebody else could execute code on `--resume`. Here each pickle is stepped through first
(`diptych.files.pickle_reader`), and one that names anything else than a checkpoint holds is refused.
"""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem

from diptych.errors import TrainingError
from diptych.files.disk import file_stem
from diptych.files.pickle_reader import PickleReader
from diptych.weights.openai.pickled import read_torch_file

_ZIP = b"PK\x03\x04"

__all__ = ["CheckpointException", "PiecesPlanner", "PiecesReader"]

# Classes of the module only, and no dot in a name: "metadata.os" is a module, whose attributes a pickle could
# change, and "metadata.os.system" would be looked up attribute by attribute.
_KNOWN = re.compile(
    r"torch\.distributed\.checkpoint\.metadata\._?[A-Z]\w*|torch\.distributed\.checkpoint\.filesystem\._StorageInfo"
    r"|torch\.Size|torch\.serialization\._get_layout|torch\.(?:bool|(?:u?int|b?float|complex)\d+)"
    r"|pathlib\.(?:_local\.)?(?:Pure)?(?:Posix|Windows)?Path|collections\.OrderedDict"
)


class _Object:
    """Whatever a call or a class would make."""


class _MetadataReader(PickleReader):
    """Steps through `.metadata`: what it makes does not matter, only what it names."""

    literal_instructions = PickleReader.literal_instructions | {"BINBYTES", "SHORT_BINBYTES", "BINUNICODE8"}
    optional_instructions = frozenset({"STACK_GLOBAL", "MEMOIZE", "FRAME"})
    key_types = (str, int, _Object)

    def is_known_name(self, name: str) -> bool:
        """What torch.distributed.checkpoint writes."""
        return _KNOWN.fullmatch(name) is not None

    def on_call(self, name: str, arguments: Any) -> _Object:
        """Something of no interest."""
        return _Object()

    def on_new_object(self, name: str, arguments: Any) -> _Object:
        """Something of no interest."""
        return _Object()

    def on_state(self, target: Any, state: Any) -> None:
        """Nothing."""

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for what no checkpoint holds."""
        raise TrainingError(
            f"{self.path} names {content}, which no checkpoint does: refused, and nothing was run"
        )


class PiecesReader(FileSystemReader):
    """Reads a folder of pieces whose metadata name nothing but a checkpoint's parts."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read what lies where."""
        path = Path(self.path) / ".metadata"
        _MetadataReader(path.read_bytes(), path).read()
        return super().read_metadata(*args, **kwargs)


class PiecesPlanner(DefaultLoadPlanner):
    """Takes plain values that name nothing but tensors and containers.

    Parameters
    ----------
    path : Path
        Of the folder, for messages.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.folder = path

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Take a plain value, such as the scale of the loss.

        The value has to begin as a zip: Python finds one behind other bytes, and torch does not look there.
        It is read as data, and what the planner unpickles without limits is a copy of that, written here.
        """
        if not value.getvalue().startswith(_ZIP):
            raise TrainingError(
                f"{self.folder} holds a value that is no zip of torch's: nothing in it was run"
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"value of {file_stem(self.folder.name)}"
            path.write_bytes(value.getvalue())
            content = read_torch_file(path)
        copy = io.BytesIO()
        torch.save(content, copy)
        copy.seek(0)
        super().load_bytes(read_item, copy)
