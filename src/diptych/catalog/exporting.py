"""A catalogue as files that other programs read: clip-retrieval's folder, or one Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.catalog.entries import Entry, digests_of, read_entries
from diptych.catalog.indexing import silent
from diptych.catalog.spaces import Space, Stage
from diptych.catalog.store import Store
from diptych.embeddings import Manifest, write_manifest, write_part
from diptych.embeddings.one_file import write_file
from diptych.errors import CatalogError

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

PART_ROWS = 100_000
_BATCH = 10_000
COLUMNS = (
    *("image_path", "key", "caption", "width", "height", "bytes", "hash", "shard"),
    *("format", "taken", "latitude", "longitude", "camera", "tags"),
)
_UNIT = "catalogue"  # in place of a fingerprint of sources


def export_vectors(
    store: Store,
    to: str | Path,
    *,
    dtype: str = "float16",
    part_rows: int = PART_ROWS,
    stage: Stage | None = None,
) -> int:
    """Write every picture of a catalogue with its vector; how many that was.

    Parameters
    ----------
    store : Store
    to : path
        A name that ends in .parquet is one file, with a column "embedding" in single precision; else a folder
        that is not there yet, in the layout of `diptych embed`.
    dtype : {"float16", "float32"}
        Of the folder's arrays.
    part_rows : int
        Rows of one of its parts.
    stage : callable, optional
        As for `index`.

    Raises
    ------
    CatalogError
        The catalogue is empty, or the folder is there.
    SaveError
        The device is full or may not be written to.
    """
    to, stage, space = Path(to), stage or silent, store.active
    if space is None or not len(store):
        raise CatalogError(f"{store.name} holds no pictures yet: there is nothing to export")
    if to.suffix.lower() != ".parquet" and to.exists() and any(to.iterdir()):
        raise CatalogError(f"{to} is there already: choose a new folder, or a name that ends in .parquet")
    with stage("exporting", len(store)) as advance:

        def counted(rows: int) -> Iterator[tuple[FloatArray, list[dict[str, Any]]]]:
            for vectors, told in _batches(store, space, rows):
                yield vectors, told
                advance(len(told))

        if to.suffix.lower() == ".parquet":
            facts = {"identity": space.info.identity, "model": space.info.model}
            return write_file(to, counted(_BATCH), COLUMNS, space.info.dim, facts=facts)
        manifest = Manifest(
            identity=space.info.identity,
            model=space.info.model,
            dim=space.info.dim,
            dtype=dtype,
            rows=("pictures",),
            exact=False,
            digits=len(str(-(-len(store) // part_rows))),
            units=(),
        )
        records = [
            write_part(
                to, manifest, number, _UNIT, rows=rows, columns=("part", "row", *COLUMNS), pictures=vectors
            )
            for number, (vectors, rows) in enumerate(counted(part_rows))
        ]
        write_manifest(to, replace(manifest, units=(_UNIT,) * len(records)))  # last: now it is whole
        return sum(record.rows for record in records)


def _batches(store: Store, space: Space, size: int) -> Iterator[tuple[FloatArray, list[dict[str, Any]]]]:
    """(vectors, rows of metadata), so many at a time, in the order of rows."""
    last = -1
    while found := store.database.all(
        "SELECT row, content FROM vectors WHERE space = ? AND row > ? ORDER BY row LIMIT ?",
        (space.info.id, last, size),
    ):
        last = found[-1][0]
        entries = {entry.content: entry for entry in read_entries(store.database, [row[1] for row in found])}
        known, vectors = space.vectors([content for _, content in found if content in entries])
        hashes = digests_of(store.database, known)
        if known:
            yield vectors, [_row(entries[content], hashes[content]) for content in known]


def _row(entry: Entry, digest: bytes) -> dict[str, Any]:
    name = _text(entry.name)
    return {
        "image_path": name,
        "key": _text(Path(entry.member or entry.path).stem),
        "caption": entry.caption,
        "width": entry.width or None,
        "height": entry.height or None,
        "bytes": entry.size,
        "hash": digest.hex(),
        "shard": _text(str(entry.path)) if entry.member else "",
        "format": entry.format,
        "taken": entry.taken.isoformat(sep=" ") if entry.taken and entry.dated else "",
        "latitude": entry.latitude,
        "longitude": entry.longitude,
        "camera": entry.camera,
        "tags": ", ".join(entry.tags),
    }


def _text(name: str) -> str:
    """Names that are no UTF-8 cannot stand in Parquet."""
    return name.encode("utf-8", "backslashreplace").decode()
