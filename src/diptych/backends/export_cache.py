"""Checkpoints loaded on demand, and their exports in the user's cache, by identity.

Exports in the cache can be deleted at any time: they are made again when needed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.backends.exported.folder import is_exported
from diptych.errors import SaveError
from diptych.files.disk import user_cache
from diptych.weights.names import named_path

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.weights import Checkpoint

_DEFAULT = Path(__file__).parents[1] / "weights" / "default"  # as in `weights.load`, which imports torch


class LazyCheckpoint:
    """A model by name, whose weights are loaded (with torch) at the first access.

    Parameters
    ----------
    name, pretrained, cache_dir
        As for `diptych.weights.load_checkpoint`, or a loaded checkpoint as `name`.
    """

    def __init__(
        self,
        name: str | Path | Checkpoint,
        pretrained: str | Path | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.name, self.pretrained, self.cache_dir = name, pretrained, cache_dir

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The loaded checkpoint."""
        if not isinstance(self.name, str | Path):
            return self.name
        from diptych.weights import load_checkpoint

        return load_checkpoint(self.name, self.pretrained, cache_dir=self.cache_dir)

    @cached_property
    def identity(self) -> str:
        """Identity: stated by a folder in our format, else computed from the weights."""
        return self._stated() or self.checkpoint.identity

    def _stated(self) -> str | None:
        """Identity in `diptych.json`, read without torch; None if the model is not in our format."""
        if not isinstance(self.name, str | Path) or self.pretrained is not None:
            return None
        folder = _DEFAULT if self.name == "default" else named_path(self.name)
        for home in () if folder is None else (folder, folder / "model"):
            try:
                stated = json.loads((home / "diptych.json").read_bytes())["identity"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            return stated if isinstance(stated, str) else None
        return None


def find_export(identity: str, *, int8: bool = False) -> Path | None:
    """Find the export of a model in the cache; None if there is none."""
    for folder in _export_folders(identity)[int(int8) :]:
        if is_exported(folder):
            return folder
    return None


def cached_export(
    weights: LazyCheckpoint,
    *,
    int8: bool = False,
    pictures: Sequence[Image] | None = None,
    pictures_from: str = "pictures handed in",
    note: Callable[[str], None] | None = None,
) -> Path:
    """Find the export of a model in the cache, or export it.

    Parameters
    ----------
    int8 : bool
        With 8-bit towers.
    pictures, pictures_from
        As for `export`; they do not affect an existing export.
    note : callable, optional
        Called with messages about the progress; by default one line is printed to standard error.

    Raises
    ------
    WeightsError, MissingExtraError, SaveError
        As `export`.
    """
    existing = find_export(weights.identity, int8=int8)
    if existing is not None:
        return existing
    from diptych.backends.conversion.converting import export

    folder = _export_folders(weights.identity)[int(int8)]
    if note is None:
        message = f"diptych: converting {weights.checkpoint.spec.name}, once; kept in {folder}"
        print(message, file=sys.stderr)
    try:
        export(
            weights.checkpoint,
            folder,
            int8=int8,
            pictures=pictures,
            pictures_from=pictures_from,
            note=note or (lambda message: None),
        )
    except SaveError:
        if not is_exported(folder):  # otherwise another process has exported it meanwhile
            raise
    return folder


def _export_folders(identity: str) -> tuple[Path, Path]:
    """Folders of a model's exports, without and with 8-bit towers."""
    name = identity.removeprefix("sha256:")[:24]
    exports = user_cache() / "exports"
    return exports / name, exports / f"{name}-int8"
