"""The one way to a model, whatever computes it: `load`.

Finds out which runtime is meant and hands over to `torch` or `exported`. Weights that are to run on another
runtime than torch are converted once and kept in the user's cache, by identity. Nothing here imports torch
unless weights have to be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from diptych.backends.choices import recorded
from diptych.backends.exported.encoder import BATCH, ExportedEncoder
from diptych.backends.exported.finding import find_released
from diptych.backends.exported.folder import is_exported, read_export
from diptych.backends.exported.released import ReleasedModel
from diptych.backends.exported.towers import RUNTIMES, has_bfloat16
from diptych.backends.kept import Weights, find_export, kept_export
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
        `"hf-hub:org/repo"`; a folder or a run. Or a checkpoint at hand, or a folder that `diptych export`
        wrote. Or released ONNX graphs, which need no torch: `"ViT-B-32__openai"` and Immich's other names,
        `"hf-hub:immich-app/NAME"`, `"hf-hub:jinaai/jina-clip-v2"`, `"hf-hub:Xenova/NAME"`, or their folder.
    runtime : {"torch", "onnx", "openvino", "auto"}, optional
        What computes. By default weights are computed by torch, and an exported folder by ONNX Runtime or
        OpenVINO, whichever is installed. "onnx" and "openvino" convert weights at first use and keep the
        result (`diptych.files.disk.user_cache`). "auto" is what was measured to be fastest for this model on
        this machine (`choose_runtime`, `diptych models runtimes`), the default where nothing was.
    device : str
        "auto" (CUDA or MPS where they are, else the CPU), or torch's name of one. The other runtimes compute
        on the CPU.
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}
        "auto" is bfloat16 where the hardware computes it, else float32; float32 with ONNX Runtime. "float16"
        is torch's, "int8" OpenVINO's. Of released graphs "float16" and "int8" choose those files, and "auto"
        the best that are there.
    exact : bool
        Compute in float32 whatever the machine, as evaluation does; what was measured is not looked at.
    batch_size : int
        Pictures or texts computed at a time.
    threads : int, optional
        That compute and resize; by default as many as there are cores.
    on_long : {"cut", "refuse"}
        What `encode_texts` does with a text over the model's length: cut it and warn, or raise `TextError`.

    Returns
    -------
    TorchEncoder or ExportedEncoder
        The first has the torch module as `.model`; `runtime="torch"` is sure to give it.

    Raises
    ------
    ModelError
        No such model, or its files cannot be read; see `load_checkpoint`. Or the runtime is too far from
        float32 on this model.
    InputError
        No such runtime, device or precision, or one that does not go with the others.
    MissingExtraError
        The runtime is not installed.
    """
    wanted = ("torch", *RUNTIMES, "auto")
    if runtime is not None and runtime not in wanted:
        raise InputError(f"unknown runtime {runtime!r}: expected one of {', '.join(wanted)}")
    precision = "float32" if exact else precision
    if image_size is not None or context_length is not None:
        name, pretrained = _resized(name, pretrained, image_size, context_length, cache_dir), None
    rest: dict[str, Any] = {"batch_size": batch_size, "threads": threads, "on_long": on_long}
    if isinstance(name, str | Path) and pretrained is None:
        folder = named_path(name)
        if folder is not None and is_exported(folder):
            if runtime == "torch":
                raise InputError(f"{folder} is an exported model, which torch cannot run: load its weights")
            return _export(folder, None if runtime == "auto" else runtime, device, precision, rest)
        graphs = None if exact or precision in ("auto", "bfloat16") else precision
        released = find_released(name, precision=graphs, cache_dir=cache_dir)
        if released is not None:
            if runtime == "torch":
                raise InputError(f"{name} holds ONNX graphs, which torch cannot run: {_WEIGHTS_OF}")
            precision = "bfloat16" if precision == "bfloat16" else released.precision
            return _export(released, None if runtime == "auto" else runtime, device, precision, rest)
    weights = Weights(name, pretrained, cache_dir)
    if runtime in RUNTIMES:
        folder = kept_export(weights, int8=precision == "int8")
        return _export(folder, runtime, device, precision, rest)
    if runtime == "auto" and device in ("auto", "cpu") and not exact:
        choice = recorded(weights.identity)
        if choice is not None and choice.runtime in RUNTIMES and precision in ("auto", choice.precision):
            kept = find_export(weights.identity, int8=choice.precision == "int8")
            if kept is not None:
                return _export(kept, choice.runtime, device, choice.precision, rest)
    from diptych.backends.torch import TorchEncoder

    return TorchEncoder.from_checkpoint(weights.checkpoint, device=device, precision=precision, **rest)


def _resized(
    name: str | Path | Checkpoint,
    pretrained: str | Path | None,
    image_size: int | None,
    context_length: int | None,
    cache_dir: str | Path | None,
) -> Checkpoint:
    """The weights with position tables for other pictures or texts; an exported folder has none to resize."""
    from diptych.weights import load_checkpoint
    from diptych.weights.resizing import resize_checkpoint

    if isinstance(name, str | Path):
        name = load_checkpoint(name, pretrained, cache_dir=cache_dir)
    return resize_checkpoint(name, image_size=image_size, context_length=context_length)


def _export(
    folder: Path | ReleasedModel, runtime: str | None, device: str, precision: str, rest: dict[str, Any]
) -> ExportedEncoder:
    """An exported model as these options ask for it."""
    if device not in ("auto", "cpu"):
        raise InputError(f"an exported model computes on the CPU, not on {device!r}: use runtime='torch'")
    if precision == "auto" and isinstance(folder, Path):
        half = runtime == "openvino" and has_bfloat16()
        half = half and not read_export(folder).refusal("openvino", "bfloat16")
        precision = "bfloat16" if half else "float32"
    return ExportedEncoder(folder, runtime=runtime, precision=precision, **rest)
