"""Our own format: a folder with `model.safetensors` and `diptych.json`.

The JSON has the specification and the hash of every part, so that weights, architecture, preprocessing and
tokenizer that do not belong together are refused with the reason.

Two files cannot be renamed atomically together. So the new JSON is first written as `diptych.json.new`, then
the weights are renamed, then the JSON. After a kill between the two renames the weights are new and
`diptych.json` is old; reading notices that the hashes do not match and takes `diptych.json.new`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diptych.errors import ChecksumError, WeightsError
from diptych.files.disk import saving, write_bytes, write_temporary
from diptych.weights.foreign_configs import read_json
from diptych.weights.identity import VECTOR_PARTS, hash_parts, identity_of_parts
from diptych.weights.spec import Checkpoint, ModelSpec, State, tokenizer_file

WEIGHTS_FILE = "model.safetensors"
SPEC_FILE = "diptych.json"
FORMAT = 1


def save_checkpoint(
    folder: Path,
    spec: ModelSpec,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    extra_files: Sequence[Path] = (),
) -> str:
    """Write a model in our format.

    Parameters
    ----------
    folder : Path
        Created if missing. A model already in it stays complete until the new one is.
    spec : ModelSpec
        Specification of the model.
    state : mapping of str to Tensor
        Weights by name.
    dtype : torch.dtype, optional
        Precision of floating-point weights on disk; by default as they are.
    extra_files : sequence of Path
        Files to copy into the folder: the tokenizer's, if the spec names one.

    Returns
    -------
    str
        Identity of the written model.

    Raises
    ------
    SaveError
        No space, or no permission; no incomplete file is left.
    WeightsError
        The training summary is not JSON.

    Examples
    --------
    >>> import tempfile
    >>> from diptych.model.presets.table import preset
    >>> spec = ModelSpec(name="mine", architecture=preset("diptych-tiny"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     identity = save_checkpoint(Path(folder), spec, {"logit_scale": torch.tensor(1.0)})
    ...     read_checkpoint(Path(folder)).identity == identity
    True
    """
    folder = Path(folder)
    tensors = _storable(state, dtype)
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for extra in extra_files:
        if Path(extra).resolve() != (folder / Path(extra).name).resolve():
            with saving(folder / Path(extra).name):
                write_bytes(folder / Path(extra).name, Path(extra).read_bytes())
    parts = hash_parts(spec, tensors, folder)
    identity = identity_of_parts(parts)
    content = {"format": FORMAT, **spec.to_dict(), "identity": identity, "hashes": parts}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    _replace_files(folder, tensors, text.encode(), identity)
    return identity


def to_diptych(checkpoint: Checkpoint, folder: Path, *, half: bool = False) -> str:
    """Convert a checkpoint to our own format.

    Parameters
    ----------
    half : bool
        Store the weights in float16: half the size, another identity.

    Returns
    -------
    str
        Identity of the written model.

    Raises
    ------
    SaveError
        No space, or no permission; no incomplete file is left.
    """
    extra = [checkpoint.tokenizer_file] if checkpoint.tokenizer_file is not None else []
    dtype = torch.float16 if half else None
    return save_checkpoint(folder, checkpoint.spec, checkpoint.state, dtype=dtype, extra_files=extra)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a safetensors file under a temporary name, to be renamed; return that name."""

    def write(temporary: Path) -> None:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata))
        except SafetensorError as error:  # the library wraps errors of the operating system
            raise OSError(str(error)) from error

    return write_temporary(path, write)


def save_safetensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights without a specification, atomically.

    Raises
    ------
    SaveError
        No space, or no permission.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, _storable(state, None), {"format": "pt"}).replace(path)


