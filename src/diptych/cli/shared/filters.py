"""Filter options: which pictures of a catalogue a command works on."""

from __future__ import annotations

import calendar
import functools
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.shared.options import flag, option

if TYPE_CHECKING:
    from diptych.catalog import Filter
    from diptych.catalog.database.database import Database

_option = functools.partial(option, rich_help_panel="Filters")
Texts = list[str] | None  # of an option that may be repeated


@dataclass(frozen=True)
class FilterOptions:
    """The filter options, in the order of `--help`."""

    after: Annotated[
        str | None, _option("DATE", "Taken on this date or later: 2013, 2013-05 or 2013-05-31.")
    ] = None
    before: Annotated[
        str | None, _option("DATE", "Taken on this date or earlier; 2013 includes the whole year.")
    ] = None
    folder: Annotated[
        list[Path] | None, _option("DIR", "In this folder; repeat it for any of several.", "--in")
    ] = None
    not_folder: Annotated[list[Path] | None, _option("DIR", "Not in this folder.", "--not-in")] = None
    tag: Annotated[Texts, _option("TAG", "With this tag; repeat it for all of several.")] = None
    any_tag: Annotated[Texts, _option("TAG", "With this tag; repeat it for any of several.")] = None
    not_tag: Annotated[Texts, _option("TAG", "Without this tag.")] = None
    untagged: Annotated[bool, flag("--untagged", "Without any tag.", rich_help_panel="Filters")] = False
    rating: Annotated[
        int | None, _option("N", "With exactly N stars; 0: not rated, -1: rejected.", min=-1, max=5)
    ] = None
    min_rating: Annotated[int | None, _option("N", "With at least N stars.", min=1, max=5)] = None
    camera: Annotated[str, _option("TEXT", "The camera's name contains TEXT.")] = ""
    not_camera: Annotated[
        Texts, _option("TEXT", "The camera's name does not contain TEXT, or is unknown.")
    ] = None
    type: Annotated[
        Texts, _option("NAME", "Of this file type: jpeg, png, heic, ...; repeat it for any of several.")
    ] = None
    not_type: Annotated[Texts, _option("NAME", "Not of this file type.")] = None
    caption: Annotated[str, _option("TEXT", "The caption contains TEXT.")] = ""
    not_caption: Annotated[Texts, _option("TEXT", "The caption does not contain TEXT.")] = None
    name: Annotated[str, _option("TEXT", "The path contains TEXT.")] = ""
    not_name: Annotated[Texts, _option("TEXT", "The path does not contain TEXT.")] = None
    near: Annotated[
        str | None, _option("LAT,LON,KM", "Taken within KM kilometres of this latitude and longitude.")
    ] = None
    larger: Annotated[str | None, _option("SIZE", "Files of at least this size: 500k, 2M, ...")] = None
    smaller: Annotated[str | None, _option("SIZE", "Files of at most this size.")] = None
    min_side: Annotated[
        int | None,
        _option("PIXELS", "The shorter side has at least this many pixels."),
    ] = None
    shape: Annotated[str, _option("NAME", "Of this shape: landscape, portrait or square.")] = ""

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


def check_filter(picture_filter: Filter, database: Database) -> None:
    """Check that the tags, folders and so on of a filter exist; call it before a model is loaded."""
    from diptych.catalog.store.filter_names import check_names

    picture_filter.check(database)
    check_names(database, picture_filter)


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
