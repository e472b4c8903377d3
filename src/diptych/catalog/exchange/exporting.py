"""A catalogue as files that other programs read: clip-retrieval's folder, or one Parquet file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.catalog.annotations.annotations import Annotations, read_annotations
from diptych.catalog.database.spaces import Space
from diptych.catalog.store.entries import CatalogEntry, digests_of, read_entries
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.catalog.store.store import Store
from diptych.embedding import Manifest, write_manifest, write_part
from diptych.embedding.folder import IMAGES, MANIFEST, METADATA, PARTS
from diptych.embedding.one_file import write_file
from diptych.errors import CatalogError, InputError
from diptych.files.disk import write_bytes
from diptych.media.sources import name_of
from diptych.progress import Stage, silent

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

PART_ROWS = 100_000
_BATCH = 10_000
COLUMNS = (
    *("image_path", "key", "caption", "width", "height", "bytes", "hash", "shard"),
    *("format", "taken", "taken_from", "latitude", "longitude", "camera", "tags"),
    *("rating", "annotations"),
)
_UNFINISHED = ".unfinished"  # in a folder until all is there
_UNIT = "catalogue"  # in place of a fingerprint of sources


def export_vectors(
    store: Store,
    to: str | Path,
    *,
    dtype: str = "float16",
    part_rows: int = PART_ROWS,
    where: Filter | None = None,
    stage: Stage | None = None,
) -> int:
    """Write every picture of a catalogue with its vector; how many that was.

    Parameters
    ----------
    to : path
        A name that ends in .parquet is one file, with a column "embedding" in single precision; else a folder
        that is not there yet, in the layout of `diptych embed`.
    dtype : {"float16", "float32"}
        Of the folder's arrays.
    part_rows : int
        Rows of one of its parts.
    where : Filter, optional
        Only these pictures.
    stage : callable, optional
        As for `index`.

    Raises
    ------
    InputError
        No picture passes the filter.
    CatalogError
        The catalogue is empty, the folder is there, or another process has put other vectors in the place of
        these meanwhile. What was written until then is no whole export; the same call writes it anew.
    SaveError
        The device is full or may not be written to.
    """
    to, stage, space = Path(to), stage or silent, store.active
    none = f"{store.name} holds no pictures yet: there is nothing to export"
    if space is None:
        raise CatalogError(none)
    with store.database.reading():
        space.refresh()
        living = allowed_rows(space, where) if where else space.live_rows()
    if not len(living):
        raise InputError("no picture passes the filters") if where else CatalogError(none)
    with stage("exporting", len(living)) as advance:

        def counted(rows: int) -> Iterator[tuple[FloatArray, list[dict[str, Any]]]]:
            for vectors, told in _batches(store, space, rows, living, where):
                yield vectors, told
                advance(len(told))

        if to.suffix.lower() == ".parquet":
            facts = {"identity": space.info.identity, "model": space.info.model}
            return write_file(to, counted(_BATCH), COLUMNS, space.info.dim, facts=facts)
        _begin(to)
        manifest = Manifest(
            identity=space.info.identity,
            model=space.info.model,
            dim=space.info.dim,
            dtype=dtype,
            rows=("pictures",),
            exact=False,
            digits=len(str(-(-len(living) // part_rows))),
            units=(),
        )
        records = [
            write_part(
                to,
                manifest,
                number,
                _UNIT,
                rows=rows,
                columns=("part", "row", *COLUMNS),
                image_embeddings=vectors,
            )
            for number, (vectors, rows) in enumerate(counted(part_rows))
        ]
        write_manifest(to, replace(manifest, units=(_UNIT,) * len(records)))
        (to / _UNFINISHED).unlink()  # now it is whole
        return sum(record.rows for record in records)


def _begin(to: Path) -> None:
    """A new folder, or one that an export has left unfinished, emptied."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        if not (to / _UNFINISHED).exists():
            raise CatalogError(f"{to} is there already: choose a new folder, or a name that ends in .parquet")
        (to / MANIFEST).unlink(missing_ok=True)
        for name in (IMAGES, METADATA, PARTS):
            shutil.rmtree(to / name, ignore_errors=True)
    write_bytes(to / _UNFINISHED, b"")


def _batches(
    store: Store, space: Space, size: int, living: RowNumbers, where: Filter | None
) -> Iterator[tuple[FloatArray, list[dict[str, Any]]]]:
    """(vectors, rows of metadata), so many at a time, in the order of rows.

    Each batch is of one moment; all of them together would keep writers' log from being cleared away.
    """
    for start in range(0, len(living), size):
        with store.database.reading():
            space.refresh()  # an error where the space is gone: what is left of it would look like its end
            part = living[start : start + size].tolist()
            owners = space.contents_of(part)  # some may have left meanwhile
            contents = [owners[row] for row in part if row in owners]
            entries = {entry.content: entry for entry in read_entries(store.database, contents, prefer=where)}
            known, vectors = space.vectors([content for content in contents if content in entries])
            hashes = digests_of(store.database, known)
            made = read_annotations(store.database, known)
        if known:
            yield vectors, [_row(entries[content], hashes[content], made.get(content)) for content in known]


def _row(entry: CatalogEntry, digest: bytes, annotations: Annotations | None) -> dict[str, Any]:
    name = name_of(entry.name)
    return {
        "image_path": name,
        "key": name_of(Path(entry.member or entry.path).stem),
        "caption": entry.caption,
        "width": entry.width or None,
        "height": entry.height or None,
        "bytes": entry.size,
        "hash": digest.hex(),
        "shard": name_of(str(entry.path)) if entry.member else "",
        "format": entry.format,
        "taken": entry.taken.isoformat(sep=" ") if entry.taken and entry.dated else "",
        "taken_from": entry.taken_from if entry.dated else "",
        "latitude": entry.latitude,
        "longitude": entry.longitude,
        "camera": entry.camera,
        "tags": ", ".join(entry.tags),
        "rating": entry.rating,
        "annotations": annotations.to_json() if annotations else "",
    }
