"""`diptych evaluate suite`: the whole evaluation of a model on a folder of data sets, in one command."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.evaluate.reporting import print_lines, print_section, write
from diptych.cli.shared import options
from diptych.cli.shared.console import clear_progress, json_text, note, progress, tell_failures
from diptych.errors import InputError, counted
from diptych.files.disk import user_cache

if TYPE_CHECKING:
    from diptych.evaluation import Result, Settings
    from diptych.evaluation.suite import Step, SuiteOptions

Data = Annotated[
    Path,
    typer.Option("--data", metavar="ROOT", help="A folder of data sets, as evaluate datasets lists them."),
]
Only = Annotated[
    list[str] | None, typer.Option("--dataset", metavar="NAME", help="This one; more than one is fine.")
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", metavar="PART", help="Leave out zero-shot, retrieval, probes or robustness."),
]
Out = Annotated[
    Path, typer.Option("--report", metavar="DIR", help="Page, JSON, CSV, plots, and results to go on from.")
]
TrainLimit = Annotated[int, typer.Option(metavar="N", min=10, help="As --limit, of training parts.")]
Corrupt = Annotated[
    str,
    typer.Option(metavar="NAME", help="Whose pictures are corrupted.", show_default="cifar10, or the first"),
]
CorruptLimit = Annotated[int, typer.Option(metavar="N", min=10, help="As --limit, of what is corrupted.")]
ListOnly = Annotated[bool, typer.Option("--dry-run", metavar="", help="List the steps and measure nothing.")]


@dataclass(frozen=True)
class _Asked(Measuring):
    """A suite always writes a report."""

    report: Out = Path("suite")


@measuring
def suite(
    data: Data,
    dataset: Only = None,
    skip: Skip = None,
    train_limit: TrainLimit = 5000,
    corrupt: Corrupt = "",
    corrupt_limit: CorruptLimit = 500,
    dry_run: ListOnly = False,
    allow_overlap: options.AllowOverlap = False,
    *,
    asked: _Asked,
) -> None:
    """Measure everything that a folder of data sets allows, and write one report.

    Zero-shot classification and retrieval; linear probes, few-shot curves and
    neighbours where there is a training part; domains and corruptions. Exact
    decoding and float32. What was measured before of the same model and
    pictures is taken from the folders of --report and --cache.

    [bold]Examples[/bold]

      diptych evaluate suite --data ~/data

      diptych evaluate suite --data ~/data --model runs/mine --report mine --skip robustness
    """
    from diptych.evaluation.suite import plan

    steps = plan(data, _options(dataset, skip, train_limit, corrupt, corrupt_limit, asked.limit))
    if dry_run:
        for step in steps:
            print_lines(f"{step.title}: {counted(step.pictures, 'picture')}")
        return
    from diptych.evaluation import FeatureStore

    store = FeatureStore(asked.cache or user_cache() / "rows")
    settings: Settings = {**asked.settings(store), "allow_overlap": allow_overlap}
    encoder = asked.encoder()
    done = _walk(steps, encoder, asked.report, settings, asked.quiet)
    _tell(done, encoder, settings, asked)
    tell_failures([result for _, results in done for result in results])


def _options(
    dataset: Sequence[str] | None,
    skip: Sequence[str] | None,
    train_limit: int,
    corrupt: str,
    corrupt_limit: int,
    limit: int | None,
) -> SuiteOptions:
    from diptych.evaluation.suite import PARTS, SuiteOptions

    if unknown := [part for part in skip or () if part not in PARTS]:
        raise InputError(f"--skip {unknown[0]!r} is none of the parts: {', '.join(PARTS)}")
    parts = [part for part in PARTS if part not in (skip or ())]
    return SuiteOptions(
        parts=parts,
        only=tuple(dataset or ()),
        limit=limit,
        train_limit=train_limit,
        corrupt=corrupt,
        corrupt_limit=corrupt_limit,
    )


def _walk(
    steps: Sequence[Step], encoder: Any, out: Path, settings: Settings, quiet: bool
) -> list[tuple[Step, Sequence[Result]]]:
    """Measure step by step; each is saved at once, so that the same command goes on."""
    from diptych.evaluation.suite import run_step

    done: list[tuple[Step, Sequence[Result]]] = []
    for number, step in enumerate(steps, start=1):
        start = time.monotonic()
        with progress(step.title, step.pictures, unit="pictures", quiet=quiet) as advance:
            told: Settings = {**settings, "progress": advance}
            results, taken = run_step(step, encoder, out / "results", **told)
        spent = "as before" if taken else f"{time.monotonic() - start:.1f} s"
        note(f"{number}/{len(steps)}  {step.title}  {spent}", quiet=quiet)
        done.append((step, results))
    return done


def _tell(
    done: Sequence[tuple[Step, Sequence[Result]]],
    encoder: Any,
    settings: Settings,
    asked: _Asked,
) -> None:
    """The overview in the terminal, everything in the report."""
    from diptych.evaluation.protocols.settings import Setup
    from diptych.evaluation.results.averages import MEANS
    from diptych.evaluation.results.results_report import FIGURES
    from diptych.evaluation.suite import SHIFTS, suite_report

    datasets = {one.name: one for step, _ in done for one in step.datasets}.values()
    facts = Setup.of(**settings).facts(encoder, *datasets)
    found = suite_report(done, title=f"Evaluation of {settings['model']}", facts=facts)
    if asked.json:
        clear_progress()
        print(json_text(found.to_json()), end="")
    else:
        for section in found.sections:
            if section.title in (FIGURES, MEANS, SHIFTS):
                print_section(section)
    write(found, asked.report, quiet=asked.quiet)
