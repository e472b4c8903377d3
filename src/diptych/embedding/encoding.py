"""One unit of work, embedded and written as one part: what any runner asks of any worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.embedding.batches import Failed, embed_images, embed_texts
from diptych.embedding.folder import PICTURE_COLUMNS, TEXT_COLUMNS, Manifest, PartRecord, write_part
from diptych.embedding.items import DeferredImage, Row, images_of, texts_of
from diptych.embedding.units import Unit
from diptych.encoder import Encoder
from diptych.errors import DataError, ImageError
from diptych.media import Limits

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

Failure = tuple[str, str]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class EmbeddingSettings:
    """How items are read and embedded.

    Attributes
    ----------
    exact : bool
        Full decoding, not the decoder's own halving.
    captions : bool
        Embed the captions of pictures too; a picture without one is left out and listed.
    dtype : {"float16", "float32"}
        Of the vectors on disk.
    batch_size : int
    threads : int, optional
    limits : Limits
    """

    exact: bool = False
    captions: bool = False
    dtype: str = "float16"
    batch_size: int = 32
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)


def embed_unit(
    encoder: Encoder,
    unit: Unit,
    number: int,
    folder: Path,
    manifest: Manifest,
    settings: EmbeddingSettings,
    *,
    progress: Progress | None = None,
) -> PartRecord:
    """Embed a unit and write its part. Where nothing could be embedded, nothing is written.

    Raises
    ------
    SaveError
        The device is full or may not be written to.
    """
    embed = _pictures if "pictures" in manifest.rows else _texts
    rows, vectors, failures = embed(encoder, unit, settings, progress)
    told = vectors
    if "pictures" in manifest.rows and "texts" in manifest.rows:
        told = embed_texts(encoder, [row["caption"] for row in rows], batch_size=settings.batch_size)
    if not rows:
        return PartRecord(number, 0, unit.fingerprint, {}, failures)
    return write_part(
        folder,
        manifest,
        number,
        unit.fingerprint,
        rows=rows,
        columns=PICTURE_COLUMNS if "pictures" in manifest.rows else TEXT_COLUMNS,
        pictures=vectors if "pictures" in manifest.rows else None,
        texts=told if "texts" in manifest.rows else None,
        failures=failures,
    )


def _pictures(
    encoder: Encoder, unit: Unit, settings: EmbeddingSettings, progress: Progress | None
) -> tuple[list[Row], FloatArray, list[Failure]]:
    flying: deque[DeferredImage] = deque()
    broken: list[Failure] = []

    def items() -> Iterator[tuple[str, DeferredImage]]:
        try:
            for picture in images_of(unit, settings.limits):
                flying.append(picture)
                yield picture.name, picture
        except (DataError, ImageError) as error:
            broken.append((unit.place, str(error).removeprefix(f"{unit.place}: ")))

    rows, vectors, failures = list[Row](), list["FloatArray"](), list[Failure]()
    for result in embed_images(
        encoder,
        items(),
        batch_size=settings.batch_size,
        threads=settings.threads,
        exact=settings.exact,
        limits=settings.limits,
        progress=progress,
    ):
        row = flying.popleft().row  # results come in the order of the items
        if isinstance(result, Failed):
            failures.append((result.key, result.reason.removeprefix(f"{result.key}: ")))
        elif settings.captions and not row.get("caption"):
            failures.append((result.key, "no caption beside it, and captions are to be embedded too"))
        else:
            rows.append(row)
            vectors.append(result.vector)
    return rows, _stacked(vectors, encoder.dim), failures + broken


def _texts(
    encoder: Encoder, unit: Unit, settings: EmbeddingSettings, progress: Progress | None
) -> tuple[list[Row], FloatArray, list[Failure]]:
    rows, failures = list[Row](), list[Failure]()
    try:
        for row in texts_of(unit):
            if row["caption"]:
                rows.append(row)
            else:
                failures.append((row["key"], "there is no text"))
    except DataError as error:
        failures.append((unit.place, str(error)))
    texts = [row["caption"] for row in rows]
    return rows, embed_texts(encoder, texts, batch_size=settings.batch_size, progress=progress), failures


def _stacked(vectors: list[FloatArray], dim: int) -> FloatArray:
    return np.stack(vectors) if vectors else np.zeros((0, dim), np.float32)
