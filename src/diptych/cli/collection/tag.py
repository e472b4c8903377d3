"""`diptych tag`: labels in words become tags of a catalogue's pictures, and keywords in XMP sidecars."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection import catalogs, tag_by_hand, tag_output
from diptych.cli.collection.filtering import NO_FILTER, FilterOptions, ready_for
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
    typer.Option("--label", "-l", metavar="TEXT", help="A label; several are several options."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Labels from a file: one a line, JSON (list, name -> texts, or groups of these), CSV or YAML.",
    ),
]
Origin = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What the list is called: its tags are replaced together. By default the file's name, or the "
        "labels themselves.",
        show_default=False,
    ),
]
Templates = Annotated[
    str,
    typer.Option(
        metavar="auto|NAME|TEXT",
        help="Prompts: auto makes a sentence of each label; plain, bare, imagenet80, ...; or text with {}.",
        rich_help_panel=_GIVING,
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top", "-k", metavar="N", min=1, help="At most so many tags a picture.", rich_help_panel=_GIVING
    ),
]
Least = Annotated[
    float,
    typer.Option(
        metavar="X",
        min=0,
        max=1,
        help="How much better a label must fit than 'a photo of something', 0 to 1.",
        rich_help_panel=_GIVING,
    ),
]
One = Annotated[
    bool,
    typer.Option(
        "--one",
        metavar="",
        help="Labels exclude each other: a picture gets the nearest, if it fits.",
        rich_help_panel=_GIVING,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", metavar="", help="Only count, and name the best pictures of each tag.")
]
Clear = Annotated[
    str | None, typer.Option(metavar="NAME", help="Take the tags of this list away.", show_default=False)
]
Xmp = Annotated[
    bool,
    typer.Option(
        "--xmp",
        metavar="",
        help="Write tags as keywords (dc:subject) into XMP sidecars; pictures are never touched.",
        rich_help_panel=_SIDECARS,
    ),
]
XmpUndo = Annotated[
    bool,
    typer.Option(
        "--xmp-undo",
        metavar="",
        help="Take out of the sidecars what was written into them here.",
        rich_help_panel=_SIDECARS,
    ),
]
XmpStyle = Annotated[
    str,
    typer.Option(
        metavar="darktable|adobe",
        help="Their names: photo.jpg.xmp, as darktable and digiKam have it, or photo.xmp.",
        rich_help_panel=_SIDECARS,
    ),
]


@with_group("filters")
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
    one: One = False,
    xmp: Xmp = False,
    xmp_undo: XmpUndo = False,
    xmp_style: XmpStyle = "darktable",
    filters: FilterOptions = NO_FILTER,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Tag the pictures of a catalogue, from words or by hand; without labels, show the tags there are.

    Each label is judged by itself, so a picture gets the tags that fit it, or
    none. No picture is read again: run it whenever pictures were indexed or
    labels have changed. [bold]diptych search --tag[/bold] uses tags.

    [bold]Examples[/bold]

      diptych tag --labels animals.txt --dry-run

      diptych tag --label "a dog" --label "snow" --origin winter --xmp

      diptych tag --add grandma --rate 5 ~/Pictures/birthday IMG_0031.jpg

      diptych search "playing children" --tag snow

      diptych tag --clear winter --xmp

    Tags and ratings by hand stay with a picture when its file is renamed,
    moved, edited in place, or leaves the catalogue and comes back.

    Exit status: 0 done, 1 some sidecars could not be written or some pictures
    are not in the catalogue, 2 nothing done.
    """
    by_hand = bool(add or remove or rate is not None)
    where = filters.filter()
    given: dict[str, object] = {"labels": labels or label, "clear": clear is not None, "dry run": dry_run}
    given |= {"by hand": by_hand, "pictures": pictures, "xmp": xmp, "xmp undo": xmp_undo, "filter": where}
    _check_combination({name for name, value in given.items() if value})
    told: dict[str, Any] = {}
    with catalogs.opened(catalog) as store:
        ready_for(where)(store.database)
        if clear is not None:
            told["cleared"] = _clear(store, clear)
        if by_hand:
            told["by_hand"] = tag_by_hand.annotate_pictures(
                store, pictures or [], where, add=add or [], remove=remove or [], rate=rate
            )
        if labels is not None or label:
            rule = _rule(least, top, one)
            asked = _labels(labels, label or [], origin)
            machine = {"device": device, "precision": precision, "threads": threads}
            encoder, _ = catalogs.encoder_for(store, model, pretrained, **machine)
            found = _give(store, encoder, asked, templates, rule, where, write=not dry_run, quiet=quiet)
            told |= _plain(store, asked.origin, found, dry_run=dry_run)
        if xmp or xmp_undo:
            told["sidecars"] = _sidecars(store, xmp_style, where, undo=xmp_undo, quiet=quiet)
        if not told:
            told["tags"] = _tags(store)
    typer.echo(jsonlib.dumps(told)) if json else tag_output.print_done(told)
    if failures := told.get("sidecars", {}).get("failed"):
        tag_output.print_failures(failures)
    if by_hand and (told["by_hand"]["unknown"] or not told["by_hand"]["pictures"]):
        raise typer.Exit(1)


