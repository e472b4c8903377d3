"""Pin batches in a thread, one in advance, on devices that copy asynchronously."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator


def prefetch_pinned(batches: Iterator[Batch], accelerator: Accelerator) -> Generator[Batch]:
    """Yield batches in pinned memory, from which the accelerator copies asynchronously.

    Pinning is a copy of the whole batch (616 MB for 4,096 images of 224 pixels) and would take a large part
    of a step on the thread that launches kernels. One batch is made in advance. If it is not used, a resumed
    run makes it again, since its position was not saved.

    Parameters
    ----------
    batches : iterator of Batch
    accelerator : Accelerator
    """
    if not accelerator.copies_async:
        yield from batches
        return
    with ThreadPoolExecutor(1, "diptych-pin") as pool:
        pinned = pool.submit(_next, batches, accelerator)
        while True:
            started = time.perf_counter()
            batch = pinned.result()
            if batch is None:
                return
            waited = time.perf_counter() - started
            following: Future[Batch | None] = pool.submit(_next, batches, accelerator)
            pinned = following
            # What the caller waited, in place of the time that the pinning thread waited for the loader.
            yield replace(batch, wait_seconds=waited)


def _next(batches: Iterator[Batch], accelerator: Accelerator) -> Batch | None:
    batch = next(batches, None)
    if batch is None:
        return None
    return replace(batch, crops=accelerator.pin(batch.crops), groups=accelerator.pin(batch.groups))
