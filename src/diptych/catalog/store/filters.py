"""Which pictures a search may answer with: by date, place, folder, tag, camera, size, name and caption.

A filter becomes the set of rows that may win before anything is searched. What is searched then is that set,
so a filter never costs recall.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.catalog.store.paths import Spelling, below, stored_rules
from diptych.errors import InputError
from diptych.files.unicode_text import composed, existing_path, storable
from diptych.media.sources import name_of

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.catalog.database.spaces import Space
    from diptych.vectors.segments import RowNumbers

EARTH_KM = 6371.0
_INSIDE = "(f.path = ? OR (f.path >= ? AND f.path < ?))"  # of a file, or in a folder
_FIRST, _LAST = datetime(1678, 1, 1), datetime(2262, 1, 1)  # in nanoseconds both fit into 64 bits


# Cameras and phones write a second picture into a JPEG, which makes it an MPO; its name ends in .jpg.
_JPEG, _TIFF, _HEIF, _J2K = ("jpeg", "mpo"), ("tiff",), ("heif", "heic"), ("jpeg2000",)
_ALIASES = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), _JPEG),
    **dict.fromkeys(("tif", "tiff"), _TIFF),
    **dict.fromkeys(("heic", "heif"), _HEIF),
    **dict.fromkeys(("jp2", "j2k", "jpx", "jpeg2000"), _J2K),
}
# Of a content `c`; in the order of `tags.ratings_of`.
EFFECTIVE_RATING = (
    "(SELECT r.rating FROM ratings r WHERE r.content = c.id ORDER BY "
    "CASE r.origin WHEN 'hand' THEN 0 WHEN 'sidecar' THEN 1 WHEN 'file' THEN 2 ELSE 3 END, r.rating DESC "
    "LIMIT 1)"
)


@dataclass(frozen=True)
class Filter:
    """What a picture has to fulfil; every condition that is given.

    Attributes
    ----------
    after, before : date, optional
        Of the photograph (EXIF), else of the file; both included.
    folders : tuple of path
        In one of these, or below; an archive, or a file, counts as one too.
    tags, any_tags, not_tags : tuple of str
        Every one of these; at least one of these; none of these.
    untagged : bool
        No tag at all.
    rating, min_rating : int, optional
        Stars, exactly or at least; 0 means not rated, -1 rejected. A rating by hand counts before a file's.
    camera : str
        Part of maker and model, in any case.
    formats, not_formats : tuple of str
        One of these types of files, none of these, as "jpeg", "png", "heic".
    caption, name : str
        Part of the caption, of the path, in any case.
    not_folders, not_cameras, not_captions, not_names : tuple
        What must not be so. Of several files of one picture some file must be in the folders, have the name
        and be in none of `not_folders`, have none of `not_names`; no file may have any of `not_captions`.
    near : (latitude, longitude, kilometres), optional
    min_bytes, max_bytes : int, optional
        Of the file.
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
        """InputError for a folder that is neither on disk nor in the catalogue, where a drive may be away."""
        for folder in (*self.folders, *self.not_folders):
            spelling = stored_spelling(folder, database)
            if not os.path.lexists(spelling) and not _knows(spelling, database):
                raise InputError(
                    f"{name_of(folder)}: there is no such file or folder, and the catalogue knows of none"
                )


@dataclass
class _Conditions:
    # The database folds both sides of a comparison: one of PostgreSQL may know fewer letters than Python.
    database: Database
    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, part: str, *values: Any) -> None:
        """One more."""
        self.parts.append(part)
        self.values += values

    def contains(self, text: str, part: str) -> None:
        """One more: a text, in SQL, has this part, whatever their case and normal form."""
        caseless = self.database.caseless
        self.add(f"{caseless(text)} LIKE {caseless('?')} ESCAPE '!'", _part(part))

    def lacks(self, text: str, part: str) -> None:
        """One more: a text, in SQL, which may be none, does not have this part."""
        self.contains(f"COALESCE({text}, '')", part)
        self.parts[-1] = f"NOT ({self.parts[-1]})"


def allowed_rows(space: Space, wanted: Filter) -> RowNumbers:
    """The rows of the pictures that fulfil a filter, sorted, (n,) int64.

    Raises
    ------
    InputError
        What no picture can fulfil: a folder that is nowhere, a place outside the earth, a shape of no name.
    """
    wanted.check(space.database)
    conditions = _conditions(wanted, space.database)
    rows = space.database.all(
        "SELECT v.row, c.latitude, c.longitude FROM vectors v JOIN contents c ON c.id = v.content "
        f"WHERE v.space = ? AND {' AND '.join(conditions.parts) or '1 = 1'} ORDER BY v.row",
        (space.info.id, *conditions.values),
    )
    if wanted.near is not None and rows:
        places = np.array([row[1:] for row in rows], np.float64)  # (n, 2)
        far = distance_km(places[:, 0], places[:, 1], *wanted.near[:2])
        rows = [row for row, km in zip(rows, far, strict=True) if km <= wanted.near[2]]
    return np.array([row[0] for row in rows], np.int64)


