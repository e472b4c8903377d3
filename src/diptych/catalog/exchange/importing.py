"""Import existing vectors into a catalogue: folders of clip-retrieval or of this package, or a Parquet file.

Vectors do not show which model made them. Our own files carry its identity; of others, a few pictures (or
texts) are embedded again and compared, and vectors that disagree are refused. Pictures whose files exist are
read, hashed and described, but not decoded; the others are stored by name only and can be searched too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.annotations.annotations import RATINGS, Annotations
from diptych.catalog.annotations.records import FileRecord, ImageRecord, ListedFile
from diptych.catalog.database.spaces import Space
from diptych.catalog.exchange.import_rows import (
    SAMPLE,
    Row,
    chunks_of,
    details_of,
    sample_of,
    shard_of,
    text_of,
    whole_number,
)
from diptych.catalog.files.listing import file_at, list_members
from diptych.catalog.indexing.reading import ReadFile, read_files
from diptych.catalog.indexing.run import improve, space_for
from diptych.catalog.store.store import Store
from diptych.embedding import EmbeddingPart, read_manifest, read_parts
from diptych.embedding.batches import embed_texts
from diptych.embedding.golden import MIN_EQUAL_COSINE
from diptych.embedding.one_file import facts_of, read_file
from diptych.encoder import Encoder, normalize
from diptych.errors import CatalogError, DataError, ImageError, MissingExtraError
from diptych.files.moving import HASH_BYTES
from diptych.files.patterns import is_remote
from diptych.media import Limits, load_image
from diptych.progress import Stage, silent

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

AGREE = 0.75  # least fraction that agrees: other programs may ignore EXIF rotation
IMPORTED = "import"  # origin of tags in tables that were not exported from a catalogue
_PATHS = ("image_path", "path", "filepath", "file", "filename")


@dataclass
class ImportReport:
    """The result of an import, in rows."""

    rows: int = 0  # rows that were read
    added: int = 0  # pictures that are new in the catalogue
    existing: int = 0  # pictures that were in the catalogue already, or are repeated
    unreachable: int = 0  # pictures of which only the name is known
    changed: int = 0  # skipped: the file is not the one that was embedded, or cannot be read
    compared: int = 0  # pictures or texts that were embedded again to check the model
    built: str | None = None  # the index that was built, or why none was


@dataclass(frozen=True, eq=False)
class _ImportRow:
    """One row of the source."""

    name: str
    file: ListedFile | None  # None if the file does not exist
    row: Row
    vector: FloatArray


def import_vectors(
    store: Store,
    encoder: Encoder,
    source: str | Path,
    *,
    model: str = "default",
    root: str | Path | None = None,
    column: str = "",
    trust: bool = False,
    limits: Limits | None = None,
    stage: Stage | None = None,
) -> ImportReport:
    """Import vectors of pictures; running it again resumes, and adds nothing twice.

    Parameters
    ----------
    encoder : Encoder
        The encoder that made the vectors.
    source : path
        A folder of `diptych embed` or clip-retrieval, or a Parquet file with a column of vectors.
    model : str
        The name by which the encoder can be loaded again.
    root : path, optional
        Base of relative paths in the metadata; the working directory by default.
    column : str
        The column of vectors in a Parquet file.
    trust : bool
        Accept vectors without evidence that this encoder made them.

    Raises
    ------
    CatalogError
        The vectors, or those in the catalogue, are of another model, or their model cannot be verified.
    DataError
        The source cannot be read.
    """
    source, stage, limits = Path(source), stage or silent, limits or Limits()
    base = Path(root) if root is not None else Path.cwd()
    report = ImportReport()
    first = next(_parts(source, column), None)
    if first is None:
        raise DataError(f"{source} holds no vectors: no picture of it could be embedded")
    # Everything that can be refused is refused before `space_for` creates a space: a wrong model must not
    # leave an empty catalogue that is bound to it.
    _fitting(first, source, encoder)
    if not trust:
        report.compared = _check_model(encoder, source, base, column, limits)
    space = space_for(store, encoder, model)
    with stage("importing", None) as advance:
        for part in _parts(source, column):
            vectors = _fitting(part, source, encoder)
            rows = part.metadata.to_pylist()
            # Each chunk is one transaction. After a kill, the same command reads the source from its start
            # and finds the earlier chunks in the catalogue: they are counted as known.
            for positions in chunks_of(rows):
                chunk = [rows[position] for position in positions]
                items = list(_import_rows(chunk, _normalized(vectors[positions]), base))
                _store_rows(store, space, items, limits, report)
                advance(len(items))
    report.built = improve(store, stage)
    return report


def _parts(source: Path, column: str) -> Iterator[EmbeddingPart]:
    if source.is_dir():
        return read_parts(source)
    if source.suffix.lower() == ".parquet":
        return read_file(source, column)
    raise DataError(f"{source} is neither a folder of vectors nor a Parquet file")


def _fitting(part: EmbeddingPart, source: Path, encoder: Encoder) -> FloatArray:
    """The image vectors of a part; CatalogError if they have another dimension than the encoder's."""
    if part.image_embeddings is None:
        raise CatalogError(f"{source} holds vectors of texts only: a catalogue needs vectors of pictures")
    if part.image_embeddings.shape[1] != encoder.dim:
        raise CatalogError(
            f"{source} holds vectors of {part.image_embeddings.shape[1]} numbers, the model makes "
            f"{encoder.dim}: they are another model's. Name the right one with --model"
        )
    return part.image_embeddings


