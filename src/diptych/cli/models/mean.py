"""`diptych evaluate mean`: means over the paper's 27 data sets, VTAB+ and SugarCrepe, from result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.shared import options
from diptych.cli.shared.reporting import ReportDir, print_report
from diptych.errors import counted

Results = Annotated[
    list[Path], typer.Argument(metavar="RESULT", help="Result files of evaluate.", show_default=False)
]


def mean(
    results: Results,
    report: ReportDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Average results over the paper's 27 data sets, VTAB+ or SugarCrepe, and list missing ones.

    RESULT files come from evaluate's --out, from --report (report.json), or
    from a suite's folder of results. Each model gets its own mean.

    [bold]Examples[/bold]

      diptych evaluate mean suite/report.json

      diptych evaluate mean cifar10.json mnist.json --json
    """
    from dataclasses import asdict

    from diptych.errors import DataError
    from diptych.evaluation import read_results
    from diptych.evaluation.results.averages import COLLECTIONS, collection_means, means_section
    from diptych.reports import Report

    read = [result for path in results for result in read_results(path)]
    means = collection_means(read)
    if not means:
        named = ", ".join(sorted({result.dataset for result in read}))
        raise DataError(
            f"{counted(len(read), 'result')}, of {named}: expected zero-shot accuracy, a "
            f"linear probe or caption selection on at least two data sets of {' or '.join(COLLECTIONS)}"
        )
    values = {"means": [asdict(item) | {"text": item.text} for item in means]}
    facts = {"Command": options.command(), "Results": ", ".join(map(str, results))}
    print_report(
        Report("Means over data sets", [means_section(means)], values, facts), report, json=json, quiet=quiet
    )
