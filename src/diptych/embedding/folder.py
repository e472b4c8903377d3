"""A folder of embeddings in clip-retrieval's layout, with a manifest and a record of each part.

    manifest.json              the encoder's identity, the kind of rows, the units of work
    img_emb/img_emb_0.npy      (rows, dim) image embeddings; text_emb/text_emb_0.npy text embeddings
    metadata/metadata_0.parquet  one row for each embedding, with its part and its row number
    parts/part_0.json          written last: number of rows, checksums, failures

A part is complete once its record in `parts` exists, so a writer may be killed at any instant. Records are
separate files, so many machines may write at the same time. Folders made by clip-retrieval have no manifest
and no records; their files are found by name.
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
from diptych.files.tables import open_parquet

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

FORMAT = 1
MANIFEST, FAILURES = "manifest.json", "failures.csv"
IMAGES, TEXTS, METADATA, PARTS = "img_emb", "text_emb", "metadata", "parts"
DTYPES = ("float16", "float32")
_PURPOSE = "read and write tables of metadata"
# Types of columns that are not strings; fixed, so that they do not depend on the values of the first rows.
_TYPES = {
    **dict.fromkeys(("part", "row", "width", "height"), "int32"),
    **dict.fromkeys(("bytes", "modified"), "int64"),
    **dict.fromkeys(("latitude", "longitude"), "float64"),
    "rating": "int64",
}
IMAGE_COLUMNS = (
    *("part", "row", "image_path", "key", "caption", "url"),
    *("width", "height", "bytes", "hash", "modified", "shard", "json"),
)
TEXT_COLUMNS = ("part", "row", "key", "caption")


@dataclass(frozen=True)
class Manifest:
    """Description of the embeddings in a folder; the fields are the keys of manifest.json.

    Attributes
    ----------
    identity, model : str
        Identity of the encoder, and the model name that opens it.
    dtype : {"float16", "float32"}
    rows : tuple of {"pictures", "texts"}
        Which kinds of embeddings each row has.
    exact : bool
        Images were decoded at full size, with colours as stored; otherwise converted to sRGB.
    digits : int
        Minimum number of digits of the numbers in file names.
    units : tuple of str
        Fingerprint of each unit of work; part N holds unit N.
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
    """Record of a finished part; the fields are the keys of its JSON file.

    Attributes
    ----------
    unit : str
        Fingerprint of its unit of work.
    files : mapping
        Path relative to the folder -> (size in bytes, SHA-256).
    failures : sequence of (key, reason)
    """

    part: int
    rows: int
    unit: str
    files: Mapping[str, tuple[int, str]]
    failures: Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class EmbeddingPart:
    """Embeddings and metadata of one part.

    Attributes
    ----------
    number : int
        Number of the part in its folder.
    image_embeddings, text_embeddings : (rows, dim), optional
        As stored: half precision, and not necessarily of unit length if another program wrote them.
    """

    number: int
    image_embeddings: FloatArray | None
    text_embeddings: FloatArray | None
    metadata: Any

    def __len__(self) -> int:
        return int(self.metadata.num_rows)


# --------------------------------------------------------------------------------------------- manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a folder; None if it has none.

    Raises
    ------
    DataError
        The manifest is damaged or of a later version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise DataError(
                f"{path} is of format {values['format']}, this version reads {FORMAT}: update diptych"
            )
        values |= {"rows": tuple(values["rows"]), "units": tuple(values["units"])}
        return Manifest(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a readable manifest of embeddings: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1)
    write_bytes(folder / MANIFEST, text.encode(), mark=process_mark())


# ------------------------------------------------------------------------------------------- one part


def write_part(
    folder: Path,
    manifest: Manifest,
    number: int,
    unit: str,
    *,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    image_embeddings: FloatArray | None = None,
    text_embeddings: FloatArray | None = None,
    failures: Sequence[tuple[str, str]] = (),
) -> PartRecord:
    """Write a part: its embeddings, its metadata and, last, its record.

    Raises
    ------
    SaveError
        The device is full or not writable.
    """
    name = f"{number:0{manifest.digits}d}"
    numbered = [{"part": number, "row": index, **row} for index, row in enumerate(rows)]
    written = {f"{METADATA}/{METADATA}_{name}.parquet": _parquet_bytes(numbered, columns)} if rows else {}
    for kind, embeddings in ((IMAGES, image_embeddings), (TEXTS, text_embeddings)):
        if embeddings is not None and len(embeddings):
            file = io.BytesIO()
            np.save(file, embeddings.astype(manifest.dtype), allow_pickle=False)
            written[f"{kind}/{kind}_{name}.npy"] = file.getvalue()
    for path, data in written.items():
        write_bytes(folder / path, data, mark=process_mark())
    files = {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in written.items()}
    record = PartRecord(number, len(rows), unit, files, [(key, reason) for key, reason in failures])
    text = json.dumps(dataclasses.asdict(record), ensure_ascii=False)
    write_bytes(_record_path(folder, number), text.encode("utf-8", "backslashreplace"), mark=process_mark())
    return record


