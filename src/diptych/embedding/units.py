"""What there is to embed, cut into units of work: an archive, some files, some rows of a table.

A unit is small enough to be done again when its worker dies, and says what it holds so that a later run can
tell whether it is still the same. It opens no picture. Reading one is `items`'s business, embedding it
`encoding`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from diptych.embedding.tables import LINE, LIST_SUFFIX, TABLE_SUFFIXES, chunks, columns_of
from diptych.errors import DataError, ImageError, InputError
from diptych.files.locations import find_locations
from diptych.files.patterns import is_remote
from diptych.media import find_images, is_archive, list_archive

Modality = Literal["pictures", "texts"]
UNIT_ROWS = 10_000
MOST_COUNTED = 100  # archives whose pictures are counted beforehand
# Names of columns that are looked for, best first.
PICTURE_COLUMNS = (
    "image_path",
    "filepath",
    "file_path",
    "path",
    "image",
    "img",
    "file",
    "filename",
    "file_name",
)
TEXT_COLUMNS = ("caption", "text", "title", "sentence", "captions", "txt", "description")


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes
    ----------
    kind : {"files", "archive", "table"}
    place : str
        The archive or table, a path or an address; of files the first.
    names : tuple of str
        The files.
    first, offset, rows : int
        Which rows of a table, see `tables.Chunk`; `rows` of files and archives is their number, for
        telling how much there is; 0 where it would take long to find out.
    picture, text : str
        The table's columns, "" for none.
    fingerprint : str
        Changes when files, sizes, times or rows do.
    """

    kind: Literal["files", "archive", "table"]
    place: str
    names: tuple[str, ...] = ()
    first: int = 0
    offset: int = 0
    rows: int = 0
    picture: str = ""
    text: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns of tables to read; "" leaves it to their names."""

    picture: str = ""
    text: str = ""


def plan_units(
    sources: Sequence[str | Path],
    *,
    modality: Modality | None = None,
    columns: Columns = Columns(),
    unit_rows: int = UNIT_ROWS,
) -> tuple[Modality, list[Unit]]:
    """Cut what these sources name into units, the same ones in the same order every time.

    Parameters
    ----------
    sources : sequence of str or Path
        Pictures, folders of pictures or of archives, archives (brace ranges, globs and addresses too), tables
        (CSV, TSV, Parquet), and text files with one text a line.
    modality : {"pictures", "texts"}, optional
        By default what the sources hold, which has to be one of the two.
    columns : Columns
    unit_rows : int
        Files or rows of a unit. An archive is one unit.

    Returns
    -------
    modality : {"pictures", "texts"}
    units : list of Unit

    Raises
    ------
    InputError
        Nothing to embed, or pictures and texts at once.
    DataError, ImageError
        A source is not there, or a table cannot be read.
    """
    if unit_rows < 1:
        raise InputError(f"unit_rows is {unit_rows}: expected 1 or more")
    files: list[Path] = []
    archives: list[str] = []
    tables: list[Path] = []
    for place in _places(sources):
        if is_remote(place):
            archives.append(_remote(place))
        elif Path(place).is_dir():
            pictures, inside = _in_folder(Path(place))
            files += pictures
            archives += inside
        elif is_archive(place):
            archives.append(place)
        elif Path(place).suffix.lower() in {*TABLE_SUFFIXES, LIST_SUFFIX}:
            tables.append(Path(place))
        else:
            files.append(Path(place))
    kind, read = _modality(modality, bool(files or archives), tables, columns)
    once = list(dict.fromkeys(os.path.abspath(file) for file in files))  # noqa: PTH100 - keeps links
    units = [_files(once[start : start + unit_rows]) for start in range(0, len(once), unit_rows)]
    shards = list(dict.fromkeys(archives))
    units += [_archive(place, count=len(shards) <= MOST_COUNTED) for place in shards]
    units += [unit for path, found in read for unit in _table(path, found, unit_rows)]
    if not units:
        raise InputError(
            f"nothing to embed in {', '.join(map(str, sources)) or 'an empty list'}: expected pictures, "
            "archives of pictures (.tar, .zip), tables (.csv, .tsv, .parquet) or texts, one a line (.txt)"
        )
    return kind, units


def _places(sources: Sequence[str | Path]) -> Iterator[str]:
    for source in sources:
        path = Path(source).expanduser()
        if path.exists():
            yield str(path)
            continue
        try:
            found = find_locations(str(source))
        except DataError as error:
            raise DataError(
                f"{error}; folders, pictures and lists of texts (.txt) may be named too"
            ) from None
        yield from found


def _remote(place: str) -> str:
    if not is_archive(place):
        raise InputError(
            f"{place}: of addresses only archives are read: expected one that ends in .tar or .zip"
        )
    return place


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Pictures at any depth, and archives that lie in the folder itself."""
    try:
        shards = [str(path) for path in folder.iterdir() if is_archive(path) and path.is_file()]
    except OSError as error:
        raise ImageError(f"{folder}: the folder cannot be listed: {error.strerror}") from error
    return find_images([folder]), sorted(shards)