def _normalized(rows: FloatArray) -> FloatArray:
    """Scale vectors of a file, (n, dim), to length one; DataError if some have none."""
    with np.errstate(invalid="ignore", over="ignore"):
        normalized = normalize(rows)
    if not np.allclose(np.linalg.norm(normalized, axis=1), 1, atol=0.01):  # zeros, NaN or infinite
        raise DataError("some vectors are zero or not finite: they were not made by an encoder that worked")
    return normalized


def _import_rows(rows: Sequence[Row], vectors: FloatArray, base: Path) -> Iterator[_ImportRow]:
    """Yield the rows with their files; each archive is listed once."""
    inside: dict[str, dict[str, ListedFile]] = {}
    for row, vector in zip(rows, vectors, strict=True):
        shard = shard_of(row)
        name = next(
            (str(row[key]) for key in _PATHS if row.get(key)), str(row.get("url") or row.get("key") or "")
        )
        # E.g. shard "00001.tar" and name "00001.tar/cat.jpg", as our exports write it, or "cat.jpg" alone:
        # both are the member cat.jpg.
        if shard:
            if shard not in inside:
                archive = file_at(base / shard)
                inside[shard] = {member.member: member for member in list_members(archive)} if archive else {}
            file = inside[shard].get(name.removeprefix(f"{shard}/"))
        else:
            file = None if is_remote(name) or not name else file_at(base / Path(name).expanduser())
        # The address stays useful where the downloaded file is gone.
        if file is None and row.get("url"):
            name = str(row["url"])
        yield _ImportRow(name, file, row, vector)


# ------------------------------------------------------------------------------------- checking the model


def _check_model(encoder: Encoder, source: Path, base: Path, column: str, limits: Limits) -> int:
    """Check that this encoder made the vectors; returns how many were embedded again for it."""
    if source.is_dir():
        manifest = read_manifest(source)
        identity = "" if manifest is None else manifest.identity
    else:
        identity = facts_of(source).get("identity", "") if source.suffix.lower() == ".parquet" else ""
    # A hash of the weights is better evidence than any comparison, and nothing has to be embedded.
    if identity:
        if identity != encoder.identity:
            raise CatalogError(
                f"{source} holds vectors of the model {identity[:19]}..., this is "
                f"{encoder.identity[:19]}...: name the right one with --model"
            )
        return 0
    cosines = _cosines(encoder, source, base, column, limits)
    if not cosines:
        raise CatalogError(
            f"{source} does not say which model made its vectors, and none of its pictures is there to "
            "compare with. Name their folder with --root, or accept the vectors with --trust"
        )
    agree = np.mean([cosine >= MIN_EQUAL_COSINE for cosine in cosines])
    # E.g. 16 pictures, of which 12 have a cosine of 0.98 or more with the vector made here: 0.75, accepted.
    # Written so that NaN is refused.
    if not agree >= AGREE:
        raise CatalogError(
            f"{source} holds vectors of another model: of {len(cosines)} that were computed again "
            f"{agree:.0%} agree (median cosine {np.median(cosines):.3f}, expected {MIN_EQUAL_COSINE} or "
            "more). Name the right one with --model"
        )
    return len(cosines)


def _cosines(encoder: Encoder, source: Path, base: Path, column: str, limits: Limits) -> list[float]:
    """Cosines between vectors of the source and of the encoder, from the first part that can be compared."""
    for part in _parts(source, column):
        vectors = _fitting(part, source, encoder)
        positions = sample_of(part.metadata.to_pylist())
        rows = part.metadata.take(positions).to_pylist()
        items = list(_import_rows(rows, _normalized(vectors[positions]), base))
        cosines = _image_cosines(encoder, items, limits)
        if not cosines and part.text_embeddings is not None and part.text_embeddings.shape[1] == encoder.dim:
            cosines = _text_cosines(encoder, rows, _normalized(part.text_embeddings[positions]))
        if cosines:
            return cosines
    return []


def _image_cosines(encoder: Encoder, items: Sequence[_ImportRow], limits: Limits) -> list[float]:
    by_file = _by_file(items)
    images, vectors = [], []
    for read in read_files((item.file for item in by_file.values() if item.file is not None), limits):
        try:
            # Other programs that export vectors ignore colour profiles.
            images.append(load_image(read.data, limits=limits, srgb=False))
        except (ImageError, MissingExtraError):
            continue
        vectors.append(by_file[read.record.file.path, read.record.file.member].vector)
        if len(images) == SAMPLE:
            break
    if not images:
        return []
    products = np.einsum("nd,nd->n", encoder.encode_images(images), np.stack(vectors))
    return [float(cosine) for cosine in products]


