"""Pictures of a catalogue as a reader meets them: hits, lists, failures, hashes. Writes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from diptych.catalog.annotations.records import CAPTION_END
from diptych.catalog.annotations.tags import ratings_of
from diptych.catalog.database.database import Database, in_parts
from diptych.catalog.store.filters import Filter, of_files
from diptych.errors import ImageError
from diptych.media.images import load_file
from diptych.media.metadata.dates import precision_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


T = TypeVar("T")
FILE_TIME = "file time"  # where a date comes from that no metadata has
_ADDRESS = re.compile(r"\A(https?|s3|gs|ftp):/(?=[^/])")  # a Path keeps one of the two strokes


@dataclass(frozen=True)
class Entry:
    """A picture of the catalogue, as a hit or a list shows it.

    Attributes
    ----------
    content : int
        Its number in this catalogue.
    path : Path
        Of its first file; `member` inside it when that is an archive.
    copies : tuple of (path, member)
        Its other files.
    taken : datetime or None
        By the picture's metadata or a sidecar's, without a zone, else when the file was changed; None where
        that is not known either.
    rating : int or None
        -1 (rejected) to 5; None where nobody rated it.
    taken_from : str
        Which field gave the date, see `diptych.media.Details`; "file time", or "" without a date.
    """

    content: int
    path: Path
    member: str
    copies: tuple[tuple[Path, str], ...]
    size: int
    format: str
    width: int
    height: int
    taken: datetime | None
    dated: bool  # taken stands in the picture or a sidecar
    latitude: float | None
    longitude: float | None
    camera: str
    caption: str
    tags: tuple[str, ...]
    rating: int | None = None
    taken_from: str = ""

    @property
    def day(self) -> str:
        """The day it was taken, or the month or year where no more is known; "" without a date."""
        if self.taken is None:
            return ""
        length = {"month": 7, "year": 4}.get(precision_of(self.taken_from), 10)
        return self.taken.isoformat()[:length]

    @property
    def name(self) -> str:
        """Path and member in one line; addresses, which imports bring, as they were."""
        name = f"{self.path}/{self.member}" if self.member else str(self.path)
        return _ADDRESS.sub(r"\1://", name)


def load_entry(entry: Entry, *, target: int | None = None) -> Image:
    """The picture itself, upright RGB, from its first file that can be read; see `diptych.media.load_image`.

    Raises
    ------
    ImageError
        None of its files can be read; the message is the first one's.
    """
    return of_first_file(entry, lambda path, member: load_file(path, member, target=target))


def of_first_file(entry: Entry, read: Callable[[Path, str], T]) -> T:
    """What `read` gives of its first file that can be read; the first one's ImageError where none can."""
    first: ImageError | None = None
    for path, member in ((entry.path, entry.member), *entry.copies):
        try:
            return read(path, member)
        except ImageError as error:
            first = first or error
    assert first is not None
    raise first


def read_entries(database: Database, contents: Sequence[int], *, prefer: Filter | None = None) -> list[Entry]:
    """What is known of these pictures, in that order; those that are gone are left out.

    Of several files of a picture one that passes the filter comes first.
    """
    found: dict[int, Entry] = {}
    for _, part in in_parts([int(content) for content in contents]):
        found.update((entry.content, entry) for entry in _entries(database, part, prefer))
    return [found[int(content)] for content in contents if int(content) in found]


