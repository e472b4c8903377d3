"""`diptych tag --add`, `--remove` and `--rate`: tags and ratings given by hand."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared.options import argument, option
from diptych.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diptych.catalog import Filter, Store

_option = functools.partial(option, rich_help_panel="By hand")

Pictures = Annotated[
    list[Path] | None,
    argument("PICTURE", "With --add, --remove, --rate: indexed pictures, or folders of them."),
]


@dataclass(frozen=True)
class ByHandOptions:
    """Tags and the rating to give."""

    add: Annotated[list[str] | None, _option("TAG", "Add this tag to the pictures.")] = None
    remove: Annotated[
        list[str] | None, _option("TAG", "Remove this tag from the pictures, whichever list it came from.")
    ] = None
    rate: Annotated[
        str | None,
        _option("0-5|reject|none", "Rate the pictures; none removes the rating."),
    ] = None

    @property
    def given(self) -> bool:
        """Whether any of these options is given."""
        return bool(self.add or self.remove or self.rate is not None)


def annotate_pictures(
    store: Store, paths: Sequence[Path], picture_filter: Filter, options: ByHandOptions
) -> dict[str, Any]:
    """Add tags, remove tags and rate; returns the counts that --json prints."""
    from diptych.catalog.annotations import tags

    rating = parse_rating(options.rate) if options.rate is not None else None
    add, remove = ([tags.check_tag(tag) for tag in names or ()] for names in (options.add, options.remove))
    if both := sorted(set(add) & set(remove)):
        raise typer.BadParameter(f"--add and --remove both name {both[0]!r}: leave one of them out")
    contents, unknown = _select(store, paths, picture_filter)
    done: dict[str, Any] = {"pictures": len(contents), "unknown": [str(path) for path in unknown]}
    if add:
        done["tagged"] = tags.add_tags(store.database, contents, add)
    if remove:
        done["untagged"] = tags.remove_tags(store.database, contents, remove)
    if options.rate is not None:
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


def _select(store: Store, paths: Sequence[Path], picture_filter: Filter) -> tuple[list[int], list[Path]]:
    """Ids of the selected pictures, and the paths that the catalogue does not hold."""
    from diptych.catalog.store.filters import allowed_rows, contents_at

    if not paths and not picture_filter:
        raise typer.BadParameter(
            "name pictures or give filters: diptych tag --add holiday ~/Pictures/2024 --after 2024-06-01"
        )
    named: set[int] = set()
    unknown: list[Path] = []
    for path in paths:
        contents = contents_at(path.expanduser(), store.database)
        named.update(contents)
        unknown += [] if contents else [path]
    if not picture_filter:
        return sorted(named), unknown
    if store.active is None:
        return [], unknown
    passing = set(store.active.contents_of(allowed_rows(store.active, picture_filter).tolist()).values())
    return sorted(passing & named if paths else passing), unknown
