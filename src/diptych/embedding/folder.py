"""A folder of vectors as clip-retrieval lays it out, with a manifest that says what they are.

    manifest.json              the encoder's identity, the kind of rows, the units of work
    img_emb/img_emb_0.npy      (rows, dim) of pictures; text_emb/text_emb_0.npy of texts
    metadata/metadata_0.parquet  a row for each, with its part and its place in it
    parts/part_0.json          last of a part: counts, checksums, what failed

A part counts once its record in `parts` is there, so a writer killed at any instant leaves whole parts and
nothing else that counts; records are files of their own, so many machines may write at once. Folders that
clip-retrieval made have no manifest and no records, and are read by their names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import DataError
from diptych.extras import require
from diptych.files.disk import file_inside, write_bytes

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

FORMAT = 1
MANIFEST, FAILURES = "manifest.json", "failures.csv"
IMAGES, TEXTS, METADATA, PARTS = "img_emb", "text_emb", "metadata", "parts"
DTYPES = ("float16", "float32")
_PURPOSE = "read and write tables of metadata"
# Columns that always have the same type, whatever stands in the first rows.
_TYPES = {
    **dict.fromkeys(("part", "row", "width", "height"), "int32"),
    **dict.fromkeys(("bytes", "modified"), "int64"),
    **dict.fromkeys(("latitude", "longitude"), "float64"),
    "rating": "int64",
}
PICTURE_COLUMNS = (
    *("part", "row", "image_path", "key", "caption", "url"),
    *("width", "height", "bytes", "hash", "modified", "shard", "json"),
)
TEXT_COLUMNS = ("part", "row", "key", "caption")


@dataclass(frozen=True)
class Manifest:
    """What the vectors of a folder are.

    Attributes
    ----------
    identity, model : str
        Of the encoder, and the name that opens it.
    dim : int
    dtype : {"float16", "float32"}
    rows : tuple of {"pictures", "texts"}
        Which kinds of vectors each row has.
    exact : bool
        Pictures were decoded in full, their colours as stored; otherwise converted to sRGB.
    digits : int
        Of the numbers in file names, at least.
    units : tuple of str
        The fingerprint of each unit of work; part N holds unit N.
    """

    identity: str
    model: str
    dim: int
    dtype: str
    rows: tuple[str, ...]
    exact: bool
    digits: int
    units: tuple[str, ...]
    format: int = FORMAT


@dataclass(frozen=True)
class PartRecord:
    """What is known of a finished part.

    Attributes
    ----------
    part, rows : int
    unit : str
        The fingerprint of what it holds.
    files : mapping
        Path inside the folder -> size in bytes and SHA-256.
    failures : sequence of (key, reason)
    """

    part: int
    rows: int
    unit: str
    files: Mapping[str, tuple[int, str]]
    failures: Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class EmbeddingPart:
    """Vectors and metadata of one part.

    Attributes
    ----------
    number : int
        Of this folder's parts.
    pictures, texts : (rows, dim), optional
        As they are on disk: half precision, perhaps not of length one where another program wrote them.
    metadata : pyarrow.Table
    """

    number: int
    pictures: FloatArray | None
    texts: FloatArray | None
    metadata: Any

    def __len__(self) -> int:
        return int(self.metadata.num_rows)


# --------------------------------------------------------------------------------------------- manifest


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none.

    Raises
    ------
    DataError
        It is damaged or of a later version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] > FORMAT:
            raise DataError(
                f"{path} is of format {told['format']}, this version reads {FORMAT}: update diptych"
            )
        told |= {"rows": tuple(told["rows"]), "units": tuple(told["units"])}
        return Manifest(**told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a manifest of vectors that can be read: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, whole or not at all."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1)
    write_bytes(folder / MANIFEST, text.encode(), mark=mark())


# ------------------------------------------------------------------------------------------- one part


def write_part(
    folder: Path,
    manifest: Manifest,
    number: int,
    unit: str,
    *,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    pictures: FloatArray | None = None,
    texts: FloatArray | None = None,
    failures: Sequence[tuple[str, str]] = (),
) -> PartRecord:
    """Write one part, its record last.

    Raises
    ------
    SaveError
        The device is full or may not be written to.
    """
    name = f"{number:0{manifest.digits}d}"
    numbered = [{"part": number, "row": place, **row} for place, row in enumerate(rows)]
    written = {f"{METADATA}/{METADATA}_{name}.parquet": _parquet_bytes(numbered, columns)} if rows else {}
    for kind, vectors in ((IMAGES, pictures), (TEXTS, texts)):
        if vectors is not None and len(vectors):
            file = io.BytesIO()
            np.save(file, vectors.astype(manifest.dtype), allow_pickle=False)
            written[f"{kind}/{kind}_{name}.npy"] = file.getvalue()
    for path, data in written.items():
        write_bytes(folder / path, data, mark=mark())
    files = {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in written.items()}
    record = PartRecord(number, len(rows), unit, files, [tuple(one) for one in failures])  # type: ignore[misc]
    text = json.dumps(dataclasses.asdict(record), ensure_ascii=False)
    write_bytes(_record_path(folder, number), text.encode("utf-8", "backslashreplace"), mark=mark())
    return record


def read_record(folder: Path, number: int) -> PartRecord | None:
    """The record of a part whose files are there at their full size; None otherwise: it is to be made."""
    try:
        told = json.loads(_record_path(folder, number).read_text(encoding="utf-8"))
        files = {path: (size, digest) for path, (size, digest) in told["files"].items()}
        paths = [file_inside(folder, path) for path in files]
        sizes = [None if path is None else path.stat().st_size for path in paths]
        if sizes != [size for size, _ in files.values()]:
            return None
        failures = [(key, reason) for key, reason in told["failures"]]
        return PartRecord(told["part"], told["rows"], told["unit"], files, failures)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_records(folder: Path) -> list[PartRecord]:
    """The records of all finished parts, by number."""
    numbers = [
        int(found[1])
        for path in (folder / PARTS).glob("part_*.json")
        if (found := re.fullmatch(r"part_(\d+)\.json", path.name))
    ]
    return [record for number in sorted(numbers) if (record := read_record(folder, number)) is not None]


def sweep(folder: Path) -> None:
    """Remove what killed writers left under temporary names; for when nobody writes any more."""
    for kind in (".", IMAGES, TEXTS, METADATA, PARTS):
        for path in (folder / kind).glob(".*.part"):
            path.unlink(missing_ok=True)


def _record_path(folder: Path, number: int) -> Path:
    return folder / PARTS / f"part_{number}.json"


def mark() -> str:
    """For temporary names of this process alone: a worker taken for dead may be at the same part still."""
    return f"{socket.gethostname()}-{os.getpid()}"


def column_types(columns: Sequence[str]) -> dict[str, Any]:
    """Arrow's types of these columns of metadata."""
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    return {name: getattr(arrow, _TYPES.get(name, "string"))() for name in columns}


