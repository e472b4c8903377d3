"""`diptych tag`: tag the pictures of a catalogue, from labels or by hand, and write XMP sidecars."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection import catalogs, tag_by_hand, tag_output
from diptych.cli.collection.filtering import FilterOptions, filter_check
from diptych.cli.shared import options
from diptych.cli.shared.console import progress
from diptych.cli.shared.option_groups import with_group
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.catalog import Filter, Store
    from diptych.catalog.tags.tagging import TaggingReport, TagRule
    from diptych.encoder import Encoder

_GIVING, _SIDECARS = "Giving", "Sidecars"

Label = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="TEXT", help="A label; repeat it for several."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="A file of labels: one per line, JSON (list, name -> texts, or groups of these), CSV or YAML.",
    ),
]
Origin = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The name of this list of labels: a later run with the same name replaces its tags. Default: "
        "the file's name, or the labels themselves.",
        show_default=False,
    ),
]
Templates = Annotated[
    str,
    typer.Option(
        metavar="auto|NAME|TEXT",
        help="Prompt templates: auto makes a sentence of each label; or plain, bare, imagenet80, ..., or a "
        "text with {}.",
        rich_help_panel=_GIVING,
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top", "-k", metavar="N", min=1, help="Give a picture at most N tags.", rich_help_panel=_GIVING
    ),
]
Least = Annotated[
    float,
    typer.Option(
        metavar="X",
        min=0,
        max=1,
        help="Give a tag only if its label beats 'a photo of something' with at least this probability.",
        rich_help_panel=_GIVING,
    ),
]
Exclusive = Annotated[
    bool,
    typer.Option(
        "--one",
        metavar="",
        help="Labels exclude each other: give a picture only the nearest label, if it fits.",
        rich_help_panel=_GIVING,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", metavar="", help="Change nothing; count the pictures of each tag and name the best ones."
    ),
]
Clear = Annotated[
    str | None, typer.Option(metavar="NAME", help="Remove all tags of this list.", show_default=False)
]
Xmp = Annotated[
    bool,
    typer.Option(
        "--xmp",
        metavar="",
        help="Write tags as keywords (dc:subject) into XMP sidecar files; pictures are never changed.",
        rich_help_panel=_SIDECARS,
    ),
]
XmpUndo = Annotated[
    bool,
    typer.Option(
        "--xmp-undo",
        metavar="",
        help="Remove from the sidecars what --xmp wrote into them.",
        rich_help_panel=_SIDECARS,
    ),
]
XmpStyle = Annotated[
    str,
    typer.Option(
        metavar="darktable|adobe",
        help="Names of the sidecars: photo.jpg.xmp, as darktable and digiKam write, or photo.xmp.",
        rich_help_panel=_SIDECARS,
    ),
]


@with_group("filters", "encoding")
def tag(
    pictures: tag_by_hand.Pictures = None,
    catalog: catalogs.Catalog = None,
    labels: LabelsFile = None,
    label: Label = None,
    origin: Origin = None,
    clear: Clear = None,
    dry_run: DryRun = False,
    add: tag_by_hand.Add = None,
    remove: tag_by_hand.Remove = None,
    rate: tag_by_hand.Rate = None,
    templates: Templates = "auto",
    top: Top = None,
    least: Least = 0.9,
    one: Exclusive = False,
    xmp: Xmp = False,
    xmp_undo: XmpUndo = False,
    xmp_style: XmpStyle = "darktable",
    *,
    filters: FilterOptions,
    json: options.Json = False,
    quiet: options.Quiet = False,
    encoding: catalogs.ModelOptions,
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
    by_hand = bool(add or remove or rate is not None)
    where = filters.filter()
    chosen: dict[str, object] = {"labels": labels or label, "clear": clear is not None, "dry run": dry_run}
    chosen |= {"by hand": by_hand, "pictures": pictures, "xmp": xmp, "xmp undo": xmp_undo, "filter": where}
    _check_combination({name for name, value in chosen.items() if value})
    done: dict[str, Any] = {}  # as --json prints it
    with catalogs.open_catalog(catalog) as store:
        filter_check(where)(store.database)
        if clear is not None:
            done["cleared"] = _clear(store, clear)
        if by_hand:
            done["by_hand"] = tag_by_hand.annotate_pictures(
                store, pictures or [], where, add=add or [], remove=remove or [], rate=rate
            )
        if labels is not None or label:
            rule = _rule(least, top, one)
            label_list = _read_labels(labels, label or [], origin)
            encoder, _ = catalogs.encoder_for(store, encoding)
            tagged = _tag(store, encoder, label_list, templates, rule, where, write=not dry_run, quiet=quiet)
            done |= _to_json(store, label_list.origin, tagged, dry_run=dry_run)
        if xmp or xmp_undo:
            done["sidecars"] = _write_sidecars(store, xmp_style, where, undo=xmp_undo, quiet=quiet)
        if not done:
            done["tags"] = _count_tags(store)
    typer.echo(jsonlib.dumps(done)) if json else tag_output.print_done(done)
    if failures := done.get("sidecars", {}).get("failed"):
        tag_output.print_failures(failures)
    if by_hand and (done["by_hand"]["unknown"] or not done["by_hand"]["pictures"]):
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


def _check_combination(chosen: set[str]) -> None:
    """Refuse options that contradict each other."""
    for first, second, message in _CONTRADICTIONS:
        if chosen & first and chosen & second:
            raise typer.BadParameter(message)
    if "pictures" in chosen and "by hand" not in chosen:
        raise typer.BadParameter("PICTURE needs --add, --remove or --rate: say what to do with the pictures")


@dataclass(frozen=True)
class _LabelList:
    """Labels as they were written, and the name of their list."""

    names: Any
    origin: str


def _read_labels(file: Path | None, words: list[str], origin: str | None) -> _LabelList:
    from diptych.cli.shared.labels import distinct
    from diptych.zeroshot.label_files import read_labels_file

    names = read_labels_file(file) if file is not None else []
    if words and isinstance(names, dict):
        raise InputError(
            f"{file} has texts for each label, so --label cannot add to it: leave one of them out"
        )
    if not isinstance(names, dict):
        names = distinct([*names, *words])
    # With one default name for all lists, a second list would replace the tags of the first.
    return _LabelList(names, origin or (file.stem if file is not None else ", ".join(words)))


def _rule(least: float, top: int | None, one: bool) -> TagRule:
    from diptych.catalog.tags.tagging import TagRule

    if one and top is not None:
        raise typer.BadParameter("--one gives each picture one tag: leave out --top")
    return TagRule(least, top, one)


def _clear(store: Store, origin: str) -> dict[str, Any]:
    from diptych.catalog.annotations.annotations import ORIGINS_READ
    from diptych.catalog.annotations.tags import clear_tags, count_tags

    origins = dict.fromkeys(entry.origin for entry in count_tags(store.database))
    if origin.strip() in ORIGINS_READ:
        raise InputError(f"tags of {origin.strip()!r} come from the files: change them in the files")
    if origin.strip() not in origins:
        raise InputError(f"no list is called {origin!r}; there are {', '.join(origins) or 'no tags at all'}")
    return {"origin": origin, "tags": clear_tags(store.database, origin.strip())}


def _tag(
    store: Store,
    encoder: Encoder,
    labels: _LabelList,
    templates: str,
    rule: TagRule,
    where: Filter,
    *,
    write: bool,
    quiet: bool,
) -> TaggingReport:
    """Fit a multi-label classifier to the labels and tag the pictures that pass the filter."""
    from diptych.catalog import Searcher
    from diptych.catalog.tags.tagging import group_members, tag_pictures
    from diptych.cli.shared.labels import prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    searcher = Searcher(store, encoder)
    auto = templates == "auto"
    # Softmax against a background prompt for every model: the sigmoids of SigLIP are low even for a label
    # that fits.
    classifier = ZeroShotClassifier(
        encoder, templates=None if auto else templates, activation="softmax", multi_label=True
    )
    classifier.fit(prompts_for(labels.names) if auto else labels.names)
    with progress("tagging", len(store), unit="pictures", quiet=quiet) as advance:
        return tag_pictures(
            searcher,
            classifier,
            labels.origin,
            rule,
            groups=group_members(labels.names),
            where=where,
            write=write,
            progress=advance,
        )


def _write_sidecars(store: Store, style: str, where: Filter, *, undo: bool, quiet: bool) -> dict[str, Any]:
    from diptych.catalog.tags.sidecars import write_sidecars

    with progress("sidecars", len(store), unit="pictures", quiet=quiet) as advance:
        outcome = write_sidecars(store, style, where=where, undo=undo, progress=advance)  # type: ignore[arg-type] # checked by the callee
    return {
        "written": outcome.written,
        "unchanged": outcome.unchanged,
        "removed": outcome.removed,
        "inside_archives": outcome.inside,
        "missing": outcome.missing,
        "failed": [{"path": str(path), "reason": reason} for path, reason in outcome.failures],
    }


def _to_json(store: Store, origin: str, tagged: TaggingReport, *, dry_run: bool) -> dict[str, Any]:
    """Counts and best pictures of each tag, as --json prints them."""
    from diptych.catalog import read_entries

    shown = [content for best in tagged.examples.values() for _, content in best]
    names = {entry.content: entry.name for entry in read_entries(store.database, sorted(set(shown)))}
    return {
        "origin": origin,
        "dry_run": dry_run,
        "judged": tagged.judged,
        "tagged": tagged.tagged,
        "changed": tagged.changed,
        "labels": [
            {
                "tag": tag,
                "pictures": count,
                "examples": [
                    {"id": content, "path": names.get(content, ""), "score": score}
                    for score, content in tagged.examples[tag]
                ],
            }
            for tag, count in sorted(tagged.counts.items(), key=lambda item: -item[1])
        ],
    }


def _count_tags(store: Store) -> list[dict[str, Any]]:
    from diptych.catalog.annotations.tags import count_tags

    return [
        {"origin": count.origin, "tag": count.tag, "pictures": count.pictures}
        for count in count_tags(store.database)
    ]
