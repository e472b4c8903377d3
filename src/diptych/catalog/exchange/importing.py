"""Vectors that somebody has made already, taken into a catalogue: clip-retrieval's folders, ours, Parquet.

Vectors say nothing of the model they come from. Ours carry its identity; of others a few pictures (or texts)
are embedded again and compared, and what does not agree is refused. Pictures that are there are read, hashed
and described but not decoded; those that are not are kept by their names alone, and can be searched all the
same.
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
from diptych.catalog.indexing.reading import ReadFile, read_ahead
from diptych.catalog.indexing.run import improve, space_for
from diptych.catalog.store.golden import MIN_EQUAL_COSINE
from diptych.catalog.store.store import Store
from diptych.embedding import EmbeddingPart, read_manifest, read_parts
from diptych.embedding.batches import embed_texts
from diptych.embedding.one_file import facts_of, read_file
from diptych.encoder import Encoder
from diptych.errors import CatalogError, DataError, ImageError, MissingExtraError
from diptych.files.moving import HASH_BYTES
from diptych.files.patterns import is_remote
from diptych.media import Limits, load_image
from diptych.progress import Stage, silent

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

AGREE = 0.75  # of them at least: another program may have embedded some lying on their side
IMPORTED = "import"  # the origin of tags of tables that no catalogue wrote
_PATHS = ("image_path", "path", "filepath", "file", "filename")


@dataclass
class ImportReport:
    """What came of an import, in rows.

    Attributes
    ----------
    rows : int
        Looked at.
    added : int
        Pictures that are new in the catalogue.
    known : int
        Pictures that were in it, or came twice.
    unreachable : int
        Among the added: those of which only the name is known.
    changed : int
        Left out: their file is no longer the one that was embedded, or cannot be read.
    compared : int
        Pictures or texts embedded again to see whether the model is the right one.
    built : str or None
        What was built for searching them, or why nothing was.
    """

    rows: int = 0
    added: int = 0
    known: int = 0
    unreachable: int = 0
    changed: int = 0
    compared: int = 0
    built: str | None = None


@dataclass(frozen=True, eq=False)
class _One:
    """A row on its way into the catalogue."""

    name: str
    found: ListedFile | None  # None: there is no such file
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
    """Take vectors of pictures into a catalogue; run again, it goes on and takes nothing twice.

    Parameters
    ----------
    store : Store
    encoder : Encoder
        That made the vectors.
    source : path
        A folder of `diptych embed` or clip-retrieval, or a Parquet file with a column of vectors.
    model : str
        The name that opens the encoder again.
    root : path, optional
        What relative paths in the metadata begin at; by default the working directory.
    column : str
        Of vectors, in a Parquet file.
    trust : bool
        Take the vectors though nothing shows that they are this encoder's.
    limits : Limits, optional
    stage : callable, optional
        As for `index`.

    Returns
    -------
    ImportReport

    Raises
    ------
    CatalogError
        The vectors are another model's, or nothing shows whose they are; the catalogue holds another's.
    DataError
        The source cannot be read.
    """
    source, stage, limits = Path(source), stage or silent, limits or Limits()
    base = Path(root) if root is not None else Path.cwd()
    told = ImportReport()
    first = next(_parts(source, column), None)
    if first is None:
        raise DataError(f"{source} holds no vectors: nothing in it could be embedded")
    _fitting(first, source, encoder)
    if not trust:
        told.compared = _check_model(encoder, source, base, column, limits)
    space = space_for(store, encoder, model)
    with stage("importing", None) as advance:
        for part in _parts(source, column):
            vectors = _fitting(part, source, encoder)
            rows = part.metadata.to_pylist()
            for places in chunks_of(rows):
                ones = list(_ones([rows[place] for place in places], _unit(vectors[places]), base))
                _keep(store, space, ones, limits, told)
                advance(len(ones))
    told.built = improve(store, stage)
    return told


def _parts(source: Path, column: str) -> Iterator[EmbeddingPart]:
    if source.is_dir():
        return read_parts(source)
    if source.suffix.lower() == ".parquet":
        return read_file(source, column)
    raise DataError(f"{source} is neither a folder of vectors nor a Parquet file")


def _fitting(part: EmbeddingPart, source: Path, encoder: Encoder) -> FloatArray:
    """The vectors of a part's pictures, if they can be this encoder's."""
    if part.image_embeddings is None:
        raise CatalogError(f"{source} holds vectors of texts: a catalogue is one of pictures")
    if part.image_embeddings.shape[1] != encoder.dim:
        raise CatalogError(
            f"{source} holds vectors of {part.image_embeddings.shape[1]} numbers, the model makes "
            f"{encoder.dim}: they are another model's. Name the right one with --model"
        )
    return part.image_embeddings


def _unit(rows: FloatArray) -> FloatArray:
    """Rows of length one, (n, dim) float32."""
    full = np.asarray(rows, np.float32)
    lengths = np.linalg.norm(full, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise DataError("some vectors are zero or not finite: they were not made by an encoder that worked")
    return full / lengths  # type: ignore[no-any-return]


def _ones(rows: Sequence[Row], vectors: FloatArray, base: Path) -> Iterator[_One]:
    inside: dict[str, dict[str, ListedFile]] = {}
    for row, vector in zip(rows, vectors, strict=True):
        shard = shard_of(row)
        name = next(
            (str(row[key]) for key in _PATHS if row.get(key)), str(row.get("url") or row.get("key") or "")
        )
        if shard:
            if shard not in inside:
                archive = file_at(base / shard)
                inside[shard] = {one.member: one for one in list_members(archive)} if archive else {}
            found = inside[shard].get(name.removeprefix(f"{shard}/"))
        else:
            found = None if is_remote(name) or not name else file_at(base / Path(name).expanduser())
        if found is None and row.get("url"):
            name = str(row["url"])
        yield _One(name, found, row, vector)


# -------------------------------------------------------------------------------------- whose they are


def _check_model(encoder: Encoder, source: Path, base: Path, column: str, limits: Limits) -> int:
    """See that this encoder made the vectors; how many were made again for it."""
    if source.is_dir():
        manifest = read_manifest(source)
        identity = "" if manifest is None else manifest.identity
    else:
        identity = facts_of(source).get("identity", "") if source.suffix.lower() == ".parquet" else ""
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
            "compare with. Say where they lie (--root), or --trust that it was this model"
        )
    agree = np.mean([cosine >= MIN_EQUAL_COSINE for cosine in cosines])
    if not agree >= AGREE:
        raise CatalogError(
            f"{source} holds vectors of another model: of {len(cosines)} that were made again {agree:.0%} "
            f"agree (middle cosine {np.median(cosines):.3f}, expected {MIN_EQUAL_COSINE} or more). Name the "
            "right one with --model"
        )
    return len(cosines)


def _cosines(encoder: Encoder, source: Path, base: Path, column: str, limits: Limits) -> list[float]:
    """Cosines between vectors of the source and the encoder's own, of its first part with any to compare."""
    for part in _parts(source, column):
        vectors = _fitting(part, source, encoder)
        places = sample_of(part.metadata.to_pylist())
        rows = part.metadata.take(places).to_pylist()
        found = _of_pictures(encoder, list(_ones(rows, _unit(vectors[places]), base)), limits)
        if not found and part.text_embeddings is not None and part.text_embeddings.shape[1] == encoder.dim:
            found = _of_texts(encoder, rows, _unit(part.text_embeddings[places]))
        if found:
            return found
    return []


