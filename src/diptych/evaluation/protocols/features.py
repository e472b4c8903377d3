"""Embeddings or features of a data set's images, and a cache of them in a folder.

A cache file belongs to one encoder and one set of image contents: its name is a hash of the encoder's
identity and of every image's content, and the file repeats both, so that embeddings of another model are
never used.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.datasets.dataset import ImageCollection
from diptych.datasets.formats.archives import Content, Unread
from diptych.embedding.batches import Failed, collect, embed_images
from diptych.encoder import Encoder, FeatureEncoder
from diptych.errors import DataError, InputError
from diptych.files.disk import write_atomically
from diptych.progress import Progress, Stage, silent

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class DatasetEmbeddings:
    """Embeddings, or features before the projection, of the images of a data set.

    Attributes
    ----------
    embeddings : (N, D) float32
        Of the readable images.
    positions : (N,) integers
        Positions of these images in the data set.
    failures : tuple of Failed
        The other images with reasons, then those that the data set skipped (`skipped`).
    """

    embeddings: NDArray[np.float32]
    positions: NDArray[np.intp]
    failures: tuple[Failed, ...]


class ImageFunction:
    """Adapter: an encoder whose embeddings are what a function gives for images, such as features or scores.

    Parameters
    ----------
    function : callable
        From N decoded images to (N, width).
    source : object
        The encoder or scorer that it belongs to, with `identity` and `input_size`.
    """

    def __init__(self, function: Callable[[Any], ArrayLike], source: Any) -> None:
        self._function = function
        self.identity, self.input_size = source.identity, source.input_size
        self.precision = getattr(source, "precision", "float32")
        self.dim = 0  # not known before the first batch
        self.logit_scale, self.logit_bias = 1.0, 0.0

    def encode_images(self, images: Any) -> NDArray[np.float32]:
        """Values of the function, (N, width)."""
        rows = np.asarray(self._function(images), np.float32)
        if rows.ndim != 2:
            raise InputError(f"pictures gave an array of shape {rows.shape}: expected (N, C), a row for each")
        self.dim = rows.shape[1]
        return rows

    def encode_texts(self, texts: Any) -> NDArray[np.float32]:
        """Not supported."""
        raise InputError("only pictures have features before the projection, and scores")


def _before_projection(encoder: Encoder) -> ImageFunction:
    """An encoder whose embeddings are the features before the projection."""
    if not isinstance(encoder, FeatureEncoder):
        raise InputError(
            f"{type(encoder).__name__} has no image_features, the features before the projection: "
            "measure its embeddings instead (features='embeddings')"
        )
    return ImageFunction(encoder.image_features, encoder)


def embed_dataset(
    encoder: Encoder,
    dataset: ImageCollection,
    *,
    features: bool = False,
    batch_size: int = 64,
    threads: int | None = None,
    exact: bool = True,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
    stage: Stage = silent,
) -> DatasetEmbeddings:
    """Encode the images of a data set, or read their embeddings from the store.

    Parameters
    ----------
    encoder : Encoder
        With `features`, one that has `image_features`.
    features : bool
        Return features before the projection, not normalised, instead of normalised embeddings.
    batch_size, threads, exact, progress
        As for `embed_images`.
    store : FeatureStore, optional
    stage : callable
        Opens the progress of hashing all images for the store's key; see `Settings`.

    Raises
    ------
    DataError
        No readable image.
    InputError
        `features` of an encoder that has none.
    """
    reader: Any = _before_projection(encoder) if features else encoder
    if store is None:
        return _with_skipped(_embed(reader, dataset, batch_size, threads, exact, progress), dataset)
    with stage(f"{dataset.name}: reading", len(dataset)) as advance:
        content = content_hash(dataset, advance)
    kind = {
        "identity": encoder.identity,
        "pictures": content,
        "features": features,
        "exact": exact,
        "precision": getattr(encoder, "precision", "float32"),
    }
    embedded = _under_own_names(store.get(kind), dataset)
    if embedded is None:
        embedded = _embed(reader, dataset, batch_size, threads, exact, progress)
        store.put(kind, embedded)
    elif progress:
        progress(len(dataset))
    return _with_skipped(embedded, dataset)


def _with_skipped(embedded: DatasetEmbeddings, dataset: ImageCollection) -> DatasetEmbeddings:
    """Append the images that the data set skipped to the failures, once for all protocols."""
    skipped = tuple(Failed(key, reason) for key, reason in getattr(dataset, "skipped", ()))
    return (
        DatasetEmbeddings(embedded.embeddings, embedded.positions, (*embedded.failures, *skipped))
        if skipped
        else embedded
    )


def _embed(
    encoder: Encoder,
    dataset: ImageCollection,
    batch_size: int,
    threads: int | None,
    exact: bool,
    progress: Progress | None,
) -> DatasetEmbeddings:
    unread: dict[str, str] = {}

    def items() -> Iterator[tuple[str, Content]]:
        for position, (_, data) in enumerate(dataset):  # by position: two shards may use one key
            if isinstance(data, Unread):
                unread[str(position)] = data.reason
            yield str(position), data

    stream = embed_images(
        encoder, items(), batch_size=batch_size, threads=threads, exact=exact, progress=progress
    )
    collected = collect(stream, encoder.dim)
    keys = dataset.keys
    failures = tuple(
        Failed(keys[int(failure.key)], unread.get(failure.key, failure.reason))
        for failure in collected.failures
    )
    if not collected.keys:
        why = f"; the first: {failures[0].key}: {failures[0].reason}" if failures else ""
        raise DataError(f"none of the {len(dataset)} pictures of {dataset.name} could be read{why}")
    return DatasetEmbeddings(
        collected.vectors, np.array([int(key) for key in collected.keys], dtype=np.intp), failures
    )


def _under_own_names(stored: DatasetEmbeddings | None, dataset: ImageCollection) -> DatasetEmbeddings | None:
    """Replace the keys of failures by those of this data set: the cache may be of a copy with other names."""
    if stored is None or not stored.failures:
        return stored
    keys, read = dataset.keys, set(stored.positions.tolist())
    unread = [keys[position] for position in range(len(keys)) if position not in read]
    failures = (Failed(key, failure.reason) for key, failure in zip(unread, stored.failures, strict=True))
    return replace(stored, failures=tuple(failures))


def content_hash(dataset: ImageCollection, progress: Progress | None = None) -> str:
    """Hash over the content of every image, in order: copies with other names share their cache.

    For derived images, such as corrupted ones, it is a hash over the originals, the derivation and the names,
    because noise is seeded by name.
    """
    origin, how = dataset.made_of
    digest = hashlib.blake2b(how.encode(), digest_size=16)
    for picture_digest in origin.digests(progress):
        digest.update(picture_digest)
    if how:
        digest.update("\0".join(origin.keys).encode(errors="surrogateescape"))
    return digest.hexdigest()


class FeatureStore:
    """Cache of embeddings in a folder.

    Parameters
    ----------
    folder : path
        Created when the first file is written. Its files may be deleted at any time.

    Examples
    --------
    >>> import tempfile
    >>> store = FeatureStore(tempfile.mkdtemp())
    >>> kind = {"identity": "toy", "pictures": "abc"}
    >>> store.get(kind) is None
    True
    >>> store.put(kind, DatasetEmbeddings(np.ones((2, 3), np.float32), np.array([0, 1]), ()))
    >>> store.get(kind).embeddings.shape
    (2, 3)
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, kind: dict[str, Any]) -> DatasetEmbeddings | None:
        """Read the embeddings of this key, or None; warns of a file that is broken or has another key."""
        path = self._path(kind)
        if not path.exists():
            return None
        try:
            # Opened here because NumPy does not close a broken file.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                header = json.loads(str(file["told"]))
                if header["format"] != _FORMAT or header["kind"] != kind:
                    raise ValueError(f"it holds {header['kind']}")
                failures = tuple(Failed(key, reason) for key, reason in header["failures"])
                return DatasetEmbeddings(file["rows"], file["positions"].astype(np.intp), failures)
        except Exception as error:  # NumPy, zipfile and json raise many kinds for broken or foreign files
            warnings.warn(f"{path} is not used ({error}): its pictures are encoded again", stacklevel=2)
            return None

    def put(self, kind: dict[str, Any], embedding: DatasetEmbeddings) -> None:
        """Write the embeddings of this key, atomically; SaveError if that fails."""
        header = json.dumps(
            {
                "format": _FORMAT,
                "kind": kind,
                "failures": [[failure.key, failure.reason] for failure in embedding.failures],
            }
        )

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(  # names of the stored format
                    file, rows=embedding.embeddings, positions=embedding.positions, told=np.array(header)
                )

        write_atomically(self._path(kind), write)

    def _path(self, kind: dict[str, Any]) -> Path:
        name = hashlib.blake2b(json.dumps(kind, sort_keys=True).encode(), digest_size=16).hexdigest()
        return self.folder / f"{name}.npz"
