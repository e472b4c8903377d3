"""Safe reading of sharded checkpoints (FSDP2): pickles are checked before torch unpickles them.

torch.distributed.checkpoint stores metadata and plain values as pickles and loads them without restriction,
so a run's folder of somebody else could execute code on `--resume`. Here each pickle is first interpreted
without executing it (`diptych.files.pickle_reader`), and refused if it names anything that no checkpoint
contains.
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

__all__ = ["CheckpointException", "ShardedCheckpointPlanner", "ShardedCheckpointReader"]

# Only classes of the module, without a dot in the name: "metadata.os" is a module, whose attributes a pickle
# could change, and "metadata.os.system" would be resolved attribute by attribute.
_KNOWN = re.compile(
    r"torch\.distributed\.checkpoint\.metadata\._?[A-Z]\w*|torch\.distributed\.checkpoint\.filesystem\._StorageInfo"
    r"|torch\.Size|torch\.serialization\._get_layout|torch\.(?:bool|(?:u?int|b?float|complex)\d+)"
    r"|pathlib\.(?:_local\.)?(?:Pure)?(?:Posix|Windows)?Path|collections\.OrderedDict"
)


class _Object:
    """Stands for any object that a pickle would create."""


class _MetadataReader(PickleReader):
    """Interprets `.metadata` for the names in it; the objects do not matter."""

    literal_instructions = PickleReader.literal_instructions | {"BINBYTES", "SHORT_BINBYTES", "BINUNICODE8"}
    optional_instructions = frozenset({"STACK_GLOBAL", "MEMOIZE", "FRAME"})
    key_types = (str, int, _Object)

    def is_known_name(self, name: str) -> bool:
        """Whether torch.distributed.checkpoint writes this name."""
        return _KNOWN.fullmatch(name) is not None

    def on_call(self, name: str, arguments: Any) -> _Object:
        """A placeholder: the object does not matter."""
        return _Object()

    def on_new_object(self, name: str, arguments: Any) -> _Object:
        """A placeholder: the object does not matter."""
        return _Object()

    def on_state(self, target: Any, state: Any) -> None:
        """Ignore the state."""

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for content that no checkpoint has."""
        raise TrainingError(
            f"{self.path} names {content}, which no checkpoint does: refused, and nothing was run"
        )


class ShardedCheckpointReader(FileSystemReader):
    """Reads the folder of a sharded checkpoint after a check of its metadata."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Check and read the metadata: which tensor is in which file."""
        path = Path(self.path) / ".metadata"
        # Raises TrainingError for an unknown name, before torch unpickles the same file.
        _MetadataReader(path.read_bytes(), path).read()
        return super().read_metadata(*args, **kwargs)


class ShardedCheckpointPlanner(DefaultLoadPlanner):
    """Loads plain values after a check that they contain only tensors and containers.

    Parameters
    ----------
    path : Path
        Of the folder, for messages.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.folder = path

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Load a plain value, such as the scale of the loss.

        It must begin as a zip: Python also finds a zip behind other bytes, where torch does not look. It is
        read as data, and written again; the planner unpickles that copy.
        """
        if not value.getvalue().startswith(_ZIP):
            raise TrainingError(
                f"{self.folder} holds a value that is not a zip of torch: refused, and nothing was run"
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"value of {file_stem(self.folder.name)}"
            path.write_bytes(value.getvalue())
            content = read_torch_file(path)
        copy = io.BytesIO()
        torch.save(content, copy)
        copy.seek(0)
        super().load_bytes(read_item, copy)