def read_record(folder: Path, number: int) -> PartRecord | None:
    """Read the record of a part; None if there is none or its files are missing or of another size."""
    try:
        values = json.loads(_record_path(folder, number).read_text(encoding="utf-8"))
        files = {path: (size, digest) for path, (size, digest) in values["files"].items()}
        paths = [file_inside(folder, path) for path in files]
        sizes = [None if path is None else path.stat().st_size for path in paths]
        if sizes != [size for size, _ in files.values()]:
            return None
        failures = [(key, reason) for key, reason in values["failures"]]
        return PartRecord(values["part"], values["rows"], values["unit"], files, failures)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_records(folder: Path) -> list[PartRecord]:
    """Read the records of all finished parts, ordered by number."""
    numbers = [
        int(match[1])
        for path in (folder / PARTS).glob("part_*.json")
        if (match := re.fullmatch(r"part_(\d+)\.json", path.name))
    ]
    return [record for number in sorted(numbers) if (record := read_record(folder, number)) is not None]


def remove_temporary_files(folder: Path) -> None:
    """Remove temporary files of killed writers; only while no other writer is active."""
    for kind in (".", IMAGES, TEXTS, METADATA, PARTS):
        for path in (folder / kind).glob(".*.part"):
            path.unlink(missing_ok=True)


def _record_path(folder: Path, number: int) -> Path:
    return folder / PARTS / f"part_{number}.json"


def process_mark() -> str:
    """Suffix for temporary names of this process: a worker believed dead may still write the same part."""
    return f"{socket.gethostname()}-{os.getpid()}"


def column_types(columns: Sequence[str]) -> dict[str, Any]:
    """Arrow types of metadata columns."""
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    return {name: getattr(arrow, _TYPES.get(name, "string"))() for name in columns}


def _parquet_bytes(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    parquet = require("pyarrow.parquet", extra="embeddings", purpose=_PURPOSE)
    arrays = {}
    for name, kind in column_types(columns).items():
        values = [row.get(name) for row in rows]
        arrays[name] = arrow.array(values if name in _TYPES else [value or "" for value in values], kind)
    file = io.BytesIO()
    parquet.write_table(arrow.table(arrays), file)
    return file.getvalue()


# ------------------------------------------------------------------------------------------- reading


def is_embeddings(folder: Path) -> bool:
    """Whether a folder holds embeddings in this layout, written by this package or by clip-retrieval."""
    return (folder / METADATA).is_dir() and any((folder / kind).is_dir() for kind in (IMAGES, TEXTS))


def read_parts(folder: Path) -> Iterator[EmbeddingPart]:
    """Iterate over the parts of a folder in order; checksums are verified where there are records.

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
                yield _read_recorded(folder, record)
        return
    for number, (metadata, names) in enumerate(_find_unrecorded(folder)):
        yield _combine(number, metadata, {kind: _load(path) for kind, path in names.items()})


def _read_recorded(folder: Path, record: PartRecord) -> EmbeddingPart:
    for path, (_, digest) in record.files.items():
        with (folder / path).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise DataError(
                    f"{folder / path} is not what was written: its checksum differs. Remove "
                    f"{_record_path(folder, record.part)} and embed again"
                )
    metadata = next(folder / path for path in record.files if path.startswith(METADATA))
    embeddings = {
        kind: _load(folder / path) for path in record.files if (kind := path.split("/")[0]) != METADATA
    }
    part = _combine(record.part, metadata, embeddings)
    if part.metadata["part"][0].as_py() != record.part:
        raise DataError(f"{metadata} belongs to another part: files in this folder were renamed")
    return part


def _find_unrecorded(folder: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Yield (metadata file, kind -> embeddings file) of clip-retrieval's files, ordered by number."""
    numbered = [
        (int(match[1]), match[1], path)
        for path in (folder / METADATA).glob(f"{METADATA}_*.parquet")
        if (match := re.fullmatch(rf"{METADATA}_(\d+)\.parquet", path.name))
    ]
    if not numbered:
        raise DataError(
            f"{folder / METADATA} holds no {METADATA}_0.parquet: expected metadata with the names of the rows"
        )
    for _, name, metadata in sorted(numbered):
        paths = {kind: folder / kind / f"{kind}_{name}.npy" for kind in (IMAGES, TEXTS)}
        existing = {kind: path for kind, path in paths.items() if path.is_file()}
        if not existing:
            raise DataError(f"{metadata} has no vectors: expected {paths[IMAGES]} or {paths[TEXTS]}")
        yield metadata, existing


def _combine(number: int, metadata: Path, embeddings: Mapping[str, FloatArray]) -> EmbeddingPart:
    with open_parquet(metadata, "embeddings") as file:
        table = file.read()
    for kind, rows in embeddings.items():
        if len(rows) != table.num_rows:
            raise DataError(
                f"{metadata} has {table.num_rows:,} rows and its {kind} {len(rows):,} vectors: they do not "
                "belong together"
            )
    return EmbeddingPart(number, embeddings.get(IMAGES), embeddings.get(TEXTS), table)


def _load(path: Path) -> FloatArray:
    try:
        embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable array of vectors: {error}") from error
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f":
        raise DataError(
            f"{path} holds {embeddings.dtype} of shape {embeddings.shape}: expected (rows, dim) of floats"
        )
    return embeddings  # type: ignore[no-any-return]
