"""`diptych train`: run a recipe, or train on pairs of your own without one."""

from __future__ import annotations

import dataclasses
import importlib.util
import json as json_module
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import options
from diptych.cli.console import note
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.pairs import Description
    from diptych.training import Run, Summary

_DATA, _RUN = "Your own pairs", "Run"


Recipe = Annotated[
    Path | None, typer.Argument(metavar="[RECIPE]", help="A Python file with run().", show_default=False)
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Tar shards ('shards/{000..099}.tar'), a CSV, TSV or Parquet table, or a folder.",
        rich_help_panel=_DATA,
    ),
]
Val = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="Pairs to validate on.", rich_help_panel=_DATA)
]
HoldOut = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Without --val: share of pairs held out, 0.05 if not given.",
        rich_help_panel=_DATA,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PRESET",
        help="Shape to train, diptych-small if not given.",
        rich_help_panel=_DATA,
    ),
]
Out = Annotated[
    str | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.", show_default=False)
]
Epochs = Annotated[int | None, typer.Option(metavar="N", rich_help_panel=_RUN)]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="Pairs a step, of all processes together.", rich_help_panel=_RUN),
]
Chunk = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Pairs encoded at once: the memory of N for the gradient of --batch-size.",
        rich_help_panel=_RUN,
    ),
]
Rate = Annotated[float | None, typer.Option(metavar="RATE", help="Peak learning rate.", rich_help_panel=_RUN)]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any field of the config.", rich_help_panel=_RUN),
]
Resume = Annotated[
    bool, typer.Option("--resume", metavar="", help="Go on where the run stands.", rich_help_panel=_RUN)
]


def train(
    recipe: Recipe = None,
    pairs: Pairs = None,
    val: Val = None,
    hold_out: HoldOut = None,
    model: Model = None,
    out: Out = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    chunk: Chunk = None,
    lr: Rate = None,
    assignments: Assignments = None,
    resume: Resume = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train both encoders from image-text pairs. Ctrl-C saves; --resume goes on exactly there.

    [bold]Examples[/bold]

      diptych train recipes/default.py --set epochs=3

      diptych train --pairs 'shards/{000..099}.tar' --model ViT-B-32 --out runs/mine

      diptych train --pairs photos/ --epochs 20 --set augment.flip=0.5

      diptych train --pairs 'shards/{000..099}.tar' --batch-size 32768 --chunk 256

      torchrun --nproc-per-node 8 -m diptych train recipes/default.py

      diptych classify cat.jpg cat dog --model runs/mine
    """
    first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes, one speaks
    if (recipe is None) == (not pairs):
        raise InputError("give a recipe (diptych train recipes/default.py) or pairs (--pairs PATTERN)")
    if recipe and not (val is None and hold_out is None and model is None):
        raise InputError(
            "--val, --hold-out and --model go with --pairs; a recipe says them itself, see --set"
        )
    run = (
        _read_recipe(recipe)
        if recipe
        else _run_on(
            pairs or [], val, 0.05 if hold_out is None else hold_out, model or "diptych-small", quiet
        )
    )
    named: dict[str, Any] = {"out": out, "epochs": epochs, "batch_size": batch_size}
    named |= {"chunk": chunk, "lr": lr}
    config = dataclasses.replace(run.config, **{k: v for k, v in named.items() if v is not None})
    config = config.override(assignments or [])
    run = dataclasses.replace(run, config=config)
    summary = _train(run, resume=resume, quiet=quiet or not first)
    if first:
        _tell(summary, json, quiet)


def _train(run: Run, *, resume: bool, quiet: bool) -> Summary:
    from diptych.cli.watching import listening
    from diptych.training import train as train_

    with listening(quiet) as listener:
        return train_(run, resume=resume, listener=listener)


def _tell(summary: Summary, json: bool, quiet: bool) -> None:
    if json:
        print(json_module.dumps(dataclasses.asdict(summary), default=str, indent=2))
    if summary.finished:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in summary.metrics.items())
        note(f"{summary.reason}: {summary.step} steps; kept: {figures or 'the last weights'}", quiet=quiet)
        note(f"model: {summary.folder}/model  (diptych classify PICTURE LABEL... -m {summary.folder})")
        return
    note(f"{summary.reason}: saved at step {summary.step}. The same command with --resume goes on there.")
    if summary.reason == "interrupted":
        raise typer.Exit(130)


def _read_recipe(path: Path) -> Run:
    """Call `run()` of a Python file."""
    from diptych.training import Run

    if not path.is_file():
        raise InputError(f"{path} is no file: expected a recipe, a Python file with a function run()")
    spec = importlib.util.spec_from_file_location(f"diptych_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file: expected a recipe such as recipes/default.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses inside a recipe look their module up
    sys.path.insert(0, str(path.resolve().parent))  # as Python does for a script: recipes may share parts
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    function = getattr(module, "run", None)
    made = function() if callable(function) else None
    if not isinstance(made, Run):
        raise InputError(f"{path} has no function run() that returns a diptych.training.Run")
    return made


def _run_on(pairs: list[str], val: str | None, hold_out: float, model: str, quiet: bool) -> Run:
    """A run on somebody's own pairs, with retrieval on the held-out ones."""
    from diptych.cli.validation import held_out_retrieval
    from diptych.pairs import Mixture, Once, Part, describe
    from diptych.training import Run, TrainConfig

    described = Once(describe(pairs))
    held: Description = describe(val) if val else Part(described, hold_out, held_out=True)
    data = described if val or not hold_out else Part(described, hold_out)
    config = TrainConfig(data=Mixture(((data, 1.0),)), model=model, name=f"{model} on {', '.join(pairs)}")
    if not val and not hold_out:
        return Run(config)
    source = held.open()
    if not len(source):
        note(f"too few pairs to hold out a share of {hold_out:g}: training without validation", quiet=quiet)
        return Run(dataclasses.replace(config, data=Mixture(((described, 1.0),))))
    evaluators = {"val": held_out_retrieval(source, config)}
    return Run(dataclasses.replace(config, monitor="val/image_retrieval_recall@10"), evaluators)
