"""Read access to the images of a catalogue: entries, failures, hashes. Writes nothing."""

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
from diptych.catalog.database.database import Database, in_batches, select_in
from diptych.catalog.store.filters import Filter, file_conditions
from diptych.errors import ImageError
from diptych.media.images import load_file
from diptych.media.metadata.dates import precision_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


T = TypeVar("T")
FILE_TIME = "file time"  # `taken_from` of a date that is the file's modification time
_ADDRESS = re.compile(r"\A(https?|s3|gs|ftp):/(?=[^/])")  # `Path` collapses the two slashes of a URL into one


@dataclass(frozen=True)
class CatalogEntry:
    """An image of the catalogue, as search results and lists show it.

    Attributes
    ----------
    content : int
        Content number in this catalogue.
    path : Path
        Path of its first file, with `member` inside it if that is an archive.
    copies : tuple of (path, member)
        Its other files.
    taken : datetime or None
        Date from the image's metadata or a sidecar, without a time zone; otherwise the file's modification
        time; None if that is unknown, too.
    dated : bool
        `taken` comes from the image or a sidecar.
    rating : int or None
        -1 (rejected) to 5; None if not rated.
    taken_from : str
        Metadata field of the date, see `diptych.media.Details`; "file time", or "" without a date.
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
    dated: bool
    latitude: float | None
    longitude: float | None
    camera: str
    caption: str
    tags: tuple[str, ...]
    rating: int | None = None
    taken_from: str = ""

    @property
    def day(self) -> str:
        """Date as YYYY-MM-DD, or YYYY-MM or YYYY if only these are known; "" without a date."""
        if self.taken is None:
            return ""
        length = {"month": 7, "year": 4}.get(precision_of(self.taken_from), 10)
        return self.taken.isoformat()[:length]

    @property
    def name(self) -> str:
        """Path and member as one text; URLs, which imports may bring, in their usual form."""
        name = f"{self.path}/{self.member}" if self.member else str(self.path)
        return _ADDRESS.sub(r"\1://", name)


def load_entry(entry: CatalogEntry, *, target: int | None = None) -> Image:
    """Load the image, upright RGB, from its first readable file; see `diptych.media.load_image`.

    Raises
    ------
    ImageError
        None of its files can be read; the message is that of the first file.
    """
    return read_first_file(entry, lambda path, member: load_file(path, member, target=target))


def read_first_file(entry: CatalogEntry, read: Callable[[Path, str], T]) -> T:
    """Return the result of `read` for the first readable file; raise the first file's error if none is."""
    # The error of the first file is the one to report: the message then names the path that the user sees.
    first_error: ImageError | None = None
    for path, member in ((entry.path, entry.member), *entry.copies):
        try:
            return read(path, member)
        except ImageError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def read_entries(
    database: Database, contents: Sequence[int], *, prefer: Filter | None = None
) -> list[CatalogEntry]:
    """Read the entries of contents, in the given order; contents that are gone are left out.

    If an image has several files, one that passes the filter `prefer` comes first.
    """
    entries: dict[int, CatalogEntry] = {}
    for _, batch in in_batches([int(content) for content in contents]):
        entries.update((entry.content, entry) for entry in _entries(database, batch, prefer))
    return [entries[int(content)] for content in contents if int(content) in entries]


