"""Export a catalogue to files that other programs read: clip-retrieval's folder layout, or a Parquet file."""

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
_BATCH = 10_000  # rows read at once for a Parquet file
COLUMNS = (
    *("image_path", "key", "caption", "width", "height", "bytes", "hash", "shard"),
    *("format", "taken", "taken_from", "latitude", "longitude", "camera", "tags"),
    *("rating", "annotations"),
)
_UNFINISHED = ".unfinished"  # marker file in a folder that is not exported completely
_UNIT = "catalogue"  # stands in the manifest where `diptych embed` has the fingerprint of a source


def export_vectors(
    store: Store,
    to: str | Path,
    *,
    dtype: str = "float16",
    part_rows: int = PART_ROWS,
    filters: Filter | None = None,
    stage: Stage | None = None,
) -> int:
    """Write every image of a catalogue with its embedding, and return the number of images.

    Parameters
    ----------
    to : path
        A name that ends in .parquet gives a single file with a column "embedding" in single precision; any
        other name is a new folder in the layout of `diptych embed`.
    dtype : {"float16", "float32"}
        Of the arrays in the folder.
    part_rows : int
        Rows in one part of the folder.
    filters : Filter, optional
        Only these images.

    Raises
    ------
    InputError
        No image passes the filter.
    CatalogError
        The catalogue is empty, the folder exists, or another process has replaced the space meanwhile. The
        export is then incomplete; the same call starts it again.
    SaveError
        The device is full, or may not be written to.
    """
    to, stage, space = Path(to), stage or silent, store.active
    empty = f"{store.name} holds no pictures yet: there is nothing to export"
    if space is None:
        raise CatalogError(empty)
    with store.database.reading():
        space.refresh()
        rows = allowed_rows(space, filters)
    if not len(rows):
        raise InputError("no picture passes the filters") if filters else CatalogError(empty)
    with stage("exporting", len(rows)) as advance:

        def batches(size: int) -> Iterator[tuple[FloatArray, list[dict[str, Any]]]]:
            for vectors, records in _batches(store, space, size, rows, filters):
                yield vectors, records
                advance(len(records))

        if to.suffix.lower() == ".parquet":
            facts = {"identity": space.info.identity, "model": space.info.model}
            return write_file(to, batches(_BATCH), COLUMNS, space.info.dim, facts=facts)
        return _write_folder(to, space, dtype, len(str(-(-len(rows) // part_rows))), batches(part_rows))


def _write_folder(
    to: Path,
    space: Space,
    dtype: str,
    digits: int,
    batches: Iterator[tuple[FloatArray, list[dict[str, Any]]]],
) -> int:
    """Write one part per batch, then the manifest; `digits` is the width of part numbers in file names."""
    # Crash order: the marker, the parts, the manifest, and only then the marker goes. Whoever finds a folder
    # without the marker finds it complete; one with the marker is emptied and written again by `_begin`.
    _begin(to)
    manifest = Manifest(
        identity=space.info.identity,
        model=space.info.model,
        dim=space.info.dim,
        dtype=dtype,
        rows=("pictures",),
        exact=False,
        digits=digits,
        units=(),
    )
    columns = ("part", "row", *COLUMNS)
    parts = [
        write_part(to, manifest, number, _UNIT, rows=records, columns=columns, image_embeddings=vectors)
        for number, (vectors, records) in enumerate(batches)
    ]
    write_manifest(to, replace(manifest, units=(_UNIT,) * len(parts)))
    (to / _UNFINISHED).unlink()
    return sum(part.rows for part in parts)


def _begin(to: Path) -> None:
    """Create a folder with the marker of an unfinished export, or empty one that has the marker."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        if not (to / _UNFINISHED).exists():
            raise CatalogError(f"{to} is there already: choose a new folder, or a name that ends in .parquet")
        # Only what an export writes is removed: the user may have put files of their own beside it.
        (to / MANIFEST).unlink(missing_ok=True)
        for name in (IMAGES, METADATA, PARTS):
            shutil.rmtree(to / name, ignore_errors=True)
    write_bytes(to / _UNFINISHED, b"")


def _batches(
    store: Store, space: Space, size: int, rows: RowNumbers, filters: Filter | None
) -> Iterator[tuple[FloatArray, list[dict[str, Any]]]]:
    """Yield (vectors, records of metadata) of at most `size` rows at a time, in the order of rows."""
    for start in range(0, len(rows), size):
        # One read transaction per batch, not one for all: SQLite cannot truncate its write-ahead log while a
        # reader holds an old snapshot, so an export of an hour would let the log grow for an hour. The price:
        # images that left between two batches are missing, which the counts below allow for.
        with store.database.reading():
            space.refresh()  # raises if the space was deleted; what remains would look like a short end
            block = rows[start : start + size].tolist()
            owners = space.contents_of(block)
            contents = [owners[row] for row in block if row in owners]
            entries = {
                entry.content: entry for entry in read_entries(store.database, contents, prefer=filters)
            }
            embedded, vectors = space.vectors([content for content in contents if content in entries])
            hashes = digests_of(store.database, embedded)
            annotations = read_annotations(store.database, embedded)
        records = [
            _record(entries[content], hashes[content], annotations.get(content)) for content in embedded
        ]
        if records:
            yield vectors, records


def _record(entry: CatalogEntry, digest: bytes, annotations: Annotations | None) -> dict[str, Any]:
    # "tags" and "rating" are for other programs and hold what files say, too. "annotations" is for an import
    # into another catalogue, which reads the files itself: it holds only what exists nowhere else.
    return {
        "image_path": name_of(entry.name),
        "key": name_of(Path(entry.member or entry.path).stem),
        "caption": entry.caption,
        "width": entry.width or None,
        "height": entry.height or None,
        "bytes": entry.size,
        "hash": digest.hex(),
        "shard": name_of(str(entry.path)) if entry.member else "",
        "format": entry.format,
        # Not the time of the file, which changes with every copy.
        "taken": entry.taken.isoformat(sep=" ") if entry.taken and entry.dated else "",
        "taken_from": entry.taken_from if entry.dated else "",
        "latitude": entry.latitude,
        "longitude": entry.longitude,
        "camera": entry.camera,
        "tags": ", ".join(entry.tags),
        "rating": entry.rating,
        "annotations": annotations.to_json() if annotations else "",
    }
