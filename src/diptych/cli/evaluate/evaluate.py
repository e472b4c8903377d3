"""`diptych evaluate`: zero-shot classification and retrieval; every metric is shown beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate.labelled_data import DataOptions, PartName, open_measures, part_of
from diptych.cli.evaluate.result_output import Measurement, Out, run_measurements
from diptych.cli.evaluate.transfer import compare_contents
from diptych.cli.shared.console import note
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.options import argument, option
from diptych.encoder import LanguageEncoder
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Measure, Result

app = typer.Typer(
    no_args_is_help=True,
    help="Measure a model: zero-shot, retrieval, probes, few-shot curves; each result beside chance.",
)

Paths = Annotated[list[Path], argument("PATH", "Folders or archives of pictures.")]


@app.command("zero-shot")
@measuring
def zero_shot(
    data: Paths,
    *,
    choice: DataOptions,
    language: Annotated[
        str,
        option(
            "CODE",
            "Language of class names and prompts: en, de, es, fr, ..., or a JSON file (language, "
            "templates, names). Sets the tokenizer of NLLB-CLIP.",
        ),
    ] = "en",
    out: Out = None,
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
    measures = open_measures(data, choice)
    _measure(_in_language(measures, language, choice.templates), out, common)


@app.command("retrieval")
@measuring
def retrieval(
    data: Paths,
    field: Annotated[
        str | None,
        option(
            "NAME",
            "The field of KEY.json that holds the captions.",
            show_default="captions, or captions_CODE of --language",
        ),
    ] = None,
    language: Annotated[
        str, option("CODE", "Language of the captions, such as de. Sets the tokenizer of NLLB-CLIP.")
    ] = "en",
    part: PartName = "test",
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
    from diptych.datasets import load_captioned
    from diptych.evaluation import Measure

    caption_field = field or ("captions" if language == "en" else f"captions_{language}")
    dataset = load_captioned(data, field=caption_field, part=part_of(part))
    # If that field is missing, load_captioned reads another one, usually of English captions.
    if field is None and language != "en":
        default = None
        with suppress(DataError):  # the data set may hold only captions in that language
            default = load_captioned(data, field="captions", part=part_of(part))
        if default is not None and dataset.captions == default.captions:
            raise DataError(
                f"{dataset.name} has no field {caption_field!r}; if all its captions are in {language!r}, "
                "give --field captions"
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
    model_languages = getattr(getattr(encoder, "spec", None), "languages", ()) or ("en",)
    if language not in model_languages and "mul" not in model_languages:
        note(
            f"note: according to its description, this model reads {', '.join(model_languages)} and not "
            f"{language}: expect results near chance. A multilingual model is ViT-B-16-SigLIP2 (webli).",
            quiet=quiet,
        )
    return encoder


def _measure(measures: Sequence[Measure], out: Path | None, common: MeasureOptions) -> None:
    """Run the measures one by one, print the table or JSON, and exit with status 1 after failures."""
    measures = [replace(measure, dataset=common.limited(measure.dataset)) for measure in measures]
    datasets = [measure.dataset for measure in measures]
    if len(measures) > 1:  # nothing is trained, so shared pictures only give a warning
        compare_contents(datasets, common, allow=True)
    encoder = _with_language(measures, common.encoder(), quiet=common.quiet)
    measurements = [
        Measurement(measure.name, len(measure.dataset), partial(_results, measure)) for measure in measures
    ]
    run_measurements(measurements, datasets, encoder, out, common)


def _results(measure: Measure, encoder: Encoder, **settings: Any) -> list[Result]:
    return [measure(encoder, **settings)]
