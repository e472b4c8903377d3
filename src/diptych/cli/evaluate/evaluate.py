"""`diptych evaluate`: how well a model names and finds pictures, with chance beside every figure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.evaluate.reporting import print_section, write
from diptych.cli.evaluate.transfer import compare_contents
from diptych.cli.shared import options
from diptych.cli.shared.console import clear_progress, note, print_json, progress, tell_failures
from diptych.encoder import LanguageEncoder
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Measure, Result, Settings
    from diptych.evaluation.protocols.settings import MeasuredData

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
Part = Annotated[str, typer.Option(metavar="test|train|val", help="Which part, where there are several.")]
Language = Annotated[
    str,
    typer.Option(
        metavar="CODE",
        help="Of names and prompts: en, de, es, fr, ..., or a JSON file (language, templates, names). "
        "NLLB-CLIP's tokenizer is set to it.",
    ),
]
Templates = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|TEXT",
        help="Prompts, e.g. imagenet80; by default those of the data set, or plain.",
        show_default=False,
    ),
]


@app.command("zero-shot")
@measuring
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
    language: Language = "en",
    out: Out = None,
    *,
    asked: Measuring,
) -> None:
    """Name labelled pictures from the class names alone; the folder a picture lies in is its class.

    MNIST's and CIFAR's files, CLIP_benchmark's folders and Parquet are read
    where they lie. With --dataset, PATH is a folder that holds known data sets:
    see [bold]diptych evaluate datasets PATH[/bold].

    [bold]Examples[/bold]

      diptych evaluate zero-shot cifar10-test.tar.gz --model runs/mine

      diptych evaluate zero-shot data --dataset cifar10 --dataset vtab/caltech101

      diptych evaluate zero-shot pacs.tar --domain each --out pacs.json

      diptych evaluate zero-shot data --dataset cifar10 --language es
    """
    from diptych.cli.evaluate.labelled_data import Choice, open_known, open_own

    choice = Choice(names, templates, only, domain, part)
    measures = open_known(data, dataset, choice) if dataset else open_own(data, choice)
    _measure(_in_language(measures, language, templates), out, asked)


@app.command("retrieval")
@measuring
def retrieval(
    data: Paths,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Field of KEY.json with the captions.",
            show_default="captions, or captions_CODE of --language",
        ),
    ] = None,
    language: Annotated[
        str,
        typer.Option(
            metavar="CODE",
            help="Of the captions, such as de; NLLB-CLIP's tokenizer is set to it.",
        ),
    ] = "en",
    part: Part = "test",
    out: Out = None,
    *,
    asked: Measuring,
) -> None:
    """Find the picture of a caption and the caption of a picture; all shards together are one data set.

    [bold]Examples[/bold]

      diptych evaluate retrieval flickr8k-test.tar

      diptych evaluate retrieval shard-0.tar shard-1.tar --model runs/mine --json
    """
    from diptych.cli.evaluate.labelled_data import part_of
    from diptych.datasets import load_captioned
    from diptych.evaluation import Measure

    wanted = field or ("captions" if language == "en" else f"captions_{language}")
    dataset = load_captioned(data, field=wanted, part=part_of(part))
    # Where that field is missing, load_captioned takes another one, most often of English captions.
    if field is None and language != "en":
        usual = None
        with suppress(DataError):  # nothing but captions in that language
            usual = load_captioned(data, field="captions", part=part_of(part))
        if usual is not None and dataset.captions == usual.captions:
            raise DataError(
                f"{dataset.name} has no field {wanted!r}; if all its captions are in {language!r}, say "
                "--field captions"
            )
    _measure([Measure(dataset, language=language)], out, asked)


def _in_language(measures: Sequence[Measure], language: str, templates: str | None) -> list[Measure]:
    """The measures with names and prompts in another language; --templates still decides the prompts."""
    if language == "en":
        return list(measures)
    from diptych.zeroshot.languages import load_language

    words = load_language(language)
    found = [one.translated(words) for one in measures]
    return found if templates is None else [replace(one, templates=templates) for one in found]


def _reading(measures: Sequence[Measure], encoder: Encoder, *, quiet: bool) -> Encoder:
    """The encoder with its tokenizer set to the language of the measures.

    Prints a note where the encoder has no such setting and its description does not name the language.

    Raises
    ------
    InputError
        Texts of this model begin with a token of their language, and it has none for this one.
    """
    languages = sorted({one.language for one in measures} - {"en"})  # one at most: that of --language
    if not languages:
        return encoder
    (language,) = languages
    tokenizer = getattr(encoder, "tokenizer", None)
    if getattr(tokenizer, "takes_language", False):
        if not isinstance(encoder, LanguageEncoder):
            raise InputError(
                "texts of this model begin with a token of their language, and this runtime cannot set it to "
                f"{language!r}: choose --runtime onnx"
            )
        return encoder.with_language(language)
    known = getattr(getattr(encoder, "spec", None), "languages", ()) or ("en",)
    if language not in known and "mul" not in known:
        note(
            f"note: this model reads {', '.join(known)} and not {language}, as far as its "
            "description says: figures near chance are to be expected. A multilingual model is "
            "ViT-B-16-SigLIP2 (webli).",
            quiet=quiet,
        )
    return encoder


def _measure(
    measures: Sequence[Measure],
    out: Path | None,
    asked: Measuring,
) -> None:
    """Measure one after another, print the table or the JSON, and leave with the right status."""
    measures = [replace(one, dataset=asked.limited(one.dataset)) for one in measures]
    if len(measures) > 1:  # nothing is taught here: copies are told, and count in the means over data sets
        compare_contents([one.dataset for one in measures], allow=True, quiet=asked.quiet)
    encoder, settings = _reading(measures, asked.encoder(), quiet=asked.quiet), asked.settings()
    results: list[Result] = []
    files = [] if out is None else result_files(out, [one.name for one in measures])
    try:
        for number, one in enumerate(measures):
            with progress(one.name, len(one.dataset), unit="pictures", quiet=asked.quiet) as advance:
                results.append(one(encoder, **{**settings, "progress": advance}))
            if files:  # at once: what comes later may fail, or be stopped
                results[-1].save(files[number])
                note(f"written: {files[number]}", quiet=asked.quiet)
        write_report(results, encoder, settings, [one.dataset for one in measures], asked)
    finally:
        if results and not asked.json:
            print_results(results)
    if asked.json:
        results_as_json(results)
    tell_failures(results)


def write_report(
    results: Sequence[Result],
    encoder: Encoder,
    settings: Settings,
    datasets: Sequence[MeasuredData],
    asked: Measuring,
) -> None:
    """Write the page of results where --report asks for it."""
    if asked.report is None:
        return
    from diptych.evaluation.protocols.settings import Setup
    from diptych.evaluation.results.results_report import results_report

    facts = Setup.of(**settings).facts(encoder, *datasets)
    report = results_report(results, title=f"Evaluation of {asked.model}", facts=facts)
    write(report, asked.report, quiet=asked.quiet)


def print_results(results: Sequence[Result]) -> None:
    """Print the table of all figures, and means over collections of data sets."""
    from diptych.evaluation.results.averages import collection_means, means_section
    from diptych.evaluation.results.results_report import overview

    print_section(overview(results))
    if means := collection_means(results):
        print_section(means_section(means))


def results_as_json(results: Sequence[Result]) -> None:
    """Print the JSON of one result, or a list of several."""
    clear_progress()
    told = [result.to_dict() for result in results]
    print_json(told if len(told) > 1 else told[0], indent=1)


def result_files(path: Path, names: Sequence[str]) -> list[Path]:
    """One file a data set, no two the same: the path itself, or with the data sets' names after its stem.

    Examples
    --------
    >>> [file.name for file in result_files(Path("r.json"), ["pacs/photo", "test", "test"])]
    ['r-pacs-photo.json', 'r-test.json', 'r-test-2.json']
    """
    if len(names) == 1:
        return [path]
    from diptych.files.disk import file_stems

    return [path.with_name(f"{path.stem}-{stem}{path.suffix}") for stem in file_stems(names)]
