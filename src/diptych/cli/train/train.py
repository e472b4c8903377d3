"""`diptych train`: run a recipe, or train on your own image-text pairs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json as json_module
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import note, progress
from diptych.cli.train import train_options as fields
from diptych.cli.train.own_pairs import OwnPairs
from diptych.cli.train.plan import show_plan
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.training import Run, RunSummary

_DATA, _RUN = "Your own pairs", "Run"


Recipe = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A Python file with a function run() that returns the run.",
        show_default=False,
    ),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Image-text pairs: tar shards ('shards/{000..099}.tar'), a CSV, TSV or Parquet table, or a "
        "folder with captions or with a folder per class.",
        rich_help_panel=_DATA,
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        metavar="",
        help="Stream tar shards without an index; URLs (s3://, gs://) are always streamed.",
        rich_help_panel=_DATA,
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The table's column of pictures. Default: filepath.", rich_help_panel=_DATA
    ),
]
CaptionColumn = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="The table's column of captions; repeat it for several. Default: title.",
        rich_help_panel=_DATA,
    ),
]
Val = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="Pairs for validation.", rich_help_panel=_DATA)
]
HoldOut = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Without --val: fraction of the pairs to validate on. Default: 0.05.",
        rich_help_panel=_DATA,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PRESET",
        help="The architecture. Default: that of --from, else diptych-small.",
        rich_help_panel=_DATA,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="Fine-tune this model with little forgetting: low learning rates, lower in earlier layers, "
        "frozen batch norms, averaged weights, 5 epochs, batches of 64. --lr, --set and other options "
        "override these. Details: docs/fine-tuning.md.",
        rich_help_panel=_DATA,
    ),
]
KeepUp = Annotated[
    list[Path] | None,
    typer.Option(
        "--keep-up",
        metavar="DATA",
        help="With --from: data of an old task that must not get worse, measured before, during and after.",
        rich_help_panel=_DATA,
    ),
]
Out = Annotated[
    str | None, typer.Option("--out", "-o", metavar="DIR", help="The folder of the run.", show_default=False)
]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Number of epochs.", rich_help_panel=_RUN)]
PairsPerEpoch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Number of pairs in an epoch of streamed shards. Default: counted once, before training.",
        rich_help_panel=_RUN,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="Pairs per step, over all processes.", rich_help_panel=_RUN),
]
Chunk = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Encode N pairs at a time to save memory; the gradient is that of the full batch. auto: as many "
        "as fit.",
        rich_help_panel=_RUN,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any field of the config.", rich_help_panel=_RUN),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Print the plan (model size, memory, hours here and on other machines), and stop.",
        rich_help_panel=_RUN,
    ),
]
Logger = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Also log to tensorboard or wandb; repeat it for both.", rich_help_panel=_RUN
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", metavar="", help="Resume the run from its last checkpoint.", rich_help_panel=_RUN
    ),
]


# Options that set the config field of the same name.
FIELDS: tuple[str, ...] = (
    "out",
    "epochs",
    "pairs_per_epoch",
    "batch_size",
    "lr",
    "schedule",
    "epochs_cooldown",
)
FIELDS += ("lr_cooldown_power", "lr_cooldown_end", "lock", "lock_image_unlocked_groups")
FIELDS += ("lock_text_unlocked_layers", "use_bn_sync", "save_frequency", "keep_checkpoints")


def train(
    recipe: Recipe = None,
    pairs: Pairs = None,
    stream: Stream = False,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    val: Val = None,
    hold_out: HoldOut = None,
    model: Model = None,
    start: Start = None,
    keep_up: KeepUp = None,
    out: Out = None,
    epochs: Epochs = None,
    pairs_per_epoch: PairsPerEpoch = None,
    batch_size: BatchSize = None,
    chunk: Chunk = None,
    lr: fields.Rate = None,
    schedule: fields.Schedule = None,
    epochs_cooldown: fields.EpochsCooldown = None,
    lr_cooldown_power: fields.CooldownPower = None,
    lr_cooldown_end: fields.CooldownEnd = None,
    lock: fields.Lock = None,
    lock_image_unlocked_groups: fields.UnlockedGroups = None,
    lock_text_unlocked_layers: fields.UnlockedLayers = None,
    use_bn_sync: fields.UseBnSync = None,
    save_frequency: fields.SaveFrequency = None,
    keep_checkpoints: fields.KeepCheckpoints = None,
    assignments: Assignments = None,
    dry_run: DryRun = False,
    logger: Logger = None,
    resume: Resume = False,
    resume_from: fields.ResumeFrom = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train both encoders on image-text pairs.

    Ctrl-C and SIGTERM save a checkpoint; --resume continues exactly there.

    [bold]Examples[/bold]

      diptych train recipes/default.py --set epochs=3

      diptych train --pairs 'shards/{000..099}.tar' --model ViT-B-32 --out runs/mine

      diptych train --pairs photos/ --epochs 20 --set augment.flip=0.5

      diptych train --pairs cc3m.tsv --image-column filepath --caption-column title --logger tensorboard

      diptych train --pairs 's3://bucket/{00000..01242}.tar' --val val.tar --batch-size 4096 --dry-run

      diptych train --pairs 'shards/{000..099}.tar' --batch-size 32768 --chunk auto

      diptych train --pairs photos/ --schedule constant --epochs 12 --epochs-cooldown 2 --resume

      diptych train --pairs flowers/ --from default --keep-up cifar10-test.tar.gz --out runs/flowers

      torchrun --nproc-per-node 8 -m diptych train recipes/default.py

      diptych classify cat.jpg cat dog --model runs/mine
    """
    # Must be the first statement: here locals() holds the arguments only.
    config_fields = {name: value for name, value in locals().items() if name in FIELDS and value is not None}
    first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes, only rank 0 prints
    if (recipe is None) == (not pairs):
        raise InputError(
            "give either a recipe (diptych train recipes/default.py) or pairs (--pairs 'PATTERN', in quotes, "
            "or the shell expands it)"
        )
    own = OwnPairs(pairs or [], stream, image_column, caption_column, val, hold_out, model, start, keep_up)
    changes = config_fields if chunk is None else {**config_fields, "chunk": _read_chunk(chunk)}
    # Importing torch and listing the pairs can take seconds: the bar shows that the command runs.
    with progress("preparing the run", None, unit="steps", quiet=quiet or not first):
        run = (
            _recipe_run(recipe, own, changes, assignments)
            if recipe
            else _own_run(own, changes, assignments, quiet=quiet, first=first)
        )
    if dry_run:
        if first:
            show_plan(run, json=json, quiet=quiet)
        return
    resuming = {"resume": resume, "resume_from": resume_from or ""}
    _train(run, logger or [], resuming, start=bool(start), json=json, quiet=quiet, first=first)


