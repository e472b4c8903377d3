"""The options that commands share, spelled and explained in one place, and what they turn into."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

import typer

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder, SettlingEncoder, TorchEncoder
    from diptych.weights import Checkpoint

_MODEL = "Model"
_MACHINE = "Machine"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="default (inside the package), another name of [bold]diptych models list[/bold] (also with "
        "--immich), a folder, hf-hub:ORG/REPO or local-dir:PATH.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(metavar="TAG", help="Which weights of that name, e.g. openai.", rich_help_panel=_MODEL),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        metavar="",
        help="Full decoding, colours as stored (no ICC profile), float32: as figures need.",
        rich_help_panel=_MODEL,
    ),
]
OnLong = Annotated[
    str,
    typer.Option(
        metavar="cut|refuse",
        help="What to do with a text longer than the model reads.",
        rich_help_panel=_MODEL,
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        metavar="SET|FILE",
        help="Words for the classes: a known set (imagenet, cifar10, ...), or JSON: a list, or folder -> "
        "words or several texts.",
    ),
]
Templates = Annotated[str, typer.Option(metavar="NAME|TEXT", help="Prompts, e.g. imagenet80.")]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", metavar="", help="Scaled decoding and the machine's best precision: not for figures."
    ),
]
AllowOverlap = Annotated[
    bool,
    typer.Option("--allow-overlap", metavar="", help="Measure even if data sets share many pictures."),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.", rich_help_panel=_MACHINE)
]
Precision = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, float32, bfloat16, float16 or int8.", rich_help_panel=_MACHINE),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        metavar="auto|torch|onnx|openvino",
        help="What computes. auto: what was measured to be fastest, by "
        "[bold]diptych models runtimes[/bold] or a long run of index or embed; else torch.",
        show_default=False,
        rich_help_panel=_MACHINE,
    ),
]
Threads = Annotated[
    str, typer.Option(metavar="auto|N", help="Threads for decoding and computing.", rich_help_panel=_MACHINE)
]
BatchSize = Annotated[
    str, typer.Option(metavar="auto|N", help="Pictures per step.", rich_help_panel=_MACHINE)
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep what the model makes of the pictures here; a second run takes it from there.",
        rich_help_panel=_MACHINE,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="At most so many pictures of each data set, drawn at random, by class where there are labels.",
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress and no notes.")]


def model_and_tag(name: str, pretrained: str | None = None) -> tuple[str, str | None]:
    """A model's name and which of its weights: "NAME,TAG" as CLIP_benchmark writes it, or the two apart.

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
            f"{name!r} names the weights {tag!r}, and --pretrained {pretrained!r}: give one"
        )
    return first, tag


def count(value: str, option: str) -> int | None:
    """A whole number of at least 1, or None for "auto".

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
    """The command line, as it can be given again."""
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
    settle: Callable[[str], None] | None,
) -> TorchEncoder | ExportedEncoder | SettlingEncoder: ...
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
    settle: Callable[[str], None] | None = None,
) -> TorchEncoder | ExportedEncoder | SettlingEncoder:
    """The encoder that these options ask for.

    With `settle`, which is told of it, and where the options leave open what computes, it measures that once
    it has encoded enough for measuring to pay.
    """
    given = {"threads": count(threads, "--threads"), "batch_size": count(batch_size, "--batch-size")}
    if on_long not in ("cut", "refuse"):
        raise typer.BadParameter(f"--on-long takes cut or refuse, not {on_long!r}")
    from diptych.backends import load

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen["on_long"] = on_long
    encoder = load(
        model, pretrained, runtime=runtime, device=device, precision=precision, exact=exact, **chosen
    )
    if settle is None or exact or (runtime, precision) != ("auto", "auto"):
        return encoder
    from diptych.backends import settle as settled

    return settled(encoder, model, pretrained, note=settle, **chosen)
