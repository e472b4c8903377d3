"""Pairs in tables: CSV, TSV, JSON lines or Parquet with a column of pictures and one or more of captions."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from diptych.errors import DataError
from diptych.files.disk import file_inside
from diptych.files.parquet import open_parquet, rows_of
from diptych.files.patterns import find_files, refuse_remote
from diptych.files.text_files import table_head, text_lines
from diptych.files.unicode_text import existing_path
from diptych.media.folders.captions import without_surrogates
from diptych.training.data.order import distinct_names
from diptych.training.data.sources.folders import read_picture
from diptych.training.data.sources.records import Source, require_records
from diptych.training.data.sources.tars import Spool

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz"})
# Columns in which tools keep pairs, the defaults first: open_clip, Hugging Face, Kaggle's Flickr8k.
_USUAL = (("filepath", "title"), ("file_name", "text"), ("file_name", "caption"), ("image", "caption"))
_SEPARATORS = ("\t", ",", ";", "|")
_LONGEST_CELL = min(2**24, sys.maxsize)  # characters; csv refuses more than 131,072 unless told


@dataclass(frozen=True)
class Table:
    """A table of pairs; rows that name the same picture are one record with several captions.

    Records are called as the table calls their pictures. Of several tables, each with its own folder, the
    table's name stands before that: two of them may call different pictures "1.jpg".

    Parameters
    ----------
    path : str, Path or a sequence
        One or several tables, as `TarPairs` takes them; text tables may be packed with gzip.
    image : str
        Column of picture files, relative to `root`; in Parquet also of encoded pictures (bytes, or a struct
        with a field "bytes").
    caption : str or a sequence of str
        Column of captions: a string; in Parquet also a list of them. Of several columns, each cell that is
        not empty is a caption.
    separator : str, optional
        Of a CSV; by default tab, comma, semicolon or bar, whichever splits the header into those columns.
    root : str or Path, optional
        By default the table's folder; a row may then also name a picture elsewhere, by an absolute path or
        with "..". Rows that lead out of a root that is given are dropped and counted.
    """

    path: str | Path | Sequence[str | Path]
    image: str = "filepath"
    caption: str | Sequence[str] = "title"
    separator: str | None = None
    root: str | Path | None = None

    @property
    def columns(self) -> list[str]:
        """The column of pictures, then those of captions."""
        return [self.image, *([self.caption] if isinstance(self.caption, str) else self.caption)]

    def open(self) -> Source:
        """Read the table; captions are kept, pictures are not."""
        return _Table(self)


class _Table(Source):
    def __init__(self, description: Table) -> None:
        self.dropped = Counter()
        self._keys: list[str] = []
        self._captions: list[tuple[str, ...]] = []
        self._places: list[Path | tuple[int, int]] = []  # a file, or offset and size in the spool
        self._spool = Spool(str(description.path))
        self._known: dict[Path, int] = {}
        self._root_given = description.root is not None
        paths = find_files(description.path)
        names = distinct_names([str(path) for path in paths])
        for path, name in zip(paths, names, strict=True):
            prefix = f"{name}/" if len(paths) > 1 and not self._root_given else ""
            root = path.parent if description.root is None else Path(description.root).expanduser()
            for image, *captions in _rows(path, description):
                self._add(root, prefix, image, tuple(text for cell in captions for text in _texts(cell)))
        self._blob = self._spool.done()
        require_records(self, description.path, f"rows with {' and '.join(description.columns)}")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        return self._keys[index]

    def image(self, index: int) -> bytes:
        place = self._places[index]
        return read_picture(place) if isinstance(place, Path) else self._blob.read(*place)

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions[index]

    def _add(self, root: Path, prefix: str, image: Any, captions: tuple[str, ...]) -> None:
        if isinstance(image, dict):  # as Hugging Face data sets keep pictures
            image = image.get("bytes") or image.get("path")
        if not captions or not image or not isinstance(image, str | bytes):
            self.drop("no picture" if captions else "no caption")
        elif isinstance(image, bytes):
            # Named by content, so that a row more or less renames no other.
            name = hashlib.blake2b(image, digest_size=16).hexdigest()
            self._append(name, (self._spool.write(image), len(image)), captions)
        else:
            refuse_remote(image)
            inside = file_inside(root, image) if self._root_given else root / image
            if inside is None:
                self.drop("outside of root", image)
                return
            path = existing_path(inside)
            if path in self._known:
                self._captions[self._known[path]] += captions
            else:
                self._known[path] = len(self)
                self._append(image if Path(image).is_absolute() else prefix + image, path, captions)

    def _append(self, key: str, place: Path | tuple[int, int], captions: tuple[str, ...]) -> None:
        self._keys.append(key)
        self._places.append(place)
        self._captions.append(captions)


def table_suffix(path: Path) -> str:
    """The suffix that says what kind of table a file is, ".csv.gz" among them; "" for no table."""
    name = path.name.lower()
    return next((suffix for suffix in TABLE_SUFFIXES if name.endswith(suffix)), "")


def usual_columns(path: Path) -> tuple[str, str]:
    """The columns of pictures and captions by the names that tools give them; the defaults for others."""
    columns = set(_columns(path))
    return next((names for names in _USUAL if columns >= set(names)), _USUAL[0])


def _columns(path: Path) -> list[str]:
    """The names of a table's columns; none where it cannot be read, which reading it will say."""
    try:
        if table_suffix(path) == ".parquet":
            with open_parquet(path, "training") as file:
                return list(file.schema_arrow.names)
        with _opened(path) as file:
            if table_suffix(path).startswith(".jsonl"):
                first: Any = next(
                    (json.loads(line) for line, _ in text_lines(file, path) if line.strip()), {}
                )
                return list(first) if isinstance(first, dict) else []
            header, named, _ = table_head(text_lines(file, path))
            separator = named or max(_SEPARATORS, key=header.count)
            return next(csv.reader([header], delimiter=separator), [])
    except (DataError, OSError, EOFError, ValueError, RecursionError, zlib.error, csv.Error):
        return []