def _of_pictures(encoder: Encoder, ones: Sequence[_One], limits: Limits) -> list[float]:
    there = {(one.found.path, one.found.member): one for one in ones if one.found is not None}
    images, rows = [], []
    for read in read_ahead((one.found for one in there.values() if one.found is not None), limits):
        try:
            # Programs that export vectors look at no colour profile.
            images.append(load_image(read.data, limits=limits, srgb=False))
        except (ImageError, MissingExtraError):
            continue
        rows.append(there[read.record.file.path, read.record.file.member].vector)
        if len(images) == SAMPLE:
            break
    if not images:
        return []
    return [float(one) for one in np.einsum("nd,nd->n", encoder.encode_images(images), np.stack(rows))]


def _of_texts(encoder: Encoder, rows: Sequence[Row], vectors: FloatArray) -> list[float]:
    with_text = [place for place, row in enumerate(rows) if row.get("caption")][:SAMPLE]
    made = embed_texts(encoder, [str(rows[place]["caption"]) for place in with_text])
    return [float(one) for one in np.einsum("nd,nd->n", made, vectors[with_text])]


# ---------------------------------------------------------------------------------------------- keeping


def _keep(store: Store, space: Space, ones: Sequence[_One], limits: Limits, told: ImportReport) -> None:
    there = {(one.found.path, one.found.member): one for one in ones if one.found is not None}
    pictures = []
    for read in read_ahead((one.found for one in there.values() if one.found is not None), limits):
        one = there[read.record.file.path, read.record.file.member]
        if read.record.error is None and one.row.get("hash") in (None, "", read.hash.hex()):
            pictures.append(_reachable(one, read))
        else:
            told.changed += 1
    names = [_by_name(store, one) for one in ones if one.found is None]
    told.rows += len(ones)
    told.unreachable += len(names)
    told.known += len(ones) - len(there) - len(names)
    known = set(store.known([picture.hash for picture in [*pictures, *names] if picture.hash], space))
    kept: list[ImageRecord] = []
    for picture in [*pictures, *names]:
        assert picture.hash is not None
        if picture.hash in known:
            told.known += 1
            kept.append(replace(picture, known=True, details=None, vector=None))
        else:
            told.added += 1
            known.add(picture.hash)
            kept.append(picture)
    store.save_images(kept, space)


