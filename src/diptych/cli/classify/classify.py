"""`diptych classify`: zero-shot classification of pictures by labels in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import clean, print_message
from diptych.errors import InputError, TextError

if TYPE_CHECKING:
    from diptych.cli.classify.answers import PictureResult, Writer
    from diptych.cli.classify.pictures import ImageEmbedder
    from diptych.encoder import Encoder
    from diptych.zeroshot import ZeroShotClassifier

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PICTURE|LABEL",
        help="Pictures and labels: existing files, folders, patterns and addresses are pictures, other words "
        "are labels.",
        show_default=False,
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images", "-i", metavar="PATH", help="A picture, folder or pattern; repeat it for several."
    ),
]
Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label", "-l", metavar="TEXT", help="A label, even if a file has that name; repeat it for several."
    ),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="A file of labels: one per line, JSON (list, or name -> texts), CSV or YAML.",
    ),
]
Classifier = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Use a classifier saved by --save-classifier instead of labels."),
]
Templates = Annotated[
    str,
    typer.Option(
        metavar="auto|NAME|TEXT",
        help="Prompt templates: auto makes a sentence of each label; or plain, bare, imagenet80, ..., or a "
        "text with {}.",
    ),
]
MultiLabel = Annotated[
    bool,
    typer.Option(
        "--multi-label", metavar="", help="Judge each label separately: a picture may get several or none."
    ),
]
NoneCutoff = Annotated[
    float | None,
    typer.Option(
        "--none",
        metavar="X",
        help="Answer 'none of these' below this confidence, and print the confidence. It lies between 1/N "
        "and 1 for N labels (softmax of the cosines), between -1 and 1 for one label (cosine).",
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Set the cut-off of --none from a folder of pictures that each show one of the labels.",
    ),
]
Top = Annotated[
    int | None,
    typer.Option("--top", "-k", metavar="N", min=1, help="Show the N best labels of each picture."),
]
Csv = Annotated[
    bool,
    typer.Option("--csv", metavar="", help="Print CSV, one row per picture with the score of every label."),
]
Groups = Annotated[
    bool,
    typer.Option("--groups", metavar="", help="Also score the groups of a hierarchy of labels in JSON."),
]
CopyTo = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Copy each picture into a subfolder named after its label.")
]
SaveClassifier = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Save the classifier for --classifier.")
]
AllowUrls = Annotated[
    bool, typer.Option("--allow-urls", metavar="", help="Download pictures given by http(s) addresses.")
]

SHOWN_FAILURES = 20


def classify(
    words: Words = None,
    images: Images = None,
    label: Label = None,
    labels: LabelsFile = None,
    classifier: Classifier = None,
    templates: Templates = "auto",
    multi_label: MultiLabel = False,
    none: NoneCutoff = None,
    calibrate: Calibrate = None,
    top: Top = None,
    json: options.Json = False,
    csv: Csv = False,
    groups: Groups = False,
    copy_to: CopyTo = None,
    save_classifier: SaveClassifier = None,
    allow_urls: AllowUrls = False,
    quiet: options.Quiet = False,
    model: options.Model = "default",
    pretrained: options.Pretrained = None,
    exact: options.Exact = False,
    on_long: options.OnLong = "cut",
    runtime: options.Runtime = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
    batch_size: options.BatchSize = "auto",
) -> None:
    """Classify pictures by labels in words, with scores from 0 to 100.

    [bold]Examples[/bold]

      diptych classify cat.jpg "a dog" "a cat" "a beaver"

      diptych classify ~/Pictures --labels labels.txt --csv > table.csv

      diptych classify ~/Pictures --labels animals.json --groups

      diptych classify 'shots/*.jpg' indoors outdoors --copy-to sorted

      find . -name '*.jpg' | diptych classify - "a receipt" "a person" --json

    Exit status: 0 done, 1 some pictures could not be read, 2 nothing done.
    """
    from diptych.cli.classify.pictures import ImageEmbedder, gather, nothing_named, sort_words
    from diptych.cli.shared.labels import note_language

    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    names, texts = sort_words(words or [], quiet=quiet)
    if not (names := [*names, *(images or [])]):
        raise nothing_named(texts)
    _check_conflicts(classifier, templates, multi_label, none, calibrate)
    label_spec = _read_labels(texts + (label or []), labels, classifier, multi_label, none, calibrate)
    pictures = _without_copies(gather(names, allow_urls=allow_urls, stdin=sys.stdin), copy_to)
    encoder = options.open_model(
        model,
        pretrained,
        device=device,
        precision=precision,
        threads=threads,
        batch_size=batch_size,
        exact=exact,
        on_long=on_long,
        runtime=runtime,
    )
    counts = options.count(threads, "--threads"), options.count(batch_size, "--batch-size")
    stream = ImageEmbedder(encoder, exact, *counts, quiet, frozenset(names))
    note_language(label_spec, encoder, quiet=quiet)
    fitted = _fit(encoder, label_spec, classifier, templates, multi_label, none)
    _calibrate(fitted, stream, calibrate)
    if save_classifier is not None:
        fitted.save(save_classifier)
    writer = _writer(fitted, len(pictures), top, json=json, csv=csv, groups=groups)
    _run(stream, fitted, pictures, writer, top, copy_to, groups=groups)


def _check_conflicts(
    classifier: Path | None, templates: str, multi_label: bool, none: float | None, calibrate: str | None
) -> None:
    """Refuse options that would have no effect together with others."""
    pairs = (
        ("--classifier", classifier, "--multi-label", multi_label, "the saved classifier sets it"),
        (
            "--classifier",
            classifier,
            "--templates",
            templates != "auto",
            "the saved classifier holds its prompts",
        ),
        ("--multi-label", multi_label, "--none", none is not None, "it may give no label anyway"),
        ("--multi-label", multi_label, "--calibrate", calibrate, "it may give no label anyway"),
        ("--none", none is not None, "--calibrate", calibrate, "both set the cut-off"),
    )
    for first, has_first, second, has_second, reason in pairs:
        if has_first and has_second:
            raise InputError(f"{second} does not go with {first}: {reason}; leave one of them out")


def _read_labels(
    texts: list[str],
    file: Path | None,
    classifier: Path | None,
    multi_label: bool,
    none: float | None,
    calibrate: str | None,
) -> Any:
    """Read and check the labels, before the model is loaded; None with --classifier."""
    from diptych.cli.shared.labels import distinct
    from diptych.zeroshot.label_files import read_labels_file
    from diptych.zeroshot.labels import read_labels

    if classifier is not None:
        if texts or file:
            extra = repr(texts[0]) if texts else f"--labels {file}"
            raise TextError(
                f"--classifier has its own labels, so {extra} cannot be added: leave one of them out"
            )
        return None
    labels: Any = texts
    if file is not None:
        labels = read_labels_file(file)
        if isinstance(labels, dict) and texts:
            raise TextError(
                f"{file} has texts for each label, so --label cannot add to it: leave one of them out"
            )
        labels = labels if isinstance(labels, dict) else [*labels, *texts]
    if not labels:
        raise TextError(
            'no labels, since every word names an existing file. Add labels such as "a dog" "a cat", or give '
            "--label 'a dog', --labels FILE or --classifier FILE"
        )
    labels = labels if isinstance(labels, dict) else distinct(labels)
    names = [label.name for label in read_labels(labels)]
    if len(names) == 1 and not (multi_label or none is not None or calibrate):
        raise TextError(
            f"one label ({names[0]!r:.60}) would always score 100: give a second label, or use --multi-label"
        )
    return labels


def _without_copies(pictures: list[str], copy_to: Path | None) -> list[str]:
    """Leave out pictures that an earlier run copied into the folder of --copy-to."""
    from diptych.cli.classify.pictures import is_address

    if copy_to is None:
        return pictures
    for name in pictures:
        if is_address(name):
            raise InputError(f"--copy-to copies local files, but {name} is an address: leave one of them out")
    home = copy_to.resolve()
    remaining = [name for name in pictures if not Path(name).resolve().is_relative_to(home)]
    if not remaining:
        raise InputError(
            f"all {len(pictures)} pictures are already in {copy_to}: name another folder to copy from"
        )
    return remaining


def _fit(
    encoder: Encoder,
    labels: Any,
    saved: Path | None,
    templates: str,
    multi_label: bool,
    none: float | None,
) -> ZeroShotClassifier:
    """Load a saved classifier, or fit one to labels."""
    from diptych.cli.shared.labels import prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    if saved is not None:
        classifier = ZeroShotClassifier.load(saved, encoder)
        return classifier if none is None else classifier.refuse_below(none)
    auto = templates == "auto"
    classifier = ZeroShotClassifier(
        encoder, templates=None if auto else templates, multi_label=multi_label, none_cutoff=none
    )
    return classifier.fit(prompts_for(labels) if auto else labels)


def _calibrate(classifier: ZeroShotClassifier, stream: ImageEmbedder, folder: str | None) -> None:
    """Set the cut-off for "none of these" from a folder of pictures, if one is given."""
    if folder is None:
        return
    import numpy as np

    from diptych.cli.classify.pictures import gather

    failures: dict[str, str] = {}
    names = gather([folder], allow_urls=False, stdin=sys.stdin)
    embeddings = [embedding for _, embedding in stream.embed(names, failures)]
    if not embeddings:
        raise InputError(
            f"calibration needs pictures, but none of the {len(names)} in {folder} could be read"
        )
    classifier.calibrate(np.stack(embeddings))  # (N, E)


def _writer(
    fitted: ZeroShotClassifier, pictures: int, top: int | None, *, json: bool, csv: bool, groups: bool
) -> Writer:
    from diptych.cli.classify.answers import CsvWriter, JsonWriter, TableWriter

    if groups and not fitted.groups_:
        raise InputError(
            "--groups: the labels have no groups; expected --labels FILE.json such as "
            '{"animal": {"dog": null, "cat": null}, "vehicle": {"car": null}}'
        )
    labels = fitted.classes_.tolist()
    if csv:
        return CsvWriter(labels, fitted.groups_ if groups else ())
    if not json:
        return TableWriter(pictures, top, show_confidence=fitted.none_cutoff_ is not None)
    return JsonWriter(
        {
            "model": fitted.encoder.identity,
            "labels": labels,
            **({"groups": list(fitted.groups_)} if groups else {}),
            "multi_label": fitted.multi_label,
            "none_cutoff": fitted.none_cutoff_,
        }
    )


def _run(
    stream: ImageEmbedder,
    fitted: ZeroShotClassifier,
    pictures: list[str],
    writer: Writer,
    top: int | None,
    copy_to: Path | None,
    *,
    groups: bool,
) -> None:
    """Classify the pictures, copy them if wanted, report failures and exit with the right status."""
    from diptych.cli.classify.answers import NONE
    from diptych.cli.classify.sorting import copy_into, folders_of

    folders = folders_of([*fitted.classes_.tolist(), NONE])
    failures: dict[str, str] = {}
    for name, embedding in stream.embed(pictures, failures):
        result = _classify_one(fitted, name, embedding, top or 5, groups=groups)
        writer.write(result)
        if copy_to is not None:
            for label in result.labels or (NONE,):
                copy_into(copy_to / folders[label], Path(name))
    writer.close(failures)
    if failures:
        _report(failures, len(pictures))
        raise typer.Exit(2 if len(failures) == len(pictures) else 1)


def _classify_one(
    fitted: ZeroShotClassifier, name: str, embedding: Any, top: int, *, groups: bool
) -> PictureResult:
    """Classify one picture by its embedding, (E,)."""
    from diptych.cli.classify.answers import PictureResult

    # One picture at a time: a product of a batch rounds differently, so that the printed figures would depend
    # on which pictures are in one batch. Encoding takes nearly all of the time anyway.
    row = embedding.reshape(1, -1)
    predicted = fitted.predict(row)[0]
    labels = predicted if isinstance(predicted, tuple) else () if predicted is None else (predicted,)
    group_scores = 100 * fitted.group_proba(row)[0] if groups else ()
    return PictureResult(
        path=name,
        labels=tuple(labels),
        top=tuple(fitted.top(row, top)[0]),
        confidence=float(fitted.confidence(row)[0]),
        scores=tuple(fitted.scores(row)[0].tolist()),
        groups=tuple(
            (group, float(score)) for group, score in zip(fitted.groups_, group_scores, strict=False)
        ),
    )


def _report(failures: dict[str, str], total: int) -> None:
    """Print the pictures that could not be read on standard error."""
    print_message("failed", f"{len(failures)} of {total} pictures could not be read:")
    for name, reason in list(failures.items())[:SHOWN_FAILURES]:
        typer.echo(f"  {clean(reason if name in reason else f'{name}: {reason}')}", err=True)
    if len(failures) > SHOWN_FAILURES:
        typer.echo(f"  and {len(failures) - SHOWN_FAILURES} more (--json or --csv lists all)", err=True)
