"""Options that several commands share, and the options of commands that print results."""

from __future__ import annotations

import functools
import shlex
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from diptych.cli.shared import console
from diptych.progress import Progress, Stage


def argument(metavar: str, help: str) -> Any:
    """A `typer.Argument` without its default in ``--help``."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


def option(metavar: str, help: str, *names: str, **settings: Any) -> Any:
    """A `typer.Option` that takes a value; without `names` it is called like the parameter."""
    return typer.Option(*names, metavar=metavar, help=help, **settings)


def flag(name: str, help: str, *names: str, **settings: Any) -> Any:
    """A `typer.Option` without a value; typer would print a placeholder for one."""
    return typer.Option(name, *names, metavar="", help=help, **settings)


_model_option = functools.partial(option, rich_help_panel="Model")
_machine_option = functools.partial(option, rich_help_panel="Machine")

Model = Annotated[
    str,
    _model_option(
        "NAME",
        "The model: default (inside the package), a name of [bold]diptych models list[/bold] (also with "
        "--immich), a folder, hf-hub:ORG/REPO or local-dir:PATH.",
        "--model",
        "-m",
        show_default=False,
    ),
]
Pretrained = Annotated[str | None, _model_option("TAG", "The tag of the pretrained weights, e.g. openai.")]
Exact = Annotated[
    bool,
    flag(
        "--exact",
        "Slow and reproducible, for measurements: decode at full size, ignore ICC profiles, float32.",
        rich_help_panel="Model",
    ),
]
OnLong = Annotated[
    str, _model_option("cut|refuse", "Cut or refuse a text that is longer than the model's context.")
]
Names = Annotated[
    str | None,
    option(
        "SET|FILE",
        "Names of the classes: a known set (imagenet, cifar10, ...), or a JSON file with a list of "
        "names or with folder -> name or texts.",
    ),
]
Templates = Annotated[str, option("NAME|TEXT", "Prompt templates, e.g. imagenet80.")]
Fast = Annotated[
    bool, flag("--fast", "Decode at reduced size, use the fastest precision; not for reported results.")
]
AllowOverlap = Annotated[bool, flag("--allow-overlap", "Measure even if the data sets share many pictures.")]
Device = Annotated[str, _machine_option("auto|cpu|cuda|mps", "The device to compute on.")]
Precision = Annotated[str, _machine_option("NAME", "Precision: auto, float32, bfloat16, float16 or int8.")]
Runtime = Annotated[
    str | None,
    _machine_option(
        "auto|torch|onnx|openvino",
        "The library that computes. auto: the fastest one, if [bold]diptych models runtimes[/bold] or a "
        "long run of index or embed has measured it; else torch.",
        show_default=False,
    ),
]
Threads = Annotated[str, _machine_option("auto|N", "Number of threads for decoding and computing.")]
BatchSize = Annotated[str, _machine_option("auto|N", "Pictures per batch.")]
Cache = Annotated[
    Path | None,
    _machine_option("DIR", "Keep embeddings and features in this folder; the next run reuses them."),
]
Limit = Annotated[
    int | None,
    option(
        "N",
        "Use at most N pictures of each data set, drawn at random, stratified by class if there are labels.",
        "--limit",
        min=1,
    ),
]
Json = Annotated[bool, flag("--json", "Print the result as JSON.")]
Quiet = Annotated[bool, flag("--quiet", "Show no progress and no notes.", "-q")]


class Output:
    """What a command prints besides its result; groups of options with `quiet` derive from this class."""

    quiet: bool = False

    def note(self, message: str) -> None:
        """Print information that is not a result."""
        console.note(message, quiet=self.quiet)

    def progress(self, title: str, total: int | None, *, unit: str) -> AbstractContextManager[Progress]:
        """A progress bar."""
        return console.progress(title, total, unit=unit, quiet=self.quiet)

    def stage(self, unit: str) -> Stage:
        """A progress bar for each stage of a long operation."""
        return functools.partial(console.progress, unit=unit, quiet=self.quiet)


@dataclass(frozen=True)
class OutputOptions(Output):
    """Options of every command that prints a result."""

    json: Json = False
    quiet: Quiet = False


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
