"""Worker processes that decode streamed records; one that dies is replaced and its work done again.

Processes and not threads: a stream keeps no picture, so every one is decoded every time, and with many
workers the interpreter's lock would be what training waits for. They only turn bytes into crops
(`prepare.py`): order and chance are decided before, so their number cannot be seen in the result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.errors import DataError, ImageError
from diptych.training.data.augment import AugmentConfig
from diptych.training.data.order import UInts
from diptych.training.data.pictures import decode
from diptych.training.data.prepare import Found, prepare

TRIES = 3  # of one piece of work, before its worker's death is put down to it


@dataclass(frozen=True)
class Work:
    """Some records to decode."""

    images: Sequence[bytes]
    captions: Sequence[tuple[str, ...]]
    numbers: UInts
    augment: AugmentConfig | None
    kept_side: int
    side: int


@dataclass(frozen=True)
class Done:
    """Crops of the records that could be decoded.

    Attributes
    ----------
    crops : (n, 3, S, S) uint8
        An array, so that it comes through the workers' pipe. A tensor would come as a descriptor of shared
        memory, open for as long as the crops wait for their batch: with large batches, more than a process
        may have.
    captions, whole : list of str
        As they are read, and with the words left out by chance.
    good : (n,) int64
        Which of the records these are.
    failures : dict of int to str
        Why the others are not among them.
    seconds : float
        The worker's.
    """

    crops: NDArray[np.uint8]
    captions: list[str]
    whole: list[str]
    good: np.ndarray
    failures: dict[int, str]
    seconds: float


def do(work: Work) -> Done:
    """Decode and crop; what cannot be decoded is named."""
    started = time.perf_counter()
    found: list[Found] = []
    good, failures = [], {}
    for n, (image, captions) in enumerate(zip(work.images, work.captions, strict=True)):
        try:
            found.append((decode(image, work.kept_side), captions))
            good.append(n)
        except ImageError as error:
            failures[n] = str(error)
    rows = np.array(good, np.int64)
    crops, captions_, whole = prepare(found, work.numbers[rows], work.augment, work.side)
    return Done(crops.numpy(), captions_, whole, rows, failures, time.perf_counter() - started)


class Decoders:
    """A number of worker processes.

    Parameters
    ----------
    workers : int

    Attributes
    ----------
    replaced : int
        How often a worker died and all were started anew.
    """

    def __init__(self, workers: int) -> None:
        self.workers, self.replaced = workers, 0
        self._lock = threading.Lock()
        self._pool = self._start()

    def submit(self, work: Work) -> Task:
        """Begin some work."""
        return Task(self, work)

    def close(self) -> None:
        """Stop; what has not begun never does."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork of a process with threads of its own may stand still for ever.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, context, initializer=_settle)

    def begin(self, work: Work) -> tuple[ProcessPoolExecutor, Future[Done]]:
        """Hand work to the present workers."""
        with self._lock:
            try:
                return self._pool, self._pool.submit(do, work)
            except BrokenProcessPool:
                self._replace(self._pool)
                return self._pool, self._pool.submit(do, work)

    def renew(self, broken: ProcessPoolExecutor) -> None:
        """Start new workers in place of those of a broken pool, once."""
        with self._lock:
            self._replace(broken)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        if broken is self._pool:
            broken.shutdown(wait=False, cancel_futures=True)
            self.replaced += 1
            self._pool = self._start()


class Task:
    """Work under way."""

    def __init__(self, decoders: Decoders, work: Work) -> None:
        self._decoders, self._work = decoders, work
        self._pool, self._future = decoders.begin(work)

    def result(self) -> Done:
        """Wait for it, and do it again if a worker died meanwhile.

        Raises
        ------
        DataError
            Workers die of it.
        """
        for _ in range(TRIES):
            try:
                return self._future.result()
            except BrokenProcessPool:
                self._decoders.renew(self._pool)
                self._pool, self._future = self._decoders.begin(self._work)
        raise DataError(
            f"workers that decode pictures died {TRIES} times in a row: most often memory has run out "
            f"(there are {self._decoders.workers}; take fewer: --set workers=1)"
        )


def _settle() -> None:
    """In a new worker: leave Ctrl-C and the processor to the main process, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(0)  # killed, it could not say goodbye, and nobody else would end this process

    threading.Thread(target=watch, daemon=True).start()
