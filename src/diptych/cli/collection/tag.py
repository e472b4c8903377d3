"""`diptych tag`: tag the pictures of a catalogue, from labels or by hand, and write XMP sidecars."""

from __future__ import annotations

import functools
import json as jsonlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection import annotation_output
from diptych.cli.collection.tag_by_hand import ByHandOptions, Pictures, annotate_pictures
from diptych.cli.shared import catalogs
from diptych.cli.shared.encoders import CatalogModelOptions
from diptych.cli.shared.filters import FilterOptions, check_filter
from diptych.cli.shared.labels import fit_classifier, merge_labels, templates_option
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import OutputOptions, flag, option
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.catalog import Filter, Store
    from diptych.catalog.tags.tagging import TaggingReport, TagRule
    from diptych.encoder import Encoder

_rule_option = functools.partial(option, rich_help_panel="Giving")


@dataclass(frozen=True)
class LabelListOptions:
    """The list of labels to tag with, and what is done with its tags."""

    labels: Annotated[
        Path | None,
        option(
            "FILE",
            "A file of labels: one per line, JSON (list, name -> texts, or groups of these), CSV or YAML.",
        ),
    ] = None
    label: Annotated[
        list[str] | None,
        option("TEXT", "A label; repeat it for several.", "--label", "-l"),
    ] = None
    origin: Annotated[
        str | None,
        option(
            "NAME",
            "The name of this list of labels: a later run with the same name replaces its tags. "
            "Default: the file's name, or the labels themselves.",
            show_default=False,
        ),
    ] = None
    clear: Annotated[str | None, option("NAME", "Remove all tags of this list.", show_default=False)] = None
    dry_run: Annotated[
        bool, flag("--dry-run", "Change nothing; count the pictures of each tag and name the best ones.")
    ] = False

    def read(self) -> tuple[Any, str]:
        """The labels as they were written, and the name of their list."""
        words = self.label or []
        # With one default name for all lists, a second list would replace the tags of the first.
        origin = self.labels.stem if self.labels is not None else ", ".join(words)
        return merge_labels(self.labels, words), self.origin or origin


@dataclass(frozen=True)
class RuleOptions:
    """Which labels become tags of a picture."""

    templates: Annotated[str, templates_option(rich_help_panel="Giving")] = "auto"
    top: Annotated[
        int | None,
        _rule_option("N", "Give a picture at most N tags.", "--top", "-k", min=1),
    ] = None
    least: Annotated[
        float,
        _rule_option(
            "X",
            "Give a tag only if its label beats 'a photo of something' with at least this probability.",
            min=0,
            max=1,
        ),
    ] = 0.9
    exclusive: Annotated[
        bool,
        flag(
            "--one",
            "Labels exclude each other: give a picture only the nearest label, if it fits.",
            rich_help_panel="Giving",
        ),
    ] = False

    def rule(self) -> TagRule:
        """The rule that these options describe."""
        from diptych.catalog.tags.tagging import TagRule

        if self.exclusive and self.top is not None:
            raise typer.BadParameter("--one gives each picture one tag: leave out --top")
        return TagRule(self.least, self.top, self.exclusive)


@dataclass(frozen=True)
class SidecarOptions:
    """XMP sidecar files, by which other programs read the tags."""

    xmp: Annotated[
        bool,
        flag(
            "--xmp",
            "Write tags as keywords (dc:subject) into XMP sidecar files; pictures are never changed.",
            rich_help_panel="Sidecars",
        ),
    ] = False
    xmp_undo: Annotated[
        bool,
        flag(
            "--xmp-undo", "Remove from the sidecars what --xmp wrote into them.", rich_help_panel="Sidecars"
        ),
    ] = False
    xmp_style: Annotated[
        str,
        option(
            "darktable|adobe",
            "Names of the sidecars: photo.jpg.xmp, as darktable and digiKam write, or photo.xmp.",
            rich_help_panel="Sidecars",
        ),
    ] = "darktable"


