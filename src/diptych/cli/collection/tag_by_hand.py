"""`diptych tag --add`, `--remove` and `--rate`: what a person says of chosen pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared.console import clean, complain
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diptych.catalog import Filter, Store

_BY_HAND = "By hand"
SHOWN = 10  # unknown paths named one by one

Pictures = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PICTURE",
        help="With --add, --remove, --rate: pictures, and folders of them, that are indexed.",
        show_default=False,
    ),
]
Add = Annotated[
    list[str] | None,
    typer.Option("--add", metavar="TAG", help="Give pictures this tag.", rich_help_panel=_BY_HAND),
]
Remove = Annotated[
    list[str] | None,
    typer.Option(
        "--remove",
        metavar="TAG",
        help="Take this tag away from pictures, by whatever list it was given.",
        rich_help_panel=_BY_HAND,
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="0-5|reject|none",
        help="Rate pictures; none takes the rating away again.",
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
    """Tag and rate by hand; what was done, as JSON has it."""
    from diptych.catalog.annotations import tags

    rating = parse_rating(rate) if rate is not None else None
    added, removed = ([tags.check_tag(tag) for tag in names] for names in (add, remove))
    if both := sorted(set(added) & set(removed)):
        raise typer.BadParameter(f"{both[0]!r} is both to be added and to be removed")
    contents, unknown = _chosen(store, paths, where)
    done: dict[str, Any] = {"pictures": len(contents), "unknown": [str(path) for path in unknown]}
    if added:
        done["tagged"] = tags.add_tags(store.database, contents, added)
    if removed:
        done["untagged"] = tags.remove_tags(store.database, contents, removed)
    if rate is not None:
        done["rated"] = tags.rate(store.database, contents, rating)
    return done


def parse_rating(text: str) -> int | None:
    """A rating as it is typed; None for "none".

    Examples
    --------
    >>> parse_rating("4"), parse_rating("reject"), parse_rating("none")
    (4, -1, None)
    """
    named = {"none": None, "reject": -1, **{str(number): number for number in range(-1, 6)}}
    if text.strip().lower() not in named:
        raise InputError(f"{text!r} is no rating: expected 0 to 5, reject or none")
    return named[text.strip().lower()]


def print_annotated(done: dict[str, Any]) -> None:
    """Say it in words, and which paths are not in the catalogue."""
    parts = [f"{counted(done['pictures'], 'picture')} chosen"]
    parts += [
        f"{done[key]:,} {what}"
        for key, what in (
            ("tagged", "newly tagged"),
            ("untagged", "tags taken away"),
            ("rated", "rated anew"),
        )
        if key in done
    ]
    typer.echo(", ".join(parts))
    if not done["pictures"] and not done["unknown"]:
        complain("nothing done", "no picture of the catalogue fits what was asked for")
    for path in done["unknown"][:SHOWN]:
        complain("unknown", clean(f"{path} is not in the catalogue: run diptych index on it first"))
    if len(done["unknown"]) > SHOWN:
        complain("unknown", f"and {len(done['unknown']) - SHOWN:,} more")


def _chosen(store: Store, paths: Sequence[Path], where: Filter) -> tuple[list[int], list[Path]]:
    """Contents that were chosen, and paths that the catalogue does not know."""
    from diptych.catalog.store.filters import allowed_rows, contents_at

    if not paths and not where:
        raise typer.BadParameter(
            "name the pictures, or choose them: diptych tag --add holiday ~/Pictures/2024 --after 2024-06-01"
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
    fitting = set(store.active.contents_of(allowed_rows(store.active, where).tolist()).values())
    return sorted(fitting & named if paths else fitting), unknown
