"""Tags and ratings of images: written by origin, counted, removed.

An *origin* says where a tag comes from: the name of a list of labels; `FILE` for keywords in the image file;
`SIDECAR` for keywords in files beside it; `HAND` for tags that a person gave here. An image may have the same
tag from several origins; setting or clearing one origin does not affect the others. `tagging` decides which
labels apply.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diptych.catalog.annotations.annotations import (
    FILE,
    HAND,
    ORIGINS_READ,
    RATINGS,
    SIDECAR,
    clear_set_aside,
)
from diptych.catalog.database.database import Database, in_batches, select_in
from diptych.errors import InputError
from diptych.files.unicode_text import composed
from diptych.media.metadata.dates import source_rank
from diptych.media.metadata.sidecar_fields import SidecarFields, merge_fields

if TYPE_CHECKING:
    from diptych.media.details import Details


@dataclass(frozen=True)
class TagCount:
    """Number of images with a tag from an origin."""

    origin: str
    tag: str
    pictures: int


def check_origin(origin: str) -> str:
    """Return the stripped name of an origin, if a list of labels may have it.

    Raises
    ------
    InputError
        The name is blank or reserved.

    Examples
    --------
    >>> check_origin(" animals ")
    'animals'
    """
    name = origin.strip()
    if not name or name in (*ORIGINS_READ, HAND):
        raise InputError(
            f"{origin!r} cannot be the name of a list of labels: it is blank, or stands for keywords that "
            "were read from files (file, sidecar) or given by hand (hand)"
        )
    return name


def set_tags(database: Database, origin: str, scores: Mapping[int, Mapping[str, float]]) -> int:
    """Replace the tags of an origin, in one transaction; return the number of images that changed.

    `scores` maps content -> tag -> score. An empty inner mapping removes the tags of this origin; contents
    that have left the catalogue are skipped.
    """
    with database.writing():
        before = _scores(database, origin, list(scores))
        # Only what differs is written, so that tagging 100,000 images again, with few changes, writes few
        # rows. Compared inside the transaction: before it, another process could still change the tags.
        changed = [content for content, tags in scores.items() if before.get(content, {}) != tags]
        existing = existing_contents(database, changed)
        for content in existing:
            _replace(database, origin, content, scores[content])
    return len(existing)


def check_tag(tag: str) -> str:
    """Return a tag as it is stored: stripped, in Unicode normal form NFC.

    Raises
    ------
    InputError
        The tag is blank or contains control characters.

    Examples
    --------
    >>> check_tag(" grandma ")
    'grandma'
    """
    normalised = composed(tag.strip())
    if not normalised or not normalised.isprintable():
        raise InputError(f"{tag!r} cannot be a tag: expected one or more words, in one line")
    return normalised


def add_tags(database: Database, contents: Sequence[int], tags: Sequence[str]) -> int:
    """Add tags by hand and return the number of images that lacked at least one of them."""
    with database.writing():
        before = _scores(database, HAND, contents)
        # E.g. an image with {"sea"} lacks one of {"sea", "dog"} and is counted; one with both is not.
        new = [content for content in contents if not before.get(content, {}).keys() >= set(tags)]
        database.many(
            "INSERT INTO tags (content, tag, score, origin) VALUES (?, ?, 1.0, ?) ON CONFLICT DO NOTHING",
            [(content, tag, HAND) for content in existing_contents(database, new) for tag in tags],
        )
    return len(new)


def remove_tags(database: Database, contents: Sequence[int], tags: Sequence[str]) -> int:
    """Remove tags of every origin that is not read from files, and return the number of tags removed.

    Keywords from files stay, because the next reading would bring them back.
    """
    with database.writing():
        return sum(
            database.run(
                "DELETE FROM tags WHERE content = ? AND tag = ? AND origin NOT IN (?, ?)",
                (content, tag, *ORIGINS_READ),
            )
            for content in contents
            for tag in tags
        )


def rate(database: Database, contents: Sequence[int], rating: int | None) -> int:
    """Rate images by hand and return the number of ratings that changed.

    `rating` is -1 (rejected) to 5; None removes the rating by hand, so that the file's own is used again.

    Raises
    ------
    InputError
        The rating is out of range.
    """
    if rating is not None and rating not in RATINGS:
        raise InputError(f"{rating} is not a rating: expected 0 to 5, or -1 for rejected")
    with database.writing():
        if rating is None:
            return sum(
                database.run("DELETE FROM ratings WHERE content = ? AND origin = ?", (content, HAND))
                for content in contents
            )
        return sum(
            database.run(
                "INSERT INTO ratings (content, origin, rating) VALUES (?, ?, ?) "
                # Without the WHERE, ratings that stay equal would count as changed.
                "ON CONFLICT (content, origin) DO UPDATE SET rating = excluded.rating "
                "WHERE ratings.rating <> excluded.rating",
                (content, HAND, rating),
            )
            for content in existing_contents(database, contents)
        )


def ratings_of(database: Database, contents: Sequence[int]) -> dict[int, int]:
    """Map contents to their effective rating: by hand, else from a sidecar, else from the image file."""
    ratings: dict[int, dict[str, int]] = {}
    for content, origin, rating in select_in(
        database, "SELECT content, origin, rating FROM ratings WHERE content IN ({})", contents
    ):
        ratings.setdefault(content, {})[origin] = rating
    # Ratings of other origins, which imports may bring, come last: the highest of them.
    order = (HAND, SIDECAR, FILE)
    return {
        content: next((by_origin[origin] for origin in order if origin in by_origin), max(by_origin.values()))
        for content, by_origin in ratings.items()
    }


def clear_tags(database: Database, origin: str) -> int:
    """Remove all tags of an origin, also from annotations set aside; return the number removed."""
    with database.writing():
        # Else the tags would be back as soon as a drive is plugged in again.
        clear_set_aside(database, origin)
        return database.run("DELETE FROM tags WHERE origin = ?", (origin,))


def count_tags(database: Database, origin: str | None = None) -> list[TagCount]:
    """Count the images of each tag by origin, most frequent tags first."""
    condition, values = ("", ()) if origin is None else ("WHERE origin = ? ", (origin,))
    rows = database.all(
        f"SELECT origin, tag, COUNT(*) FROM tags {condition}"
        "GROUP BY origin, tag ORDER BY origin, 3 DESC, tag",
        values,
    )
    return [TagCount(*row) for row in rows]


def assigned_tags(database: Database, contents: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Map contents to their tags of every origin that is not read from files."""
    # Dictionaries serve as ordered sets: several origins may give the same tag.
    tags_by_content: dict[int, dict[str, None]] = {}
    sql = "SELECT content, tag FROM tags WHERE origin NOT IN (?, ?) AND content IN ({}) ORDER BY tag"
    for content, tag in select_in(database, sql, contents, *ORIGINS_READ):
        tags_by_content.setdefault(content, {})[tag] = None
    return {content: tuple(tags) for content, tags in tags_by_content.items()}