def _reachable(one: _One, read: ReadFile) -> ImageRecord:
    caption = read.record.caption or text_of(one.row, "caption")
    record = replace(read.record, caption=caption)
    return ImageRecord(
        [record],
        hash=read.hash,
        size=len(read.data),
        details=read.details,
        vector=one.vector,
        annotations=annotations_of(one.row),
    )


def _by_name(store: Store, one: _One) -> ImageRecord:
    """A picture that is not there: what its row says of it, under a hash of its name and vector.

    One that the catalogue knows stays what it is: its drive may be away.
    """
    path = os.fsencode(one.name)
    known = store.database.all(
        "SELECT c.hash, c.bytes FROM files f JOIN contents c ON c.id = f.content "
        "WHERE f.path = ? AND f.member = ''",
        (path,),
    )
    if known:
        return ImageRecord([], hash=bytes(known[0][0]), size=known[0][1], annotations=annotations_of(one.row))
    digest = hashlib.blake2b(path + b"\0" + one.vector.astype("<f2").tobytes(), digest_size=HASH_BYTES)
    size, modified = (whole_number(one.row, name, 2**63 - 1) for name in ("bytes", "modified"))
    found = ListedFile(path, "", size, modified, 0, 0, 0)
    record = FileRecord(found, caption=text_of(one.row, "caption"))
    return ImageRecord(
        [record],
        hash=digest.digest(),
        size=found.size,
        details=details_of(one.row),
        vector=one.vector,
        annotations=annotations_of(one.row),
    )


def annotations_of(row: Row) -> Annotations:
    """Tags and ratings that a row brings: those of a catalogue's export, else those of a column of tags.

    Examples
    --------
    >>> annotations_of({"tags": "beach, grandma", "rating": 4}).tags
    (('import', 'beach', 1.0), ('import', 'grandma', 1.0))
    """
    if "annotations" in row:  # a catalogue's: its column of tags holds those of files too
        return Annotations.from_json(str(row["annotations"] or ""))
    listed = row.get("tags")
    names = listed if isinstance(listed, list) else str(listed or "").split(",")
    tags = {name.strip(): None for name in names if isinstance(name, str) and name.strip().isprintable()}
    tags.pop("", None)
    rating = row.get("rating")
    rated = isinstance(rating, int | float) and rating in RATINGS
    return Annotations(
        tuple((IMPORTED, tag, 1.0) for tag in tags), ((IMPORTED, int(rating)),) if rated and rating else ()
    )
