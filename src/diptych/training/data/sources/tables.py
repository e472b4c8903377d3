"""Pairs in tables: CSV, TSV, JSON lines or Parquet with a column of images and one or more of captions."""

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
from diptych.training.data.sources.folders import read_image_file
from diptych.training.data.sources.records import Source, require_records
from diptych.training.data.sources.tars import Spool

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz"})
# Usual names of the columns, the defaults first: open_clip, Hugging Face, Kaggle's Flickr8k.
_USUAL = (("filepath", "title"), ("file_name", "text"), ("file_name", "caption"), ("image", "caption"))
_SEPARATORS = ("\t", ",", ";", "|")
_LONGEST_CELL = min(2**24, sys.maxsize)  # characters; the default limit of csv is 131,072


@dataclass(frozen=True)
class Table:
    """A table of pairs; rows that name the same image are one record with several captions.

    The key of a record is the name of its image in the table. Of several tables, each with its own folder,
    the table's name is a prefix: two of them may call different images "1.jpg".

    Parameters
    ----------
    path : str, Path or a sequence
        One or several tables, as `TarPairs` takes them; text tables may be compressed with gzip.
    image : str
        Column of image files, relative to `root`; in Parquet also of encoded images (bytes, or a struct with
        a field "bytes").
    caption : str or a sequence of str
        Column of captions: a string; in Parquet also a list of them. Of several columns, each cell that is
        not empty is a caption.
    separator : str, optional
        Of a CSV; by default tab, comma, semicolon or bar, whichever splits the header into those columns.
    root : str or Path, optional
        By default the table's folder; then a row may also name an image elsewhere, by an absolute path or
        with "..". With a root, rows that lead out of it are dropped and counted.
    """

    path: str | Path | Sequence[str | Path]
    image: str = "filepath"
    caption: str | Sequence[str] = "title"
    separator: str | None = None
    root: str | Path | None = None

    @property
    def columns(self) -> list[str]:
        """The column of images, then those of captions."""
        return [self.image, *([self.caption] if isinstance(self.caption, str) else self.caption)]

    def open(self) -> Source:
        """Read the table; captions are kept in memory, images are not."""
        return _Table(self)


class _Table(Source):
    def __init__(self, description: Table) -> None:
        self.dropped = Counter()
        self._keys: list[str] = []
        self._captions: list[tuple[str, ...]] = []
        self._locations: list[Path | tuple[int, int]] = []  # a file, or offset and size in the spool
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
        location = self._locations[index]
        return read_image_file(location) if isinstance(location, Path) else self._blob.read(*location)

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions[index]

    def _add(self, root: Path, prefix: str, image: Any, captions: tuple[str, ...]) -> None:
        if isinstance(image, dict):  # as in Hugging Face data sets
            image = image.get("bytes") or image.get("path")
        if not captions or not image or not isinstance(image, str | bytes):
            self.drop("no picture" if captions else "no caption")
        elif isinstance(image, bytes):
            # The key is a hash of the content, so that adding or removing rows changes no other key.
            name = hashlib.blake2b(image, digest_size=16).hexdigest()
            self._append(name, (self._spool.write(image), len(image)), captions)
        else:
            refuse_remote(image)
            inside = file_inside(root, image) if self._root_given else root / image
            if inside is None:
                self.drop("outside of root", image)
                return
            path = existing_path(inside)
            # Rows of one image are one record: as two, they would be each other's negatives.
            if path in self._known:
                self._captions[self._known[path]] += captions
            else:
                self._known[path] = len(self)
                self._append(image if Path(image).is_absolute() else prefix + image, path, captions)

    def _append(self, key: str, location: Path | tuple[int, int], captions: tuple[str, ...]) -> None:
        self._keys.append(key)
        self._locations.append(location)
        self._captions.append(captions)


def table_suffix(path: Path) -> str:
    """The suffix of a table, such as ".csv" or ".csv.gz"; "" for other files."""
    name = path.name.lower()
    return next((suffix for suffix in TABLE_SUFFIXES if name.endswith(suffix)), "")


def usual_columns(path: Path) -> tuple[str, str]:
    """Names of the columns of images and captions, if they are usual ones; else the defaults."""
    columns = set(_columns(path))
    return next((names for names in _USUAL if columns >= set(names)), _USUAL[0])


def _columns(path: Path) -> list[str]:
    """Names of a table's columns; none if it cannot be read, for which `open` has the message."""
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
    """Rows of JSON lines, such as the metadata.jsonl of an image folder on the Hugging Face hub."""
    fields = description.columns
    try:
        with _opened(path) as file:
            for number, (line, _) in enumerate(text_lines(file, path), start=1):
                if not line.strip():
                    continue
                row = without_surrogates(json.loads(line))
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not an object with fields")
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
            positions = [_find(columns, name, path) for name in description.columns]
            # csv raises an error for the whole file at a NUL, which no caption needs.
            texts = (line.replace("\0", "") for line, _ in lines)
            for row in csv.reader(texts, delimiter=separator):
                if row:
                    # A row that is too short is counted as one without a caption.
                    yield [row[n] for n in positions] if len(row) > max(positions) else [None]
    except (OSError, EOFError, zlib.error, csv.Error, TypeError) as error:
        raise DataError(f"{path} is not a table that can be read: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a table, plain or compressed with gzip (recognised by its first bytes)."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # type: ignore[misc]  # it has the methods that are used


def _separator(header: str, description: Table) -> str:
    wanted = set(description.columns)
    for separator in _SEPARATORS:
        if wanted <= set(next(csv.reader([header], delimiter=separator), [])):
            return separator
    return max(_SEPARATORS, key=header.count)  # then `_find` raises an error that names the columns


def _parquet_rows(path: Path, description: Table) -> Iterator[Sequence[Any]]:
    with open_parquet(path, "training") as file:
        for name in description.columns:
            _find(file.schema_arrow.names, name, path)
        yield from rows_of(file, description.columns)


def _find(columns: Iterable[str], name: str, path: Path) -> int:
    names = list(columns)
    if name in names:
        return names.index(name)
    similar = get_close_matches(name, names, 1)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    raise DataError(
        f"{path} has no column {name!r}: its columns are {', '.join(map(repr, names)) or 'none'}.{hint} "
        "Name those of the pictures and the captions: Table(..., image='...', caption='...')"
    )


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
