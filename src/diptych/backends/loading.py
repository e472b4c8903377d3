"""Load a model on any runtime: `load`.

It determines the runtime and calls `torch` or `exported`. Weights for another runtime than torch are
converted once and stored in the user's cache, by identity. Torch is imported only when weights have to be
read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from diptych.backends.export_cache import LazyCheckpoint, cached_export, find_export
from diptych.backends.exported.encoder import BATCH, ExportedEncoder
from diptych.backends.exported.finding import find_released
from diptych.backends.exported.folder import is_exported, read_export
from diptych.backends.exported.released import ReleasedModel
from diptych.backends.exported.towers import RUNTIMES, has_bfloat16
from diptych.backends.runtime_choice import read_choice
from diptych.errors import InputError
from diptych.weights.names import named_path

if TYPE_CHECKING:
    from diptych.backends.torch import TorchEncoder
    from diptych.inputs import OnLong
    from diptych.weights import Checkpoint


_WEIGHTS_OF = "name its weights, as in load('ViT-B-32', 'openai'), or leave out runtime='torch'"


@overload
def load(
    name: str | Path | Checkpoint = ...,
    pretrained: str | Path | None = ...,
    *,
    runtime: Literal["torch"],
    device: str = ...,
    precision: str = ...,
    exact: bool = ...,
    batch_size: int = ...,
    threads: int | None = ...,
    on_long: OnLong = ...,
    image_size: int | None = ...,
    context_length: int | None = ...,
    cache_dir: str | Path | None = ...,
) -> TorchEncoder: ...
@overload
def load(
    name: str | Path | Checkpoint = ...,
    pretrained: str | Path | None = ...,
    *,
    runtime: str | None = ...,
    device: str = ...,
    precision: str = ...,
    exact: bool = ...,
    batch_size: int = ...,
    threads: int | None = ...,
    on_long: OnLong = ...,
    image_size: int | None = ...,
    context_length: int | None = ...,
    cache_dir: str | Path | None = ...,
) -> TorchEncoder | ExportedEncoder: ...
def load(
    name: str | Path | Checkpoint = "default",
    pretrained: str | Path | None = None,
    *,
    runtime: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    exact: bool = False,
    batch_size: int = BATCH,
    threads: int | None = None,
    on_long: OnLong = "cut",
    image_size: int | None = None,
    context_length: int | None = None,
    cache_dir: str | Path | None = None,
) -> TorchEncoder | ExportedEncoder:
    """Load a model, ready to encode.

    Parameters
    ----------
    name, pretrained, image_size, context_length, cache_dir
        As for `diptych.weights.load_checkpoint`: "default" ships with the package; `"ViT-B-32", "openai"`;
        `"hf-hub:org/repo"`; a folder or a run. Or a loaded checkpoint, or a folder that `diptych export`
        wrote. Or released ONNX graphs, which need no torch: `"ViT-B-32__openai"` and Immich's other names,
        `"hf-hub:immich-app/NAME"`, `"hf-hub:jinaai/jina-clip-v2"`, `"hf-hub:Xenova/NAME"`, or their folder.
    runtime : {"torch", "onnx", "openvino", "auto"}, optional
        By default weights run on torch, and an exported folder on ONNX Runtime or OpenVINO, whichever is
        installed. "onnx" and "openvino" convert weights at the first use and store the result
        (`diptych.files.disk.user_cache`). "auto" is the fastest measured runtime for this model on this
        machine (`choose_runtime`, `diptych models runtimes`), the default if none was measured.
    device : str
        "auto" (CUDA or MPS if available, else the CPU), or torch's name of a device. Other runtimes than
        torch use the CPU.
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}
        "auto" is bfloat16 if the hardware has it, else float32; float32 with ONNX Runtime. "float16" needs
        torch, "int8" OpenVINO. For released graphs "float16" and "int8" select those files, "auto" the best
        available.
    exact : bool
        Compute in float32, as evaluation does, and ignore measured choices.
    batch_size : int
        Images or texts per forward pass.
    threads : int, optional
        Threads that compute and resize; by default one per core.
    on_long : {"cut", "refuse"}
        What `encode_texts` does with a text that is too long: cut it and warn, or raise `TextError`.

    Returns
    -------
    TorchEncoder or ExportedEncoder
        A `TorchEncoder` has the torch module as `.model`; `runtime="torch"` always gives one.

    Raises
    ------
    ModelError
        The model is unknown, or its files cannot be read (see `load_checkpoint`), or the runtime is too far
        from float32 on this model.
    InputError
        The runtime, device or precision is unknown, or they cannot be combined.
    MissingExtraError
        The runtime is not installed.
    """
    runtimes = ("torch", *RUNTIMES, "auto")
    if runtime is not None and runtime not in runtimes:
        raise InputError(f"unknown runtime {runtime!r}: expected one of {', '.join(runtimes)}")
    precision = "float32" if exact else precision
    if image_size is not None or context_length is not None:
        name, pretrained = _load_resized(name, pretrained, image_size, context_length, cache_dir), None
    rest: dict[str, Any] = {"batch_size": batch_size, "threads": threads, "on_long": on_long}
    if isinstance(name, str | Path) and pretrained is None:
        folder = named_path(name)
        if folder is not None and is_exported(folder):
            if runtime == "torch":
                raise InputError(f"{folder} is an exported model, which torch cannot run: load the weights")
            return _open_export(folder, None if runtime == "auto" else runtime, device, precision, rest)
        graphs = None if exact or precision in ("auto", "bfloat16") else precision
        released = find_released(name, precision=graphs, cache_dir=cache_dir)
        if released is not None:
            if runtime == "torch":
                raise InputError(f"{name} holds ONNX graphs, which torch cannot run: {_WEIGHTS_OF}")
            precision = "bfloat16" if precision == "bfloat16" else released.precision
            return _open_export(released, None if runtime == "auto" else runtime, device, precision, rest)
    weights = LazyCheckpoint(name, pretrained, cache_dir)
    if runtime in RUNTIMES:
        folder = cached_export(weights, int8=precision == "int8")
        return _open_export(folder, runtime, device, precision, rest)
    if runtime == "auto" and device in ("auto", "cpu") and not exact:
        choice = read_choice(weights.identity)
        if choice is not None and choice.runtime in RUNTIMES and precision in ("auto", choice.precision):
            folder = find_export(weights.identity, int8=choice.precision == "int8")
            if folder is not None:  # it may have been deleted since
                return _open_export(folder, choice.runtime, device, choice.precision, rest)
    from diptych.backends.torch import TorchEncoder

    return TorchEncoder.from_checkpoint(weights.checkpoint, device=device, precision=precision, **rest)


def _load_resized(
    name: str | Path | Checkpoint,
    pretrained: str | Path | None,
    image_size: int | None,
    context_length: int | None,
    cache_dir: str | Path | None,
) -> Checkpoint:
    """Load weights with resized positional embeddings; exported folders cannot be resized."""
    from diptych.weights import load_checkpoint
    from diptych.weights.resizing import resize_checkpoint

    if isinstance(name, str | Path):
        name = load_checkpoint(name, pretrained, cache_dir=cache_dir)
    return resize_checkpoint(name, image_size=image_size, context_length=context_length)


def _open_export(
    folder: Path | ReleasedModel, runtime: str | None, device: str, precision: str, rest: dict[str, Any]
) -> ExportedEncoder:
    """Open an exported model with these options."""
    if device not in ("auto", "cpu"):
        raise InputError(f"an exported model computes on the CPU, not on {device!r}: use runtime='torch'")
    if precision == "auto" and isinstance(folder, Path):
        half = runtime == "openvino" and has_bfloat16()
        half = half and not read_export(folder).refusal("openvino", "bfloat16")
        precision = "bfloat16" if half else "float32"
    return ExportedEncoder(folder, runtime=runtime, precision=precision, **rest)
