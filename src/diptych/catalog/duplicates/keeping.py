"""Which file of a group to keep: rules asked in order until one of them tells two files apart."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from diptych.errors import InputError
from diptych.media.decoding import formats

# The better kept first: what lost least, by Pillow's names.
BEST_FORMATS = ("RAW", "TIFF", "PNG", "HEIF", "AVIF", "JPEG", "MPO", "WEBP", "BMP", "GIF")
DEFAULT_RULES = "resolution,annotated,exif,format,largest,oldest"


@dataclass(frozen=True)
class File:
    """A file of the catalogue, as rules see it.

    Attributes
    ----------
    path : Path
    member : str
        Its name inside, when `path` is an archive; else empty.
    content : int
        The picture it holds, by its bytes.
    format : str
    width, height : int
    size : int
        In bytes.
    modified : int
        When it was changed, as the file system counts nanoseconds.
    has_exif : bool
        Its EXIF data say when, where or with what it was taken.
    names : tuple of Path
        Further names of this very file: links to it.
    annotated : int
        What a person made of it: 2 for a caption or metadata beside this file, 1 for tags or a rating of its
        picture, which copies share, 0 for nothing.
    """

    path: Path
    member: str
    content: int
    format: str
    width: int
    height: int
    size: int
    modified: int
    has_exif: bool
    names: tuple[Path, ...] = ()
    annotated: int = 0

    @property
    def name(self) -> str:
        """Path and member in one line."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def changed(self) -> datetime:
        """When it was changed, in local time."""
        try:
            return datetime.fromtimestamp(self.modified / 1e9)
        except (OverflowError, OSError, ValueError):  # a year that the system has no calendar for
            return datetime.min


Key: TypeAlias = Callable[[File], float]  # less is better


@dataclass(frozen=True)
class KeepRule:
    """One rule: a number that is less for what is rather kept, how it is said, the folder it names if any."""

    name: str
    key: Key
    say: Callable[[File, File], str]
    folder: Path | None = None


def parse_rules(text: str = DEFAULT_RULES) -> list[KeepRule]:
    """Rules from their names, separated by commas.

    Parameters
    ----------
    text : str
        Of resolution (more pixels), annotated (tags, a rating, a caption or metadata beside it), exif (what
        the camera wrote is still there), format or
        format:PNG/JPEG/..., largest, smallest (file), oldest, newest, folder:DIR (first those in it; several
        in order).

    Raises
    ------
    InputError
        A rule or a format that there is none of. Whether a folder holds anything, only a catalogue knows.

    Examples
    --------
    >>> [rule.name for rule in parse_rules("folder:/originals,resolution")]
    ['folder:/originals', 'resolution']
    >>> parse_rules("prettiest")
    Traceback (most recent call last):
        ...
    diptych.errors.InputError: there is no rule 'prettiest': expected resolution, annotated, exif, \
format, largest, smallest, oldest, newest or folder:DIR, separated by commas
    """
    return [_rule(part.strip()) for part in text.split(",") if part.strip()]


def best_first(files: Sequence[File], rules: Sequence[KeepRule]) -> tuple[list[File], str]:
    """Files in the order in which they would be kept, and why the first one is.

    Members of archives come last, since they cannot be moved, and files that links lead to first, since the
    links would lead nowhere; where no rule tells two files apart, the shorter path is kept.

    Examples
    --------
    >>> day = 1_714_521_600 * 10**9
    >>> small = File(Path("a.jpg"), "", 1, "JPEG", 400, 300, 9000, day, True)
    >>> large = File(Path("copies/a.jpg"), "", 2, "JPEG", 800, 600, 9000, day, False)
    >>> files, why = best_first([small, large], parse_rules("resolution,oldest"))
    >>> str(files[0].path), why
    ('copies/a.jpg', 'resolution: 800 x 600 against 400 x 300')
    """
    every = [_PLAIN, _LINKED, *rules, _PATH]
    ordered = sorted(files, key=lambda file: ([rule.key(file) for rule in every], file.name))
    if len(ordered) < 2:
        return ordered, "it is the only one"
    first, second = ordered[:2]
    for rule in every:
        if rule.key(first) != rule.key(second):
            return ordered, rule.say(first, second)
    return ordered, "its path comes first"