@with_groups
def tag(
    pictures: Pictures = None,
    catalog: catalogs.Catalog = None,
    *,
    label_list: LabelListOptions,
    by_hand: ByHandOptions,
    tagging: RuleOptions,
    sidecars: SidecarOptions,
    filters: FilterOptions,
    output: OutputOptions,
    encoding: CatalogModelOptions,
) -> None:
    """Tag the pictures of a catalogue by labels or by hand; without labels, list the tags.

    Each label is judged separately, so a picture may get several tags or
    none. Pictures are not read again: repeat the command when pictures were
    indexed or labels changed. [bold]diptych search --tag[/bold] finds tagged pictures.

    [bold]Examples[/bold]

      diptych tag --labels animals.txt --dry-run

      diptych tag --label "a dog" --label "snow" --origin winter --xmp

      diptych tag --add grandma --rate 5 ~/Pictures/birthday IMG_0031.jpg

      diptych search "playing children" --tag snow

      diptych tag --clear winter --xmp

    A picture keeps tags and ratings that were given by hand when its file is
    renamed, moved or edited, or leaves the catalogue and comes back.

    Exit status: 0 done, 1 some sidecars could not be written or some pictures
    are not in the catalogue, 2 nothing done.
    """
    picture_filter = filters.filter()
    tags_by_labels = bool(label_list.labels is not None or label_list.label)
    _check_combination(
        {
            "labels": label_list.labels or label_list.label,
            "clear": label_list.clear is not None,
            "dry run": label_list.dry_run,
            "by hand": by_hand.given,
            "pictures": pictures,
            "xmp": sidecars.xmp,
            "xmp undo": sidecars.xmp_undo,
            "filter": picture_filter,
        }
    )
    done: dict[str, Any] = {}  # as --json prints it
    with catalogs.open_catalog(catalog) as store:
        check_filter(picture_filter, store.database)
        if label_list.clear is not None:
            done["cleared"] = _clear(store, label_list.clear)
        if by_hand.given:
            done["by_hand"] = annotate_pictures(store, pictures or [], picture_filter, by_hand)
        if tags_by_labels:
            rule, (labels, origin) = tagging.rule(), label_list.read()
            encoder, _ = catalogs.encoder_for(store, encoding)
            tag_labels = _Tagging(labels, origin, tagging.templates, rule, label_list.dry_run)
            done |= tag_labels.run(store, encoder, picture_filter, output)
        if sidecars.xmp or sidecars.xmp_undo:
            done["sidecars"] = _write_sidecars(store, sidecars, picture_filter, output)
        if not done:
            done["tags"] = _count_tags(store)
    typer.echo(jsonlib.dumps(done)) if output.json else annotation_output.print_done(done)
    if failures := done.get("sidecars", {}).get("failed"):
        annotation_output.print_sidecar_failures(failures)
    if by_hand.given and (done["by_hand"]["unknown"] or not done["by_hand"]["pictures"]):
        raise typer.Exit(1)


_CONTRADICTIONS = (
    # Any option of the first set, together with any of the second.
    ({"clear"}, {"labels"}, "--clear removes tags: give labels in another command"),
    ({"xmp"}, {"dry run", "xmp undo"}, "--xmp writes sidecars: leave out --dry-run and --xmp-undo"),
    (
        {"dry run"},
        {"xmp undo", "clear"},
        "--dry-run counts the pictures of each label: leave out --clear and --xmp-undo",
    ),
    (
        {"by hand"},
        {"labels", "clear", "dry run"},
        "--add, --remove and --rate tag by hand: give labels, --clear and --dry-run in another command",
    ),
    ({"clear"}, {"filter"}, "--clear removes the tags of a whole list: leave out the filters"),
)


