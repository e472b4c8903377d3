"""Embedding pipeline: items -> decoded -> batched -> embeddings or failures, with progress.

Everything that embeds many items uses this module. Threads decode ahead of the encoder, and also preprocess
if the encoder supports it (`PreparingEncoder`), so that all cores are busy. The number of decoded images in
memory is bounded in images and in pixels. The order of the items is kept. An image that cannot be read
becomes `Failed` and does not stop the run; an error of the encoder is raised.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL.Image import Image

from diptych.encoder import Encoder, PreparingEncoder
from diptych.errors import ImageError, InputError, MissingExtraError
from diptych.inputs import counted_long_texts, processors
from diptych.media import Limits, Source, load_image
from diptych.prefetch import map_ahead, worker_threads
from diptych.progress import Progress

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

Ready: TypeAlias = "Image | FloatArray"  # a decoded image, or the array that the encoder prepared from it

# Decoded pixels that may wait for the encoder, and as many again inside a batch: 3 bytes each, about 200 MB.
# A single image over the budget still passes, in a batch of its own.
PIXEL_BUDGET = 64_000_000
MOST_THREADS = 8  # more threads rarely speed up decoding


@dataclass(frozen=True, eq=False)
class Embedded:
    """An item and its embedding, (dim,) float32 of unit length."""

    key: str
    vector: FloatArray


@dataclass(frozen=True)
class Failed:
    """An item that could not be read, and the reason."""

    key: str
    reason: str


@dataclass(frozen=True, eq=False)
class Collected:
    """All results of a stream: keys and embeddings of the readable items, and the failures."""

    keys: tuple[str, ...]
    vectors: FloatArray  # (len(keys), dim)
    failures: tuple[Failed, ...]


def embed_images(
    encoder: Encoder,
    items: Iterable[tuple[str, Source]],
    *,
    batch_size: int = 32,
    threads: int | None = None,
    exact: bool = False,
    limits: Limits | None = None,
    strict: bool = False,
    inspect: Callable[[str, Image], None] | None = None,
    progress: Progress | None = None,
) -> Iterator[Embedded | Failed]:
    """Embed images as a stream; yields one result per item, in the order of the items.

    Parameters
    ----------
    items : iterable of (key, source)
        Sources are paths, bytes, binary files or PIL images; taken one at a time, in the caller's thread.
    batch_size : int
        Items per call of the encoder; fewer if the images are very large.
    threads : int, optional
        Decoding threads; by default one per processor available to this process, at most 8.
    exact : bool
        Decode as the reference implementations do: at full size, colours as stored. Otherwise a JPEG may be
        scaled down while it is decoded, never below twice the encoder's input size, and colours are converted
        to sRGB by the embedded profile.
    limits : Limits, optional
        Largest file and image; by default `Limits()`.
    strict : bool
        Raise for the first image that cannot be read, instead of yielding `Failed`.
    inspect : callable, optional
        Called with every (key, decoded image) in the thread that decoded it, for example to compute hashes.
    progress : callable, optional
        Called after each batch with the number of items just finished, failures included.

    Raises
    ------
    InputError
        A batch size or a number of threads below 1.
    ImageError, MissingExtraError, OSError
        With `strict`, the error of the first image that cannot be read.

    Examples
    --------
    >>> from PIL import Image
    >>> class Brightness:
    ...     identity, dim, input_size, logit_scale, logit_bias = "brightness", 1, 8, 1.0, 0.0
    ...     def encode_images(self, images):
    ...         return np.array([[np.mean(image) / 255] for image in images], dtype=np.float32)
    >>> items = [("white.png", Image.new("RGB", (8, 8), "white")), ("broken.png", b"not a picture")]
    >>> white, broken = embed_images(Brightness(), items)
    >>> white.key, white.vector.tolist(), type(broken).__name__
    ('white.png', [1.0], 'Failed')
    """
    for name, value in (("batch_size", batch_size), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: expected 1 or more")
    bounds = Limits() if limits is None else limits
    target = None if exact else encoder.input_size

    prepare = encoder.prepare if isinstance(encoder, PreparingEncoder) else None

    def decode(key: str, source: Source) -> Ready | str:
        try:
            image = load_image(source, target=target, limits=bounds, srgb=not exact)
            if inspect is not None:
                inspect(key, image)
            return image if prepare is None else prepare(image)
        except (ImageError, MissingExtraError, OSError) as error:
            if strict:
                raise
            return str(error) or type(error).__name__

    return _encoded(
        encoder,
        _decode_ahead(items, decode, threads or min(processors(), MOST_THREADS), batch_size),
        batch_size,
        progress,
    )


def embed_texts(
    encoder: Encoder, texts: Iterable[str], *, batch_size: int = 256, progress: Progress | None = None
) -> FloatArray:
    """Embed texts; returns (N, dim) float32 rows of unit length, in the order of the texts.

    Batching bounds the memory of the encoder. Prompts with a common prefix are faster in a single call of
    `encoder.encode_texts`. Texts over the context length are reported in one warning for all batches.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: expected 1 or more")
    embeddings: list[FloatArray] = [np.zeros((0, encoder.dim), np.float32)]
    remaining = iter(texts)
    with counted_long_texts() as long_texts:
        while batch := list(itertools.islice(remaining, batch_size)):
            embeddings.append(_checked(encoder.encode_texts(batch), len(batch)))
            if progress:
                progress(len(batch))
    long_texts.warn(stacklevel=2)
    return np.concatenate(embeddings)


