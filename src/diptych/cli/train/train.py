"""`diptych train`: run a recipe, or train on your own image-text pairs."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json as json_module
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.shared.console import note, progress
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Json, Output, Quiet, argument, flag, option
from diptych.cli.train.own_pairs import OwnPairs
from diptych.cli.train.train_options import ConfigOptions
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from diptych.training import Run, RunPlan, RunSummary

_run_option = functools.partial(option, rich_help_panel="Run")


@dataclass(frozen=True)
class TrainRunOptions(Output):
    """What is done with the run; of torchrun's processes, only rank 0 prints."""

    dry_run: Annotated[
        bool,
        flag(
            "--dry-run",
            "Print the plan (model size, memory, hours here and on other machines), and stop.",
            rich_help_panel="Run",
        ),
    ] = False
    logger: Annotated[
        list[str] | None, _run_option("NAME", "Also log to tensorboard or wandb; repeat it for both.")
    ] = None
    resume: Annotated[
        bool, flag("--resume", "Resume the run from its last checkpoint.", rich_help_panel="Run")
    ] = False
    resume_from: Annotated[
        Path | None,
        _run_option(
            "DIR",
            "Start a new run in --out from another run or one of its checkpoints, such as runs/mine/epoch-3.",
        ),
    ] = None
    json: Json = False
    quiet: Quiet = False

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process has rank 0."""
        return os.environ.get("RANK", "0") == "0"

    @property
    def silent(self) -> bool:
        """Whether this process shows no progress."""
        return self.quiet or not self.is_rank_zero


@with_groups
def train(
    recipe: Annotated[
        Path | None, argument("[RECIPE]", "A Python file with a function run() that returns the run.")
    ] = None,
    *,
    own: OwnPairs,
    fields: ConfigOptions,
    options: TrainRunOptions,
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
    if (recipe is None) == (not own.pairs):
        raise InputError(
            "give either a recipe (diptych train recipes/default.py) or pairs (--pairs 'PATTERN', in quotes, "
            "or the shell expands it)"
        )
    fields.given()  # raises for a wrong --chunk, before the pairs are listed
    # Importing torch and listing the pairs can take seconds: the bar shows that the command runs.
    with progress("preparing the run", None, unit="steps", quiet=options.silent):
        run = _recipe_run(recipe, own, fields) if recipe else _own_run(own, fields, options)
    if options.dry_run:
        if options.is_rank_zero:
            _show_plan(run, options)
        return
    _train(run, options, measure_start=bool(own.start))


def _recipe_run(recipe: Path, own: OwnPairs, fields: ConfigOptions) -> Run:
    if own.is_given:
        raise InputError(
            "--val, --hold-out, --model, --from and the options of pairs need --pairs; to change a recipe, "
            "use --set"
        )
    run = _read_recipe(recipe)
    return dataclasses.replace(run, config=fields.apply(run.config))


def _own_run(own: OwnPairs, fields: ConfigOptions, options: TrainRunOptions) -> Run:
    from diptych.cli.train.validation import held_out_evaluator, kept_evaluators, warn_of_shared
    from diptych.training import Run

    config, held_out = own.begin(options.silent)
    config = fields.apply(config)
    keep_up = own.keep_up or []
    if config.objective != "contrastive":
        if keep_up:
            raise InputError(
                f"--keep-up compares pictures with texts, which objective={config.objective} cannot"
            )
        note(f"objective={config.objective}: no validation on held-out pairs", quiet=options.silent)
        return Run(dataclasses.replace(config, monitor=""))
    evaluators = {}
    if held_out is not None:
        evaluators["val"] = held_out_evaluator(held_out, config, samples=options.is_rank_zero)
    more = kept_evaluators(keep_up, config)
    if options.is_rank_zero and not own.streams:
        training = config.data.parts[0][0].open()
        warn_of_shared(training, held_out if own.val else None, keep_up, quiet=options.quiet)
    # A data set of --keep-up may have the name "val", too.
    renamed = {f"{name} (kept)" if name in evaluators else name: item for name, item in more.items()}
    return Run(config, evaluators | renamed)


def _train(run: Run, options: TrainRunOptions, *, measure_start: bool) -> None:
    from diptych.cli.train.progress_display import listening
    from diptych.training import refuse_used
    from diptych.training import train as train_
    from diptych.training.loop.signals import STATUS

    refuse_used(Path(run.config.out), resume=options.resume)
    before = _measure_start(run, options.quiet) if measure_start and options.is_rank_zero else {}
    loggers = (options.logger or []) if options.is_rank_zero else []
    with listening(options.silent, loggers, run.config) as listener:
        summary = train_(run, resume=options.resume, resume_from=options.resume_from or "", listener=listener)
    if options.is_rank_zero:
        _print_summary(summary, before, options)
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


def _print_summary(summary: RunSummary, before: Mapping[str, float], options: TrainRunOptions) -> None:
    if options.json:
        values = dataclasses.asdict(summary) | ({"before": dict(before)} if before else {})
        print(json_module.dumps(values, default=str, indent=2))
    if summary.finished:
        figures = ", ".join(
            f"{name} {before[name]:.3f} -> {value:.3f}" if name in before else f"{name} {value:.3f}"
            for name, value in summary.metrics.items()
        )
        options.note(
            f"{summary.reason}: {counted(summary.step, 'step')}; kept: {figures or 'the last weights'}"
        )
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


def _show_plan(run: Run, options: TrainRunOptions) -> None:
    """Estimate the memory and time of a run, and print the plan."""
    from diptych.training.loop.plan import plan

    options.note("measuring on a few pairs ...")
    with ExitStack() as bars:
        run_plan = plan(
            run,
            lambda total: bars.enter_context(
                progress("counting pairs", total, unit="shards", quiet=options.quiet or options.json)
            ),
        )
    if options.json:
        print(json_module.dumps(dataclasses.asdict(run_plan), indent=2))
        return
    for name, value in _plan_rows(run_plan):
        print(f"{name:28} {value}" if value else f"\n{name}")


def _plan_rows(plan: RunPlan) -> Iterator[tuple[str, str]]:
    """Names and values of the plan; a heading has an empty value."""
    yield "Model", ""
    for name, count in plan.parameters.items():
        yield f"  {name}", f"{count / 1e6:,.1f} M parameters"
    yield (
        "  a pair",
        f"{plan.operations / 1e9:,.2f} GFLOP forward and backward, texts of {plan.tokens:.0f} tokens",
    )
    yield "Run", ""
    yield "  pairs an epoch", f"{plan.pairs_an_epoch:,}"
    yield "  steps", f"{plan.steps:,}"
    yield "  pairs", f"{plan.pairs:,}"
    yield "Memory, at most", ""
    for name, size in plan.memory.items():
        yield f"  {name}", _size(size)
    yield "  total", f"{_size(sum(plan.memory.values()))} of {_size(plan.free)} available"
    if not plan.fits:
        yield "  too much", "use smaller chunks: --chunk auto"
    yield f"Speed here ({plan.device}, {plan.precision})", ""
    yield "  model", f"{plan.pairs_per_second:,.1f} pairs/s forward and backward"
    yield "  data", f"{plan.decoded_per_second:,.0f} pairs/s read, decoded and cropped"
    yield "Time", ""
    for name, hours in plan.hours.items():
        yield (
            f"  {name}",
            _duration(hours) + ("" if name == "this machine" else ", one device at 40 % of its peak speed"),
        )


def _size(size: float) -> str:
    """A number of bytes in MiB or GiB.

    Examples
    --------
    >>> _size(3.2e9), _size(5e6)
    ('2.98 GiB', '4.8 MiB')
    """
    return f"{size / 2**30:,.2f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def _duration(hours: float) -> str:
    """A duration in a readable unit.

    Examples
    --------
    >>> _duration(0.0001), _duration(0.004), _duration(0.5), _duration(30), _duration(400)
    ('under 1 s', '14 s', '30 min', '30.0 h', '16.7 days')
    """
    if hours * 3600 < 1:
        return "under 1 s"
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.1f} days"
