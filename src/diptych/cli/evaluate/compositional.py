"""`diptych evaluate compositional`: Winoground, ARO and SugarCrepe in their released files."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.evaluate.result_output import Measurement, Out, run_measurements
from diptych.cli.shared.console import note
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.options import argument, option
from diptych.cli.shared.reporting import print_table
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.datasets.compositional import CompositionalBenchmark
    from diptych.encoder import Encoder
    from diptych.evaluation import Result

_MOST_CATEGORIES = 12  # longer tables are only in the report


@measuring
def compositional(
    data: Annotated[Path, argument("PATH", "The folder of a benchmark, or Winoground in Parquet.")],
    images: Annotated[
        Path | None,
        option(
            "PATH", "The folder or archive of pictures, e.g. coco/val2017.", show_default="beside the files"
        ),
    ] = None,
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

    benchmarks = load_compositional(data, images=images)
    if common.limit is not None:
        benchmarks = tuple(benchmark.sample(common.limit) for benchmark in benchmarks)
    tasks = [task for benchmark in benchmarks for task in benchmark.tasks]
    measurements = [
        Measurement(benchmark.name, len(benchmark.pictures), functools.partial(_results, benchmark))
        for benchmark in benchmarks
    ]
    run_measurements(
        measurements,
        tasks,
        common.encoder(),
        out,
        common,
        functools.partial(_print_categories, quiet=common.quiet),
    )


def _results(benchmark: CompositionalBenchmark, encoder: Encoder, **settings: Any) -> list[Result]:
    from diptych.evaluation import evaluate_compositional

    return list(evaluate_compositional(encoder, benchmark, **settings))


def _print_categories(results: Sequence[Result], *, quiet: bool) -> None:
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