def read_safetensors(path: Path) -> State:
    """Read every tensor of a safetensors file.

    Raises
    ------
    WeightsError
        The file is missing, truncated, or not in that format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise WeightsError(
            f"cannot read {path} as safetensors: {error}. It may be incomplete: fetch or copy it again"
        ) from error


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder in our format and verify every part against its hash.

    Raises
    ------
    ChecksumError
        A part does not have its stated hash; the message names it.
    WeightsError
        A file is missing, unreadable, or of a later format.
    """
    state = read_safetensors(folder / WEIGHTS_FILE)
    content = read_json(folder / SPEC_FILE)
    try:
        spec, parts = _verify(folder, content, state)
    except ChecksumError:
        pending = folder / f"{SPEC_FILE}.new"  # a save was killed between its two renames
        if not pending.is_file():
            raise
        spec, parts = _verify(folder, read_json(pending), state)
    return Checkpoint(
        spec=spec,
        state=state,
        identity=identity_of_parts(parts),
        folder=folder,
        checked=f"the hash of every part in {SPEC_FILE}",
    )


def read_spec(folder: Path) -> tuple[ModelSpec, str]:
    """Read specification and stated identity without the weights, for listings."""
    content = read_json(folder / SPEC_FILE)
    return _spec(content, folder), str(content.get("identity", ""))


def _replace_files(folder: Path, tensors: State, text: bytes, identity: str) -> None:
    """Replace both files so that a kill at any instant leaves a pair that can be read."""
    weights, pending = folder / WEIGHTS_FILE, folder / f"{SPEC_FILE}.new"
    with saving(weights):
        new_weights = write_safetensors(weights, tensors, {"format": "pt", "diptych_identity": identity})
    try:
        write_bytes(pending, text)
        with saving(weights):
            new_weights.replace(weights)
            pending.replace(folder / SPEC_FILE)
            _flush_folder(folder)
    except BaseException:
        new_weights.unlink(missing_ok=True)
        raise


def _flush_folder(folder: Path) -> None:
    """Flush the folder's entries to disk; Windows cannot open a folder for that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _storable(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> State:
    """Contiguous tensors on the CPU that share no storage (safetensors demands it), floats as `dtype`."""
    storable: State = {}
    storages: set[int] = set()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        tensor = tensor.contiguous()
        storage = tensor.untyped_storage()
        # Shared with an earlier tensor, or a part of a larger storage.
        if storage.data_ptr() in storages or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        storable[name] = tensor
    return storable


def _verify(folder: Path, content: dict[str, Any], state: State) -> tuple[ModelSpec, dict[str, str]]:
    """Check every part against its stated hash; return the specification and the hashes."""
    spec = _spec(content, folder)
    stated = content.get("hashes")
    hashes = hash_parts(spec, state, folder)
    if not isinstance(stated, dict) or set(stated) != set(hashes):
        raise WeightsError(
            f"{folder / SPEC_FILE} lacks its hashes: expected one for each of {', '.join(hashes)}"
        )
    if wrong := [part for part in hashes if stated[part] != hashes[part]]:
        name = tokenizer_file(spec.tokenizer)
        if "tokenizer" in wrong and name is not None and not (folder / name).is_file():
            raise WeightsError(f"{folder} lacks its tokenizer, the file {name}: copy it beside the weights")
        raise ChecksumError(
            f"{folder}: {', '.join(wrong)} changed since the model was saved (not the hash in {SPEC_FILE}). "
            "Fetch or copy the folder again; to change a model on purpose, load it, change it and save it"
        )
    if content.get("identity") != identity_of_parts(hashes):
        raise ChecksumError(
            f"{folder / SPEC_FILE}: the stated identity is not that of its parts ({', '.join(VECTOR_PARTS)})"
        )
    return spec, hashes


def _spec(content: dict[str, Any], folder: Path) -> ModelSpec:
    version = content.get("format")
    if version != FORMAT:
        raise WeightsError(
            f"{folder / SPEC_FILE} has format {version!r}, this version of diptych reads format {FORMAT}: "
            "a later format needs a newer diptych"
        )
    values = {key: value for key, value in content.items() if key not in ("format", "identity", "hashes")}
    return ModelSpec.from_dict(values)