def _entries(database: Database, contents: list[int], prefer: Filter | None) -> Iterator[CatalogEntry]:
    # The preferred file is the one that a filter on folders or names matched: a search in /a must not show
    # the copy in /b.
    condition, values = ("", []) if prefer is None else file_conditions(prefer, database)
    preferred_first = f"CASE WHEN {condition} THEN 0 ELSE 1 END, " if condition else ""
    placeholders = ", ".join("?" * len(contents))
    # Three queries for a whole batch (files, tags, ratings), joined here, instead of three for each image.
    files: dict[int, list[tuple[bytes, str, str, int]]] = {}
    for content, *file in database.all(
        "SELECT f.content, f.path, f.member, f.caption, f.modified FROM files f "
        f"WHERE f.content IN ({placeholders}) ORDER BY {preferred_first}f.path, f.member",
        (*contents, *values),
    ):
        files.setdefault(content, []).append(tuple(file))
    # Best score first: keywords of files and tags by hand have 1.0 and lead.
    tags: dict[int, dict[str, None]] = {}
    for content, tag in database.all(
        f"SELECT content, tag FROM tags WHERE content IN ({placeholders}) ORDER BY score DESC, tag", contents
    ):
        tags.setdefault(content, {})[tag] = None  # an ordered set: several origins may give the same tag
    ratings = ratings_of(database, contents)
    for row in database.all(
        "SELECT id, bytes, format, width, height, taken, taken_from, latitude, longitude, camera "
        f"FROM contents WHERE id IN ({placeholders})",
        contents,
    ):
        content, size, kind, width, height, taken, source, latitude, longitude, camera = row
        content_files = files.get(content)
        if not content_files:  # another process has removed the last one meanwhile
            continue
        locations = [(_path(path), member) for path, member, _, _ in content_files]
        # 0 is an unknown time, as of files that an import knows by name only.
        oldest = min((modified for *_, modified in content_files if modified), default=0)
        # A caption may stand beside any of the copies. The stored text holds all captions of a file, for
        # searches; the first is shown. E.g. "grandma\x1fIMG_0012" is shown as "grandma".
        captions = [caption for _, _, caption, _ in content_files if caption]
        yield CatalogEntry(
            content=content,
            path=locations[0][0],
            member=locations[0][1],
            copies=tuple(locations[1:]),
            size=size,
            format=kind or "",
            width=width or 0,
            height=height or 0,
            taken=datetime.fromisoformat(taken).replace(tzinfo=None) if taken else file_time(oldest),
            dated=bool(taken),
            latitude=latitude,
            longitude=longitude,
            camera=camera or "",
            caption=captions[0].partition(CAPTION_END)[0] if captions else "",
            tags=tuple(tags.get(content, ())),
            rating=ratings.get(content),
            taken_from=(source or "metadata") if taken else FILE_TIME if file_time(oldest) else "",
        )


def failures(database: Database) -> list[tuple[Path, str, str]]:
    """List (path, member, reason) of every file that could not be read or decoded."""
    return [
        (_path(path), member, reason)
        for path, member, reason in database.all(
            # A file that cannot be read now, f.error, may still have the content of an earlier reading;
            # c.error is that of decoding. The former is the more recent one.
            "SELECT f.path, f.member, COALESCE(f.error, c.error) FROM files f "
            "LEFT JOIN contents c ON c.id = f.content "
            "WHERE f.error IS NOT NULL OR c.error IS NOT NULL ORDER BY f.path, f.member"
        )
    ]


def digests_of(database: Database, contents: Sequence[int]) -> dict[int, bytes]:
    """Map contents to the hash of their bytes."""
    rows = select_in(database, "SELECT id, hash FROM contents WHERE id IN ({})", contents)
    return {content: bytes(digest) for content, digest in rows}


@dataclass(frozen=True, eq=False)
class Hashes:
    """Perceptual hashes of N images.

    Attributes
    ----------
    difference, perceptual : (N,) uint64
        0 where unknown.
    valid : (N,) bool
        False for images without hashes.
    """

    difference: NDArray[np.uint64]
    perceptual: NDArray[np.uint64]
    valid: NDArray[np.bool_]


def hashes_of(database: Database, contents: Sequence[int]) -> Hashes:
    """Read the hashes of contents, in the given order."""
    sql = (
        "SELECT id, difference_hash, perceptual_hash FROM contents "
        "WHERE difference_hash IS NOT NULL AND id IN ({})"
    )
    rows = select_in(database, sql, contents)
    hashes = {content: (difference, perceptual) for content, difference, perceptual in rows}
    # The shape is given, as an empty list would become an array of one dimension.
    values = np.array([hashes.get(int(content), (0, 0)) for content in contents], np.int64).reshape(-1, 2)
    valid = np.array([int(content) in hashes for content in contents], bool)
    unsigned = values.astype(np.uint64)  # databases store signed integers; the bits are the same
    return Hashes(unsigned[:, 0], unsigned[:, 1], valid)


def _path(path: bytes) -> Path:
    return Path(os.fsdecode(bytes(path)))


def file_time(nanoseconds: int) -> datetime | None:
    """Convert a file's modification time to local time without a time zone; None if unknown."""
    if not nanoseconds:
        return None
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9)
    except (OverflowError, OSError, ValueError):
        return None
