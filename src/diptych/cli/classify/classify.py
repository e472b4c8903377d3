"""`diptych classify`: pictures named from words alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import clean, complain, progress
from diptych.errors import InputError, TextError

if TYPE_CHECKING:
    from diptych.cli.classify.answers import Answer, Writer
    from diptych.encoder import Encoder
    from diptych.zeroshot import ZeroShotClassifier

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PICTURE|LABEL",
        help="What is there as a file, folder, pattern or address is a picture; the other words are labels.",
        show_default=False,
    ),
]
Images = Annotated[
    list[str] | None, typer.Option("--images", "-i", metavar="PATH", help="Pictures, said outright.")
]
Label = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="TEXT", help="A label, said outright.")
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Labels from a file: one a line, JSON (list, or name -> texts), CSV or YAML.",
    ),
]
Classifier = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A classifier saved before, instead of labels.")
]
Templates = Annotated[
    str,
    typer.Option(
        metavar="auto|NAME|TEXT",
        help="Prompts: auto makes a sentence of each label; plain, bare, imagenet80, ...; or text with {}.",
    ),
]
MultiLabel = Annotated[
    bool, typer.Option("--multi-label", metavar="", help="Judge each label by itself: several may fit.")
]
NoneCutoff = Annotated[
    float | None,
    typer.Option(
        "--none",
        metavar="X",
        help="Say 'none of these' where confidence is under X, and print it: for N labels it lies between "
        "1/N and 1 (a softmax of the cosines), for one label between -1 and 1 (its cosine).",
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Find that cut-off from pictures that do show one of the labels."),
]
Top = Annotated[
    int | None, typer.Option("--top", "-k", metavar="N", min=1, help="Labels shown for each picture.")
]
Csv = Annotated[
    bool, typer.Option("--csv", metavar="", help="Print one row a picture, with every label's score.")
]
Groups = Annotated[
    bool,
    typer.Option(
        "--groups", metavar="", help="Score the groups of labels too; labels are groups of labels in JSON."
    ),
]
CopyTo = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Copy each picture into a subfolder named by its label.")
]
SaveClassifier = Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the labels for next time.")]
AllowUrls = Annotated[
    bool, typer.Option("--allow-urls", metavar="", help="Fetch pictures named by http(s) addresses.")
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
    """Name pictures from words alone, with scores from 0 to 100.

    [bold]Examples[/bold]

      diptych classify cat.jpg "a dog" "a cat" "a beaver"

      diptych classify ~/Pictures --labels labels.txt --csv > table.csv

      diptych classify ~/Pictures --labels animals.json --groups

      diptych classify 'shots/*.jpg' indoors outdoors --copy-to sorted

      find . -name '*.jpg' | diptych classify - "a receipt" "a person" --json

    Exit status: 0 done, 1 some pictures could not be read, 2 nothing done.
    """
    from diptych.cli.classify.pictures import gather, nothing_named, sort_words
    from diptych.cli.shared.labels import tell_language

    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    named, texts = sort_words(words or [], quiet=quiet)
    if not (named := [*named, *(images or [])]):
        raise nothing_named(texts)
    _refuse_ignored(classifier, templates, multi_label, none, calibrate)
    asked = _labels(texts + (label or []), labels, classifier, multi_label, none, calibrate)
    pictures = _to_copy(gather(named, allow_urls=allow_urls, stdin=sys.stdin), copy_to)
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
    stream = Stream(encoder, exact, *counts, quiet, frozenset(named))
    tell_language(asked, encoder, quiet=quiet)
    fitted = _fit(encoder, asked, classifier, templates, multi_label, none)
    _calibrate(fitted, stream, calibrate)
    if save_classifier is not None:
        fitted.save(save_classifier)
    writer = _writer(fitted, len(pictures), top, json=json, csv=csv, groups=groups)
    _run(stream, fitted, pictures, writer, top, copy_to, groups=groups)


@dataclass
class Stream:
    """Pictures to vectors, with progress; what could not be read is kept by name."""

    encoder: Encoder
    exact: bool
    threads: int | None
    batch_size: int | None
    quiet: bool
    typed: frozenset[str] = frozenset()  # what stood on the command line itself

    def vectors(self, pictures: Sequence[str], failures: dict[str, str]) -> Iterator[tuple[str, Any]]:
        """(name, vector) of every picture that can be read, in order; the others go to `failures`."""
        from diptych.cli.classify.pictures import sources
        from diptych.embedding.batches import Failed, embed_images

        with progress("classifying", len(pictures), unit="pictures", quiet=self.quiet) as advance:
            for result in embed_images(
                self.encoder,
                sources(pictures, failures.__setitem__, typed=self.typed),
                batch_size=self.batch_size or 32,
                threads=self.threads,
                exact=self.exact,
                progress=advance,
            ):
                if isinstance(result, Failed):
                    failures[result.key] = result.reason
                else:
                    yield result.key, result.vector


def _refuse_ignored(
    classifier: Path | None, templates: str, multi_label: bool, none: float | None, calibrate: str | None
) -> None:
    """Options that would say nothing beside others; better refused than ignored."""
    pairs = (
        ("--classifier", classifier, "--multi-label", multi_label, "it was saved with its own way to judge"),
        ("--classifier", classifier, "--templates", templates != "auto", "its labels are prompts already"),
        ("--multi-label", multi_label, "--none", none is not None, "it may answer with no label by itself"),
        ("--multi-label", multi_label, "--calibrate", calibrate, "it may answer with no label by itself"),
        ("--none", none is not None, "--calibrate", calibrate, "that finds the cut-off which this one sets"),
    )
    for first, one, second, other, reason in pairs:
        if one and other:
            raise InputError(f"{second} does not go with {first}: {reason}; leave one of them out")


def _labels(
    texts: list[str],
    file: Path | None,
    classifier: Path | None,
    multi_label: bool,
    none: float | None,
    calibrate: str | None,
) -> Any:
    """The labels asked for, in the form a classifier takes; checked before anything heavy is loaded."""
    from diptych.cli.shared.labels import distinct
    from diptych.zeroshot.label_files import read_labels_file
    from diptych.zeroshot.labels import read_labels

    if classifier is not None:
        if texts or file:
            given = repr(texts[0]) if texts else f"--labels {file}"
            raise TextError(
                f"--classifier brings its own labels, so {given} cannot be added: leave one of them out"
            )
        return None
    asked: Any = texts
    if file is not None:
        asked = read_labels_file(file)
        if isinstance(asked, dict) and texts:
            raise TextError(f"{file} names labels with their texts: labels on the line cannot be added to it")
        asked = asked if isinstance(asked, dict) else [*asked, *texts]
    if not asked:
        raise TextError(
            'no labels: every word names something on disk. Say what to look for, e.g. "a dog" "a cat", '
            "or --label 'a dog', --labels FILE, --classifier FILE"
        )
    asked = asked if isinstance(asked, dict) else distinct(asked)
    names = [label.name for label in read_labels(asked)]
    if len(names) == 1 and not (multi_label or none is not None or calibrate):
        raise TextError(
            f"one label ({names[0]!r:.60}) would always score 100: give another to compare, or "
            "--multi-label to judge it by itself"
        )
    return asked


def _to_copy(pictures: list[str], copy_to: Path | None) -> list[str]:
    """The pictures, without those that an earlier run has sorted."""
    from diptych.cli.classify.pictures import is_address

    if copy_to is None:
        return pictures
    for name in pictures:
        if is_address(name):
            raise InputError(
                f"--copy-to sorts files on this machine, and {name} is an address: leave one out"
            )
    home = copy_to.resolve()
    left = [name for name in pictures if not Path(name).resolve().is_relative_to(home)]
    if not left:
        raise InputError(f"all {len(pictures)} pictures are in {copy_to} already: name where to copy from")
    return left


def _fit(
    encoder: Encoder,
    labels: Any,
    saved: Path | None,
    templates: str,
    multi_label: bool,
    none: float | None,
) -> ZeroShotClassifier:
    """A classifier from a file, or from labels."""
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


def _calibrate(classifier: ZeroShotClassifier, stream: Stream, folder: str | None) -> None:
    """Find the cut-off for "none of these", where a folder to find it from is given."""
    if folder is None:
        return
    import numpy as np

    from diptych.cli.classify.pictures import gather

    failures: dict[str, str] = {}
    names = gather([folder], allow_urls=False, stdin=sys.stdin)
    rows = [vector for _, vector in stream.vectors(names, failures)]
    if not rows:
        raise InputError(f"none of the {len(names)} pictures in {folder} could be read to calibrate with")
    classifier.calibrate(np.stack(rows))


def _writer(
    fitted: ZeroShotClassifier, pictures: int, top: int | None, *, json: bool, csv: bool, groups: bool
) -> Writer:
    from diptych.cli.classify.answers import CsvWriter, JsonWriter, TableWriter

    if groups and not fitted.groups_:
        raise InputError(
            "--groups: the labels are in no groups; expected --labels FILE.json such as "
            '{"animal": {"dog": null, "cat": null}, "vehicle": {"car": null}}'
        )
    labels = fitted.classes_.tolist()
    if csv:
        return CsvWriter(labels, fitted.groups_ if groups else ())
    if not json:
        return TableWriter(pictures, top, sure=fitted.none_cutoff_ is not None)
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
    stream: Stream,
    fitted: ZeroShotClassifier,
    pictures: list[str],
    writer: Writer,
    top: int | None,
    copy_to: Path | None,
    *,
    groups: bool,
) -> None:
    """Answer for every picture, copy where asked, report what failed, and leave with the right status."""
    from diptych.cli.classify.answers import NONE
    from diptych.cli.classify.sorting import copy_into, folders_of

    folders = folders_of([*fitted.classes_.tolist(), NONE])
    failures: dict[str, str] = {}
    for name, vector in stream.vectors(pictures, failures):
        answer = _answer(fitted, name, vector, top or 5, groups=groups)
        writer.answer(answer)
        if copy_to is not None:
            for label in answer.labels or (NONE,):
                copy_into(copy_to / folders[label], Path(name))
    writer.close(failures)
    if failures:
        _report(failures, len(pictures))
        raise typer.Exit(2 if len(failures) == len(pictures) else 1)


def _answer(fitted: ZeroShotClassifier, name: str, vector: Any, top: int, *, groups: bool) -> Answer:
    from diptych.cli.classify.answers import Answer

    row = vector.reshape(1, -1)
    predicted = fitted.predict(row)[0]
    labels = predicted if isinstance(predicted, tuple) else () if predicted is None else (predicted,)
    shares = 100 * fitted.group_proba(row)[0] if groups else ()
    return Answer(
        path=name,
        labels=tuple(labels),
        top=tuple(fitted.top(row, top)[0]),
        confidence=float(fitted.confidence(row)[0]),
        scores=tuple(fitted.scores(row)[0].tolist()),
        groups=tuple((group, float(share)) for group, share in zip(fitted.groups_, shares, strict=False)),
    )


def _report(failures: dict[str, str], total: int) -> None:
    """What could not be read, on standard error."""
    complain("failed", f"{len(failures)} of {total} pictures could not be read:")
    for name, reason in list(failures.items())[:SHOWN_FAILURES]:
        typer.echo(f"  {clean(reason if name in reason else f'{name}: {reason}')}", err=True)
    if len(failures) > SHOWN_FAILURES:
        typer.echo(
            f"  and {len(failures) - SHOWN_FAILURES} more (all of them with --json or --csv)", err=True
        )
