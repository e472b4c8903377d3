"""`diptych compare` and `diptych evaluate mean`: what result files say together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import OutputOptions, argument, command, option
from diptych.cli.shared.reporting import ReportDir, print_report
from diptych.errors import DataError, InputError, counted

ResultFile = Annotated[Path, argument("RESULT", "A result file of evaluate.")]


@with_groups
def compare(
    first: ResultFile,
    second: ResultFile,
    level: Annotated[
        float, option("P", "Probability of a wrong verdict in any row (family-wise error rate).")
    ] = 0.05,
    report: ReportDir = None,
    *,
    output: OutputOptions,
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
    with output.progress("comparing", None, unit="steps"):
        comparison = compare_results(
            read_results(first), read_results(second), names=_names(first, second), level=level
        )
    facts = {"Command": command(), "First": str(first), "Second": str(second)}
    print_report(comparison.report(facts), report, json=output.json, quiet=output.quiet)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Names for the two files: their stems, with the folder if the stems are equal.

    Examples
    --------
    >>> _names(Path("before.json"), Path("after.json")), _names(Path("a/report.json"), Path("b/report.json"))
    (('before', 'after'), ('a/report', 'b/report'))
    """
    if first.stem != second.stem:
        return first.stem, second.stem
    name_1, name_2 = (f"{path.resolve().parent.name}/{path.stem}" for path in (first, second))
    return (name_1, name_2) if name_1 != name_2 else (str(first), str(second))


@with_groups
def mean(
    results: Annotated[list[Path], argument("RESULT", "Result files of evaluate.")],
    report: ReportDir = None,
    *,
    output: OutputOptions,
) -> None:
    """Average results over the paper's 27 data sets, VTAB+ or SugarCrepe, and list missing ones.

    RESULT files come from evaluate's --out, from --report (report.json), or
    from a suite's folder of results. Each model gets its own mean.

    [bold]Examples[/bold]

      diptych evaluate mean suite/report.json

      diptych evaluate mean cifar10.json mnist.json --json
    """
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
    facts = {"Command": command(), "Results": ", ".join(map(str, results))}
    page = Report("Means over data sets", [means_section(means)], values, facts)
    print_report(page, report, json=output.json, quiet=output.quiet)
