"""`diptych evaluate`: how well a model names and finds pictures, with chance beside every figure."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import options
from diptych.cli.console import note, progress, tell_failures
from diptych.cli.reporting import ReportDir, print_section, write

if TYPE_CHECKING:
    from diptych.encoders import TorchEncoder
    from diptych.evaluation import Measure, Result, Settings

app = typer.Typer(
    no_args_is_help=True,
    help="Measure a model: zero-shot, retrieval, probes, few-shot curves; chance beside each figure.",
)

Paths = Annotated[list[Path], typer.Argument(metavar="PATH", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE", help="Write CLIP_benchmark's JSON; of several data sets, a file each."
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Known data sets in PATH, by CLIP_benchmark's names."),
]
Part = Annotated[str, typer.Option(metavar="test|train", help="Which part, where there are several.")]
Templates = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|TEXT",
        help="Prompts, e.g. imagenet80; by default those of the data set, or plain.",
        show_default=False,
    ),
]


@app.command("zero-shot")
def zero_shot(
    data: Paths,
    names: options.Names = None,
    only: Annotated[
        Path | None, typer.Option(metavar="FILE", help="These classes alone, one a line.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME|each", help="A folder above the classes; 'each': one by one.")
    ] = None,
    dataset: Names = None,
    part: Part = "test",
    templates: Templates = None,
    out: Out = None,
    report: ReportDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: options.Model = "default",
    pretrained: options.Pretrained = None,
    fast: options.Fast = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
    batch_size: options.BatchSize = "auto",
    cache: options.Cache = None,
) -> None:
    """Name labelled pictures from the class names alone; the folder a picture lies in is its class.

    MNIST's and CIFAR's files, CLIP_benchmark's folders and Parquet are read
    where they lie. With --dataset, PATH is a folder that holds known data
    sets: see [bold]diptych evaluate datasets PATH[/bold].

    [bold]Examples[/bold]

      diptych evaluate zero-shot cifar10-test.tar.gz --model runs/mine

      diptych evaluate zero-shot data --dataset cifar10 --dataset vtab/caltech101

      diptych evaluate zero-shot pacs.tar --domain each --out pacs.json
    """
    from diptych.cli.labelled_data import Choice, open_known, open_own

    choice = Choice(names, templates, only, domain, part)
    measures = open_known(data, dataset, choice) if dataset else open_own(data, choice)
    encoder = options.open_model(
        model,
        pretrained,
        device=device,
        precision=precision,
        threads=threads,
        batch_size=batch_size,
        exact=not fast,
    )

    _measure(
        measures,
        encoder,
        _settings(model, pretrained, fast, threads, batch_size, cache),
        out,
        report,
        json,
        quiet,
    )


@app.command("retrieval")
def retrieval(
    data: Paths,
    field: Annotated[
        str, typer.Option(metavar="NAME", help="Field of KEY.json with the captions.")
    ] = "captions",
    out: Out = None,
    report: ReportDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: options.Model = "default",
    pretrained: options.Pretrained = None,
    fast: options.Fast = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
    batch_size: options.BatchSize = "auto",
    cache: options.Cache = None,
) -> None:
    """Find the picture of a caption and the caption of a picture; all shards together are one data set.

    [bold]Examples[/bold]

      diptych evaluate retrieval flickr8k-test.tar

      diptych evaluate retrieval shard-0.tar shard-1.tar --model runs/mine --json
    """
    from diptych.datasets import load_captioned
    from diptych.evaluation import Measure

    dataset = load_captioned(data, field=field)
    encoder = options.open_model(
        model,
        pretrained,
        device=device,
        precision=precision,
        threads=threads,
        batch_size=batch_size,
        exact=not fast,
    )

    _measure(
        [Measure(dataset)],
        encoder,
        _settings(model, pretrained, fast, threads, batch_size, cache),
        out,
        report,
        json,
        quiet,
    )


def _settings(
    model: str, pretrained: str | None, fast: bool, threads: str, batch_size: str, cache: Path | None
) -> Settings:
    """The same for both commands, with the folder of --cache."""
    from diptych.evaluation import FeatureStore

    store = None if cache is None else FeatureStore(cache)
    return options.settings(model, pretrained, fast=fast, threads=threads, batch_size=batch_size, store=store)


def _measure(
    measures: Sequence[Measure],
    encoder: TorchEncoder,
    settings: Settings,
    out: Path | None,
    report: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    """Measure one after another, print the table or the JSON, and leave with the right status."""
    from diptych.evaluation.results_report import overview

    results: list[Result] = []
    files = [] if out is None else _files(out, [one.name for one in measures])
    try:
        for number, one in enumerate(measures):
            with progress(one.name, len(one.dataset), unit="pictures", quiet=quiet) as advance:
                results.append(one(encoder, **{**settings, "progress": advance}))
            if files:  # at once: what comes later may fail, or be stopped
                results[-1].save(files[number])
                note(f"written: {files[number]}", quiet=quiet)
        if report is not None:
            _report(results, measures, encoder, settings, report, quiet)
    finally:
        if results and not json:
            print_section(overview(results))
    if json:
        told = [result.to_dict() for result in results]
        print(json_module.dumps(told if len(told) > 1 else told[0], indent=1, ensure_ascii=False))
    tell_failures(results)


def _report(
    results: Sequence[Result],
    measures: Sequence[Measure],
    encoder: TorchEncoder,
    settings: Settings,
    folder: Path,
    quiet: bool,
) -> None:
    """Write the page with its files."""
    from diptych.evaluation.results_report import results_report
    from diptych.evaluation.settings import Setup

    facts = Setup.of(**settings).facts(encoder, *(one.dataset for one in measures))
    write(
        results_report(results, title=f"Evaluation of {settings['model']}", facts=facts), folder, quiet=quiet
    )


def _files(path: Path, names: Sequence[str]) -> list[Path]:
    """One file a data set, no two the same: the path itself, or with the data sets' names after its stem.

    Examples
    --------
    >>> [file.name for file in _files(Path("r.json"), ["pacs/photo", "test", "test"])]
    ['r-pacs-photo.json', 'r-test.json', 'r-test-2.json']
    """
    if len(names) == 1:
        return [path]
    files: list[Path] = []
    taken: set[str] = set()
    for name in names:
        stem = own = f"{path.stem}-{name.replace('/', '-')}"
        count = 1
        while own.casefold() in taken:  # some file systems take Test and test for one name
            count += 1
            own = f"{stem}-{count}"
        taken.add(own.casefold())
        files.append(path.with_name(own + path.suffix))
    return files