def _entries(database: Database, contents: list[int], prefer: Filter | None) -> Iterator[Entry]:
    passes, values = ("", []) if prefer is None else of_files(prefer, database)
    first = f"CASE WHEN {passes} THEN 0 ELSE 1 END, " if passes else ""
    marks = ", ".join("?" * len(contents))
    files: dict[int, list[tuple[bytes, str, str, int]]] = {}
    for content, *file in database.all(
        "SELECT f.content, f.path, f.member, f.caption, f.modified FROM files f "
        f"WHERE f.content IN ({marks}) ORDER BY {first}f.path, f.member",
        (*contents, *values),
    ):
        files.setdefault(content, []).append(tuple(file))
    tags: dict[int, dict[str, None]] = {}
    for content, tag in database.all(
        f"SELECT content, tag FROM tags WHERE content IN ({marks}) ORDER BY score DESC, tag", contents
    ):
        tags.setdefault(content, {})[tag] = None  # several origins may give one
    ratings = ratings_of(database, contents)
    for row in database.all(
        "SELECT id, bytes, format, width, height, taken, taken_from, latitude, longitude, camera "
        f"FROM contents WHERE id IN ({marks})",
        contents,
    ):
        content, size, kind, width, height, taken, source, latitude, longitude, camera = row
        held = files.get(content)
        if not held:
            continue
        places = [(_path(path), member) for path, member, _, _ in held]
        changed = min((modified for *_, modified in held if modified), default=0)
        yield Entry(
            content=content,
            path=places[0][0],
            member=places[0][1],
            copies=tuple(places[1:]),
            size=size,
            format=kind or "",
            width=width or 0,
            height=height or 0,
            taken=datetime.fromisoformat(taken).replace(tzinfo=None) if taken else when(changed),
            dated=bool(taken),
            latitude=latitude,
            longitude=longitude,
            camera=camera or "",
            caption=next((caption for _, _, caption, _ in held if caption), "").partition(CAPTION_END)[0],
            tags=tuple(tags.get(content, ())),
            rating=ratings.get(content),
            taken_from=(source or "metadata") if taken else FILE_TIME if when(changed) else "",
        )


def failures(database: Database) -> list[tuple[Path, str, str]]:
    """(path, member, reason) of every file that could not be read or decoded."""
    return [
        (_path(path), member, reason)
        for path, member, reason in database.all(
            "SELECT f.path, f.member, COALESCE(f.error, c.error) FROM files f "
            "LEFT JOIN contents c ON c.id = f.content "
            "WHERE f.error IS NOT NULL OR c.error IS NOT NULL ORDER BY f.path, f.member"
        )
    ]


def digests_of(database: Database, contents: Sequence[int]) -> dict[int, bytes]:
    """The hash of each of these pictures' bytes."""
    found: dict[int, bytes] = {}
    for marks, part in in_parts([int(content) for content in contents]):
        for content, digest in database.all(f"SELECT id, hash FROM contents WHERE id IN ({marks})", part):
            found[content] = bytes(digest)
    return found


@dataclass(frozen=True, eq=False)
class Hashes:
    """Perceptual hashes of some pictures.

    Attributes
    ----------
    difference, perceptual : (N,) uint64
    known : (N,) bool
        False for pictures that have none.
    """

    difference: NDArray[np.uint64]
    perceptual: NDArray[np.uint64]
    known: NDArray[np.bool_]


def hashes_of(database: Database, contents: Sequence[int]) -> Hashes:
    """The hashes of these pictures, in that order."""
    found: dict[int, tuple[int, int]] = {}
    for marks, part in in_parts([int(content) for content in contents]):
        for content, first, second in database.all(
            "SELECT id, difference_hash, perceptual_hash FROM contents "
            f"WHERE id IN ({marks}) AND difference_hash IS NOT NULL",
            part,
        ):
            found[content] = first, second
    values = np.array([found.get(int(one), (0, 0)) for one in contents], np.int64).reshape(-1, 2)
    known = np.array([int(one) in found for one in contents], bool)
    unsigned = values.astype(np.uint64)  # databases have a sign: the bits are the same
    return Hashes(unsigned[:, 0], unsigned[:, 1], known)


def _path(path: bytes) -> Path:
    return Path(os.fsdecode(bytes(path)))


def when(nanoseconds: int) -> datetime | None:
    """A file's time without a zone; None where it is not known."""
    if not nanoseconds:
        return None
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9)
    except (OverflowError, OSError, ValueError):
        return None