def _rows(path: Path, description: Table) -> Iterator[Sequence[Any]]:
    suffix = table_suffix(path)
    read = _parquet_rows if suffix == ".parquet" else _json_rows if suffix.startswith(".jsonl") else _csv_rows
    return read(path, description)


def _json_rows(path: Path, description: Table) -> Iterator[Sequence[Any]]:
    """Rows of JSON lines, such as the metadata.jsonl of a folder of pictures on the hub."""
    fields = description.columns
    try:
        with _opened(path) as file:
            for number, (line, _) in enumerate(text_lines(file, path), start=1):
                if not line.strip():
                    continue
                row = without_surrogates(json.loads(line))
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no object with fields")
                if number == 1:
                    for name in fields:
                        _find(row, name, path)
                yield [row.get(name) for name in fields]
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a table of JSON lines that can be read: {error}") from error


def _csv_rows(path: Path, description: Table) -> Iterator[Sequence[Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        with _opened(path) as file:
            lines = text_lines(file, path)
            header, named, _ = table_head(lines)
            separator = description.separator or named or _separator(header, description)
            columns = next(csv.reader([header], delimiter=separator), [])
            places = [_find(columns, name, path) for name in description.columns]
            # A NUL makes csv give up on the whole file; it is no part of a caption.
            texts = (line.replace("\0", "") for line, _ in lines)
            for row in csv.reader(texts, delimiter=separator):
                if row:
                    yield [row[place] for place in places] if len(row) > max(places) else [None]
    except (OSError, EOFError, zlib.error, csv.Error, TypeError) as error:
        raise DataError(f"{path} is not a table that can be read: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A table, plain or packed with gzip (told by its first bytes)."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # type: ignore[misc]  # it has all that is used of a file


def _separator(header: str, description: Table) -> str:
    wanted = set(description.columns)
    for separator in _SEPARATORS:
        if wanted <= set(next(csv.reader([header], delimiter=separator), [])):
            return separator
    return max(_SEPARATORS, key=header.count)  # the error will name the columns it gives


def _parquet_rows(path: Path, description: Table) -> Iterator[Sequence[Any]]:
    with open_parquet(path, "training") as file:
        for name in description.columns:
            _find(file.schema_arrow.names, name, path)
        yield from rows_of(file, description.columns)


def _find(columns: Iterable[str], name: str, path: Path) -> int:
    found = list(columns)
    if name in found:
        return found.index(name)
    near = get_close_matches(name, found, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DataError(
        f"{path} has no column {name!r}: its columns are {', '.join(map(repr, found)) or 'none'}.{hint} "
        "Say which hold the pictures and the captions: Table(..., image='...', caption='...')"
    )


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
