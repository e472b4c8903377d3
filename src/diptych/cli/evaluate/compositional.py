"""`diptych evaluate compositional`: Winoground, ARO and SugarCrepe in the files they were released in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.evaluate.evaluate import Out, print_results, result_files, results_as_json, write_report
from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.evaluate.reporting import print_table
from diptych.cli.shared.console import note, progress, tell_failures
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.evaluation import Result, Settings

_MOST_CATEGORIES = 12  # longer tables are for the report

Folder = Annotated[
    Path,
    typer.Argument(metavar="PATH", show_default=False, help="Its folder, or Winoground in Parquet."),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="PATH",
        help="Folder or archive of the pictures, e.g. coco/val2017.",
        show_default="beside the files",
    ),
]


@measuring
def compositional(
    data: Folder,
    images: Images = None,
    out: Out = None,
    *,
    asked: Measuring,
) -> None:
    """Choose the caption of a picture among similar ones: Winoground, ARO and SugarCrepe.

    The benchmark is recognised by its files: examples.jsonl or Parquet
    (Winoground), visual_genome_relation.json and visual_genome_attribution.json
    (ARO), add_att.json to swap_obj.json (SugarCrepe). Pictures are read in
    their folder, zip or tar. A tie is wrong. --limit counts test cases.

    [bold]Examples[/bold]

      diptych evaluate compositional winoground --report winoground-report

      diptych evaluate compositional sugar-crepe/data --images coco/val2017.zip --out sugar.json
    """
    from diptych.datasets import load_compositional
    from diptych.evaluation import evaluate_compositional

    benchmarks = load_compositional(data, images=images)
    if asked.limit is not None:
        benchmarks = tuple(one.sample(asked.limit) for one in benchmarks)
    tasks = [task for one in benchmarks for task in one.tasks]
    encoder, settings = asked.encoder(), asked.settings()
    results: list[Result] = []
    files = [] if out is None else result_files(out, [task.name for task in tasks])
    try:
        for one in benchmarks:
            with progress(one.name, len(one.pictures), unit="pictures", quiet=asked.quiet) as advance:
                shown: Settings = {**settings, "progress": advance}
                measured = evaluate_compositional(encoder, one, **shown)
            for result, file in zip(measured, files[len(results) :], strict=False):
                result.save(file)  # at once: what comes later may fail, or be stopped
                note(f"written: {file}", quiet=asked.quiet)
            results += measured
        write_report(results, encoder, settings, tasks, asked)
    finally:
        if results and not asked.json:
            print_results(results)
            _print_categories(results, quiet=asked.quiet)
    if asked.json:
        results_as_json(results)
    tell_failures(results)


def _print_categories(results: list[Result], *, quiet: bool) -> None:
    """Print the tables of categories that are short; --report and --json have all of them."""
    from diptych.evaluation.results.results_report import category_tables

    longer = 0
    for result in results:
        for table in category_tables(result, result.dataset).values():
            if len(table.rows) <= _MOST_CATEGORIES:
                print_table(table)
            longer += len(table.rows) > _MOST_CATEGORIES
    if longer:
        note(f"note: --report DIR has {counted(longer, 'more table')} of categories", quiet=quiet)