def _by_file(items: Sequence[_ImportRow]) -> dict[tuple[bytes, str], _ImportRow]:
    """(path, member) -> row, of the rows whose file exists."""
    return {(item.file.path, item.file.member): item for item in items if item.file is not None}


def _text_cosines(encoder: Encoder, rows: Sequence[Row], vectors: FloatArray) -> list[float]:
    with_text = [position for position, row in enumerate(rows) if row.get("caption")][:SAMPLE]
    embeddings = embed_texts(encoder, [str(rows[position]["caption"]) for position in with_text])
    return [float(cosine) for cosine in np.einsum("nd,nd->n", embeddings, vectors[with_text])]


# ---------------------------------------------------------------------------------------------- storing


def _store_rows(
    store: Store, space: Space, items: Sequence[_ImportRow], limits: Limits, report: ImportReport
) -> None:
    by_file = _by_file(items)
    pictures = []
    for read in read_files((item.file for item in by_file.values() if item.file is not None), limits):
        item = by_file[read.record.file.path, read.record.file.member]
        # Our exports name the hash of the bytes: a file that was edited since then is another picture than
        # its vector. Other sources give no hash, and the file is trusted.
        if read.record.error is None and item.row.get("hash") in (None, "", read.hash.hex()):
            pictures.append(_from_file(item, read))
        else:
            report.changed += 1
    without_file = [_from_name(store, item) for item in items if item.file is None]
    report.rows += len(items)
    report.unreachable += len(without_file)
    report.existing += len(items) - len(by_file) - len(without_file)  # rows that repeat a file
    existing = set(
        store.stored_results([picture.hash for picture in [*pictures, *without_file] if picture.hash], space)
    )
    records: list[ImageRecord] = []
    # A repeated picture is saved without its vector, only to add its files and tags. `existing` grows in the
    # loop, so that repetitions inside the chunk are noticed too.
    for picture in [*pictures, *without_file]:
        assert picture.hash is not None
        if picture.hash in existing:
            report.existing += 1
            records.append(replace(picture, stored=True, details=None, vector=None))
        else:
            report.added += 1
            existing.add(picture.hash)
            records.append(picture)
    store.save_images(records, space)


def _from_file(item: _ImportRow, read: ReadFile) -> ImageRecord:
    caption = read.record.caption or text_of(item.row, "caption")
    record = replace(read.record, caption=caption)
    return ImageRecord(
        [record],
        hash=read.hash,
        size=len(read.data),
        details=read.details,
        vector=item.vector,
        annotations=annotations_of(item.row),
    )


def _from_name(store: Store, item: _ImportRow) -> ImageRecord:
    """A picture whose file is missing, described by its row; its hash is made of its name and vector.

    A picture that the catalogue knows is left as it is: its drive may be disconnected.
    """
    path = os.fsencode(item.name)
    rows = store.database.all(
        "SELECT c.hash, c.bytes FROM files f JOIN contents c ON c.id = f.content "
        "WHERE f.path = ? AND f.member = ''",
        (path,),
    )
    if rows:
        return ImageRecord([], hash=bytes(rows[0][0]), size=rows[0][1], annotations=annotations_of(item.row))
    # There are no bytes to hash. The name alone would not do: after another import it may belong to another
    # picture.
    name_hash = hashlib.blake2b(path + b"\0" + item.vector.astype("<f2").tobytes(), digest_size=HASH_BYTES)
    size, modified = (whole_number(item.row, name, 2**63 - 1) for name in ("bytes", "modified"))
    file = ListedFile(path, "", size, modified, 0, 0, 0)
    record = FileRecord(file, caption=text_of(item.row, "caption"))
    return ImageRecord(
        [record],
        hash=name_hash.digest(),
        size=file.size,
        details=details_of(item.row),
        vector=item.vector,
        annotations=annotations_of(item.row),
    )


def annotations_of(row: Row) -> Annotations:
    """Tags and ratings of a row: from an export of a catalogue, otherwise from a column of tags.

    Examples
    --------
    >>> annotations_of({"tags": "beach, grandma", "rating": 4}).tags
    (('import', 'beach', 1.0), ('import', 'grandma', 1.0))
    """
    if "annotations" in row:  # an export of a catalogue, whose column of tags also holds tags from files
        return Annotations.from_json(str(row["annotations"] or ""))
    listed = row.get("tags")
    names = listed if isinstance(listed, list) else str(listed or "").split(",")
    tags = {name.strip(): None for name in names if isinstance(name, str) and name.strip().isprintable()}
    # "beach,,sea" has an empty name in its middle.
    tags.pop("", None)
    rating = row.get("rating")
    rated = isinstance(rating, int | float) and rating in RATINGS
    return Annotations(
        tuple((IMPORTED, tag, 1.0) for tag in tags), ((IMPORTED, int(rating)),) if rated and rating else ()
    )