def _rule(name: str) -> KeepRule:
    kind, _, detail = name.partition(":")
    if kind == "folder" and detail:
        return _in_folder(name, Path(detail))
    if kind == "format" and detail:
        return _by_format(name, tuple(part.strip().upper() for part in detail.split("/")))
    if name in _RULES:
        return _RULES[name]
    raise InputError(
        f"there is no rule {name!r}: expected resolution, annotated, exif, format, largest, smallest, "
        "oldest, newest or folder:DIR, separated by commas"
    )


def _in_folder(name: str, folder: Path) -> KeepRule:
    home = os.path.join(os.path.abspath(folder.expanduser()), "")  # noqa: PTH100, PTH118 - ends in /
    return KeepRule(
        name,
        lambda file: 0 if any(str(path).startswith(home) for path in (file.path, *file.names)) else 1,
        lambda a, b: f"folder: in {folder}",
        folder,
    )


def _by_format(name: str, order: Sequence[str]) -> KeepRule:
    names = {"JPG": "JPEG", "HEIC": "HEIF", "TIF": "TIFF", "JP2": "JPEG2000"}
    kinds = [names.get(one, one) for one in order]
    for kind in kinds:
        if kind not in formats.FORMATS:
            raise InputError(
                f"there is no format {kind!r} to keep: expected some of {', '.join(formats.FORMATS)}, with / "
                "between them"
            )
    places = {kind: number for number, kind in enumerate(kinds)}
    return KeepRule(
        name,
        lambda file: places.get(file.format, len(places)),
        lambda a, b: f"format: {a.format or 'unknown'} against {b.format or 'unknown'}",
    )


def _pixels(file: File) -> str:
    return f"{file.width:,} x {file.height:,}"


def _days(a: File, b: File) -> str:
    """Two dates, with the hour where the day is one."""
    form = "%Y-%m-%d" if a.changed.date() != b.changed.date() else "%Y-%m-%d %H:%M:%S"
    return f"{a.changed:{form}} against {b.changed:{form}}"


_RULES = {
    rule.name: rule
    for rule in (
        KeepRule(
            "resolution",
            lambda file: -file.width * file.height,
            lambda a, b: f"resolution: {_pixels(a)} against {_pixels(b)}",
        ),
        KeepRule(
            "annotated",
            lambda file: -file.annotated,
            lambda a, b: "annotated: it has tags, a rating, a caption or metadata beside it",
        ),
        KeepRule(
            "exif", lambda file: not file.has_exif, lambda a, b: "exif: what the camera wrote is still there"
        ),
        _by_format("format", BEST_FORMATS),
        KeepRule(
            "largest", lambda file: -file.size, lambda a, b: f"largest: {a.size:,} against {b.size:,} bytes"
        ),
        KeepRule(
            "smallest", lambda file: file.size, lambda a, b: f"smallest: {a.size:,} against {b.size:,} bytes"
        ),
        KeepRule(
            "oldest",
            lambda file: file.modified // 10**9 if file.modified else math.inf,  # 0 is not known
            lambda a, b: f"oldest: {_days(a, b)}",
        ),
        KeepRule(
            "newest",
            lambda file: -(file.modified // 10**9),
            lambda a, b: f"newest: {_days(a, b)}",
        ),
    )
}
_PLAIN = KeepRule("plain", lambda file: bool(file.member), lambda a, b: "it is no member of an archive")
_LINKED = KeepRule(
    "linked", lambda file: not any(name.is_symlink() for name in file.names), lambda a, b: "links lead to it"
)
_PATH = KeepRule("path", lambda file: len(str(file.path)), lambda a, b: "its path is shorter")
