"""`diptych evaluate compositional`: Winoground, ARO and SugarCrepe in their released files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.evaluate.evaluate import Out, print_results, result_files, results_as_json, write_report
from diptych.cli.shared.console import exit_on_failures, note, progress
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.reporting import print_table
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.evaluation import Result, Settings

_MOST_CATEGORIES = 12  # longer tables are only in the report

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", show_default=False, help="The folder of a benchmark, or Winoground in Parquet."
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="PATH",
        help="The folder or archive of pictures, e.g. coco/val2017.",
        show_default="beside the files",
    ),
]


@measuring
def compositional(
    data: Folder,
    images: Images = None,
    out: Out = None,
    *,
    common: MeasureOptions,
) -> None:
    """Measure the choice of the right caption among similar ones: Winoground, ARO, SugarCrepe.

    The benchmark is recognised by its files: examples.jsonl or Parquet
    (Winoground), visual_genome_relation.json and visual_genome_attribution.json
    (ARO), add_att.json to swap_obj.json (SugarCrepe). Pictures may be in a
    folder, zip or tar. A tie counts as wrong. --limit counts test cases.

    [bold]Examples[/bold]

      diptych evaluate compositional winoground --report winoground-report

      diptych evaluate compositional sugar-crepe/data --images coco/val2017.zip --out sugar.json
    """
    from diptych.datasets import load_compositional
    from diptych.evaluation import evaluate_compositional

    benchmarks = load_compositional(data, images=images)
    if common.limit is not None:
        benchmarks = tuple(benchmark.sample(common.limit) for benchmark in benchmarks)
    tasks = [task for benchmark in benchmarks for task in benchmark.tasks]
    encoder, settings = common.encoder(), common.settings()
    results: list[Result] = []
    files = [] if out is None else result_files(out, [task.name for task in tasks])
    try:
        for benchmark in benchmarks:
            count = len(benchmark.pictures)
            with progress(benchmark.name, count, unit="pictures", quiet=common.quiet) as advance:
                with_progress: Settings = {**settings, "progress": advance}
                measured = evaluate_compositional(encoder, benchmark, **with_progress)
            for result, file in zip(measured, files[len(results) :], strict=False):
                result.save(file)  # save at once: a later benchmark may fail, or the command be stopped
                note(f"written: {file}", quiet=common.quiet)
            results += measured
        write_report(results, encoder, settings, tasks, common)
    finally:
        if results and not common.json:
            print_results(results)
            _print_categories(results, quiet=common.quiet)
    if common.json:
        results_as_json(results)
    exit_on_failures(results)


def _print_categories(results: list[Result], *, quiet: bool) -> None:
    """Print the short tables of categories; --report and --json have all of them."""
    from diptych.evaluation.results.results_report import category_tables

    longer = 0
    for result in results:
        for table in category_tables(result, result.dataset).values():
            if len(table.rows) <= _MOST_CATEGORIES:
                print_table(table)
            longer += len(table.rows) > _MOST_CATEGORIES
    if longer:
        note(f"note: --report DIR has {counted(longer, 'more table')} of categories", quiet=quiet)
