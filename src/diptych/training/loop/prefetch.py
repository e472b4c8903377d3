"""Pin batches in a thread, one in advance, on devices that copy asynchronously."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from diptych.prefetch import read_ahead, worker_threads
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator


def prefetch_pinned(batches: Iterator[Batch], accelerator: Accelerator) -> Generator[Batch]:
    """Yield batches in pinned memory, from which the accelerator copies asynchronously.

    Pinning is a copy of the whole batch (616 MB for 4,096 images of 224 pixels) and would take a large part
    of a step on the thread that launches kernels. One batch is made in advance. If it is not used, a resumed
    run makes it again, since its position was not saved.
    """
    if not accelerator.copies_async:
        yield from batches
        return

    def pinned(batch: Batch) -> Batch:
        return replace(batch, crops=accelerator.pin(batch.crops), groups=accelerator.pin(batch.groups))

    with worker_threads(1, "diptych-pin") as pool:
        following = read_ahead(pool, map(pinned, batches))
        while True:
            started = time.perf_counter()
            batch = next(following, None)
            if batch is None:
                return
            # What the caller waited, in place of the time that the pinning thread waited for the loader.
            yield replace(batch, wait_seconds=time.perf_counter() - started)
