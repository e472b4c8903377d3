"""Run measurements one by one, save each result at once, and print them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from diptych.cli.shared.console import clear_progress, exit_on_failures, print_json
from diptych.cli.shared.measuring import MeasureOptions
from diptych.cli.shared.options import option
from diptych.cli.shared.reporting import print_section, save_report

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Result, Settings
    from diptych.evaluation.protocols.settings import MeasuredData

Out = Annotated[
    Path | None, option("FILE", "Write CLIP_benchmark's JSON, one file per data set.", "--out", "-o")
]


@dataclass(frozen=True)
class Measurement:
    """One measurement, which gives one or several results."""

    title: str
    pictures: int
    run: Callable[..., Sequence[Result]]  # called with the encoder, and the settings as keywords


def run_measurements(
    measurements: Sequence[Measurement],
    datasets: Sequence[MeasuredData],
    encoder: Encoder,
    out: Path | None,
    common: MeasureOptions,
    print_more: Callable[[Sequence[Result]], None] = lambda results: None,
) -> None:
    """Run the measurements, print the results, and exit with status 1 if pictures failed.

    Each result is saved at once: a later measurement may fail, or the command be stopped. `datasets` has one
    entry for each result. `print_more` is called after the table of all metrics.
    """
    settings = common.settings()
    results: list[Result] = []
    files = [] if out is None else result_files(out, [dataset.name for dataset in datasets])
    try:
        for measurement in measurements:
            with common.measuring_bar(settings, measurement.title, measurement.pictures) as with_bar:
                measured = measurement.run(encoder, **with_bar)
            for result, file in zip(measured, files[len(results) :], strict=False):
                result.save(file)
                common.note(f"written: {file}")
            results += measured
        _write_report(results, encoder, settings, datasets, common)
    finally:
        if results and not common.json:
            _print_results(results)
            print_more(results)
    if common.json:  # one result as an object, several as a list
        clear_progress()
        values = [result.to_dict() for result in results]
        print_json(values if len(values) > 1 else values[0], indent=1)
    exit_on_failures(results)


def _write_report(
    results: Sequence[Result],
    encoder: Encoder,
    settings: Settings,
    datasets: Sequence[MeasuredData],
    common: MeasureOptions,
) -> None:
    """Save the report of the results if --report is given."""
    if common.report is None:
        return
    from diptych.evaluation.protocols.settings import Setup
    from diptych.evaluation.results.results_report import results_report

    facts = Setup.of(**settings).facts(encoder, *datasets)
    report = results_report(results, title=f"Evaluation of {common.model}", facts=facts)
    save_report(report, common.report, quiet=common.quiet)


def _print_results(results: Sequence[Result]) -> None:
    """Print the table of all metrics, and means over collections of data sets."""
    from diptych.evaluation.results.averages import collection_means, means_section
    from diptych.evaluation.results.results_report import overview

    print_section(overview(results))
    if means := collection_means(results):
        print_section(means_section(means))


def result_files(path: Path, names: Sequence[str]) -> list[Path]:
    """A distinct file for each data set: the path itself for one, else with the name after its stem.

    Examples
    --------
    >>> [file.name for file in result_files(Path("r.json"), ["pacs/photo", "test", "test"])]
    ['r-pacs-photo.json', 'r-test.json', 'r-test-2.json']
    """
    if len(names) == 1:
        return [path]
    from diptych.files.disk import file_stems

    return [path.with_name(f"{path.stem}-{stem}{path.suffix}") for stem in file_stems(names)]
