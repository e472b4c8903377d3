"""The one stream: items -> decoded -> batched -> vectors or failures, with progress.

Everything that embeds many things goes through here. Threads decode ahead of the encoder, and make pictures
ready for one that lets them (`PreparingEncoder`), so that all cores are busy throughout; what they may hold
is bounded in pictures and in pixels; the order of the items is kept; a picture that cannot be read becomes
`Failed` and stops nothing. An encoder that fails is an error of the whole run and raises. What becomes of
vectors and failures is the caller's business.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL.Image import Image

from diptych.encoder import Encoder, PreparingEncoder
from diptych.errors import ImageError, InputError, MissingExtraError
from diptych.inputs import counted_long_texts, processors
from diptych.media import Limits, Source, load_image
from diptych.progress import Progress

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

Ready: TypeAlias = "Image | FloatArray"  # a decoded picture, or what an encoder prepared of it

# Decoded pixels that may wait for the encoder, and as many again inside a batch: 3 bytes each, about 200 MB.
# A single picture over the budget still passes, alone.
PIXEL_BUDGET = 64_000_000
MOST_THREADS = 8  # decoding rarely keeps more busy


@dataclass(frozen=True, eq=False)
class Embedded:
    """One item and its unit row, (dim,) float32."""

    key: str
    vector: FloatArray


@dataclass(frozen=True)
class Failed:
    """One item that could not be read, and why."""

    key: str
    reason: str


@dataclass(frozen=True, eq=False)
class Collected:
    """A whole stream: keys and unit rows of what could be read, and the failures."""

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
    """Embed pictures as they come; one result per item, in their order.

    Parameters
    ----------
    encoder : Encoder
    items : iterable of (key, source)
        Sources are paths, bytes, files or pictures; taken one by one, in the caller's thread.
    batch_size : int
        Items per call of the encoder; fewer when the pictures are very large.
    threads : int, optional
        Threads that decode; by default one per processor this process may use, at most 8.
    exact : bool
        Decode as the reference implementations do: in full, colours as they are stored. Otherwise a JPEG may
        be scaled while it is decoded, never below twice the encoder's side, and colours are converted to sRGB
        by the picture's own profile.
    limits : Limits, optional
        Largest file and picture; by default `Limits()`.
    strict : bool
        Raise for the first picture that cannot be read, in place of a `Failed`.
    inspect : callable, optional
        Shown every (key, decoded picture) in the thread that decoded it, for what else is wanted of it.
    progress : callable, optional
        Called after each batch with the number of items just finished, failures included.

    Yields
    ------
    Embedded or Failed

    Raises
    ------
    InputError
        A batch size or a number of threads below 1.
    ImageError, MissingExtraError, OSError
        With `strict`, what the first picture that cannot be read raised.

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
        _ahead(items, decode, threads or min(processors(), MOST_THREADS), batch_size),
        batch_size,
        progress,
    )


def embed_texts(
    encoder: Encoder, texts: Iterable[str], *, batch_size: int = 256, progress: Progress | None = None
) -> FloatArray:
    """Embed texts, (N, dim) float32 unit rows in their order.

    Batches bound the memory of the encoder. Prompts that share beginnings are cheaper in one call of
    `encoder.encode_texts`. Texts that are too long are told of in one warning for all batches.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: expected 1 or more")
    rows: list[FloatArray] = [np.zeros((0, encoder.dim), np.float32)]
    waiting = iter(texts)
    with counted_long_texts() as long:
        while batch := list(itertools.islice(waiting, batch_size)):
            rows.append(_whole(encoder.encode_texts(batch), len(batch)))
            if progress:
                progress(len(batch))
    long.warn(stacklevel=2)
    return np.concatenate(rows)


def collect(stream: Iterable[Embedded | Failed], dim: int) -> Collected:
    """Run a stream to its end and keep everything: 4 * dim bytes per item."""
    keys: list[str] = []
    rows: list[FloatArray] = []
    failures: list[Failed] = []
    for result in stream:
        if isinstance(result, Failed):
            failures.append(result)
        else:
            keys.append(result.key)
            rows.append(result.vector)
    return Collected(tuple(keys), np.stack(rows) if rows else np.zeros((0, dim), np.float32), tuple(failures))


def _ahead(
    items: Iterable[tuple[str, Source]], decode: Callable[[str, Source], Ready | str], threads: int, most: int
) -> Iterator[tuple[str, Ready | str]]:
    """Decoded items in order; threads run ahead by at most `most` + `threads` items, or `PIXEL_BUDGET`."""
    waiting = iter(items)
    running: deque[tuple[str, Future[Ready | str]]] = deque()
    pixels, pictures = 0, 0  # seen so far: their mean foretells the size of those to come
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        while True:
            room = threads + (min(most, PIXEL_BUDGET * pictures // pixels) if pictures else 0)
            for key, source in itertools.islice(waiting, max(room - len(running), 0)):
                running.append((key, pool.submit(decode, key, source)))
            if not running:
                return
            key, future = running.popleft()
            decoded = future.result()
            if not isinstance(decoded, str):
                pixels, pictures = pixels + _pixels(decoded), pictures + 1
            yield key, decoded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _encoded(
    encoder: Encoder, decoded: Iterator[tuple[str, Ready | str]], batch_size: int, progress: Progress | None
) -> Iterator[Embedded | Failed]:
    """Vectors and failures in order, a batch at a time."""
    batch: list[tuple[str, Ready | str]] = []
    pixels = 0
    try:
        for key, one in decoded:
            batch.append((key, one))
            pixels += 0 if isinstance(one, str) else _pixels(one)
            if len(batch) == batch_size or pixels >= PIXEL_BUDGET:
                yield from _batch(encoder, batch, progress)
                batch, pixels = [], 0
        if batch:
            yield from _batch(encoder, batch, progress)
    finally:
        decoded.close()  # type: ignore[attr-defined]  # a generator: its threads end now


def _batch(
    encoder: Encoder, batch: Sequence[tuple[str, Ready | str]], progress: Progress | None
) -> Iterator[Embedded | Failed]:
    images = [one for _, one in batch if not isinstance(one, str)]
    encode: Any = encoder.encode_prepared if isinstance(encoder, PreparingEncoder) else encoder.encode_images
    rows = iter(_whole(encode(images), len(images)) if images else ())
    results = [Failed(key, one) if isinstance(one, str) else Embedded(key, next(rows)) for key, one in batch]
    if progress:
        progress(len(batch))
    yield from results


def _pixels(one: Ready) -> int:
    """What a picture takes of `PIXEL_BUDGET`: one for 3 bytes."""
    return one.width * one.height if isinstance(one, Image) else one.nbytes // 3


def _whole(rows: FloatArray, expected: int) -> FloatArray:
    if len(rows) != expected:
        raise InputError(f"the encoder gave {len(rows)} rows for {expected} items: expected one for each")
    return rows
