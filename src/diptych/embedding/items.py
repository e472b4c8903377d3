"""From a unit of work to its items: pictures that are read when they are decoded, or texts.

A picture is read, hashed and described in the thread that decodes it; what was learnt becomes its row of
metadata. Addresses of archives are fetched to a temporary file first. Vectors are `encoding`'s.
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

HASH_BYTES = 16  # of BLAKE2b: as the catalogue names pictures
_CAPTION_BYTES = 64 * 1024

Row = dict[str, Any]


class DeferredImage(io.BytesIO):
    """A picture that is read when somebody decodes it; `row` is filled by then.

    Parameters
    ----------
    name : str
        What messages and the metadata call it.
    fetch : callable
        Gives its bytes, or raises ImageError.
    row : dict
        What is known of it already.
    """

    def __init__(self, name: str, fetch: Callable[[], bytes], row: Row) -> None:
        super().__init__()
        self.name, self._fetch = name, fetch
        self.row: Row = {"image_path": name_of(name), **row}

    def read(self, size: int | None = -1, /) -> bytes:
        """All its bytes; hashed and described on the way."""
        data = self._fetch()
        self.row["hash"] = hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()
        self.row["bytes"] = len(data)
        with contextlib.suppress(ImageError, MissingExtraError):  # the decoder will say why
            details = read_details(data, self.name)
            self.row |= {"width": details.width, "height": details.height}
            if not self.row.get("caption"):
                self.row["caption"] = next(iter(details.captions), "")
        return data


def images_of(unit: Unit, limits: Limits) -> Iterator[DeferredImage]:
    """The pictures of a unit.

    Raises
    ------
    DataError, ImageError
        The archive or table cannot be read, or not to its end; what came before was given.
    """
    if unit.kind == "files":
        for name in unit.names:
            yield _file(Path(name), {}, limits)
    elif unit.kind == "table":
        yield from _of_table(unit, limits)
    else:
        with _local(unit.place) as path:
            yield from _of_archive(unit.place, path, limits)


def texts_of(unit: Unit) -> Iterator[Row]:
    """The texts of a unit as rows of metadata; empty cells too, but no empty lines of a list."""
    chunk, path = Chunk(unit.first, unit.offset, unit.rows), Path(unit.place)
    for number, (cell,) in enumerate(read_chunk(path, [unit.text], chunk), unit.first):
        text = _text(cell)
        if text or path.suffix.lower() != LIST_SUFFIX:
            yield {"key": name_of(f"{path.name}:{number + 1}"), "caption": text}


def _file(path: Path, row: Row, limits: Limits) -> DeferredImage:
    def fetch() -> bytes:
        data = read_source(path, limits)
        # Times after 2262 and before 1677 take more bits than the column has.
        picture.row["modified"] = max(-(2**63), min(path.stat().st_mtime_ns, 2**63 - 1))
        if not picture.row.get("caption"):
            picture.row["caption"] = _beside(path)
        return data

    picture = DeferredImage(str(path), fetch, {"key": name_of(path.stem), **row})
    return picture


def _beside(path: Path) -> str:
    """The caption in a.txt or a.json beside a.jpg."""
    for suffix, file in companions(path).items():
        with contextlib.suppress(OSError), file.open("rb") as opened:
            if text := _caption(suffix, opened.read(_CAPTION_BYTES), str(file)):
                return text
    return ""


def _caption(suffix: str, data: bytes, name: str) -> str:
    if suffix == ".txt":
        found = captions_of_text(data, name, cut=len(data) == _CAPTION_BYTES)
    else:
        found = captions_of_fields(parse_json(data, name))
    return " ".join(found[0].split()) if found else ""


# ------------------------------------------------------------------------------------------------ tables


def _of_table(unit: Unit, limits: Limits) -> Iterator[DeferredImage]:
    table = Path(unit.place)
    columns = [unit.picture, unit.text] if unit.text else [unit.picture]
    for number, cells in enumerate(
        read_chunk(table, columns, Chunk(unit.first, unit.offset, unit.rows)), unit.first
    ):
        name = f"{table.name}:{number + 1}"
        row: Row = {"key": name_of(name), "caption": _text(cells[1]) if unit.text else ""}
        yield _of_cell(cells[0], name, row, table, limits)


def _of_cell(cell: Any, name: str, row: Row, table: Path, limits: Limits) -> DeferredImage:
    """A cell names a picture or is one: bytes, or as in the hub's data sets a mapping with bytes or path."""
    if isinstance(cell, Mapping):
        data, told = cell.get("bytes"), cell.get("path")
        if isinstance(data, bytes):
            # Names inside a table are no paths: what stands there is the table's.
            return DeferredImage(f"{table}/{told or name}", lambda: data, row)
        cell = told
    if isinstance(cell, bytes):
        return DeferredImage(f"{table}/{name}", lambda: read_source(cell, limits), row)
    text = _text(cell)
    if not text:
        return DeferredImage(name, _refuse("its cell names no picture"), row)
    if is_remote(text):
        return DeferredImage(
            text, _refuse("an address: nothing is fetched picture by picture"), row | {"url": text}
        )
    place = Path(os.path.abspath(table.parent / Path(text).expanduser()))  # noqa: PTH100
    return _file(existing_path(place), row, limits)


