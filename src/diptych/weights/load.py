"""One call from a name to weights: find, fetch, read, verify."""

from __future__ import annotations

from pathlib import Path

from diptych.errors import UnknownModelError, WeightsError
from diptych.weights.native import SPEC_FILE, read_checkpoint
from diptych.weights.spec import Checkpoint

DEFAULT_FOLDER = Path(__file__).parent / "default"


def load_checkpoint(
    name: str | Path = "default", pretrained: str | None = None, *, cache_dir: str | Path | None = None
) -> Checkpoint:
    """Find, fetch, read and verify a model's weights.

    Parameters
    ----------
    name : str or Path
        "default"; a folder.
    pretrained : str, optional
        A tag.
    cache_dir : str or Path, optional
        Where downloads are kept.

    Returns
    -------
    Checkpoint
        Weights under our names, and what travels with them.
    """
    if name == "default":
        if not (DEFAULT_FOLDER / SPEC_FILE).is_file():
            raise UnknownModelError(
                "the default model is not in this installation (diptych/weights/default is missing); "
                "name one, or a folder"
            )
        return read_checkpoint(DEFAULT_FOLDER)
    folder = Path(str(name).removeprefix("local-dir:"))
    for candidate in (folder, folder / "model"):
        if (candidate / SPEC_FILE).is_file():
            return read_checkpoint(candidate)
    if folder.is_dir():
        raise WeightsError(f"{folder} holds no model")
    raise UnknownModelError(f"unknown model {name!r}")
