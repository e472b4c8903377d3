"""Rules that decide which file of a group is kept: the first rule that distinguishes two files decides."""

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

# Best first: formats with the least loss, by their names in Pillow.
BEST_FORMATS = ("RAW", "TIFF", "PNG", "HEIF", "AVIF", "JPEG", "MPO", "WEBP", "BMP", "GIF")
DEFAULT_RULES = "resolution,annotated,exif,format,largest,oldest"


@dataclass(frozen=True)
class File:
    """A file of the catalogue, with the properties that rules compare.

    Attributes
    ----------
    member : str
        Its name inside the archive `path`; empty for a plain file.
    content : int
        Content number: identical files share one.
    size : int
        In bytes.
    modified : int
        Time of the last change, nanoseconds.
    has_exif : bool
        Its EXIF data name the time, the location or the camera.
    names : tuple of Path
        Further names of this file (links).
    annotated : int
        Annotations by a person: 2 for a caption or a sidecar beside this file, 1 for tags or a rating of its
        picture, which identical files share, 0 for none.
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
        """Time of the last change, in local time."""
        try:
            return datetime.fromtimestamp(self.modified / 1e9)
        except (OverflowError, OSError, ValueError):  # a year that the system does not support
            return datetime.min


# False and True count as 0 and 1.
Key: TypeAlias = Callable[[File], float]  # the smallest is kept


@dataclass(frozen=True)
class KeepRule:
    """One rule."""

    name: str
    key: Key  # file -> a number; the file with the smaller one is kept
    explain: Callable[[File, File], str]  # (kept file, other file) -> the reason, for users
    folder: Path | None = None  # the folder that the rule names


def parse_rules(text: str = DEFAULT_RULES) -> list[KeepRule]:
    """Parse names of rules, separated by commas.

    Parameters
    ----------
    text : str
        resolution (more pixels), annotated (tags, a rating, a caption or a sidecar), exif (camera data
        present), format or format:PNG/JPEG/..., largest, smallest (file), oldest, newest, folder:DIR (files
        in it; may be repeated).

    Raises
    ------
    InputError
        An unknown rule or format. Folders are not checked here, since that needs a catalogue.

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
    """Sort files, the one to keep first; also the reason why it is kept.

    Files come before members of archives, because members cannot be moved, as the first criterion; targets of
    symbolic links come next, because the links would break. If no rule decides, the shorter path is kept.

    Examples
    --------
    >>> day = 1_714_521_600 * 10**9
    >>> small = File(Path("a.jpg"), "", 1, "JPEG", 400, 300, 9000, day, True)
    >>> large = File(Path("copies/a.jpg"), "", 2, "JPEG", 800, 600, 9000, day, False)
    >>> files, why = best_first([small, large], parse_rules("resolution,oldest"))
    >>> str(files[0].path), why
    ('copies/a.jpg', 'resolution: 800 x 600 against 400 x 300')
    """
    # Lists of keys are compared element by element, so the first rule that distinguishes decides. E.g. by
    # resolution and age, [-480000, 1999] comes before [-120000, 1990].
    all_rules = [_PLAIN, _LINKED, *rules, _PATH]
    ordered = sorted(files, key=lambda file: ([rule.key(file) for rule in all_rules], file.name))
    if len(ordered) < 2:
        return ordered, "it is the only one"
    first, second = ordered[:2]
    for rule in all_rules:
        if rule.key(first) != rule.key(second):
            return ordered, rule.explain(first, second)
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
    # With a slash at the end, so that /originals does not contain /originals-old/a.jpg.
    home = os.path.join(os.path.abspath(folder.expanduser()), "")  # noqa: PTH100, PTH118 - ends in /
    return KeepRule(
        name,
        lambda file: 0 if any(str(path).startswith(home) for path in (file.path, *file.names)) else 1,
        lambda a, b: f"folder: in {folder}",
        folder,
    )


def _by_format(name: str, order: Sequence[str]) -> KeepRule:
    names = {"JPG": "JPEG", "HEIC": "HEIF", "TIF": "TIFF", "JP2": "JPEG2000"}
    kinds = [names.get(kind, kind) for kind in order]
    for kind in kinds:
        if kind not in formats.FORMATS:
            raise InputError(
                f"there is no format {kind!r}: expected some of {', '.join(formats.FORMATS)}, separated by /"
            )
    ranks = {kind: number for number, kind in enumerate(kinds)}
    return KeepRule(
        name,
        lambda file: ranks.get(file.format, len(ranks)),
        lambda a, b: f"format: {a.format or 'unknown'} against {b.format or 'unknown'}",
    )


def _pixels(file: File) -> str:
    return f"{file.width:,} x {file.height:,}"


def _days(a: File, b: File) -> str:
    """Two dates, with the time of day if the dates are equal."""
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
            lambda a, b: "annotated: it has tags, a rating, a caption or a sidecar",
        ),
        KeepRule(
            "exif", lambda file: not file.has_exif, lambda a, b: "exif: it still has the data of the camera"
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
            # Whole seconds, as archives and many copying programs drop the fraction: a copy must not seem
            # older than its original by half a second.
            lambda file: file.modified // 10**9 if file.modified else math.inf,  # 0: unknown
            lambda a, b: f"oldest: {_days(a, b)}",
        ),
        KeepRule(
            "newest",
            # An unknown time, 0, is the largest key and so the last here, too.
            lambda file: -(file.modified // 10**9),
            lambda a, b: f"newest: {_days(a, b)}",
        ),
    )
}
_PLAIN = KeepRule("plain", lambda file: bool(file.member), lambda a, b: "it is not inside an archive")
_LINKED = KeepRule(
    "linked", lambda file: not any(name.is_symlink() for name in file.names), lambda a, b: "links point to it"
)
_PATH = KeepRule("path", lambda file: len(str(file.path)), lambda a, b: "its path is shorter")
