"""`diptych evaluate`: zero-shot classification and retrieval; every metric is shown beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.evaluate.transfer import compare_contents
from diptych.cli.shared import options
from diptych.cli.shared.console import clear_progress, exit_on_failures, note, print_json, progress
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.reporting import print_section, save_report
from diptych.encoder import LanguageEncoder
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Measure, Result, Settings
    from diptych.evaluation.protocols.settings import MeasuredData

app = typer.Typer(
    no_args_is_help=True,
    help="Measure a model: zero-shot, retrieval, probes, few-shot curves; each result beside chance.",
)

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH", help="Folders or archives of pictures.", show_default=False)
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="Write CLIP_benchmark's JSON, one file per data set."),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="A known data set in PATH, by CLIP_benchmark's name; repeat it for several."
    ),
]
Part = Annotated[
    str, typer.Option(metavar="test|train|val", help="The split to measure on, if there are several.")
]
Language = Annotated[
    str,
    typer.Option(
        metavar="CODE",
        help="Language of class names and prompts: en, de, es, fr, ..., or a JSON file (language, templates, "
        "names). Sets the tokenizer of NLLB-CLIP.",
    ),
]
Templates = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|TEXT",
        help="Prompt templates, e.g. imagenet80. Default: those of the data set, or plain.",
        show_default=False,
    ),
]


@app.command("zero-shot")
@measuring
def zero_shot(
    data: Paths,
    names: options.Names = None,
    only: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure only the classes in this file, one per line.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|each", help="Measure one folder above the classes; 'each': every one separately."
        ),
    ] = None,
    dataset: Names = None,
    part: Part = "test",
    templates: Templates = None,
    language: Language = "en",
    out: Out = None,
    *,
    common: MeasureOptions,
) -> None:
    """Measure zero-shot classification: classify labelled pictures by the class names alone.

    PATH holds a folder per class, MNIST's or CIFAR's files, or CLIP_benchmark's
    folders or Parquet. With --dataset, PATH is a folder of known data sets: see
    [bold]diptych evaluate datasets PATH[/bold].

    [bold]Examples[/bold]

      diptych evaluate zero-shot cifar10-test.tar.gz --model runs/mine

      diptych evaluate zero-shot data --dataset cifar10 --dataset vtab/caltech101

      diptych evaluate zero-shot pacs.tar --domain each --out pacs.json

      diptych evaluate zero-shot data --dataset cifar10 --language es
    """
    from diptych.cli.evaluate.labelled_data import DataOptions, open_known, open_own

    choice = DataOptions(names, templates, only, domain, part)
    measures = open_known(data, dataset, choice) if dataset else open_own(data, choice)
    _measure(_in_language(measures, language, templates), out, common)


@app.command("retrieval")
@measuring
def retrieval(
    data: Paths,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The field of KEY.json that holds the captions.",
            show_default="captions, or captions_CODE of --language",
        ),
    ] = None,
    language: Annotated[
        str,
        typer.Option(
            metavar="CODE",
            help="Language of the captions, such as de. Sets the tokenizer of NLLB-CLIP.",
        ),
    ] = "en",
    part: Part = "test",
    out: Out = None,
    *,
    common: MeasureOptions,
) -> None:
    """Measure retrieval: find pictures by caption and captions by picture.

    All shards together are one data set.

    [bold]Examples[/bold]

      diptych evaluate retrieval flickr8k-test.tar

      diptych evaluate retrieval shard-0.tar shard-1.tar --model runs/mine --json
    """
    from diptych.cli.evaluate.labelled_data import part_of
    from diptych.datasets import load_captioned
    from diptych.evaluation import Measure

    wanted = field or ("captions" if language == "en" else f"captions_{language}")
    dataset = load_captioned(data, field=wanted, part=part_of(part))
    # If that field is missing, load_captioned reads another one, usually of English captions.
    if field is None and language != "en":
        default = None
        with suppress(DataError):  # the data set may hold only captions in that language
            default = load_captioned(data, field="captions", part=part_of(part))
        if default is not None and dataset.captions == default.captions:
            raise DataError(
                f"{dataset.name} has no field {wanted!r}; if all its captions are in {language!r}, give "
                "--field captions"
            )
    _measure([Measure(dataset, language=language)], out, common)


def _in_language(measures: Sequence[Measure], language: str, templates: str | None) -> list[Measure]:
    """Translate class names and prompts of the measures; --templates overrides the prompts."""
    if language == "en":
        return list(measures)
    from diptych.zeroshot.languages import load_language

    words = load_language(language)
    translated = [measure.translated(words) for measure in measures]
    if templates is None:
        return translated
    return [replace(measure, templates=templates) for measure in translated]


def _with_language(measures: Sequence[Measure], encoder: Encoder, *, quiet: bool) -> Encoder:
    """Set the tokenizer of the encoder to the language of the measures.

    Prints a note if the encoder has no such setting and its description does not list the language.

    Raises
    ------
    InputError
        Texts of this model begin with a language token, and this runtime cannot set it.
    """
    languages = sorted({measure.language for measure in measures} - {"en"})  # at most one: that of --language
    if not languages:
        return encoder
    (language,) = languages
    tokenizer = getattr(encoder, "tokenizer", None)
    if getattr(tokenizer, "takes_language", False):
        if not isinstance(encoder, LanguageEncoder):
            raise InputError(
                f"texts of this model begin with a language token, and this runtime cannot set it to "
                f"{language!r}: use --runtime onnx"
            )
        return encoder.with_language(language)
    known = getattr(getattr(encoder, "spec", None), "languages", ()) or ("en",)
    if language not in known and "mul" not in known:
        note(
            f"note: according to its description, this model reads {', '.join(known)} and not {language}: "
            "expect results near chance. A multilingual model is ViT-B-16-SigLIP2 (webli).",
            quiet=quiet,
        )
    return encoder


def _measure(
    measures: Sequence[Measure],
    out: Path | None,
    common: MeasureOptions,
) -> None:
    """Run the measures one by one, print the table or JSON, and exit with status 1 after failures."""
    measures = [replace(measure, dataset=common.limited(measure.dataset)) for measure in measures]
    datasets = [measure.dataset for measure in measures]
    if len(measures) > 1:  # nothing is trained, so shared pictures only give a warning
        compare_contents(datasets, allow=True, quiet=common.quiet)
    encoder, settings = _with_language(measures, common.encoder(), quiet=common.quiet), common.settings()
    results: list[Result] = []
    files = [] if out is None else result_files(out, [measure.name for measure in measures])
    try:
        for number, measure in enumerate(measures):
            with progress(measure.name, len(measure.dataset), unit="pictures", quiet=common.quiet) as advance:
                results.append(measure(encoder, **{**settings, "progress": advance}))
            if files:  # save at once: a later data set may fail, or the command be stopped
                results[-1].save(files[number])
                note(f"written: {files[number]}", quiet=common.quiet)
        write_report(results, encoder, settings, datasets, common)
    finally:
        if results and not common.json:
            print_results(results)
    if common.json:
        results_as_json(results)
    exit_on_failures(results)


def write_report(
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


def print_results(results: Sequence[Result]) -> None:
    """Print the table of all metrics, and means over collections of data sets."""
    from diptych.evaluation.results.averages import collection_means, means_section
    from diptych.evaluation.results.results_report import overview

    print_section(overview(results))
    if means := collection_means(results):
        print_section(means_section(means))


def results_as_json(results: Sequence[Result]) -> None:
    """Print one result as a JSON object, several as a list."""
    clear_progress()
    values = [result.to_dict() for result in results]
    print_json(values if len(values) > 1 else values[0], indent=1)


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
