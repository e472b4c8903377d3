"""`diptych tag --add`, `--remove` and `--rate`: tags and ratings given by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared.console import clean, print_message
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diptych.catalog import Filter, Store

_BY_HAND = "By hand"
SHOWN = 10  # unknown paths that are named one by one

Pictures = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PICTURE",
        help="With --add, --remove, --rate: indexed pictures, or folders of them.",
        show_default=False,
    ),
]
Add = Annotated[
    list[str] | None,
    typer.Option("--add", metavar="TAG", help="Add this tag to the pictures.", rich_help_panel=_BY_HAND),
]
Remove = Annotated[
    list[str] | None,
    typer.Option(
        "--remove",
        metavar="TAG",
        help="Remove this tag from the pictures, whichever list it came from.",
        rich_help_panel=_BY_HAND,
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="0-5|reject|none",
        help="Rate the pictures; none removes the rating.",
        rich_help_panel=_BY_HAND,
    ),
]


def annotate_pictures(
    store: Store,
    paths: Sequence[Path],
    where: Filter,
    *,
    add: Sequence[str],
    remove: Sequence[str],
    rate: str | None,
) -> dict[str, Any]:
    """Add tags, remove tags and rate; returns the counts that --json prints."""
    from diptych.catalog.annotations import tags

    rating = parse_rating(rate) if rate is not None else None
    added, removed = ([tags.check_tag(tag) for tag in names] for names in (add, remove))
    if both := sorted(set(added) & set(removed)):
        raise typer.BadParameter(f"--add and --remove both name {both[0]!r}: leave one of them out")
    contents, unknown = _select(store, paths, where)
    done: dict[str, Any] = {"pictures": len(contents), "unknown": [str(path) for path in unknown]}
    if added:
        done["tagged"] = tags.add_tags(store.database, contents, added)
    if removed:
        done["untagged"] = tags.remove_tags(store.database, contents, removed)
    if rate is not None:
        done["rated"] = tags.rate(store.database, contents, rating)
    return done


def parse_rating(text: str) -> int | None:
    """Read a rating; None for "none".

    Examples
    --------
    >>> parse_rating("4"), parse_rating("reject"), parse_rating("none")
    (4, -1, None)
    """
    named = {"none": None, "reject": -1, **{str(number): number for number in range(-1, 6)}}
    if text.strip().lower() not in named:
        raise InputError(f"{text!r} is not a rating: expected 0 to 5, reject or none")
    return named[text.strip().lower()]


def print_annotated(done: dict[str, Any]) -> None:
    """Print the counts, and the paths that are not in the catalogue."""
    parts = [f"{counted(done['pictures'], 'picture')} chosen"]
    parts += [
        f"{done[key]:,} {label}"
        for key, label in (
            ("tagged", "newly tagged"),
            ("untagged", "tags removed"),
            ("rated", "newly rated"),
        )
        if key in done
    ]
    typer.echo(", ".join(parts))
    if not done["pictures"] and not done["unknown"]:
        print_message("nothing done", "no picture of the catalogue passes the filters")
    for path in done["unknown"][:SHOWN]:
        print_message("unknown", clean(f"{path} is not in the catalogue: run diptych index on it first"))
    if len(done["unknown"]) > SHOWN:
        print_message("unknown", f"and {len(done['unknown']) - SHOWN:,} more")


def _select(store: Store, paths: Sequence[Path], where: Filter) -> tuple[list[int], list[Path]]:
    """Ids of the selected pictures, and the paths that the catalogue does not hold."""
    from diptych.catalog.store.filters import allowed_rows, contents_at

    if not paths and not where:
        raise typer.BadParameter(
            "name pictures or give filters: diptych tag --add holiday ~/Pictures/2024 --after 2024-06-01"
        )
    named: set[int] = set()
    unknown: list[Path] = []
    for path in paths:
        contents = contents_at(path.expanduser(), store.database)
        named.update(contents)
        unknown += [] if contents else [path]
    if not where:
        return sorted(named), unknown
    if store.active is None:
        return [], unknown
    passing = set(store.active.contents_of(allowed_rows(store.active, where).tolist()).values())
    return sorted(passing & named if paths else passing), unknown
