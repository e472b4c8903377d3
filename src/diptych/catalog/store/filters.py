"""Filters: which images a search may return, by date, location, folder, tag, camera, size, name and caption.

A filter is evaluated before the search, to the set of rows that may be returned. Only that set is searched,
so a filter never costs recall.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.catalog.store.paths import CanonicalPaths, at_or_below, stored_rules
from diptych.errors import InputError
from diptych.files.unicode_text import composed, existing_path, storable
from diptych.media.sources import name_of

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.catalog.database.spaces import Space
    from diptych.vectors.segments import RowNumbers

EARTH_KM = 6371.0
_FIRST, _LAST = datetime(1678, 1, 1), datetime(2262, 1, 1)  # nanoseconds since 1970 fit into 64 bits


# Cameras and phones add a second image to a JPEG, which makes it an MPO although its name ends in .jpg.
_JPEG, _TIFF, _HEIF, _J2K = ("jpeg", "mpo"), ("tiff",), ("heif", "heic"), ("jpeg2000",)
_ALIASES = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), _JPEG),
    **dict.fromkeys(("tif", "tiff"), _TIFF),
    **dict.fromkeys(("heic", "heif"), _HEIF),
    **dict.fromkeys(("jp2", "j2k", "jpx", "jpeg2000"), _J2K),
}
# Rating of a content `c`, in the same order of precedence as `tags.ratings_of`.
EFFECTIVE_RATING = (
    "(SELECT r.rating FROM ratings r WHERE r.content = c.id ORDER BY "
    "CASE r.origin WHEN 'hand' THEN 0 WHEN 'sidecar' THEN 1 WHEN 'file' THEN 2 ELSE 3 END, r.rating DESC "
    "LIMIT 1)"
)


@dataclass(frozen=True)
class Filter:
    """Conditions on images; an image passes if it meets all of those that are set.

    Attributes
    ----------
    after, before : date, optional
        First and last day, by the metadata, otherwise by the file's time.
    folders : tuple of path
        In or below one of these; an archive or a file counts as a folder.
    tags, any_tags, not_tags : tuple of str
        All of these; at least one of these; none of these.
    untagged : bool
        Has no tag.
    rating, min_rating : int, optional
        Stars, exactly or at least; 0 means not rated, -1 rejected. A rating by hand precedes a file's.
    camera : str
        Part of maker and model, ignoring case.
    formats, not_formats : tuple of str
        One of these file types; none of these. For example "jpeg", "png", "heic".
    caption, name : str
        Part of the caption; part of the path; ignoring case.
    not_folders, not_cameras, not_captions, not_names : tuple
        Exclusions. If an image has several files, at least one file must meet all conditions on folders and
        names, and no file may have a caption of `not_captions`.
    near : (latitude, longitude, kilometres), optional
        Within this distance of this location.
    min_bytes, max_bytes : int, optional
        Size of the file.
    min_side : int, optional
        Pixels of the shorter side.
    shape : {"", "landscape", "portrait", "square"}
    """

    after: date | None = None
    before: date | None = None
    folders: tuple[Path, ...] = ()
    tags: tuple[str, ...] = ()
    camera: str = ""
    caption: str = ""
    name: str = ""
    near: tuple[float, float, float] | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    min_side: int | None = None
    shape: str = ""
    any_tags: tuple[str, ...] = ()
    not_tags: tuple[str, ...] = ()
    untagged: bool = False
    rating: int | None = None
    min_rating: int | None = None
    formats: tuple[str, ...] = ()
    not_formats: tuple[str, ...] = ()
    not_folders: tuple[Path, ...] = ()
    not_cameras: tuple[str, ...] = ()
    not_captions: tuple[str, ...] = ()
    not_names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Filter()

    def check(self, database: Database) -> None:
        """Raise InputError for a folder that is neither on disk nor in the catalogue.

        A folder of a missing drive is in the catalogue only.
        """
        for folder in (*self.folders, *self.not_folders):
            path = canonical_path(folder, database)
            if not os.path.lexists(path) and not _is_indexed(path, database):
                raise InputError(
                    f"{name_of(folder)}: there is no such file or folder, "
                    "neither on disk nor in the catalogue"
                )


@dataclass
class _Conditions:
    """Conditions of a WHERE clause on a content `c`, with their values."""

    # The database folds both sides of a comparison, as PostgreSQL may fold fewer letters than Python does.
    database: Database
    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, part: str, *values: Any) -> None:
        """Add a condition with the values of its placeholders."""
        self.parts.append(part)
        self.values += values

    def contains(self, text: str, part: str) -> None:
        """Require that an SQL text contains this part, ignoring case and Unicode normal form."""
        caseless = self.database.caseless
        self.add(f"{caseless(text)} LIKE {caseless('?')} ESCAPE '!'", _like_pattern(part))

    def lacks(self, text: str, part: str) -> None:
        """Require that an SQL text, which may be NULL, does not contain this part."""
        self.contains(f"COALESCE({text}, '')", part)
        self.parts[-1] = f"NOT ({self.parts[-1]})"


def allowed_rows(space: Space, filters: Filter | None) -> RowNumbers:
    """Return the rows of the images that pass a filter, sorted, (n,) int64; without one, all live rows.

    Raises
    ------
    InputError
        The filter is invalid: an unknown folder, coordinates out of range, or an unknown shape.
    """
    if not filters:
        return space.live_rows()
    filters.check(space.database)
    conditions = _conditions(filters, space.database)
    rows = space.database.all(
        "SELECT v.row, c.latitude, c.longitude FROM vectors v JOIN contents c ON c.id = v.content "
        f"WHERE v.space = ? AND {' AND '.join(conditions.parts) or '1 = 1'} ORDER BY v.row",
        (space.info.id, *conditions.values),
    )
    if filters.near is not None and rows:
        locations = np.array([row[1:] for row in rows], np.float64)  # (n, 2): latitude, longitude
        distances = distance_km(locations[:, 0], locations[:, 1], *filters.near[:2])
        rows = [row for row, km in zip(rows, distances, strict=True) if km <= filters.near[2]]
    return np.array([row[0] for row in rows], np.int64)


def _conditions(filters: Filter, database: Database) -> _Conditions:
    conditions = _Conditions(database)
    _dates(filters, conditions)
    _tags(filters, conditions)
    for rating, sign in ((filters.rating, "="), (filters.min_rating, ">=")):
        if rating is not None:
            conditions.add(f"COALESCE({EFFECTIVE_RATING}, 0) {sign} ?", rating)
    _formats(filters, conditions)
    if filters.camera:
        conditions.contains("c.camera", filters.camera)
    for camera in filters.not_cameras:
        conditions.lacks("c.camera", camera)
    for value, sign in ((filters.min_bytes, ">="), (filters.max_bytes, "<=")):
        if value is not None:
            conditions.add(f"c.bytes {sign} ?", value)
    if filters.min_side is not None:
        # Unknown sides are NULL, and a comparison with NULL is never true: such images do not pass.
        conditions.add("c.width >= ? AND c.height >= ?", filters.min_side, filters.min_side)
    if filters.shape:
        # Width and height are those of the upright image, after EXIF orientation.
        signs = {"landscape": ">", "portrait": "<", "square": "="}
        if filters.shape not in signs:
            raise InputError(f"shape is {filters.shape!r}: expected landscape, portrait or square")
        conditions.add(f"c.width {signs[filters.shape]} c.height")
    if filters.near is not None:
        _near(filters.near, conditions)
    _files(filters, conditions)
    return conditions


def spellings_of(tag: str) -> tuple[str, ...]:
    """Return the stored spellings of a tag: hierarchical keywords use "|" or "/" between their levels.

    Examples
    --------
    >>> spellings_of("sea"), spellings_of("places/sea")
    (('sea',), ('places/sea', 'places|sea'))
    """
    stored = storable(tag)
    return tuple(dict.fromkeys((stored, stored.replace("/", "|"))))


def _tags(filters: Filter, conditions: _Conditions) -> None:
    # Groups of (tags, negation): any_tags are one group, each of `tags` and `not_tags` is a group by itself.
    same_tag = f"{conditions.database.caseless('t.tag')} = {conditions.database.caseless('?')}"
    # E.g. tags ("sea",), any_tags ("dog", "cat"), not_tags ("work",): EXISTS(dog or cat) AND EXISTS(sea) AND
    # NOT EXISTS(work). A join would give an image once for each matching tag.
    groups: list[tuple[tuple[str, ...], str]] = [(filters.any_tags, "")] * bool(filters.any_tags)
    groups += [((tag,), "") for tag in filters.tags]
    groups += [((tag,), "NOT ") for tag in filters.not_tags]
    for tags, negation in groups:
        names = [name for tag in tags for name in spellings_of(tag)]
        one_of = " OR ".join([same_tag] * len(names))
        conditions.add(
            f"{negation}EXISTS (SELECT 1 FROM tags t WHERE t.content = c.id AND ({one_of}))", *names
        )
    if filters.untagged:
        conditions.add("NOT EXISTS (SELECT 1 FROM tags t WHERE t.content = c.id)")


def _formats(filters: Filter, conditions: _Conditions) -> None:
    for names, negation in ((filters.formats, ""), (filters.not_formats, "NOT ")):
        if names:
            formats = sorted({kind for name in names for kind in formats_of(name)})
            placeholders = ", ".join("?" * len(formats))
            conditions.add(f"LOWER(COALESCE(c.format, '')) {negation}IN ({placeholders})", *formats)


def formats_of(name: str) -> tuple[str, ...]:
    """Return the stored formats, in lower case, that a format name or file suffix stands for.

    Examples
    --------
    >>> formats_of(".JPG"), formats_of("png")
    (('jpeg', 'mpo'), ('png',))
    """
    plain = storable(name).lower().removeprefix(".")
    return _ALIASES.get(plain, (plain,))


def _dates(filters: Filter, conditions: _Conditions) -> None:
    """Compare the metadata's date, as text; without one, the time of the image's oldest file.

    A partial date passes if some day of its period would: "May 2013" is both after and before 15 May.
    It is stored as the first day of its period, 2013-05-01, with a mark in `taken_from`.
    """
    for day, sign in ((filters.after, ">="), (filters.before, "<")):
        if day is None:
            continue
        edge = datetime(day.year, day.month, day.day)
        if sign == "<":
            edge = datetime.max if edge.date() == date.max else edge + timedelta(days=1)
        text, partly, values = edge.isoformat(sep=" "), "", []
        if sign == ">=":  # for "before", the stored first day is already the right one to compare
            for mark, length in (("%(month only)", 7), ("%(year only)", 4)):  # "2013-05" and "2013"
                partly += f" OR (c.taken_from LIKE ? AND SUBSTR(c.taken, 1, {length}) >= ?)"
                values += [mark, text[:length]]
        conditions.add(
            f"(c.taken {sign} ?{partly} OR (c.taken IS NULL AND (SELECT MIN(d.modified) FROM files d "
            f"WHERE d.content = c.id AND d.modified <> 0) {sign} ?))",
            text,
            *values,
            int(min(max(edge, _FIRST), _LAST).timestamp()) * 10**9,
        )


def _near(near: tuple[float, float, float], conditions: _Conditions) -> None:
    """Restrict to a band of latitudes around the circle; `allowed_rows` computes the exact distances."""
    latitude, longitude, km = near
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and km > 0):
        raise InputError(
            "a location is a latitude (-90 to 90), a longitude (-180 to 180) and kilometres above 0, "
            f"got {near}"
        )
    # One degree of latitude is 111 km everywhere; degrees of longitude shrink towards the poles and wrap at
    # 180, so longitudes are not restricted here.
    half = np.degrees(km / EARTH_KM)
    conditions.add("c.latitude BETWEEN ? AND ?", latitude - half, latitude + half)
    conditions.add("c.longitude IS NOT NULL")


def file_conditions(filters: Filter, database: Database) -> tuple[str, list[Any]]:
    """Return the conditions that one and the same file `f` must meet, as SQL and values; "" for none."""
    file = _Conditions(database)
    if filters.folders:
        inside = [_inside(canonical_path(folder, database)) for folder in filters.folders]
        values = [value for _, some in inside for value in some]
        file.add(f"({' OR '.join(condition for condition, _ in inside)})", *values)
    for folder in filters.not_folders:
        condition, edges = _inside(canonical_path(folder, database))
        file.add(f"NOT {condition}", *edges)
    if filters.caption:
        file.contains("f.caption", filters.caption)
    name = f"{database.text_of('f.path')} || '/' || f.member"
    if filters.name:
        file.contains(name, name_of(filters.name))  # bytes that are not UTF-8 are escaped as in the database
    for part in filters.not_names:
        file.lacks(name, name_of(part))
    return " AND ".join(file.parts), file.values


def _files(filters: Filter, conditions: _Conditions) -> None:
    """Require that some file of the image meets the conditions on files."""
    for caption in filters.not_captions:
        # No file may have the caption, because any of them may provide the caption that is shown.
        file = _Conditions(conditions.database)
        file.contains("f.caption", caption)
        conditions.add(
            f"NOT EXISTS (SELECT 1 FROM files f WHERE f.content = c.id AND {file.parts[0]})", *file.values
        )
    # One EXISTS for all conditions, so that one file must meet them together: an image in /a/x.jpg and
    # /b/y.jpg does not pass "folder /a and name y".
    inside, values = file_conditions(filters, conditions.database)
    if inside:
        conditions.add(f"EXISTS (SELECT 1 FROM files f WHERE f.content = c.id AND {inside})", *values)


def _inside(folder: Path) -> tuple[str, tuple[bytes, bytes, bytes]]:
    """Return the condition that a file `f` is this one or lies in this folder, and its values."""
    # resolve() would follow links
    return at_or_below(os.fsencode(os.path.abspath(folder)), "f.path")  # noqa: PTH100


def _is_indexed(folder: Path, database: Database) -> bool:
    inside, values = _inside(folder)
    return bool(database.all(f"SELECT 1 FROM files f WHERE {inside} LIMIT 1", values))


def contents_at(path: Path, database: Database) -> list[int]:
    """Return the contents of a file, an archive or a folder, in any spelling of its path."""
    for candidate in dict.fromkeys((canonical_path(path, database), Path(os.path.realpath(path)))):
        inside, values = _inside(candidate)
        rows = database.all(
            f"SELECT DISTINCT f.content FROM files f WHERE {inside} AND f.content IS NOT NULL", values
        )
        if rows:
            return [row[0] for row in rows]
    return []


def canonical_path(path: Path, database: Database) -> Path:
    """Return a path as the catalogue spells it; it may be given through a link or in another normal form."""
    path = existing_path(Path(os.path.abspath(path)))  # noqa: PTH100 - resolve() would follow links
    path = CanonicalPaths(stored_rules(database)).of(path)
    if str(path).isascii() or os.path.lexists(path) or _is_indexed(path, database):
        return path
    # The path is not on disk, for example on a missing drive: look for it in the catalogue, where its name
    # may be in another Unicode normal form.
    conditions = _Conditions(database)
    conditions.contains(database.text_of("f.path"), str(path))
    for (stored,) in database.all(
        f"SELECT f.path FROM files f WHERE {conditions.parts[0]}", conditions.values
    ):
        candidate = Path(*Path(os.fsdecode(bytes(stored))).parts[: len(path.parts)])
        if composed(str(candidate)) == composed(str(path)):
            return candidate
    return path


def _like_pattern(text: str) -> str:
    """Return a LIKE pattern for texts that contain this one, with "!" as the escape character.

    Examples
    --------
    >>> _like_pattern("50% Off")
    '%50!% Off%'
    """
    escaped = "".join("!" + letter if letter in "%_!" else letter for letter in storable(text))
    return f"%{escaped}%"


def distance_km(latitudes: Any, longitudes: Any, latitude: float, longitude: float) -> Any:
    """Great-circle distances in kilometres from many locations to one (haversine formula).

    Examples
    --------
    >>> round(float(distance_km(52.52, 13.405, 48.137, 11.575)))
    504
    """
    a, b = np.radians(latitudes), np.radians(latitude)
    turn = np.radians(np.asarray(longitudes) - longitude)
    half = np.sin((a - b) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(turn / 2) ** 2
    return 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
