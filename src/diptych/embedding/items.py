"""Read the items of a unit of work: images, which are loaded lazily, or texts.

An image is read and hashed, and its metadata extracted, in the thread that decodes it. Remote archives are
downloaded to a temporary file first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.embedding.tables import LIST_SUFFIX, Chunk, read_chunk
from diptych.embedding.units import Unit
from diptych.errors import DataError, ImageError, MissingExtraError
from diptych.files.locations import open_location
from diptych.files.patterns import is_remote
from diptych.files.text_files import decode_text
from diptych.files.unicode_text import existing_path
from diptych.media import ArchiveEntry, Limits, iter_members, list_archive, read_details, read_member
from diptych.media.folders.captions import captions_of_fields, captions_of_text, parse_json
from diptych.media.folders.keys import companions, split_key
from diptych.media.sources import name_of, read_source

HASH_BYTES = 16  # of BLAKE2b, the hash by which the catalogue identifies files
_CAPTION_BYTES = 64 * 1024

Row = dict[str, Any]


class DeferredImage(io.BytesIO):
    """An image file that is read when it is decoded, which also fills in `row`.

    Parameters
    ----------
    name : str
        Name in messages and metadata.
    fetch : callable
        Returns the bytes, or raises ImageError.
    row : dict
        Metadata that is known already.
    """

    def __init__(self, name: str, fetch: Callable[[], bytes], row: Row) -> None:
        super().__init__()
        self.name, self._fetch = name, fetch
        self.row: Row = {"image_path": name_of(name), **row}

    def read(self, size: int | None = -1, /) -> bytes:
        """Read all bytes, and add hash, size and metadata to `row`."""
        data = self._fetch()
        self.row["hash"] = hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()
        self.row["bytes"] = len(data)
        with contextlib.suppress(ImageError, MissingExtraError):  # the decoder will report the error
            details = read_details(data, self.name)
            self.row |= {"width": details.width, "height": details.height}
            if not self.row.get("caption"):
                self.row["caption"] = next(iter(details.captions), "")
        return data


def images_of(unit: Unit, limits: Limits) -> Iterator[DeferredImage]:
    """Yield the images of a unit.

    Raises
    ------
    DataError, ImageError
        The archive or table cannot be read to its end; the images before the damage have been yielded.
    """
    if unit.kind == "files":
        for name in unit.names:
            yield _from_file(Path(name), {}, limits)
    elif unit.kind == "table":
        yield from _from_table(unit, limits)
    else:
        with _local_copy(unit.location) as path:
            yield from _from_archive(unit.location, path, limits)


def texts_of(unit: Unit) -> Iterator[Row]:
    """Yield the texts of a unit as rows of metadata. Empty cells are kept, empty lines of a list are not."""
    chunk, path = Chunk(unit.first, unit.offset, unit.rows), Path(unit.location)
    for number, (cell,) in enumerate(read_chunk(path, [unit.text_column], chunk), unit.first):
        text = _text(cell)
        if text or path.suffix.lower() != LIST_SUFFIX:
            yield {"key": name_of(f"{path.name}:{number + 1}"), "caption": text}


def _from_file(path: Path, row: Row, limits: Limits) -> DeferredImage:
    def fetch() -> bytes:
        data = read_source(path, limits)
        # The column is int64: nanoseconds of the years 1677 to 2262.
        image.row["modified"] = max(-(2**63), min(path.stat().st_mtime_ns, 2**63 - 1))
        if not image.row.get("caption"):
            image.row["caption"] = _caption_file(path)
        return data

    image = DeferredImage(str(path), fetch, {"key": name_of(path.stem), **row})
    return image


def _caption_file(path: Path) -> str:
    """Caption from a.txt or a.json beside a.jpg; "" if there is none."""
    for suffix, file in companions(path).items():
        with contextlib.suppress(OSError), file.open("rb") as opened:
            if text := _caption(suffix, opened.read(_CAPTION_BYTES), str(file)):
                return text
    return ""


def _caption(suffix: str, data: bytes, name: str) -> str:
    if suffix == ".txt":
        captions = captions_of_text(data, name, cut=len(data) == _CAPTION_BYTES)
    else:
        captions = captions_of_fields(parse_json(data, name))
    return " ".join(captions[0].split()) if captions else ""


# ------------------------------------------------------------------------------------------------ tables


def _from_table(unit: Unit, limits: Limits) -> Iterator[DeferredImage]:
    table = Path(unit.location)
    columns = [unit.image_column, unit.text_column] if unit.text_column else [unit.image_column]
    for number, cells in enumerate(
        read_chunk(table, columns, Chunk(unit.first, unit.offset, unit.rows)), unit.first
    ):
        name = f"{table.name}:{number + 1}"
        row: Row = {"key": name_of(name), "caption": _text(cells[1]) if unit.text_column else ""}
        yield _from_cell(cells[0], name, row, table, limits)


def _from_cell(cell: Any, name: str, row: Row, table: Path, limits: Limits) -> DeferredImage:
    """Image of a cell: a path, bytes, or a mapping with "bytes" or "path" as in Hugging Face data sets."""
    if isinstance(cell, Mapping):
        data, stored_name = cell.get("bytes"), cell.get("path")
        if isinstance(data, bytes):
            # Beside embedded bytes, "path" is only a name, not a file on disk.
            return DeferredImage(f"{table}/{stored_name or name}", lambda: data, row)
        cell = stored_name
    if isinstance(cell, bytes):
        return DeferredImage(f"{table}/{name}", lambda: read_source(cell, limits), row)
    text = _text(cell)
    if not text:
        return DeferredImage(name, _refuse("its cell names no picture"), row)
    if is_remote(text):
        return DeferredImage(
            text, _refuse("a URL: images are not downloaded one by one"), row | {"url": text}
        )
    path = Path(os.path.abspath(table.parent / Path(text).expanduser()))  # noqa: PTH100
    return _from_file(existing_path(path), row, limits)


def _refuse(reason: str) -> Callable[[], bytes]:
    def fetch() -> bytes:
        raise ImageError(reason)

    return fetch


def _text(cell: Any) -> str:
    value = next((entry for entry in cell if entry), "") if isinstance(cell, list | tuple) else cell
    return " ".join(value.split()) if isinstance(value, str) else ""


# ---------------------------------------------------------------------------------------------- archives


@contextlib.contextmanager
def _local_copy(location: str) -> Iterator[Path]:
    """A local archive as it is, or a temporary copy of a remote one."""
    if not is_remote(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        path = Path(folder) / PurePosixPath(location).name
        try:
            with open_location(location) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy, 2**20)
        except OSError as error:
            raise DataError(f"{location} cannot be downloaded: {error}") from error
        yield path


def _from_archive(location: str, path: Path, limits: Limits) -> Iterator[DeferredImage]:
    entries = {entry.name: entry for entry in _list_entries(path)}
    caption_names = {caption.name for entry in entries.values() for caption in entry.captions}
    caption_data = dict(iter_members(path, caption_names, limits)) if caption_names else {}
    # Random access, so that each member is read in the thread that decodes it. Not for a downloaded copy: it
    # is deleted after the last member has been yielded, which may be before that member is decoded.
    if entries and not is_remote(location) and all(entry.offset is not None for entry in entries.values()):
        for name, entry in entries.items():
            yield _from_member(location, name, _reader(path, entry, limits), _metadata(entry, caption_data))
        return
    # Sequential access. If the archive could not be listed, this raises the error once it reaches the damage.
    for name, data in iter_members(path, entries or None, limits):
        row = _metadata(entries[name], caption_data) if name in entries else {}
        yield _from_member(location, name, _already_read(data), row)


def _list_entries(path: Path) -> list[ArchiveEntry]:
    try:
        return list_archive(path)
    except ImageError:
        return []  # truncated: the members before the end are still read


def _from_member(location: str, name: str, fetch: Callable[[], bytes], row: Row) -> DeferredImage:
    key = split_key(name)[0]
    row = {"key": name_of(key), "shard": name_of(location), **row}
    return DeferredImage(f"{location}/{name}", fetch, row)


def _reader(path: Path, entry: ArchiveEntry, limits: Limits) -> Callable[[], bytes]:
    return lambda: read_member(path, entry, limits)


def _already_read(data: bytes | ImageError) -> Callable[[], bytes]:
    def fetch() -> bytes:
        if isinstance(data, ImageError):
            raise data
        return data

    return fetch


def _metadata(entry: ArchiveEntry, caption_data: Mapping[str, bytes | ImageError]) -> Row:
    """Caption, URL and JSON from the caption files that belong to a member."""
    row: Row = {"caption": ""}
    for file in entry.captions:
        data = caption_data.get(file.name)
        if not isinstance(data, bytes):
            continue
        suffix = PurePosixPath(file.name).suffix.lower()
        row["caption"] = row["caption"] or _caption(suffix, data, file.name)
        if suffix == ".json":
            fields = parse_json(data, file.name)
            with contextlib.suppress(DataError):  # not a text
                row["json"] = decode_text(data, file.name)
            row["url"] = fields["url"] if isinstance(fields.get("url"), str) else ""
    return row
