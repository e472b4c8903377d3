"""Metadata from image headers and sidecars in the catalogue's tables: tags, ratings, dates, locations.

Values from a header are overwritten whenever the file is read. `files.sidecar_data` holds the sidecar fields
of one file. A content may have several files, so its tags and rating of origin `SIDECAR`, its date and its
location are merged from all of them, again whenever one of its files is read or leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from diptych.catalog.annotations.annotations import SIDECAR
from diptych.catalog.annotations.tags import keep_keywords, keep_rating
from diptych.catalog.database.database import in_batches
from diptych.media.metadata.dates import source_rank
from diptych.media.metadata.sidecar_fields import SidecarFields, merge_fields

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.media.details import Details

_COLUMNS = ("taken", "taken_from", "latitude", "longitude")


def keep_details(database: Database, content: int, details: Details, *, known: bool) -> None:
    """Save the metadata of a header, inside the caller's transaction.

    Parameters
    ----------
    database : Database
    content : int
    details : Details
    known : bool
        The content's row existed before. It is updated, as this version may read more fields of the header.
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


def update_from_sidecars(database: Database, contents: Iterable[int]) -> None:
    """Merge the sidecar fields of all files of each content anew, inside the caller's transaction.

    The date of a sidecar replaces the image's own if it is more trustworthy, its location if the image has
    none. The image's own values are kept in `contents.own_data` meanwhile.
    """
    for placeholders, batch in in_batches(sorted(set(contents))):
        fields: dict[int, list[SidecarFields]] = {}
        for content, text in database.all(
            "SELECT content, sidecar_data FROM files "
            f"WHERE content IN ({placeholders}) AND sidecar_data <> '' ORDER BY path, member",
            batch,
        ):
            fields.setdefault(content, []).append(SidecarFields.from_json(text))
        for table in ("tags", "ratings"):
            database.run(
                f"DELETE FROM {table} WHERE origin = ? AND content IN ({placeholders})", (SIDECAR, *batch)
            )
        for content, own, *values in database.all(
            f"SELECT id, own_data, {', '.join(_COLUMNS)} FROM contents WHERE id IN ({placeholders})", batch
        ):
            _apply_sidecars(database, content, own, values, merge_fields(fields.get(content, ())))


def _apply_sidecars(
    database: Database, content: int, own_data: str, values: list[Any], sidecars: SidecarFields
) -> None:
    # `values` are the columns as they are now, `own` those of the image itself. Example: the image has only
    # the date of its last edit and no location, a sidecar has the date of capture and a location. Then the
    # columns hold the sidecar's values, and own_data the image's: '["2013-05-01 ...", "...", null, null]'.
    # Once the sidecar is deleted, own_data restores the columns and becomes ''.
    database.many(
        "INSERT INTO tags (content, tag, score, origin) VALUES (?, ?, 1.0, ?)",
        [(content, word, SIDECAR) for word in sidecars.keywords],
    )
    if sidecars.rating:  # 0 means not rated
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