def _recipe_run(recipe: Path, own: OwnPairs, changes: dict[str, Any], assignments: list[str] | None) -> Run:
    if own.is_given:
        raise InputError(
            "--val, --hold-out, --model, --from and the options of pairs need --pairs; to change a recipe, "
            "use --set"
        )
    run = _read_recipe(recipe)
    config = dataclasses.replace(run.config, **changes).override(assignments or [])
    return dataclasses.replace(run, config=config)


def _own_run(
    own: OwnPairs, changes: dict[str, Any], assignments: list[str] | None, *, quiet: bool, first: bool
) -> Run:
    from diptych.cli.train.validation import held_out_evaluator, kept_evaluators, warn_of_shared
    from diptych.training import Run

    config, held_out = own.begin(quiet or not first)
    config = dataclasses.replace(config, **changes).override(assignments or [])
    if config.objective != "contrastive":
        if own.keep_up:
            raise InputError(
                f"--keep-up compares pictures with texts, which objective={config.objective} cannot"
            )
        note(f"objective={config.objective}: no validation on held-out pairs", quiet=quiet or not first)
        return Run(dataclasses.replace(config, monitor=""))
    evaluators = {} if held_out is None else {"val": held_out_evaluator(held_out, config, samples=first)}
    more = kept_evaluators(own.keep_up or [], config)
    if first and not own.streams:
        training = config.data.parts[0][0].open()
        warn_of_shared(training, held_out if own.val else None, own.keep_up or [], quiet=quiet)
    # A data set of --keep-up may have the name "val", too.
    renamed = {f"{name} (kept)" if name in evaluators else name: item for name, item in more.items()}
    return Run(config, evaluators | renamed)


def _read_chunk(chunk: str) -> int:
    if chunk == "auto":
        return -1
    if not chunk.isdigit():
        raise InputError(f"--chunk takes a number of pairs or auto, not {chunk!r}")
    return int(chunk)


def _train(
    run: Run,
    loggers: list[str],
    resuming: dict[str, Any],
    *,
    start: bool,
    json: bool,
    quiet: bool,
    first: bool,
) -> None:
    from diptych.cli.train.watching import listening
    from diptych.training import refuse_used
    from diptych.training import train as train_
    from diptych.training.loop.signals import STATUS

    refuse_used(Path(run.config.out), resume=resuming["resume"])
    before = _measure_start(run, quiet) if start and first else {}
    with listening(quiet or not first, loggers if first else [], run.config) as listener:
        summary = train_(run, **resuming, listener=listener)
    if first:
        _print_summary(summary, before, json, quiet)
    if not summary.finished and summary.reason in STATUS:
        raise typer.Exit(STATUS[summary.reason])  # on every process: srun and torchrun check all of them


def _measure_start(run: Run, quiet: bool) -> Mapping[str, float]:
    """The metrics of the model before fine-tuning."""
    from diptych.backends import load

    if not run.evaluators:
        return {}
    note("measuring the model before fine-tuning", quiet=quiet)
    model = load(run.config.start, runtime="torch", exact=True, device=run.config.device).model
    return {
        f"{name}/{key}": value
        for name, evaluator in run.evaluators.items()
        for key, value in evaluator(model, 0).items()
    }


def _print_summary(summary: RunSummary, before: Mapping[str, float], json: bool, quiet: bool) -> None:
    if json:
        values = dataclasses.asdict(summary) | ({"before": dict(before)} if before else {})
        print(json_module.dumps(values, default=str, indent=2))
    if summary.finished:
        figures = ", ".join(
            f"{name} {before[name]:.3f} -> {value:.3f}" if name in before else f"{name} {value:.3f}"
            for name, value in summary.metrics.items()
        )
        note(f"{summary.reason}: {summary.step} steps; kept: {figures or 'the last weights'}", quiet=quiet)
        note(f"model: {summary.folder}/model  (diptych classify PICTURE LABEL... -m {summary.folder})")
        return
    note(f"{summary.reason}: saved at step {summary.step}. To continue, run the same command with --resume.")


def _read_recipe(path: Path) -> Run:
    """Call `run()` of a Python file."""
    from diptych.training import Run

    if not path.is_file():
        raise InputError(f"{path} is not a file: expected a recipe, a Python file with a function run()")
    spec = importlib.util.spec_from_file_location(f"diptych_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: expected a recipe such as recipes/default.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses in a recipe look up their module
    sys.path.insert(0, str(path.resolve().parent))  # as for a script: recipes may import each other
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    function = getattr(module, "run", None)
    result = function() if callable(function) else None
    if not isinstance(result, Run):
        raise InputError(f"{path} has no function run() that returns a diptych.training.Run")
    return result
