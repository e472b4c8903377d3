"""`diptych models runtimes`: what computes a model fastest on this machine, measured and kept."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from diptych.cli.models.export import Calibrate, Name, read_pictures
from diptych.cli.shared import options
from diptych.cli.shared.console import note, screen

Again = Annotated[bool, typer.Option("--again", metavar="", help="Measure even where an answer is kept.")]


def runtimes(
    model: Name = "default",
    calibrate: Calibrate = None,
    again: Again = False,
    pretrained: options.Pretrained = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure torch, ONNX Runtime and OpenVINO on a model, and keep to the fastest on this machine.

    Each is checked against float32 first. Commands with --runtime auto, and
    diptych.load(runtime="auto"), take the one that was fastest. 8 bits are
    considered only with pictures to fit them to.

    [bold]Examples[/bold]

      diptych models runtimes

      diptych models runtimes ViT-B-32 --pretrained openai --calibrate ~/Pictures
    """
    from diptych.backends import choose_runtime

    pictures = None if calibrate is None else read_pictures(calibrate, quiet=quiet)
    choice = choose_runtime(
        model,
        pretrained,
        pictures=pictures,
        pictures_from=f"pictures of {calibrate}",
        again=again,
        note=lambda message: note(message, quiet=quiet),
    )
    if json:
        told = {"model": model, "runtime": choice.runtime, "precision": choice.precision}
        print(json_module.dumps(told | {"pictures_per_second": dict(choice.rates)}, indent=2))
        return
    console = screen()
    for way, rate in sorted(choice.rates.items(), key=lambda item: -item[1]):
        kept = "   taken with --runtime auto" if way == f"{choice.runtime} {choice.precision}" else ""
        console.print(f"{way:<20}{rate:>9,.1f} pictures/s{kept}")