def _scores(database: Database, origin: str, contents: Sequence[int]) -> dict[int, dict[str, float]]:
    scores: dict[int, dict[str, float]] = {}
    sql = "SELECT content, tag, score FROM tags WHERE origin = ? AND content IN ({})"
    for content, tag, score in select_in(database, sql, contents, origin):
        scores.setdefault(content, {})[tag] = score
    return scores


def existing_contents(database: Database, contents: Iterable[int]) -> list[int]:
    """Return those of these contents that are still in the catalogue."""
    listed = list(contents)
    existing = {row[0] for row in select_in(database, "SELECT id FROM contents WHERE id IN ({})", listed)}
    return [content for content in listed if content in existing]


def _replace(database: Database, origin: str, content: int, tags: Mapping[str, float]) -> None:
    database.run("DELETE FROM tags WHERE content = ? AND origin = ?", (content, origin))
    database.many(
        "INSERT INTO tags (content, tag, score, origin) VALUES (?, ?, ?, ?)",
        [(content, tag, score, origin) for tag, score in tags.items()],
    )


def _add_rating(database: Database, origin: str, content: int, rating: int | None) -> None:
    if rating:  # 0 means not rated
        database.run(
            "INSERT INTO ratings (content, origin, rating) VALUES (?, ?, ?)", (content, origin, rating)
        )


# ------------------------------------------------------------------- metadata of headers and sidecars

_COLUMNS = ("taken", "taken_from", "latitude", "longitude")


def keep_details(database: Database, content: int, details: Details, *, exists: bool) -> None:
    """Save the metadata of a header, inside the caller's transaction.

    `exists`: the row of the content existed before. It is updated, as this version may read more fields.
    """
    _replace(database, FILE, content, dict.fromkeys(details.keywords, 1.0))
    database.run("DELETE FROM ratings WHERE content = ? AND origin = ?", (content, FILE))
    _add_rating(database, FILE, content, details.rating)
    if exists:
        taken = details.taken and details.taken.isoformat(sep=" ")
        database.run(
            f"UPDATE contents SET {', '.join(f'{name} = ?' for name in _COLUMNS)}, camera = ?, own_data = '' "
            "WHERE id = ?",
            (taken, details.taken_from, details.latitude, details.longitude, details.camera, content),
        )


def update_from_sidecars(database: Database, contents: Iterable[int]) -> None:
    """Merge the sidecar fields of all files of each content again, inside the caller's transaction.

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
        # All are deleted first, as a sidecar or a keyword may have gone; what sidecars still say is inserted
        # again.
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
    # `values` are the columns as they are now, `own_values` those of the image itself. Example: the image has
    # only the date of its last edit and no location, a sidecar has the date of capture and a location. Then
    # the columns hold the sidecar's values, and own_data the image's: '["2013-05-01 ...", "...", null,
    # null]'. Once the sidecar is deleted, own_data restores the columns and becomes ''.
    database.many(
        "INSERT INTO tags (content, tag, score, origin) VALUES (?, ?, 1.0, ?)",
        [(content, word, SIDECAR) for word in sidecars.keywords],
    )
    _add_rating(database, SIDECAR, content, sidecars.rating)
    # '' says that no sidecar overrides anything: the columns are the image's own.
    own_values = json.loads(own_data) if own_data else values
    taken, taken_from, latitude, longitude = own_values
    if sidecars.taken and (not taken or source_rank(sidecars.taken_from) < source_rank(taken_from or "")):
        taken, taken_from = sidecars.taken.isoformat(sep=" "), sidecars.taken_from
    # A location in the image was measured by the camera, one in a sidecar may be that of a town.
    if latitude is None:
        latitude, longitude = sidecars.latitude, sidecars.longitude
    new_values = [taken, taken_from, latitude, longitude]
    own_text = "" if new_values == own_values else json.dumps(own_values)
    # Most images have no sidecar: nothing is written for them.
    if new_values != values or own_text != own_data:
        database.run(
            "UPDATE contents SET taken = ?, taken_from = ?, latitude = ?, longitude = ?, own_data = ? "
            "WHERE id = ?",
            (*new_values, own_text, content),
        )