def _conditions(wanted: Filter, database: Database) -> _Conditions:
    asked = _Conditions(database)
    _dates(wanted, asked)
    _tags(wanted, asked)
    _rating(wanted, asked)
    _formats(wanted, asked)
    if wanted.camera:
        asked.contains("c.camera", wanted.camera)
    for camera in wanted.not_cameras:
        asked.lacks("c.camera", camera)
    for value, sign in ((wanted.min_bytes, ">="), (wanted.max_bytes, "<=")):
        if value is not None:
            asked.add(f"c.bytes {sign} ?", value)
    if wanted.min_side is not None:
        asked.add("c.width >= ? AND c.height >= ?", wanted.min_side, wanted.min_side)
    if wanted.shape:
        signs = {"landscape": ">", "portrait": "<", "square": "="}
        if wanted.shape not in signs:
            raise InputError(f"shape is {wanted.shape!r}: expected landscape, portrait or square")
        asked.add(f"c.width {signs[wanted.shape]} c.height")
    if wanted.near is not None:
        _near(wanted.near, asked)
    _files(wanted, asked)
    return asked


def spellings_of(tag: str) -> tuple[str, ...]:
    """How a tag may be kept: keywords that are paths have "|" between their levels, where others show "/".

    Examples
    --------
    >>> spellings_of("sea"), spellings_of("places/sea")
    (('sea',), ('places/sea', 'places|sea'))
    """
    kept = storable(tag)
    return tuple(dict.fromkeys((kept, kept.replace("/", "|"))))


def _tags(wanted: Filter, asked: _Conditions) -> None:
    same_tag = f"{asked.database.caseless('t.tag')} = {asked.database.caseless('?')}"
    groups: list[tuple[tuple[str, ...], str]] = [(wanted.any_tags, "")] * bool(wanted.any_tags)
    groups += [((tag,), "") for tag in wanted.tags]
    groups += [((tag,), "NOT ") for tag in wanted.not_tags]
    for tags, negation in groups:
        names = [name for tag in tags for name in spellings_of(tag)]
        one_of = " OR ".join([same_tag] * len(names))
        asked.add(f"{negation}EXISTS (SELECT 1 FROM tags t WHERE t.content = c.id AND ({one_of}))", *names)
    if wanted.untagged:
        asked.add("NOT EXISTS (SELECT 1 FROM tags t WHERE t.content = c.id)")


def _rating(wanted: Filter, asked: _Conditions) -> None:
    if wanted.rating is not None:
        asked.add(f"COALESCE({EFFECTIVE_RATING}, 0) = ?", wanted.rating)
    if wanted.min_rating is not None:
        asked.add(f"COALESCE({EFFECTIVE_RATING}, 0) >= ?", wanted.min_rating)


def _formats(wanted: Filter, asked: _Conditions) -> None:
    for names, negation in ((wanted.formats, ""), (wanted.not_formats, "NOT ")):
        if names:
            kept = sorted({one for name in names for one in formats_of(name)})
            marks = ", ".join("?" * len(kept))
            asked.add(f"LOWER(COALESCE(c.format, '')) {negation}IN ({marks})", *kept)


def formats_of(name: str) -> tuple[str, ...]:
    """The formats, in small letters, that people mean by a name or a suffix.

    Examples
    --------
    >>> formats_of(".JPG"), formats_of("png")
    (('jpeg', 'mpo'), ('png',))
    """
    plain = storable(name).lower().removeprefix(".")
    return _ALIASES.get(plain, (plain,))


def _dates(wanted: Filter, asked: _Conditions) -> None:
    """By the metadata's date, as text; a picture without one by its oldest file whose time is known.

    A date in part counts as far as it goes: "May 2013" is after May 15th as well as before it.
    """
    for day, sign in ((wanted.after, ">="), (wanted.before, "<")):
        if day is None:
            continue
        edge = datetime(day.year, day.month, day.day)
        if sign == "<":
            edge = datetime.max if edge.date() == date.max else edge + timedelta(days=1)
        text, partly, values = edge.isoformat(sep=" "), "", []
        if sign == ">=":  # the other way the beginning of what is known decides, and that is what is kept
            for mark, length in (("%(month only)", 7), ("%(year only)", 4)):
                partly += f" OR (c.taken_from LIKE ? AND SUBSTR(c.taken, 1, {length}) >= ?)"
                values += [mark, text[:length]]
        asked.add(
            f"(c.taken {sign} ?{partly} OR (c.taken IS NULL AND (SELECT MIN(d.modified) FROM files d "
            f"WHERE d.content = c.id AND d.modified <> 0) {sign} ?))",
            text,
            *values,
            int(min(max(edge, _FIRST), _LAST).timestamp()) * 10**9,
        )


