"""Filter options: which pictures of a catalogue a command works on."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from diptych.catalog import Filter
    from diptych.catalog.database.database import Database

_PANEL = "Filters"

After = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        help="Taken on this date or later: 2013, 2013-05 or 2013-05-31.",
        rich_help_panel=_PANEL,
    ),
]
Before = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        help="Taken on this date or earlier; 2013 includes the whole year.",
        rich_help_panel=_PANEL,
    ),
]
Folder = Annotated[
    list[Path] | None,
    typer.Option(
        "--in", metavar="DIR", help="In this folder; repeat it for any of several.", rich_help_panel=_PANEL
    ),
]
NotFolder = Annotated[
    list[Path] | None,
    typer.Option("--not-in", metavar="DIR", help="Not in this folder.", rich_help_panel=_PANEL),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(metavar="TAG", help="With this tag; repeat it for all of several.", rich_help_panel=_PANEL),
]
AnyTag = Annotated[
    list[str] | None,
    typer.Option(
        "--any-tag",
        metavar="TAG",
        help="With this tag; repeat it for any of several.",
        rich_help_panel=_PANEL,
    ),
]
NotTag = Annotated[
    list[str] | None,
    typer.Option("--not-tag", metavar="TAG", help="Without this tag.", rich_help_panel=_PANEL),
]
Untagged = Annotated[
    bool, typer.Option("--untagged", metavar="", help="Without any tag.", rich_help_panel=_PANEL)
]
Rating = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=-1,
        max=5,
        help="With exactly N stars; 0: not rated, -1: rejected.",
        rich_help_panel=_PANEL,
    ),
]
MinRating = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=5, help="With at least N stars.", rich_help_panel=_PANEL),
]
Camera = Annotated[
    str, typer.Option(metavar="TEXT", help="The camera's name contains TEXT.", rich_help_panel=_PANEL)
]
NotCamera = Annotated[
    list[str] | None,
    typer.Option(
        "--not-camera",
        metavar="TEXT",
        help="The camera's name does not contain TEXT, or is unknown.",
        rich_help_panel=_PANEL,
    ),
]
Type = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="NAME",
        help="Of this file type: jpeg, png, heic, ...; repeat it for any of several.",
        rich_help_panel=_PANEL,
    ),
]
NotType = Annotated[
    list[str] | None,
    typer.Option("--not-type", metavar="NAME", help="Not of this file type.", rich_help_panel=_PANEL),
]
Caption = Annotated[
    str, typer.Option(metavar="TEXT", help="The caption contains TEXT.", rich_help_panel=_PANEL)
]
NotCaption = Annotated[
    list[str] | None,
    typer.Option(
        "--not-caption",
        metavar="TEXT",
        help="The caption does not contain TEXT.",
        rich_help_panel=_PANEL,
    ),
]
Name = Annotated[str, typer.Option(metavar="TEXT", help="The path contains TEXT.", rich_help_panel=_PANEL)]
NotName = Annotated[
    list[str] | None,
    typer.Option(
        "--not-name", metavar="TEXT", help="The path does not contain TEXT.", rich_help_panel=_PANEL
    ),
]
Near = Annotated[
    str | None,
    typer.Option(
        metavar="LAT,LON,KM",
        help="Taken within KM kilometres of this latitude and longitude.",
        rich_help_panel=_PANEL,
    ),
]
Larger = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Files of at least this size: 500k, 2M, ...", rich_help_panel=_PANEL),
]
Smaller = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Files of at most this size.", rich_help_panel=_PANEL)
]
MinSide = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS", help="The shorter side has at least this many pixels.", rich_help_panel=_PANEL
    ),
]
Shape = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Of this shape: landscape, portrait or square.", rich_help_panel=_PANEL
    ),
]


@dataclass(frozen=True)
class FilterOptions:
    """The filter options, in the order of `--help`."""

    after: After = None
    before: Before = None
    folder: Folder = None
    not_folder: NotFolder = None
    tag: Tag = None
    any_tag: AnyTag = None
    not_tag: NotTag = None
    untagged: Untagged = False
    rating: Rating = None
    min_rating: MinRating = None
    camera: Camera = ""
    not_camera: NotCamera = None
    type: Type = None
    not_type: NotType = None
    caption: Caption = ""
    not_caption: NotCaption = None
    name: Name = ""
    not_name: NotName = None
    near: Near = None
    larger: Larger = None
    smaller: Smaller = None
    min_side: MinSide = None
    shape: Shape = ""

    def filter(self) -> Filter:
        """The filter that these options describe.

        Raises
        ------
        typer.BadParameter
            A value is not a date, a size or a place.
        """
        from diptych.catalog import Filter

        return Filter(
            after=read_date(self.after, end=False),
            before=read_date(self.before, end=True),
            folders=_paths(self.folder),
            not_folders=_paths(self.not_folder),
            tags=tuple(self.tag or ()),
            any_tags=tuple(self.any_tag or ()),
            not_tags=tuple(self.not_tag or ()),
            untagged=self.untagged,
            rating=self.rating,
            min_rating=self.min_rating,
            camera=self.camera,
            not_cameras=tuple(self.not_camera or ()),
            formats=tuple(self.type or ()),
            not_formats=tuple(self.not_type or ()),
            caption=self.caption,
            not_captions=tuple(self.not_caption or ()),
            name=self.name,
            not_names=tuple(self.not_name or ()),
            near=read_location(self.near),
            min_bytes=read_size(self.larger),
            max_bytes=read_size(self.smaller),
            min_side=self.min_side,
            shape=self.shape,
        )


def filter_check(where: Filter) -> Callable[[Database], None]:
    """A check that the tags, folders and so on of a filter exist; run it before a model is loaded."""

    def check(database: Database) -> None:
        from diptych.catalog.store.filter_names import check_names

        where.check(database)
        check_names(database, where)

    return check


def _paths(folders: list[Path] | None) -> tuple[Path, ...]:
    return tuple(folder.expanduser() for folder in folders or ())


def read_date(text: str | None, *, end: bool) -> date | None:
    """Read a day, or the first or last day of a month or year; a time of day is ignored.

    Examples
    --------
    >>> [str(read_date(text, end=True)) for text in ("2024", "2024-02", "2024-02-03", "2024-02-03T10:30:00Z")]
    ['2024-12-31', '2024-02-29', '2024-02-03', '2024-02-03']
    """
    if text is None:
        return None
    try:
        # ISO 8601, or EXIF with colons; a time may follow.
        day = text.strip().replace("T", " ").split(" ")[0].replace(":", "-").replace("/", "-")
        if len(day) == 8 and day.isdecimal():
            day = f"{day[:4]}-{day[4:6]}-{day[6:]}"
        parts = [int(part) for part in day.split("-")]
        if len(parts) > 3 or len(day.split("-")[0]) != 4:
            raise ValueError(text)
        year, month = parts[0], parts[1] if len(parts) > 1 else (12 if end else 1)
        last = calendar.monthrange(year, month)[1]
        return date(year, month, parts[2] if len(parts) > 2 else (last if end else 1))
    except (ValueError, IndexError, calendar.IllegalMonthError) as error:
        raise typer.BadParameter(f"{text!r} is not a date: expected 2024, 2024-05 or 2024-05-31") from error


def read_size(text: str | None) -> int | None:
    """Read a file size in bytes.

    Examples
    --------
    >>> read_size("500k"), read_size("1.5M"), read_size("12")
    (500000, 1500000, 12)
    """
    if text is None:
        return None
    units = {"k": 10**3, "m": 10**6, "g": 10**9}
    number = text.lower().removesuffix("b")
    try:
        return int(float(number.rstrip("kmg")) * units.get(number[-1:], 1))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is not a size: expected a number of bytes, with k, M or G if you like"
        ) from error


def read_location(text: str | None) -> tuple[float, float, float] | None:
    """Read latitude, longitude and a distance in kilometres, by default 10.

    Examples
    --------
    >>> read_location("48.1,11.6"), read_location("48.1,11.6,25")
    ((48.1, 11.6, 10.0), (48.1, 11.6, 25.0))
    """
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
        latitude, longitude, km = numbers if len(numbers) == 3 else (*numbers, 10.0)
        return latitude, longitude, km
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a location: expected LATITUDE,LONGITUDE,KILOMETRES"
        ) from error