def _modality(
    wanted: Modality | None, pictures: bool, tables: Sequence[Path], columns: Columns
) -> tuple[Modality, list[tuple[Path, Columns]]]:
    """Pictures or texts, and the columns to read of each table."""
    read = [(path, _columns(path, wanted, columns)) for path in tables]
    kinds: set[Modality] = {"pictures"} if pictures else set()
    for _, found in read:
        kinds.add("pictures" if found.picture else "texts")
    if wanted is not None and kinds - {wanted}:
        other = "pictures" if wanted == "texts" else "texts"
        raise InputError(
            f"{wanted} were asked for, and among the sources are {other}: leave those out, or name the "
            "column of each table"
        )
    if len(kinds) > 1:
        raise InputError(
            "the sources hold pictures and texts: embed them into two folders, or say --texts to take the "
            "texts of tables that have both"
        )
    kind: Modality = wanted or ("texts" if "texts" in kinds else "pictures")
    return kind, read


def _columns(path: Path, wanted: Modality | None, asked: Columns) -> Columns:
    known = columns_of(path)
    if path.suffix.lower() == LIST_SUFFIX:
        return Columns(picture=LINE) if wanted == "pictures" else Columns(text=LINE)
    for name in (asked.picture, asked.text):
        if name and name not in known:
            raise DataError(f"{path} has no column {name!r}: its columns are {', '.join(map(repr, known))}")
    picture = asked.picture or ("" if asked.text and not wanted else _first(PICTURE_COLUMNS, known))
    text = asked.text or _first(TEXT_COLUMNS, [name for name in known if name != picture])
    if wanted == "texts":
        picture = ""
    if (wanted == "pictures" and not picture) or not (picture or text):
        raise DataError(
            f"{path} has no column that is known to hold {wanted or 'pictures or texts'}: its columns are "
            f"{', '.join(map(repr, known)) or 'none'}. Name one: --image-column or --caption-column"
        )
    return Columns(picture, text)


def _first(names: Iterable[str], known: Sequence[str]) -> str:
    lower = {name.lower(): name for name in reversed(known)}
    return next((lower[name] for name in names if name in lower), "")


def _files(names: Sequence[str]) -> Unit:
    unit = Unit("files", names[0], names=tuple(names), rows=len(names))
    return replace(unit, fingerprint=_digest(*((name, *_state(name)) for name in names)))


def _archive(place: str, *, count: bool) -> Unit:
    place = place if is_remote(place) else os.path.abspath(place)  # noqa: PTH100
    state = () if is_remote(place) else _state(place)
    rows = 0
    if count and place.lower().endswith((".tar", ".zip", ".cbz")) and not is_remote(place):
        with contextlib.suppress(ImageError):  # whoever reads it will say what is wrong
            rows = len(list_archive(place))
    return Unit("archive", place, rows=rows, fingerprint=_digest((place, *state)))


def _table(path: Path, columns: Columns, unit_rows: int) -> Iterator[Unit]:
    place = os.path.abspath(path)  # noqa: PTH100
    state = _state(place)
    for chunk in chunks(path, unit_rows):
        digest = _digest((place, *state), (chunk.first, chunk.rows), (columns.picture, columns.text))
        yield Unit(
            "table",
            place,
            first=chunk.first,
            offset=chunk.offset,
            rows=chunk.rows,
            picture=columns.picture,
            text=columns.text,
            fingerprint=digest,
        )


def _state(name: str) -> tuple[int, int]:
    """Size and time of a file; zeros for one that is not there, which will be told when it is read."""
    try:
        found = os.stat(name)  # noqa: PTH116 - a million of them
    except (OSError, ValueError):
        return (0, 0)
    return found.st_size, found.st_mtime_ns


def _digest(*parts: tuple[object, ...]) -> str:
    told = hashlib.sha256()
    for part in parts:
        told.update(repr(part).encode("utf-8", "surrogateescape"))
    return told.hexdigest()[:16]
