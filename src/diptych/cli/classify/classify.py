"""`diptych classify`: zero-shot classification of pictures by labels in words."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import print_failures
from diptych.cli.shared.encoders import EncoderSettings
from diptych.cli.shared.labels import fit_classifier, merge_labels, note_language, templates_option
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import argument, flag, option
from diptych.errors import InputError, TextError, counted

if TYPE_CHECKING:
    from diptych.cli.classify.answers import PictureResult, Writer
    from diptych.cli.classify.pictures import ImageEmbedder
    from diptych.encoder import Encoder
    from diptych.zeroshot import ZeroShotClassifier

SHOWN_FAILURES = 20


@dataclass(frozen=True)
class LabelOptions:
    """The labels, and how a classifier is made from them."""

    label: Annotated[
        list[str] | None,
        option("TEXT", "A label, even if a file has that name; repeat it for several.", "--label", "-l"),
    ] = None
    labels: Annotated[
        Path | None,
        option("FILE", "A file of labels: one per line, JSON (list, or name -> texts), CSV or YAML."),
    ] = None
    classifier: Annotated[
        Path | None, option("FILE", "Use a classifier saved by --save-classifier instead of labels.")
    ] = None
    templates: Annotated[str, templates_option()] = "auto"
    multi_label: Annotated[
        bool, flag("--multi-label", "Judge each label separately: a picture may get several or none.")
    ] = False
    none: Annotated[
        float | None,
        option(
            "X",
            "Answer 'none of these' below this confidence, and print the confidence. It lies between "
            "1/N and 1 for N labels (softmax of the cosines), between -1 and 1 for one label (cosine).",
        ),
    ] = None
    calibrate: Annotated[
        str | None,
        option(
            "DIR", "Set the cut-off of --none from a folder of pictures that each show one of the labels."
        ),
    ] = None

    def check(self) -> None:
        """Refuse options that would have no effect together with others."""
        has_none = self.none is not None
        has_templates = self.templates != "auto"
        may_be_empty = "it may give no label anyway"
        pairs = (
            (
                "--classifier",
                self.classifier,
                "--multi-label",
                self.multi_label,
                "the saved classifier sets it",
            ),
            (
                "--classifier",
                self.classifier,
                "--templates",
                has_templates,
                "the saved classifier holds its prompts",
            ),
            ("--multi-label", self.multi_label, "--none", has_none, may_be_empty),
            ("--multi-label", self.multi_label, "--calibrate", self.calibrate, may_be_empty),
            ("--none", has_none, "--calibrate", self.calibrate, "both set the cut-off"),
        )
        for first, has_first, second, has_second, reason in pairs:
            if has_first and has_second:
                raise InputError(f"{second} does not go with {first}: {reason}; leave one of them out")

    def read(self, words: list[str]) -> Any:
        """Read and check the labels, before the model is loaded; None with --classifier.

        `words` are labels that were given without an option.
        """
        from diptych.zeroshot.labels import read_labels

        texts = words + (self.label or [])
        if self.classifier is not None:
            if texts or self.labels:
                extra = repr(texts[0]) if texts else f"--labels {self.labels}"
                raise TextError(
                    f"--classifier has its own labels, so {extra} cannot be added: leave one of them out"
                )
            return None
        labels = merge_labels(self.labels, texts)
        if not labels:
            raise TextError(
                'no labels, since every word names an existing file. Add labels such as "a dog" "a cat", or '
                "give --label 'a dog', --labels FILE or --classifier FILE"
            )
        names = [label.name for label in read_labels(labels)]
        if len(names) == 1 and not (self.multi_label or self.none is not None or self.calibrate):
            raise TextError(
                f"one label ({names[0]!r:.60}) would always score 100: give a second label, or use "
                "--multi-label"
            )
        return labels

    def fit(self, encoder: Encoder, labels: Any) -> ZeroShotClassifier:
        """Load the saved classifier, or fit one to the labels."""
        from diptych.zeroshot import ZeroShotClassifier

        if self.classifier is None:
            return fit_classifier(
                encoder, labels, self.templates, multi_label=self.multi_label, none_cutoff=self.none
            )
        classifier = ZeroShotClassifier.load(self.classifier, encoder)
        return classifier if self.none is None else classifier.refuse_below(self.none)


@dataclass(frozen=True)
class ResultOptions:
    """How the results are printed, and where the pictures are copied."""

    top: Annotated[
        int | None, option("N", "Show the N best labels of each picture.", "--top", "-k", min=1)
    ] = None
    json: options.Json = False
    csv: Annotated[
        bool,
        flag("--csv", "Print CSV, one row per picture with the score of every label."),
    ] = False
    groups: Annotated[
        bool,
        flag("--groups", "Also score the groups of a hierarchy of labels in JSON."),
    ] = False
    copy_to: Annotated[
        Path | None, option("DIR", "Copy each picture into a subfolder named after its label.")
    ] = None

    def writer(self, fitted: ZeroShotClassifier, pictures: int) -> Writer:
        """The table, JSON or CSV that these options choose."""
        from diptych.cli.classify.answers import CsvWriter, JsonWriter, TableWriter

        if self.groups and not fitted.groups_:
            raise InputError(
                "--groups: the labels have no groups; expected --labels FILE.json such as "
                '{"animal": {"dog": null, "cat": null}, "vehicle": {"car": null}}'
            )
        labels = fitted.classes_.tolist()
        if self.csv:
            return CsvWriter(labels, fitted.groups_ if self.groups else ())
        if not self.json:
            return TableWriter(pictures, self.top, show_confidence=fitted.none_cutoff_ is not None)
        return JsonWriter(
            {
                "model": fitted.encoder.identity,
                "labels": labels,
                **({"groups": list(fitted.groups_)} if self.groups else {}),
                "multi_label": fitted.multi_label,
                "none_cutoff": fitted.none_cutoff_,
            }
        )

    def without_copies(self, pictures: list[str]) -> list[str]:
        """Leave out pictures that an earlier run copied into the folder of --copy-to."""
        from diptych.cli.classify.pictures import is_address

        if self.copy_to is None:
            return pictures
        for name in pictures:
            if is_address(name):
                raise InputError(
                    f"--copy-to copies local files, but {name} is an address: leave one of them out"
                )
        home = self.copy_to.resolve()
        remaining = [name for name in pictures if not Path(name).resolve().is_relative_to(home)]
        if not remaining:
            raise InputError(
                f"every picture ({len(pictures):,}) is already in {self.copy_to}: name another folder to "
                "copy from"
            )
        return remaining


@dataclass(frozen=True)
class ClassifyModelOptions(EncoderSettings):
    """The model, and how it computes."""

    model: options.Model = "default"
    pretrained: options.Pretrained = None
    exact: options.Exact = False
    on_long: options.OnLong = "cut"
    runtime: options.Runtime = "auto"
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"
    batch_size: options.BatchSize = "auto"


@with_groups
def classify(
    words: Annotated[
        list[str] | None,
        argument(
            "PICTURE|LABEL",
            "Pictures and labels: existing files, folders, patterns and addresses are pictures, other "
            "words are labels.",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        option("PATH", "A picture, folder or pattern; repeat it for several.", "--images", "-i"),
    ] = None,
    *,
    labelling: LabelOptions,
    results: ResultOptions,
    save_classifier: Annotated[Path | None, option("FILE", "Save the classifier for --classifier.")] = None,
    allow_urls: Annotated[
        bool, flag("--allow-urls", "Download pictures given by http(s) addresses.")
    ] = False,
    quiet: options.Quiet = False,
    encoding: ClassifyModelOptions,
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

    if results.json and results.csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    names, texts = sort_words(words or [], quiet=quiet)
    if not (names := [*names, *(images or [])]):
        raise nothing_named(texts)
    labelling.check()
    labels = labelling.read(texts)
    pictures = results.without_copies(gather(names, allow_urls=allow_urls, stdin=sys.stdin))
    encoder = encoding.open(encoding.model, encoding.pretrained)
    threads, batch_size = encoding.counts(32)
    embedder = ImageEmbedder(encoder, encoding.exact, threads, batch_size, quiet, frozenset(names))
    note_language(labels, encoder, quiet=quiet)
    fitted = labelling.fit(encoder, labels)
    _calibrate(fitted, embedder, labelling.calibrate)
    if save_classifier is not None:
        fitted.save(save_classifier)
    _run(embedder, fitted, pictures, results)


def _calibrate(classifier: ZeroShotClassifier, embedder: ImageEmbedder, folder: str | None) -> None:
    """Set the cut-off for "none of these" from a folder of pictures, if one is given."""
    if folder is None:
        return
    import numpy as np

    from diptych.cli.classify.pictures import gather

    failures: dict[str, str] = {}
    names = gather([folder], allow_urls=False, stdin=sys.stdin)
    embeddings = [embedding for _, embedding in embedder.embed(names, failures)]
    if not embeddings:
        raise InputError(
            f"calibration needs pictures, but none of the {len(names)} in {folder} could be read"
        )
    classifier.calibrate(np.stack(embeddings))  # (N, E)


def _run(
    embedder: ImageEmbedder, fitted: ZeroShotClassifier, pictures: list[str], results: ResultOptions
) -> None:
    """Classify the pictures, copy them for --copy-to, report failures and exit with the right status."""
    from diptych.cli.classify.answers import NONE
    from diptych.cli.classify.pictures import copy_into, folder_names

    writer = results.writer(fitted, len(pictures))
    folders = folder_names([*fitted.classes_.tolist(), NONE])
    failures: dict[str, str] = {}
    for name, embedding in embedder.embed(pictures, failures):
        result = _classify_one(fitted, name, embedding, results.top or 5, groups=results.groups)
        writer.write(result)
        if results.copy_to is not None:
            for label in result.labels or (NONE,):
                copy_into(results.copy_to / folders[label], Path(name))
    writer.close(failures)
    if failures:
        summary = f"{len(failures)} of {counted(len(pictures), 'picture')} could not be read:"
        lines = [reason if name in reason else f"{name}: {reason}" for name, reason in failures.items()]
        print_failures(summary, lines, most=SHOWN_FAILURES, complete="--json or --csv lists")
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
