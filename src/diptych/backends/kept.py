"""Weights by name, read when they are needed, and their exports in the user's cache, by identity.

An export there can always be made again; nothing else is lost when the folder is deleted.
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

_DEFAULT = Path(__file__).parents[1] / "weights" / "default"  # told here too: `diptych.weights` loads torch


class Weights:
    """A model as it was named; torch is loaded when its weights are asked for.

    Parameters
    ----------
    name, pretrained, cache_dir
        As for `diptych.weights.load_checkpoint`, or a checkpoint at hand.
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
        """The weights themselves."""
        if not isinstance(self.name, str | Path):
            return self.name
        from diptych.weights import load_checkpoint

        return load_checkpoint(self.name, self.pretrained, cache_dir=self.cache_dir)

    @cached_property
    def identity(self) -> str:
        """What a folder of ours states of itself; else that of the weights."""
        return self._stated() or self.checkpoint.identity

    def _stated(self) -> str | None:
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
    """The export of a model in the cache, if it is there."""
    for folder in _places(identity)[int(int8) :]:
        if is_exported(folder):
            return folder
    return None


def kept_export(
    weights: Weights,
    *,
    int8: bool = False,
    pictures: Sequence[Image] | None = None,
    pictures_from: str = "pictures handed in",
    note: Callable[[str], None] | None = None,
) -> Path:
    """The export of a model in the cache, made if it is not there.

    Parameters
    ----------
    weights : Weights
    int8 : bool
        With 8-bit towers.
    pictures, pictures_from
        As for `export`; what is there already stays as it is.
    note : callable, optional
        Told what is being done; by default a line on standard error at the start.

    Raises
    ------
    WeightsError, MissingExtraError, SaveError
        As `export`.
    """
    found = find_export(weights.identity, int8=int8)
    if found is not None:
        return found
    from diptych.backends.conversion.converting import export

    folder = _places(weights.identity)[int(int8)]
    if note is None:
        said = f"diptych: converting {weights.checkpoint.spec.name}, once; kept in {folder}"
        print(said, file=sys.stderr)
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
        if not is_exported(folder):  # else another process was first
            raise
    return folder


def _places(identity: str) -> tuple[Path, Path]:
    """Where exports of a model lie, without 8-bit towers and with them."""
    name = identity.removeprefix("sha256:")[:24]
    home = user_cache() / "exports"
    return home / name, home / f"{name}-int8"