def _parquet_bytes(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    parquet = require("pyarrow.parquet", extra="embeddings", purpose=_PURPOSE)
    arrays = {}
    for name, kind in column_types(columns).items():
        values = [row.get(name) for row in rows]
        arrays[name] = arrow.array(values if name in _TYPES else [one or "" for one in values], kind)
    file = io.BytesIO()
    parquet.write_table(arrow.table(arrays), file)
    return file.getvalue()


# ------------------------------------------------------------------------------------------- reading


def is_embeddings(folder: Path) -> bool:
    """Whether a folder is one of vectors, ours or clip-retrieval's."""
    return (folder / METADATA).is_dir() and any((folder / kind).is_dir() for kind in (IMAGES, TEXTS))


def read_parts(folder: Path) -> Iterator[EmbeddingPart]:
    """Every part of a folder, in order; ours are compared with their checksums on the way.

    Raises
    ------
    DataError
        A file is missing, damaged, or does not belong to the others.
    """
    if not is_embeddings(folder):
        raise DataError(f"{folder} holds no vectors: expected {IMAGES}/ or {TEXTS}/, and {METADATA}/")
    if read_manifest(folder) is not None:
        for record in read_records(folder):
            if record.rows:
                yield _ours(folder, record)
        return
    for number, (metadata, names) in enumerate(_foreign(folder)):
        yield _paired(number, metadata, {kind: _load(path) for kind, path in names.items()})


def _ours(folder: Path, record: PartRecord) -> EmbeddingPart:
    for path, (_, digest) in record.files.items():
        with (folder / path).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise DataError(
                    f"{folder / path} is not what was written: its checksum differs. Remove "
                    f"{_record_path(folder, record.part)} and embed again"
                )
    metadata = next(folder / path for path in record.files if path.startswith(METADATA))
    vectors = {
        kind: _load(folder / path) for path in record.files if (kind := path.split("/")[0]) != METADATA
    }
    part = _paired(record.part, metadata, vectors)
    if part.metadata["part"][0].as_py() != record.part:
        raise DataError(f"{metadata} belongs to another part: files of this folder were renamed")
    return part


def _foreign(folder: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """(metadata, kind -> vectors) of clip-retrieval's files, by the number in their names."""
    found = [
        (int(told[1]), told[1], path)
        for path in (folder / METADATA).glob(f"{METADATA}_*.parquet")
        if (told := re.fullmatch(rf"{METADATA}_(\d+)\.parquet", path.name))
    ]
    if not found:
        raise DataError(
            f"{folder / METADATA} holds no {METADATA}_0.parquet: vectors without names are of no use"
        )
    for _, name, metadata in sorted(found):
        paths = {kind: folder / kind / f"{kind}_{name}.npy" for kind in (IMAGES, TEXTS)}
        there = {kind: path for kind, path in paths.items() if path.is_file()}
        if not there:
            raise DataError(f"{metadata} has no vectors: expected {paths[IMAGES]} or {paths[TEXTS]}")
        yield metadata, there


def _paired(number: int, metadata: Path, vectors: Mapping[str, FloatArray]) -> EmbeddingPart:
    parquet = require("pyarrow.parquet", extra="embeddings", purpose=_PURPOSE)
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    try:
        table = parquet.read_table(metadata)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{metadata} is not a Parquet file that can be read: {error}") from error
    for kind, rows in vectors.items():
        if len(rows) != table.num_rows:
            raise DataError(
                f"{metadata} has {table.num_rows:,} rows and its {kind} {len(rows):,} vectors: they do not "
                "belong together"
            )
    return EmbeddingPart(number, vectors.get(IMAGES), vectors.get(TEXTS), table)


def _load(path: Path) -> FloatArray:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not an array of vectors that can be read: {error}") from error
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise DataError(f"{path} holds {rows.dtype} of shape {rows.shape}: expected (rows, dim) of floats")
    return rows  # type: ignore[no-any-return]
