"""Split sources into units of work: an archive, some files, or some rows of a table.

A unit is small enough to be repeated if its worker dies, and its fingerprint tells a later run whether its
content is still the same. No image is opened here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from diptych.embedding.tables import LINE, LIST_SUFFIX, chunks, columns_of
from diptych.errors import DataError, ImageError, InputError
from diptych.files.locations import find_locations
from diptych.files.patterns import is_remote
from diptych.files.tables import TABLE_SUFFIXES, column_positions, missing_column
from diptych.media import find_images, is_archive, list_archive

Modality = Literal["pictures", "texts"]
UNIT_ROWS = 10_000
MOST_COUNTED = 100  # with more archives their images are not counted beforehand
# Column names that are recognised, in order of preference.
IMAGE_COLUMNS = (
    "image_path", "filepath", "file_path", "path", "image", "img", "file", "filename", "file_name",
)  # fmt: skip
TEXT_COLUMNS = ("caption", "text", "title", "sentence", "captions", "txt", "description")


@dataclass(frozen=True)
class Unit:
    """A unit of work.

    Attributes
    ----------
    kind : {"files", "archive", "table"}
    location : str
        Path or URL of the archive or table; the first of several files.
    names : tuple of str
        Paths of the files.
    first, offset, rows : int
        Rows of a table, see `Chunk`. For files and archives `rows` is the number of images, used for
        progress; 0 if counting would take long.
    image_column, text_column : str
        Columns of the table, "" for none.
    fingerprint : str
        Changes if files, sizes, times or rows change.
    """

    kind: Literal["files", "archive", "table"]
    location: str
    names: tuple[str, ...] = ()
    first: int = 0
    offset: int = 0
    rows: int = 0
    image_column: str = ""
    text_column: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Columns:
    """Columns of tables to read; "" chooses them by their names."""

    image: str = ""
    text: str = ""


def plan_units(
    sources: Sequence[str | Path],
    *,
    modality: Modality | None = None,
    columns: Columns = Columns(),
    unit_rows: int = UNIT_ROWS,
) -> tuple[Modality, list[Unit]]:
    """Split sources into units of work, deterministically.

    Parameters
    ----------
    sources : sequence of str or Path
        Images, folders of images or of archives, archives (also brace ranges, globs and URLs), tables (CSV,
        TSV, Parquet), and text files with one text per line.
    modality : {"pictures", "texts"}, optional
        By default inferred from the sources, which must be of one modality.
    unit_rows : int
        Maximum number of files or table rows of a unit. An archive is one unit.

    Raises
    ------
    InputError
        Nothing to embed, or both images and texts.
    DataError, ImageError
        A source does not exist, or a table cannot be read.
    """
    if unit_rows < 1:
        raise InputError(f"unit_rows is {unit_rows}: expected 1 or more")
    files: list[Path] = []
    archives: list[str] = []
    tables: list[Path] = []
    for location in _locations(sources):
        if is_remote(location):
            archives.append(_remote_archive(location))
        elif Path(location).is_dir():
            images, inside = _in_folder(Path(location))
            files += images
            archives += inside
        elif is_archive(location):
            archives.append(location)
        elif Path(location).suffix.lower() in {*TABLE_SUFFIXES, LIST_SUFFIX}:
            tables.append(Path(location))
        else:
            files.append(Path(location))
    kind, table_columns = _modality(modality, bool(files or archives), tables, columns)
    unique = list(dict.fromkeys(os.path.abspath(file) for file in files))  # noqa: PTH100 - keeps links
    units = [_file_unit(unique[start : start + unit_rows]) for start in range(0, len(unique), unit_rows)]
    shards = list(dict.fromkeys(archives))
    units += [_archive_unit(location, count=len(shards) <= MOST_COUNTED) for location in shards]
    units += [unit for path, chosen in table_columns for unit in _table_units(path, chosen, unit_rows)]
    if not units:
        raise InputError(
            f"nothing to embed in {', '.join(map(str, sources)) or 'an empty list'}: expected pictures, "
            "archives of pictures (.tar, .zip), tables (.csv, .tsv, .parquet) or texts, one a line (.txt)"
        )
    return kind, units


def _locations(sources: Sequence[str | Path]) -> Iterator[str]:
    for source in sources:
        path = Path(source).expanduser()
        if path.exists():
            yield str(path)
            continue
        try:
            matches = find_locations(str(source))
        except DataError as error:
            raise DataError(
                f"{error}; folders, pictures and lists of texts (.txt) may be named too"
            ) from None
        yield from matches


def _remote_archive(location: str) -> str:
    if not is_archive(location):
        raise InputError(
            f"{location}: only archives are read from URLs: expected one that ends in .tar or .zip"
        )
    return location


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Images at any depth, and archives directly in the folder."""
    try:
        shards = [str(path) for path in folder.iterdir() if is_archive(path) and path.is_file()]
    except OSError as error:
        raise ImageError(f"{folder}: the folder cannot be listed: {error.strerror}") from error
    return find_images([folder]), sorted(shards)