def _refuse(reason: str) -> Callable[[], bytes]:
    def fetch() -> bytes:
        raise ImageError(reason)

    return fetch


def _text(cell: Any) -> str:
    value = next((one for one in cell if one), "") if isinstance(cell, list | tuple) else cell
    return " ".join(value.split()) if isinstance(value, str) else ""


# ---------------------------------------------------------------------------------------------- archives


@contextlib.contextmanager
def _local(place: str) -> Iterator[Path]:
    """An archive as a file of this machine."""
    if not is_remote(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        path = Path(folder) / PurePosixPath(place).name
        try:
            with open_location(place) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy, 2**20)
        except OSError as error:
            raise DataError(f"{place} cannot be fetched: {error}") from error
        yield path


def _of_archive(place: str, path: Path, limits: Limits) -> Iterator[DeferredImage]:
    entries = {entry.name: entry for entry in _listed(path)}
    beside = {one.name for entry in entries.values() for one in entry.captions}
    told = dict(iter_members(path, beside, limits)) if beside else {}
    # A fetched archive is gone once its last member was handed on, which may be before it is decoded.
    if entries and not is_remote(place) and all(entry.offset is not None for entry in entries.values()):
        for name, entry in entries.items():  # at random: each is read in the thread that decodes it
            yield _member(place, name, _reader(path, entry, limits), _told_of(entry, told))
        return
    # In turn; without a list this says what is wrong with the archive, once it gets there.
    for name, data in iter_members(path, entries or None, limits):
        row = _told_of(entries[name], told) if name in entries else {}
        yield _member(place, name, _given(data), row)


def _listed(path: Path) -> list[ArchiveEntry]:
    try:
        return list_archive(path)
    except ImageError:
        return []  # cut short: what comes before the cut is read all the same


def _member(place: str, name: str, fetch: Callable[[], bytes], row: Row) -> DeferredImage:
    key = split_key(name)[0]
    return DeferredImage(f"{place}/{name}", fetch, {"key": name_of(key), "shard": name_of(place), **row})


def _reader(path: Path, entry: ArchiveEntry, limits: Limits) -> Callable[[], bytes]:
    return lambda: read_member(path, entry, limits)


def _given(data: bytes | ImageError) -> Callable[[], bytes]:
    def fetch() -> bytes:
        if isinstance(data, ImageError):
            raise data
        return data

    return fetch


def _told_of(entry: ArchiveEntry, told: Mapping[str, bytes | ImageError]) -> Row:
    """Caption, address and fields of the files beside a member."""
    row: Row = {"caption": ""}
    for one in entry.captions:
        data = told.get(one.name)
        if not isinstance(data, bytes):
            continue
        suffix = PurePosixPath(one.name).suffix.lower()
        row["caption"] = row["caption"] or _caption(suffix, data, one.name)
        if suffix == ".json":
            fields = parse_json(data, one.name)
            with contextlib.suppress(DataError):  # no text
                row["json"] = decode_text(data, one.name)
            row["url"] = fields["url"] if isinstance(fields.get("url"), str) else ""
    return row
