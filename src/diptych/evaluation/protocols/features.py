"""Rows of a data set's pictures, and the folder they are kept in from one measurement to the next.

What is kept belongs to one encoder and to the very bytes of the pictures: its name is a hash of the encoder's
identity and of every picture's content, and the file repeats both. Rows of another model are never
taken for this one's.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import Pictures
from diptych.datasets.formats.archives import Content, Unread
from diptych.embedding.batches import Failed, collect, embed_images
from diptych.encoder import Encoder, FeatureEncoder
from diptych.errors import DataError, InputError
from diptych.files.disk import write_atomically
from diptych.progress import Progress, Stage, silent

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Embedding:
    """What an encoder made of a data set.

    Attributes
    ----------
    rows : (N, D) float32
        Of the pictures that could be read.
    positions : (N,) integers
        Where these stand in the data set.
    failures : tuple of Failed
        The others, and why; after them those that the data set itself left out (`skipped`).
    """

    rows: NDArray[np.float32]
    positions: NDArray[np.intp]
    failures: tuple[Failed, ...]


class _BeforeProjection:
    """An encoder whose rows are its features before the projection, so that one stream serves both."""

    def __init__(self, encoder: Encoder) -> None:
        if not isinstance(encoder, FeatureEncoder):
            raise InputError(
                f"{type(encoder).__name__} has no image_features: probes read the features before the "
                "projection; measure its embeddings instead (features='embeddings')"
            )
        self._features = encoder.image_features
        self.identity, self.input_size = encoder.identity, encoder.input_size
        self.dim = 0  # not known before the first batch
        self.logit_scale, self.logit_bias = 1.0, 0.0

    def encode_images(self, images: Any) -> NDArray[np.float32]:
        """Features, (N, width)."""
        rows = self._features(images)
        self.dim = rows.shape[1]
        return rows

    def encode_texts(self, texts: Any) -> NDArray[np.float32]:
        """Texts have no features before the projection of pictures."""
        raise InputError("features before the projection are those of pictures")


def embed_dataset(
    encoder: Encoder,
    dataset: Pictures,
    *,
    features: bool = False,
    batch_size: int = 64,
    threads: int | None = None,
    exact: bool = True,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
    stage: Stage = silent,
) -> Embedding:
    """Rows of a data set's pictures, from the store where it has them.

    Parameters
    ----------
    encoder : Encoder
        With `features`, one that has `image_features`.
    dataset : Pictures
    features : bool
        Rows before the projection, not normalised, in place of unit rows.
    batch_size, threads, exact, progress
        As for `embed_images`.
    store : FeatureStore, optional
    stage : callable
        Opens the progress of reading all pictures for the store's key; see `Settings`.

    Raises
    ------
    DataError
        Nothing could be read.
    InputError
        `features` of an encoder that has none.
    """
    reader: Any = _BeforeProjection(encoder) if features else encoder
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
    found = _under_own_names(store.get(kind), dataset)
    if found is None:
        found = _embed(reader, dataset, batch_size, threads, exact, progress)
        store.put(kind, found)
    elif progress:
        progress(len(dataset))
    return _with_skipped(found, dataset)


def _with_skipped(found: Embedding, dataset: Pictures) -> Embedding:
    """The same, its failures with what the data set left out: here, so that no protocol can forget them."""
    skipped = tuple(Failed(key, reason) for key, reason in getattr(dataset, "skipped", ()))
    return Embedding(found.rows, found.positions, (*found.failures, *skipped)) if skipped else found


def _embed(
    encoder: Encoder,
    dataset: Pictures,
    batch_size: int,
    threads: int | None,
    exact: bool,
    progress: Progress | None,
) -> Embedding:
    unread: dict[str, str] = {}

    def items() -> Iterator[tuple[str, Content]]:
        for position, (_, data) in enumerate(dataset):  # by position: two shards may use one key
            if isinstance(data, Unread):
                unread[str(position)] = data.reason
            yield str(position), data

    stream = embed_images(
        encoder, items(), batch_size=batch_size, threads=threads, exact=exact, progress=progress
    )
    found = collect(stream, encoder.dim)
    keys = dataset.keys
    failures = tuple(Failed(keys[int(one.key)], unread.get(one.key, one.reason)) for one in found.failures)
    if not found.keys:
        why = f"; the first: {failures[0].key}: {failures[0].reason}" if failures else ""
        raise DataError(f"none of the {len(dataset)} pictures of {dataset.name} could be read{why}")
    return Embedding(found.vectors, np.array([int(key) for key in found.keys], dtype=np.intp), failures)


def _under_own_names(found: Embedding | None, dataset: Pictures) -> Embedding | None:
    """The same with failures named as this data set names them: rows may be those of a copy."""
    if found is None or not found.failures:
        return found
    keys, read = dataset.keys, set(found.positions.tolist())
    unread = [keys[position] for position in range(len(keys)) if position not in read]
    failures = (Failed(key, one.reason) for key, one in zip(unread, found.failures, strict=True))
    return replace(found, failures=tuple(failures))


def content_hash(dataset: Pictures, progress: Progress | None = None) -> str:
    """Hash over every picture's content, in order: copies under other names share their rows.

    Of pictures that are made of others it is theirs, and how; and their names, for noise is drawn by name.
    """
    origin, how = dataset.made_of
    digest = hashlib.blake2b(how.encode(), digest_size=16)
    for one in origin.digests(progress):
        digest.update(one)
    if how:
        digest.update("\0".join(origin.keys).encode(errors="surrogateescape"))
    return digest.hexdigest()


class FeatureStore:
    """A folder of rows that were computed before.

    Parameters
    ----------
    folder : path
        Made when something is kept. What is in it may be removed at any time.

    Examples
    --------
    >>> import tempfile
    >>> store = FeatureStore(tempfile.mkdtemp())
    >>> kind = {"identity": "toy", "pictures": "abc"}
    >>> store.get(kind) is None
    True
    >>> store.put(kind, Embedding(np.ones((2, 3), np.float32), np.array([0, 1]), ()))
    >>> store.get(kind).rows.shape
    (2, 3)
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, kind: dict[str, Any]) -> Embedding | None:
        """The rows kept for this key, or None; warns of a file that is broken or has another key."""
        path = self._path(kind)
        if not path.exists():
            return None
        try:
            # Opened here: NumPy leaves a broken file open.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                told = json.loads(str(file["told"]))
                if told["format"] != _FORMAT or told["kind"] != kind:
                    raise ValueError(f"it holds {told['kind']}")
                failures = tuple(Failed(key, reason) for key, reason in told["failures"])
                return Embedding(file["rows"], file["positions"].astype(np.intp), failures)
        except Exception as error:  # whatever a broken or foreign file makes NumPy, zipfile or json raise
            warnings.warn(f"{path} is not taken ({error}): its pictures are encoded again", stacklevel=2)
            return None

    def put(self, kind: dict[str, Any], embedding: Embedding) -> None:
        """Keep it, whole or not at all; SaveError when that is not possible."""
        told = json.dumps(
            {
                "format": _FORMAT,
                "kind": kind,
                "failures": [[one.key, one.reason] for one in embedding.failures],
            }
        )

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, rows=embedding.rows, positions=embedding.positions, told=np.array(told))

        write_atomically(self._path(kind), write)

    def _path(self, kind: dict[str, Any]) -> Path:
        name = hashlib.blake2b(json.dumps(kind, sort_keys=True).encode(), digest_size=16).hexdigest()
        return self.folder / f"{name}.npz"
