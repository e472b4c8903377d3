"""Worker processes that decode streamed records; one that dies is replaced and its request repeated.

Processes and not threads: a stream caches no images, so each is decoded in every epoch, and with many workers
training would wait for the interpreter lock. Workers only turn bytes into crops (`augment.py`): order and
random numbers are decided before, so the result does not depend on their number.
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
from diptych.training.data.augment import AugmentConfig, DecodedPair, crop_pairs
from diptych.training.data.image_cache import decode
from diptych.training.data.order import UInts

TRIES = 3  # of a request whose worker dies, before the run ends with an error


@dataclass(frozen=True)
class DecodeRequest:
    """Records to decode: encoded images, captions, visit numbers (n,), and the sides in pixels."""

    images: Sequence[bytes]
    captions: Sequence[tuple[str, ...]]
    numbers: UInts
    augment: AugmentConfig | None
    kept_side: int
    side: int


@dataclass(frozen=True)
class DecodedRecords:
    """Crops of the records that could be decoded, n of them.

    Attributes
    ----------
    crops : (n, 3, S, S) uint8
        An array, so that it is sent through the workers' pipe. A tensor would be sent as a descriptor of
        shared memory, open until its batch is made: with large batches, more than a process may have.
    captions, full_captions : list of str
        With words dropped, and with all words.
    good : (n,) int64
        Numbers of these records among those of the request.
    failures : dict of int to str
        Numbers of the others -> why they could not be decoded.
    seconds : float
        Time of the worker.
    """

    crops: NDArray[np.uint8]
    captions: list[str]
    full_captions: list[str]
    good: np.ndarray
    failures: dict[int, str]
    seconds: float


def decode_records(request: DecodeRequest) -> DecodedRecords:
    """Decode and crop; runs in a worker process."""
    started = time.perf_counter()
    pairs: list[DecodedPair] = []
    good, failures = [], {}
    for n, (image, captions) in enumerate(zip(request.images, request.captions, strict=True)):
        try:
            pairs.append((decode(image, request.kept_side), captions))
            good.append(n)
        except ImageError as error:
            failures[n] = str(error)
    rows = np.array(good, np.int64)
    crops, captions_, full = crop_pairs(pairs, request.numbers[rows], request.augment, request.side)
    return DecodedRecords(crops.numpy(), captions_, full, rows, failures, time.perf_counter() - started)


class DecoderPool:
    """A pool of worker processes.

    Attributes
    ----------
    replaced : int
        How often a worker died and all were started again.
    """

    def __init__(self, workers: int) -> None:
        self.workers, self.replaced = workers, 0
        self._lock = threading.Lock()
        self._pool = self._start()

    def submit(self, request: DecodeRequest) -> DecodeTask:
        """Start to decode."""
        return DecodeTask(self, request)

    def close(self) -> None:
        """Stop; requests that have not begun are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork copies locks that threads of this process hold, and may deadlock.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, context, initializer=_initialise_worker)

    def begin(self, request: DecodeRequest) -> tuple[ProcessPoolExecutor, Future[DecodedRecords]]:
        """Submit a request to the current pool, or to a new one if that is broken."""
        with self._lock:
            try:
                return self._pool, self._pool.submit(decode_records, request)
            except BrokenProcessPool:
                self._replace(self._pool)
                return self._pool, self._pool.submit(decode_records, request)

    def renew(self, broken: ProcessPoolExecutor) -> None:
        """Replace a broken pool; once, although every request in it reports it."""
        with self._lock:
            self._replace(broken)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        # Several threads may see the same broken pool: only the first replaces it.
        if broken is self._pool:
            broken.shutdown(wait=False, cancel_futures=True)
            self.replaced += 1
            self._pool = self._start()


class DecodeTask:
    """A request under way."""

    def __init__(self, decoders: DecoderPool, request: DecodeRequest) -> None:
        self._decoders, self._request = decoders, request
        self._pool, self._future = decoders.begin(request)

    def result(self) -> DecodedRecords:
        """Wait for the result; if a worker died meanwhile, submit the request again.

        Raises
        ------
        DataError
            Workers died `TRIES` times.
        """
        for _ in range(TRIES):
            try:
                return self._future.result()
            except BrokenProcessPool:
                self._decoders.renew(self._pool)
                self._pool, self._future = self._decoders.begin(self._request)
        raise DataError(
            f"workers that decode pictures died {TRIES} times in a row: most often memory has run out. "
            f"There are {self._decoders.workers}; use fewer: --set workers=1"
        )


def _initialise_worker() -> None:
    """Set up a new worker: ignore Ctrl-C, use one thread, and end when the main process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(0)  # a main process that was killed could not end its workers

    threading.Thread(target=watch, daemon=True).start()
