"""`diptych models runtimes`: measure which runtime is fastest on this machine, and remember it."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from diptych.cli.models.export import Calibrate, Name, read_pictures
from diptych.cli.shared import options
from diptych.cli.shared.console import note, stdout_console

Again = Annotated[bool, typer.Option("--again", metavar="", help="Measure again even if a result is stored.")]


def runtimes(
    model: Name = "default",
    calibrate: Calibrate = None,
    again: Again = False,
    pretrained: options.Pretrained = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure torch, ONNX Runtime and OpenVINO on a model and remember the fastest.

    Each is checked against float32 first. Commands with --runtime auto, and
    diptych.load(runtime="auto"), use the fastest one. int8 is measured only
    with --calibrate.

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
        summary = {"model": model, "runtime": choice.runtime, "precision": choice.precision}
        print(json_module.dumps(summary | {"pictures_per_second": dict(choice.rates)}, indent=2))
        return
    console = stdout_console()
    for runtime, rate in sorted(choice.rates.items(), key=lambda item: -item[1]):
        is_chosen = runtime == f"{choice.runtime} {choice.precision}"
        remark = "   used by --runtime auto" if is_chosen else ""
        console.print(f"{runtime:<20}{rate:>9,.1f} pictures/s{remark}")
