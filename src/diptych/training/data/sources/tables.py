"""Pairs in tables: CSV, TSV, JSON lines or Parquet with a column of images and one or more of captions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from diptych.errors import DataError
from diptych.files.disk import file_inside
from diptych.files.patterns import find_files, refuse_remote
from diptych.files.tables import column_names, read_rows
from diptych.files.unicode_text import existing_path
from diptych.training.data.order import distinct_names
from diptych.training.data.sources.folders import read_image_file
from diptych.training.data.sources.records import Source, require_records
from diptych.training.data.sources.tars import Spool

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")
# Usual names of the columns, the defaults first: open_clip, Hugging Face, Kaggle's Flickr8k.
_USUAL = (("filepath", "title"), ("file_name", "text"), ("file_name", "caption"), ("image", "caption"))
_WAY_OUT = "Name those of the pictures and the captions: TablePairs(..., image='...', caption='...')"


@dataclass(frozen=True)
class TablePairs:
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

    stored_name: ClassVar[str] = "Table"  # in checkpoints, which compare the repr

    path: str | Path | Sequence[str | Path]
    image: str = "filepath"
    caption: str | Sequence[str] = "title"
    separator: str | None = None
    root: str | Path | None = None

    @property
    def columns(self) -> list[str]:
        """The column of images, then those of captions."""
        return [self.image, *([self.caption] if isinstance(self.caption, str) else self.caption)]

    def __repr__(self) -> str:
        values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self))
        return f"{self.stored_name}({values})"

    def open(self) -> Source:
        """Read the table; captions are kept in memory, images are not."""
        return _TableSource(self)


class _TableSource(Source):
    def __init__(self, description: TablePairs) -> None:
        self.dropped, self.keys = Counter(), []
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
            rows = read_rows(
                path, description.columns, "training", separator=description.separator or "", way_out=_WAY_OUT
            )
            for image, *captions in (row or (None,) for row in rows):
                # A row that is too short is counted as one without a caption.
                self._add(root, prefix, image, tuple(text for cell in captions for text in _texts(cell)))
        self._blob = self._spool.done()
        require_records(self, description.path, f"rows with {' and '.join(description.columns)}")

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
        self.keys.append(key)
        self._locations.append(location)
        self._captions.append(captions)


def is_table(path: Path) -> bool:
    """Whether this is a table, by its name."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def usual_columns(path: Path) -> tuple[str, str]:
    """Names of the columns of images and captions, if they are usual ones; else the defaults."""
    try:
        columns = set(column_names(path, "training"))
    except DataError:  # `open` has the message
        columns = set()
    return next((names for names in _USUAL if columns >= set(names)), _USUAL[0])


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
