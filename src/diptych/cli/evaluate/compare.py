"""`diptych compare`: test whether two results differ beyond noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import progress
from diptych.cli.shared.reporting import ReportDir, print_report
from diptych.errors import InputError

Results = Annotated[
    Path, typer.Argument(metavar="RESULT", help="A result file of evaluate.", show_default=False)
]


def compare(
    first: Results,
    second: Results,
    level: Annotated[
        float,
        typer.Option(metavar="P", help="Probability of a wrong verdict in any row (family-wise error rate)."),
    ] = 0.05,
    report: ReportDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two results of the same data picture by picture, with significance tests.

    RESULT files come from evaluate's --out, or from --report (report.json). The
    sign of the mean difference says better or worse. p comes from a sign-flip
    permutation test (McNemar's exact test for hits and misses, DeLong's for ROC
    AUC), corrected by Holm's method over all rows.

    [bold]Examples[/bold]

      diptych evaluate zero-shot cifar10.tar.gz --out before.json

      diptych evaluate zero-shot cifar10.tar.gz --model runs/mine --out after.json

      diptych compare before.json after.json
    """
    from diptych.evaluation import compare as compare_results
    from diptych.evaluation import read_results

    if not 0 < level < 1:
        raise InputError(f"--level {level:g}: expected a probability between 0 and 1, such as 0.05")
    with progress("comparing", None, unit="steps", quiet=quiet):
        comparison = compare_results(
            read_results(first), read_results(second), names=_names(first, second), level=level
        )
    facts = {"Command": options.command(), "First": str(first), "Second": str(second)}
    print_report(comparison.report(facts), report, json=json, quiet=quiet)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Names for the two files: their stems, with the folder if the stems are equal.

    Examples
    --------
    >>> _names(Path("before.json"), Path("after.json")), _names(Path("a/report.json"), Path("b/report.json"))
    (('before', 'after'), ('a/report', 'b/report'))
    """
    if first.stem != second.stem:
        return first.stem, second.stem
    name, other = (f"{path.resolve().parent.name}/{path.stem}" for path in (first, second))
    return (name, other) if name != other else (str(first), str(second))