def _modality(
    requested: Modality | None, has_images: bool, tables: Sequence[Path], columns: Columns
) -> tuple[Modality, list[tuple[Path, Columns]]]:
    """Determine the modality, and the columns to read of each table."""
    table_columns = [(path, _choose_columns(path, requested, columns)) for path in tables]
    kinds: set[Modality] = {"pictures"} if has_images else set()
    for _, chosen in table_columns:
        kinds.add("pictures" if chosen.image else "texts")
    if requested is not None and kinds - {requested}:
        other_kind = "pictures" if requested == "texts" else "texts"
        raise InputError(
            f"{requested} were asked for, but the sources also hold {other_kind}: leave those out, or name "
            "the column of each table"
        )
    if len(kinds) > 1:
        raise InputError(
            "the sources hold pictures and texts: embed them into two folders, or give --texts to embed the "
            "texts of tables that have both"
        )
    kind: Modality = requested or ("texts" if "texts" in kinds else "pictures")
    return kind, table_columns


def _choose_columns(path: Path, modality: Modality | None, requested: Columns) -> Columns:
    names = columns_of(path)
    if path.suffix.lower() == LIST_SUFFIX:
        return Columns(image=LINE) if modality == "pictures" else Columns(text=LINE)
    column_positions(path, names, list(filter(None, (requested.image, requested.text))))
    image = requested.image or ("" if requested.text and not modality else _first(IMAGE_COLUMNS, names))
    text = requested.text or _first(TEXT_COLUMNS, [name for name in names if name != image])
    if modality == "texts":
        image = ""
    if (modality == "pictures" and not image) or not (image or text):
        content = f"that is known to hold {modality or 'pictures or texts'}"
        raise missing_column(path, content, names, "Name one: --image-column or --caption-column")
    return Columns(image, text)


def _first(names: Iterable[str], columns: Sequence[str]) -> str:
    lower = {name.lower(): name for name in reversed(columns)}
    return next((lower[name] for name in names if name in lower), "")


def _file_unit(names: Sequence[str]) -> Unit:
    unit = Unit("files", names[0], names=tuple(names), rows=len(names))
    return replace(unit, fingerprint=_digest(*((name, *_state(name)) for name in names)))


def _archive_unit(location: str, *, count: bool) -> Unit:
    location = location if is_remote(location) else os.path.abspath(location)  # noqa: PTH100
    state = () if is_remote(location) else _state(location)
    rows = 0
    if count and location.lower().endswith((".tar", ".zip", ".cbz")) and not is_remote(location):
        with contextlib.suppress(ImageError):  # reported when the archive is read
            rows = len(list_archive(location))
    return Unit("archive", location, rows=rows, fingerprint=_digest((location, *state)))


def _table_units(path: Path, columns: Columns, unit_rows: int) -> Iterator[Unit]:
    location = os.path.abspath(path)  # noqa: PTH100
    state = _state(location)
    for chunk in chunks(path, unit_rows):
        digest = _digest((location, *state), (chunk.first, chunk.rows), (columns.image, columns.text))
        yield Unit(
            "table",
            location,
            first=chunk.first,
            offset=chunk.offset,
            rows=chunk.rows,
            image_column=columns.image,
            text_column=columns.text,
            fingerprint=digest,
        )


def _state(name: str) -> tuple[int, int]:
    """Size and modification time of a file; zeros if it does not exist, which is reported when it is read."""
    try:
        status = os.stat(name)  # noqa: PTH116 - faster than Path.stat for a million files
    except (OSError, ValueError):
        return (0, 0)
    return status.st_size, status.st_mtime_ns


def _digest(*parts: tuple[object, ...]) -> str:
    fingerprint = hashlib.sha256()
    for part in parts:
        fingerprint.update(repr(part).encode("utf-8", "surrogateescape"))
    return fingerprint.hexdigest()[:16]