def _near(near: tuple[float, float, float], asked: _Conditions) -> None:
    """A box around the circle; the circle itself is cut out later."""
    latitude, longitude, km = near
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and km > 0):
        raise InputError(
            f"a place is a latitude (-90 to 90), a longitude (-180 to 180) and kilometres above 0, got {near}"
        )
    half = np.degrees(km / EARTH_KM)
    asked.add("c.latitude BETWEEN ? AND ?", latitude - half, latitude + half)
    asked.add("c.longitude IS NOT NULL")


def of_files(wanted: Filter, database: Database) -> tuple[str, list[Any]]:
    """What a filter asks of one and the same file `f`, as SQL and its values; "" where that is nothing.

    Parameters
    ----------
    wanted : Filter
    database : Database
    """
    file = _Conditions(database)
    if wanted.folders:
        edges = [edge for folder in wanted.folders for edge in _edges(stored_spelling(folder, database))]
        file.add(f"({' OR '.join([_INSIDE] * len(wanted.folders))})", *edges)
    for folder in wanted.not_folders:
        file.add(f"NOT {_INSIDE}", *_edges(stored_spelling(folder, database)))
    if wanted.caption:
        file.contains("f.caption", wanted.caption)
    name = f"{database.text_of('f.path')} || '/' || f.member"
    if wanted.name:
        file.contains(name, name_of(wanted.name))  # escaped as members are
    for part in wanted.not_names:
        file.lacks(name, name_of(part))
    return " AND ".join(file.parts), file.values


def _files(wanted: Filter, asked: _Conditions) -> None:
    """Some file of the picture."""
    for caption in wanted.not_captions:
        # Of none of its files: any of them may give the caption that is shown.
        file = _Conditions(asked.database)
        file.contains("f.caption", caption)
        asked.add(
            f"NOT EXISTS (SELECT 1 FROM files f WHERE f.content = c.id AND {file.parts[0]})", *file.values
        )
    inside, values = of_files(wanted, asked.database)
    if inside:
        asked.add(f"EXISTS (SELECT 1 FROM files f WHERE f.content = c.id AND {inside})", *values)


def _edges(folder: Path) -> tuple[bytes, bytes, bytes]:
    """The values of `_INSIDE`."""
    path = os.fsencode(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links
    return (path, *below(path))


def _knows(folder: Path, database: Database) -> bool:
    return bool(database.all(f"SELECT 1 FROM files f WHERE {_INSIDE} LIMIT 1", _edges(folder)))


def contents_at(path: Path, database: Database) -> list[int]:
    """Contents of a file, an archive or a folder, by any spelling that `--in` takes too.

    Examples
    --------
    >>> import tempfile
    >>> from diptych.catalog.store.store import Store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     contents_at(Path("elsewhere.jpg"), Store.create(folder).database)
    []
    """
    for spelling in dict.fromkeys((stored_spelling(path, database), Path(os.path.realpath(path)))):
        rows = database.all(
            f"SELECT DISTINCT f.content FROM files f WHERE {_INSIDE} AND f.content IS NOT NULL",
            _edges(spelling),
        )
        if rows:
            return [row[0] for row in rows]
    return []


def stored_spelling(path: Path, database: Database) -> Path:
    """A path as the catalogue spells it: it may be named through a link, or in another normal form."""
    path = existing_path(Path(os.path.abspath(path)))  # noqa: PTH100 - resolve() would follow links
    path = Spelling(stored_rules(database)).of(path)
    if str(path).isascii() or os.path.lexists(path) or _knows(path, database):
        return path
    # On a drive that is away only the catalogue has the name.
    asked = _Conditions(database)
    asked.contains(database.text_of("f.path"), str(path))
    for (known,) in database.all(f"SELECT f.path FROM files f WHERE {asked.parts[0]}", asked.values):
        spelt = Path(*Path(os.fsdecode(bytes(known))).parts[: len(path.parts)])
        if composed(str(spelt)) == composed(str(path)):
            return spelt
    return path


def _part(text: str) -> str:
    """A pattern for texts that contain this one.

    Examples
    --------
    >>> _part("50% Off")
    '%50!% Off%'
    """
    escaped = "".join("!" + letter if letter in "%_!" else letter for letter in storable(text))
    return f"%{escaped}%"


def distance_km(latitudes: Any, longitudes: Any, latitude: float, longitude: float) -> Any:
    """Kilometres along the surface from many places to one (haversine formula), in the shape of the first.

    Examples
    --------
    >>> round(float(distance_km(52.52, 13.405, 48.137, 11.575)))
    504
    """
    a, b = np.radians(latitudes), np.radians(latitude)
    turn = np.radians(np.asarray(longitudes) - longitude)
    half = np.sin((a - b) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(turn / 2) ** 2
    return 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
