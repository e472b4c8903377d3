"""Batches on their way to the device: pinned in a thread, one ahead, where copies can run by themselves."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator


def feed(batches: Iterator[Batch], accelerator: Accelerator) -> Generator[Batch]:
    """Give batches that the accelerator can copy without the host.

    Pinning is a copy of the whole batch (616 MB for 4,096 pictures of 224 pixels) and would cost a large part
    of a step on the thread that launches kernels. One batch is made ahead; what is not used is dropped, and
    made again by a run that goes on, since a position comes with each batch.

    Parameters
    ----------
    batches : iterator of Batch
    accelerator : Accelerator
    """
    if not accelerator.copies_async:
        yield from batches
        return
    with ThreadPoolExecutor(1, "diptych-pin") as pool:
        coming = pool.submit(_next, batches, accelerator)
        while True:
            started = time.perf_counter()
            batch = coming.result()
            if batch is None:
                return
            waited = time.perf_counter() - started
            following: Future[Batch | None] = pool.submit(_next, batches, accelerator)
            coming = following
            yield replace(batch, wait_seconds=waited)


def _next(batches: Iterator[Batch], accelerator: Accelerator) -> Batch | None:
    batch = next(batches, None)
    if batch is None:
        return None
    return replace(batch, crops=accelerator.pin(batch.crops), groups=accelerator.pin(batch.groups))