def _check_combination(values: dict[str, object]) -> None:
    """Refuse options that contradict each other."""
    chosen = {name for name, value in values.items() if value}
    for first, second, message in _CONTRADICTIONS:
        if chosen & first and chosen & second:
            raise typer.BadParameter(message)
    if "pictures" in chosen and "by hand" not in chosen:
        raise typer.BadParameter("PICTURE needs --add, --remove or --rate: say what to do with the pictures")


def _clear(store: Store, origin: str) -> dict[str, Any]:
    from diptych.catalog.annotations.annotations import ORIGINS_READ
    from diptych.catalog.annotations.tags import clear_tags, count_tags

    origins = dict.fromkeys(entry.origin for entry in count_tags(store.database))
    if origin.strip() in ORIGINS_READ:
        raise InputError(f"tags of {origin.strip()!r} come from the files: change them in the files")
    if origin.strip() not in origins:
        raise InputError(f"no list is called {origin!r}; there are {', '.join(origins) or 'no tags at all'}")
    return {"origin": origin, "tags": clear_tags(store.database, origin.strip())}


@dataclass(frozen=True)
class _Tagging:
    """Tags from a list of labels."""

    labels: Any
    origin: str  # the name of the list
    templates: str
    rule: TagRule
    dry_run: bool

    def run(
        self, store: Store, encoder: Encoder, picture_filter: Filter, output: OutputOptions
    ) -> dict[str, Any]:
        """Tag the pictures that pass the filter; returns what --json prints."""
        from diptych.catalog import Searcher
        from diptych.catalog.tags.tagging import group_members, tag_pictures

        searcher = Searcher(store, encoder)
        # Softmax against a background prompt for every model: the sigmoids of SigLIP are low even for a
        # label that fits.
        classifier = fit_classifier(
            encoder, self.labels, self.templates, activation="softmax", multi_label=True
        )
        with output.progress("tagging", len(store), unit="pictures") as advance:
            report = tag_pictures(
                searcher,
                classifier,
                self.origin,
                self.rule,
                groups=group_members(self.labels),
                filters=picture_filter,
                write=not self.dry_run,
                progress=advance,
            )
        return self._to_json(store, report)

    def _to_json(self, store: Store, report: TaggingReport) -> dict[str, Any]:
        """Counts and best pictures of each tag."""
        from diptych.catalog import read_entries

        examples = {content for best in report.examples.values() for _, content in best}
        names = {entry.content: entry.name for entry in read_entries(store.database, sorted(examples))}
        return {
            "origin": self.origin,
            "dry_run": self.dry_run,
            "judged": report.judged,
            "tagged": report.tagged,
            "changed": report.changed,
            "labels": [
                {
                    "tag": tag,
                    "pictures": count,
                    "examples": [
                        {"id": content, "path": names.get(content, ""), "score": score}
                        for score, content in report.examples[tag]
                    ],
                }
                for tag, count in sorted(report.counts.items(), key=lambda item: -item[1])
            ],
        }


def _write_sidecars(
    store: Store, sidecars: SidecarOptions, picture_filter: Filter, output: OutputOptions
) -> dict[str, Any]:
    from diptych.catalog.tags.sidecars import write_sidecars

    with output.progress("sidecars", len(store), unit="pictures") as advance:
        outcome = write_sidecars(
            store,
            sidecars.xmp_style,  # type: ignore[arg-type]  # checked by the callee
            filters=picture_filter,
            undo=sidecars.xmp_undo,
            progress=advance,
        )
    return {
        "written": outcome.written,
        "unchanged": outcome.unchanged,
        "removed": outcome.removed,
        "inside_archives": outcome.inside,
        "missing": outcome.missing,
        "failed": [{"path": str(path), "reason": reason} for path, reason in outcome.failures],
    }


def _count_tags(store: Store) -> list[dict[str, Any]]:
    from diptych.catalog.annotations.tags import count_tags

    return [
        {"origin": count.origin, "tag": count.tag, "pictures": count.pictures}
        for count in count_tags(store.database)
    ]
