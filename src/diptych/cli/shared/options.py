"""Options that commands share, each declared once, and functions that read their values."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

import typer

if TYPE_CHECKING:
    from diptych.backends import AutotuningEncoder, ExportedEncoder, TorchEncoder
    from diptych.weights import Checkpoint

_MODEL = "Model"
_MACHINE = "Machine"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The model: default (inside the package), a name of [bold]diptych models list[/bold] (also with "
        "--immich), a folder, hf-hub:ORG/REPO or local-dir:PATH.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="TAG", help="The tag of the pretrained weights, e.g. openai.", rich_help_panel=_MODEL
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        metavar="",
        help="Slow and reproducible, for measurements: decode at full size, ignore ICC profiles, float32.",
        rich_help_panel=_MODEL,
    ),
]
OnLong = Annotated[
    str,
    typer.Option(
        metavar="cut|refuse",
        help="Cut or refuse a text that is longer than the model's context.",
        rich_help_panel=_MODEL,
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        metavar="SET|FILE",
        help="Names of the classes: a known set (imagenet, cifar10, ...), or a JSON file with a list of "
        "names or with folder -> name or texts.",
    ),
]
Templates = Annotated[str, typer.Option(metavar="NAME|TEXT", help="Prompt templates, e.g. imagenet80.")]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        metavar="",
        help="Decode at reduced size, use the fastest precision; not for reported results.",
    ),
]
AllowOverlap = Annotated[
    bool,
    typer.Option("--allow-overlap", metavar="", help="Measure even if the data sets share many pictures."),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="The device to compute on.", rich_help_panel=_MACHINE)
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Precision: auto, float32, bfloat16, float16 or int8.", rich_help_panel=_MACHINE
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        metavar="auto|torch|onnx|openvino",
        help="The library that computes. auto: the fastest one, if [bold]diptych models runtimes[/bold] or a "
        "long run of index or embed has measured it; else torch.",
        show_default=False,
        rich_help_panel=_MACHINE,
    ),
]
Threads = Annotated[
    str,
    typer.Option(
        metavar="auto|N", help="Number of threads for decoding and computing.", rich_help_panel=_MACHINE
    ),
]
BatchSize = Annotated[
    str, typer.Option(metavar="auto|N", help="Pictures per batch.", rich_help_panel=_MACHINE)
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep embeddings and features in this folder; the next run reuses them.",
        rich_help_panel=_MACHINE,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="Use at most N pictures of each data set, drawn at random, stratified by class if there are "
        "labels.",
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Show no progress and no notes.")]


def model_and_tag(name: str, pretrained: str | None = None) -> tuple[str, str | None]:
    """Split a model into name and tag: "NAME,TAG" as CLIP_benchmark writes it, or both given separately.

    Examples
    --------
    >>> model_and_tag("ViT-B-32,openai"), model_and_tag("ViT-B-32", "openai"), model_and_tag("runs/mine")
    (('ViT-B-32', 'openai'), ('ViT-B-32', 'openai'), ('runs/mine', None))
    """
    first, comma, tag = name.rpartition(",")
    if not comma or not first or not tag or Path(name).exists():
        return name, pretrained
    if pretrained is not None and pretrained != tag:
        raise typer.BadParameter(
            f"{name!r} names the weights {tag!r}, but --pretrained names {pretrained!r}: leave one out"
        )
    return first, tag


def count(value: str, option: str) -> int | None:
    """Read a whole number of at least 1; None for "auto".

    Examples
    --------
    >>> count("auto", "--threads") is None, count("4", "--threads")
    (True, 4)
    """
    if value == "auto":
        return None
    if value.isdecimal() and int(value) >= 1:
        return int(value)
    raise typer.BadParameter(f"{option} takes 'auto' or a whole number of at least 1, not {value!r}")


def command() -> str:
    """The present command line, quoted so that it can be run again."""
    return shlex.join(["diptych", *sys.argv[1:]])


@overload
def open_model(
    model: str | Checkpoint,
    pretrained: str | None,
    *,
    device: str = ...,
    precision: str = ...,
    threads: str = ...,
    batch_size: str = ...,
    exact: bool = ...,
    on_long: str = ...,
    runtime: Literal["torch"],
) -> TorchEncoder: ...
@overload
def open_model(
    model: str | Checkpoint,
    pretrained: str | None,
    *,
    device: str = ...,
    precision: str = ...,
    threads: str = ...,
    batch_size: str = ...,
    exact: bool = ...,
    on_long: str = ...,
    runtime: str | None = ...,
) -> TorchEncoder | ExportedEncoder: ...
@overload
def open_model(
    model: str | Checkpoint,
    pretrained: str | None,
    *,
    device: str = ...,
    precision: str = ...,
    threads: str = ...,
    batch_size: str = ...,
    exact: bool = ...,
    on_long: str = ...,
    runtime: str | None = ...,
    autotune: Callable[[str], None] | None,
) -> TorchEncoder | ExportedEncoder | AutotuningEncoder: ...
def open_model(
    model: str | Checkpoint,
    pretrained: str | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: str = "auto",
    batch_size: str = "auto",
    exact: bool = False,
    on_long: str = "cut",
    runtime: str | None = None,
    autotune: Callable[[str], None] | None = None,
) -> TorchEncoder | ExportedEncoder | AutotuningEncoder:
    """Load the encoder that these options name.

    With `autotune`, and if runtime and precision are left to choose, the encoder measures which runtime is
    fastest once it has encoded enough pictures for that to pay off; `autotune` is called with each message.
    """
    counts = {"threads": count(threads, "--threads"), "batch_size": count(batch_size, "--batch-size")}
    if on_long not in ("cut", "refuse"):
        raise typer.BadParameter(f"--on-long takes cut or refuse, not {on_long!r}")
    from diptych.backends import load

    settings: dict[str, Any] = {name: value for name, value in counts.items() if value is not None}
    settings["on_long"] = on_long
    encoder = load(
        model, pretrained, runtime=runtime, device=device, precision=precision, exact=exact, **settings
    )
    if autotune is None or exact or (runtime, precision) != ("auto", "auto"):
        return encoder
    from diptych.backends import autotune as autotune_encoder

    return autotune_encoder(encoder, model, pretrained, note=autotune, **settings)