def collect(stream: Iterable[Embedded | Failed], dim: int) -> Collected:
    """Run a stream to its end and keep all results: 4 * dim bytes per item."""
    keys: list[str] = []
    embeddings: list[FloatArray] = []
    failures: list[Failed] = []
    for result in stream:
        if isinstance(result, Failed):
            failures.append(result)
        else:
            keys.append(result.key)
            embeddings.append(result.vector)
    stacked = np.stack(embeddings) if embeddings else np.zeros((0, dim), np.float32)
    return Collected(tuple(keys), stacked, tuple(failures))


def _decode_ahead(
    items: Iterable[tuple[str, Source]],
    decode: Callable[[str, Source], Ready | str],
    threads: int,
    max_waiting: int,
) -> Iterator[tuple[str, Ready | str]]:
    """Yield decoded items in order, at most `threads` + `max_waiting` items or `PIXEL_BUDGET` ahead.

    The size of the next images is predicted by the mean of those so far. With 12-megapixel images the budget
    of 64 million pixels lets 5 images wait besides those that the threads are decoding.
    """
    pixels, images = 0, 0  # decoded so far

    def work(key: str, source: Source) -> tuple[str, Ready | str]:
        return key, decode(key, source)

    def capacity() -> int:
        return threads + (min(max_waiting, PIXEL_BUDGET * images // pixels) if images else 0)

    with worker_threads(threads, "decode") as pool:
        for key, decoded in map_ahead(lambda item: pool.submit(work, *item), items, capacity):
            if not isinstance(decoded, str):
                pixels, images = pixels + _pixels(decoded), images + 1
            yield key, decoded


def _encoded(
    encoder: Encoder, decoded: Iterator[tuple[str, Ready | str]], batch_size: int, progress: Progress | None
) -> Iterator[Embedded | Failed]:
    """Yield embeddings and failures in order, one batch at a time."""
    batch: list[tuple[str, Ready | str]] = []
    pixels = 0
    try:
        for key, image in decoded:
            batch.append((key, image))
            pixels += 0 if isinstance(image, str) else _pixels(image)
            if len(batch) == batch_size or pixels >= PIXEL_BUDGET:
                yield from _encode_batch(encoder, batch, progress)
                batch, pixels = [], 0
        if batch:
            yield from _encode_batch(encoder, batch, progress)
    finally:
        decoded.close()  # type: ignore[attr-defined]  # a generator: ends its threads now


def _encode_batch(
    encoder: Encoder, batch: Sequence[tuple[str, Ready | str]], progress: Progress | None
) -> Iterator[Embedded | Failed]:
    images = [image for _, image in batch if not isinstance(image, str)]
    encode: Any = encoder.encode_prepared if isinstance(encoder, PreparingEncoder) else encoder.encode_images
    embeddings = iter(_checked(encode(images), len(images)) if images else ())
    results = [
        Failed(key, image) if isinstance(image, str) else Embedded(key, next(embeddings))
        for key, image in batch
    ]
    if progress:
        progress(len(batch))
    yield from results


def _pixels(image: Ready) -> int:
    """Share of `PIXEL_BUDGET` that an image takes: one pixel is 3 bytes."""
    return image.width * image.height if isinstance(image, Image) else image.nbytes // 3


def _checked(embeddings: FloatArray, expected: int) -> FloatArray:
    if len(embeddings) != expected:
        raise InputError(
            f"the encoder gave {len(embeddings)} rows for {expected} items: expected one row for each item"
        )
    return embeddings
