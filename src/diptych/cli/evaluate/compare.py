"""`diptych compare`: what differs between two results beyond noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.evaluate.reporting import ReportDir, tell
from diptych.cli.shared import options
from diptych.cli.shared.console import progress
from diptych.errors import InputError

Results = Annotated[Path, typer.Argument(metavar="RESULT", show_default=False)]


def compare(
    first: Results,
    second: Results,
    level: Annotated[
        float, typer.Option(metavar="P", help="Chance of even one wrong verdict, over all rows.")
    ] = 0.05,
    report: ReportDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two results of the same data picture by picture: what differs beyond noise.

    Files are those of evaluate's --out, or the report.json of --report. The
    mean difference decides: its sign says better or worse, flips of the signs
    of the differences give p (McNemar's exact test where they are hits and
    misses; DeLong's for ROC AUC), Holm's rule holds the verdicts together.

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
        found = compare_results(
            read_results(first), read_results(second), names=_names(first, second), level=level
        )
    facts = {"Command": options.command(), "First": str(first), "Second": str(second)}
    tell(found.report(facts), report, json=json, quiet=quiet)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """What the two files are called: their stems, or their folders where the stems are one.

    Examples
    --------
    >>> _names(Path("before.json"), Path("after.json")), _names(Path("a/report.json"), Path("b/report.json"))
    (('before', 'after'), ('a/report', 'b/report'))
    """
    if first.stem != second.stem:
        return first.stem, second.stem
    one, other = (f"{path.resolve().parent.name}/{path.stem}" for path in (first, second))
    return (one, other) if one != other else (str(first), str(second))
