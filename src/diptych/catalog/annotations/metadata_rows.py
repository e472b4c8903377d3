"""What pictures' headers and sidecars say, in the catalogue's tables: tags, ratings, dates, places.

What a header says is written over whenever its file is read. `files.sidecar_data` holds what the sidecars of
one file say. A content may have several files, so its tags and rating of origin `SIDECAR`, its date and its
place are made from all of them, and made again whenever one of its files is read, or leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from diptych.catalog.annotations.annotations import SIDECAR
from diptych.catalog.annotations.tags import keep_keywords, keep_rating
from diptych.catalog.database.database import in_parts
from diptych.media.metadata.dates import source_rank
from diptych.media.metadata.sidecar_fields import SidecarFields, merge_fields

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.media.details import Details

_COLUMNS = ("taken", "taken_from", "latitude", "longitude")


def keep_details(database: Database, content: int, details: Details, *, known: bool) -> None:
    """Keep what a header says of a content; the caller holds a transaction.

    Parameters
    ----------
    database : Database
    content : int
    details : Details
    known : bool
        The content's row was there before: a later version of this package may read more of the header.
    """
    keep_keywords(database, content, details.keywords)
    keep_rating(database, content, details.rating)
    if known:
        taken = details.taken and details.taken.isoformat(sep=" ")
        database.run(
            f"UPDATE contents SET {', '.join(f'{name} = ?' for name in _COLUMNS)}, camera = ?, own_data = '' "
            "WHERE id = ?",
            (taken, details.taken_from, details.latitude, details.longitude, details.camera, content),
        )


def sum_up_sidecars(database: Database, contents: Iterable[int]) -> None:
    """Make what contents have from sidecars again, from all their files. The caller holds a transaction.

    A sidecar's date stands in for the picture's own where it is trusted more, its place where the picture has
    none; the picture's own are kept in `contents.own_data` meanwhile.
    """
    for marks, part in in_parts(sorted(set(contents))):
        said: dict[int, list[SidecarFields]] = {}
        for content, text in database.all(
            "SELECT content, sidecar_data FROM files "
            f"WHERE content IN ({marks}) AND sidecar_data <> '' ORDER BY path, member",
            part,
        ):
            said.setdefault(content, []).append(SidecarFields.from_json(text))
        for table in ("tags", "ratings"):
            database.run(f"DELETE FROM {table} WHERE origin = ? AND content IN ({marks})", (SIDECAR, *part))
        for content, own, *values in database.all(
            f"SELECT id, own_data, {', '.join(_COLUMNS)} FROM contents WHERE id IN ({marks})", part
        ):
            _describe(database, content, own, values, merge_fields(said.get(content, ())))


def _describe(
    database: Database, content: int, own_data: str, values: list[Any], sidecars: SidecarFields
) -> None:
    database.many(
        "INSERT INTO tags (content, tag, score, origin) VALUES (?, ?, 1.0, ?)",
        [(content, word, SIDECAR) for word in sidecars.keywords],
    )
    if sidecars.rating:  # 0 says that nobody has rated it
        database.run(
            "INSERT INTO ratings (content, origin, rating) VALUES (?, ?, ?)",
            (content, SIDECAR, sidecars.rating),
        )
    own = json.loads(own_data) if own_data else values
    taken, taken_from, latitude, longitude = own
    if sidecars.taken and (not taken or source_rank(sidecars.taken_from) < source_rank(taken_from or "")):
        taken, taken_from = sidecars.taken.isoformat(sep=" "), sidecars.taken_from
    if latitude is None:
        latitude, longitude = sidecars.latitude, sidecars.longitude
    new = [taken, taken_from, latitude, longitude]
    kept = "" if new == own else json.dumps(own)
    if new != values or kept != own_data:
        database.run(
            "UPDATE contents SET taken = ?, taken_from = ?, latitude = ?, longitude = ?, own_data = ? "
            "WHERE id = ?",
            (*new, kept, content),
        )