_CONTRADICTIONS = (
    # Any of these, with any of those.
    ({"clear"}, {"labels"}, "--clear takes tags away: give labels in another command"),
    ({"xmp"}, {"dry run", "xmp undo"}, "--xmp writes sidecars: leave out --dry-run and --xmp-undo"),
    (
        {"dry run"},
        {"xmp undo", "clear"},
        "--dry-run counts what labels would give: leave out --clear and --xmp-undo",
    ),
    (
        {"by hand"},
        {"labels", "clear", "dry run"},
        "--add, --remove and --rate are by hand: give labels, --clear and --dry-run in another command",
    ),
    ({"clear"}, {"filter"}, "--clear takes a whole list away: leave out the filters"),
)


def _check_combination(given: set[str]) -> None:
    """Refuse options that contradict each other."""
    for first, second, message in _CONTRADICTIONS:
        if given & first and given & second:
            raise typer.BadParameter(message)
    if "pictures" in given and "by hand" not in given:
        raise typer.BadParameter("pictures are named for --add, --remove or --rate: say what to do with them")


@dataclass(frozen=True)
class _Asked:
    """Labels as they were written, and what their list is called."""

    names: Any
    origin: str


def _labels(file: Path | None, words: list[str], origin: str | None) -> _Asked:
    from diptych.cli.shared.labels import distinct
    from diptych.zeroshot.label_files import read_labels_file

    names = read_labels_file(file) if file is not None else []
    if words and isinstance(names, dict):
        raise InputError(f"{file} names labels with their texts: labels on the line cannot be added to it")
    if not isinstance(names, dict):
        names = distinct([*names, *words])
    # A name for all lists alike would make the second one take the first one's tags away.
    return _Asked(names, origin or (file.stem if file is not None else ", ".join(words)))


def _rule(least: float, top: int | None, one: bool) -> TagRule:
    from diptych.catalog.tags.tagging import TagRule

    if one and top is not None:
        raise typer.BadParameter("--one gives one tag a picture: leave out --top")
    return TagRule(least, top, one)


def _clear(store: Store, origin: str) -> dict[str, Any]:
    from diptych.catalog.annotations.annotations import ORIGINS_READ
    from diptych.catalog.annotations.tags import clear_tags, count_tags

    origins = dict.fromkeys(entry.origin for entry in count_tags(store.database))
    if origin.strip() in ORIGINS_READ:
        raise InputError(f"tags of {origin.strip()!r} are read from files: change them there")
    if origin.strip() not in origins:
        raise InputError(f"no tags are from {origin!r}; there are {', '.join(origins) or 'no tags at all'}")
    return {"origin": origin, "tags": clear_tags(store.database, origin.strip())}


def _give(
    store: Store,
    encoder: Encoder,
    asked: _Asked,
    templates: str,
    rule: TagRule,
    where: Filter,
    *,
    write: bool,
    quiet: bool,
) -> TaggingReport:
    """Judge and tag."""
    from diptych.catalog import Searcher
    from diptych.catalog.tags.tagging import group_members, tag_pictures
    from diptych.cli.shared.labels import prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    searcher = Searcher(store, encoder)
    auto = templates == "auto"
    # Beside a background for every model: the sigmoids of SigLIP are low even where a label fits.
    classifier = ZeroShotClassifier(
        encoder, templates=None if auto else templates, activation="softmax", multi_label=True
    )
    classifier.fit(prompts_for(asked.names) if auto else asked.names)
    with progress("tagging", len(store), unit="pictures", quiet=quiet) as advance:
        return tag_pictures(
            searcher,
            classifier,
            asked.origin,
            rule,
            groups=group_members(asked.names),
            where=where,
            write=write,
            progress=advance,
        )


def _sidecars(store: Store, style: str, where: Filter, *, undo: bool, quiet: bool) -> dict[str, Any]:
    from diptych.catalog.tags.sidecars import write_sidecars

    with progress("sidecars", len(store), unit="pictures", quiet=quiet) as advance:
        outcome = write_sidecars(store, style, where=where, undo=undo, progress=advance)  # type: ignore[arg-type] # checked there
    return {
        "written": outcome.written,
        "unchanged": outcome.unchanged,
        "removed": outcome.removed,
        "inside_archives": outcome.inside,
        "missing": outcome.missing,
        "failed": [{"path": str(path), "reason": reason} for path, reason in outcome.failures],
    }


def _plain(store: Store, origin: str, found: TaggingReport, *, dry_run: bool) -> dict[str, Any]:
    """What tagging gave, as JSON has it."""
    from diptych.catalog import read_entries

    shown = [content for best in found.examples.values() for _, content in best]
    names = {entry.content: entry.name for entry in read_entries(store.database, sorted(set(shown)))}
    return {
        "origin": origin,
        "dry_run": dry_run,
        "judged": found.judged,
        "tagged": found.tagged,
        "changed": found.changed,
        "labels": [
            {
                "tag": tag,
                "pictures": count,
                "examples": [
                    {"id": content, "path": names.get(content, ""), "score": score}
                    for score, content in found.examples[tag]
                ],
            }
            for tag, count in sorted(found.counts.items(), key=lambda one: -one[1])
        ],
    }


def _tags(store: Store) -> list[dict[str, Any]]:
    from diptych.catalog.annotations.tags import count_tags

    return [
        {"origin": one.origin, "tag": one.tag, "pictures": one.pictures} for one in count_tags(store.database)
    ]
