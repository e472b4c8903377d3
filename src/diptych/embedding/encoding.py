"""Embed one unit of work and write it as one part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.embedding.batches import Failed, embed_images, embed_texts
from diptych.embedding.folder import IMAGE_COLUMNS, TEXT_COLUMNS, Manifest, PartRecord, write_part
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
    """Options for reading and embedding items.

    Attributes
    ----------
    exact : bool
        Decode at full size and keep colours as stored, see `embed_images`.
    captions : bool
        Embed the captions of images too; an image without a caption is a failure.
    dtype : {"float16", "float32"}
        Data type of the embeddings on disk.
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
    """Embed a unit and write its part; if no item could be embedded, nothing is written.

    Raises
    ------
    SaveError
        The device is full or not writable.
    """
    has_images = "pictures" in manifest.rows
    embed = _embed_images if has_images else _embed_texts
    rows, embeddings, failures = embed(encoder, unit, settings, progress)
    text_embeddings = embeddings
    if has_images and "texts" in manifest.rows:
        captions = [row["caption"] for row in rows]
        text_embeddings = embed_texts(encoder, captions, batch_size=settings.batch_size)
    if not rows:
        return PartRecord(number, 0, unit.fingerprint, {}, failures)
    return write_part(
        folder,
        manifest,
        number,
        unit.fingerprint,
        rows=rows,
        columns=IMAGE_COLUMNS if has_images else TEXT_COLUMNS,
        image_embeddings=embeddings if has_images else None,
        text_embeddings=text_embeddings if "texts" in manifest.rows else None,
        failures=failures,
    )


def _embed_images(
    encoder: Encoder, unit: Unit, settings: EmbeddingSettings, progress: Progress | None
) -> tuple[list[Row], FloatArray, list[Failure]]:
    in_flight: deque[DeferredImage] = deque()  # submitted to the pipeline, results not received yet
    source_failures: list[Failure] = []

    def items() -> Iterator[tuple[str, DeferredImage]]:
        try:
            for image in images_of(unit, settings.limits):
                in_flight.append(image)
                yield image.name, image
        except (DataError, ImageError) as error:
            source_failures.append((unit.location, str(error).removeprefix(f"{unit.location}: ")))

    rows, embeddings, failures = list[Row](), list["FloatArray"](), list[Failure]()
    for result in embed_images(
        encoder,
        items(),
        batch_size=settings.batch_size,
        threads=settings.threads,
        exact=settings.exact,
        limits=settings.limits,
        progress=progress,
    ):
        row = in_flight.popleft().row  # results come in the order of the items
        if isinstance(result, Failed):
            failures.append((result.key, result.reason.removeprefix(f"{result.key}: ")))
        elif settings.captions and not row.get("caption"):
            failures.append((result.key, "it has no caption, and captions are to be embedded too"))
        else:
            rows.append(row)
            embeddings.append(result.vector)
    stacked = np.stack(embeddings) if embeddings else np.zeros((0, encoder.dim), np.float32)
    return rows, stacked, failures + source_failures


def _embed_texts(
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
        failures.append((unit.location, str(error)))
    texts = [row["caption"] for row in rows]
    return rows, embed_texts(encoder, texts, batch_size=settings.batch_size, progress=progress), failures
