"""`diptych evaluate suite`: the full evaluation of a model on a folder of data sets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.shared import options
from diptych.cli.shared.console import clear_progress, exit_on_failures, json_text
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.options import flag, option
from diptych.cli.shared.reporting import print_lines, print_section, save_report
from diptych.errors import InputError, counted
from diptych.files.disk import user_cache

if TYPE_CHECKING:
    from diptych.evaluation import Result, Settings
    from diptych.evaluation.suite import Step, SuiteOptions


@dataclass(frozen=True)
class PartOptions:
    """Which parts of the suite run, and on how many pictures."""

    dataset: Annotated[
        list[str] | None,
        option("NAME", "Use only this data set; repeat it for several."),
    ] = None
    skip: Annotated[
        list[str] | None,
        option("PART", "Leave out zero-shot, retrieval, probes or robustness; repeat it for several."),
    ] = None
    train_limit: Annotated[int, option("N", "Like --limit, for training splits.", min=10)] = 5000
    corrupt: Annotated[
        str,
        option("NAME", "The data set whose pictures are corrupted.", show_default="cifar10, or the first"),
    ] = ""
    corrupt_limit: Annotated[int, option("N", "Like --limit, for corrupted pictures.", min=10)] = 500

    def suite_options(self, limit: int | None) -> SuiteOptions:
        """The options of `diptych.evaluation.suite`."""
        from diptych.evaluation.suite import PARTS, SuiteOptions

        skip = self.skip or []
        if unknown := [part for part in skip if part not in PARTS]:
            raise InputError(f"--skip takes {', '.join(PARTS)}, not {unknown[0]!r}")
        return SuiteOptions(
            parts=[part for part in PARTS if part not in skip],
            only=tuple(self.dataset or ()),
            limit=limit,
            train_limit=self.train_limit,
            corrupt=self.corrupt,
            corrupt_limit=self.corrupt_limit,
        )


@dataclass(frozen=True)
class _SuiteOptions(MeasureOptions):
    """Options of a suite, which always writes a report."""

    report: Annotated[
        Path, option("DIR", "The folder for the page, JSON, CSV, plots, and results to resume from.")
    ] = Path("suite")


@measuring
def suite(
    data: Annotated[Path, option("ROOT", "The folder of data sets; evaluate datasets ROOT lists them.")],
    *,
    choice: PartOptions,
    dry_run: Annotated[bool, flag("--dry-run", "List the steps and measure nothing.")] = False,
    allow_overlap: options.AllowOverlap = False,
    common: _SuiteOptions,
) -> None:
    """Run all evaluations that a folder of data sets allows, and write one report.

    Zero-shot classification and retrieval; linear probes, few-shot curves and
    k nearest neighbours for data sets with a training split; domains and
    corruptions. Exact decoding and float32. Results of the same model and
    pictures in the folders of --report and --cache are reused.

    [bold]Examples[/bold]

      diptych evaluate suite --data ~/data

      diptych evaluate suite --data ~/data --model runs/mine --report mine --skip robustness
    """
    from diptych.evaluation.suite import plan

    steps = plan(data, choice.suite_options(common.limit))
    if dry_run:
        for step in steps:
            print_lines(f"{step.title}: {counted(step.pictures, 'picture')}")
        return
    from diptych.evaluation import FeatureStore

    store = FeatureStore(common.cache or user_cache() / "rows")
    settings: Settings = {**common.settings(store), "allow_overlap": allow_overlap}
    encoder = common.encoder()
    done = _run_steps(steps, encoder, settings, common)
    _print_results(done, encoder, settings, common)
    exit_on_failures([result for _, results in done for result in results])


def _run_steps(
    steps: Sequence[Step], encoder: Any, settings: Settings, common: _SuiteOptions
) -> list[tuple[Step, Sequence[Result]]]:
    """Run the steps in order; each is saved at once, so that the same command resumes."""
    from diptych.evaluation.suite import run_step

    done: list[tuple[Step, Sequence[Result]]] = []
    for number, step in enumerate(steps, start=1):
        start = time.monotonic()
        with common.measuring_bar(settings, step.title, step.pictures) as with_bar:
            results, reused = run_step(step, encoder, common.report / "results", **with_bar)
        spent = "as before" if reused else f"{time.monotonic() - start:.1f} s"
        common.note(f"{number}/{len(steps)}  {step.title}  {spent}")
        done.append((step, results))
    return done


def _print_results(
    done: Sequence[tuple[Step, Sequence[Result]]], encoder: Any, settings: Settings, common: _SuiteOptions
) -> None:
    """Print the overview, and save the report with everything."""
    from diptych.evaluation.protocols.settings import Setup
    from diptych.evaluation.results.averages import MEANS
    from diptych.evaluation.results.results_report import FIGURES
    from diptych.evaluation.suite import SHIFTS, suite_report

    datasets = {dataset.name: dataset for step, _ in done for dataset in step.datasets}.values()
    facts = Setup.of(**settings).facts(encoder, *datasets)
    report = suite_report(done, title=f"Evaluation of {settings['model']}", facts=facts)
    if common.json:
        clear_progress()
        print(json_text(report.to_json()), end="")
    else:
        for section in report.sections:
            if section.title in (FIGURES, MEANS, SHIFTS):
                print_section(section)
    save_report(report, common.report, quiet=common.quiet)
