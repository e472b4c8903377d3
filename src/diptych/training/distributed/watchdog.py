"""A watchdog thread on each process: reports what all processes do, and ends this one when another fails.

A collective call waits for all processes, so one that hangs (a disk, a dead machine, a branch that the others
did not take) stops all of them, and each seems to hang in the same place. So every process writes a note of
what it does into the store of the process group; its thread publishes the note, and prints those of all
processes when its own has not changed for a while.

An error on one process would leave the others in a collective until its time-out. So the process that fails
writes the error into the store and waits until the others have read it; their threads poll every second and
abort the process group, which ends the collective that they are in.

Example of a failure on rank 1 of 2: rank 1 sets "diptych/failure"; within `POLL` seconds the thread of rank 0
reads it, sets "diptych/failure/seen/0" and aborts; rank 1 sees that key and ends; rank 0 gets an error from
its collective, reports that rank 1 failed and ends, or is ended after `GRACE` seconds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

POLL = 1.0  # seconds between two checks for a failure
PUBLISH = 5.0  # seconds between two publications of the note
GRACE = 30.0  # seconds that a process has to end by itself after another one failed
SILENCE = 120.0  # seconds without a published note after which a process counts as dead
_FAILURE = "diptych/failure"


class KeyValueStore(Protocol):
    """The part of a torch.distributed store that is used."""

    def set(self, key: str, value: str) -> None:
        """Write a value."""

    def get(self, key: str) -> bytes:
        """Read a value; waits until it exists."""

    def check(self, keys: list[str]) -> bool:
        """Whether all keys exist."""

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        """Write a value if the present one is `expected` ("" for none); returns the value after that."""


@dataclass(frozen=True)
class Failure:
    """The error that ended a run.

    Attributes
    ----------
    rank : int
        The process that failed first.
    text : str
        Type and message of its error.
    """

    rank: int
    text: str


def print_error(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr, flush=True)


class Watchdog:
    """Publishes the notes of one process, and watches the others in a thread.

    Parameters
    ----------
    patience : float
        Seconds without a new note after which the notes of all are printed; repeated at that interval.
    report : callable
        Called with each message; by default printed to standard error.
    abort : callable
        Ends the collective that this process may be in, after another process has failed.
    end : callable
        Ends this process with a status if aborting was not enough.

    Attributes
    ----------
    failure : Failure or None
        The failure of another process, once this one has read it.
    """

    def __init__(
        self,
        store: KeyValueStore,
        rank: int,
        size: int,
        *,
        patience: float = 60.0,
        report: Callable[[str], None] = print_error,
        abort: Callable[[], None] = lambda: None,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.store, self.rank, self.size, self.patience, self.report = store, rank, size, patience, report
        self.abort, self.end = abort, end
        self.failure: Failure | None = None
        self._note, self._since = "starting", time.time()
        self._beats = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="diptych-watchdog", daemon=True)
        self._thread.start()

    def note(self, text: str) -> None:
        """Record what this process does next."""
        # Wall clock, not monotonic: other processes print how long ago it was.
        self._note, self._since = text, time.time()

    def stop(self) -> None:
        """Stop the thread at the end of the run."""
        self._done.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def report_failure(self, text: str, wait: float = 10.0) -> Failure:
        """Report an error to the other processes, and wait until all have read it.

        Waiting keeps the connections (and on rank 0 the store) open until every process knows the error.

        Parameters
        ----------
        text : str
            The error.
        wait : float
            Seconds at most: a dead process reads nothing.

        Returns
        -------
        Failure
            The first failure of the run, which may be that of another process.
        """
        # Atomic: of several processes that fail at once, the first one's error is kept.
        own = json.dumps([self.rank, text])
        first = json.loads(self.store.compare_set(_FAILURE, "", own))
        self.store.set(self._seen_key(self.rank), "")
        deadline = time.monotonic() + wait
        keys = [self._seen_key(rank) for rank in range(self.size)]
        while not self.store.check(keys) and time.monotonic() < deadline:
            time.sleep(0.05)
        return Failure(*first)

    def poll(self) -> Failure | None:
        """Check for a failure of another process, and confirm it."""
        if self.failure is None and self.store.check([_FAILURE]):
            failure = Failure(*json.loads(self.store.get(_FAILURE)))
            # Confirmed also by the process that failed, so that it can wait for all ranks alike.
            if failure.rank != self.rank:
                self.failure = failure
            self.store.set(self._seen_key(self.rank), "")
        return self.failure

    def publish(self) -> None:
        """Write this process's note into the store; the thread does so every `PUBLISH` seconds."""
        self._beats += 1
        self.store.set(self._key(self.rank), json.dumps([self._note, self._since, time.time(), self._beats]))

    def beats(self, rank: int) -> int:
        """How often a process has published: it is alive as long as that grows."""
        key = self._key(rank)
        return int(json.loads(self.store.get(key))[3]) if self.store.check([key]) else 0

    def _watch(self) -> None:
        interval, reported, published = min(POLL, self.patience / 4), 0.0, 0.0
        while not self._done.wait(interval):
            try:
                if self.poll() is not None:
                    self._end_with_failure()
                    return
                if time.monotonic() - published > min(PUBLISH, self.patience / 4):
                    published = time.monotonic()
                    self.publish()
                idle = time.time() - max(self._since, reported)
                if idle > self.patience:
                    reported = time.time()
                    self.report(self._summary())
            except Exception as error:  # the store ends with rank 0, which holds it
                self.report(f"process {self.rank} of {self.size} cannot reach the others: {error}")
                return

    def _end_with_failure(self) -> None:
        """Abort the collective that this process waits for; if that does not help, end the process."""
        assert self.failure is not None
        try:
            self.abort()
        except Exception as error:  # then it is ended after `GRACE`
            self.report(f"the process group could not be aborted: {error}")
        if not self._done.wait(GRACE):
            self.report(f"process {self.failure.rank} failed, so this process ends: {self.failure.text}")
            self.end(1)

    def _summary(self) -> str:
        """The notes of all processes, one per line."""
        now = time.time()
        lines = [f"nothing has moved on process {self.rank} for {now - self._since:.0f} s:"]
        for rank in range(self.size):
            if not self.store.check([self._key(rank)]):
                lines.append(f"  process {rank}: no note yet")
                continue
            note, since, published, _ = json.loads(self.store.get(self._key(rank)))
            silent = f"; silent for {now - published:.0f} s, probably dead" if now - published > 20 else ""
            lines.append(f"  process {rank}: {note}, for {now - since:.0f} s{silent}")
        return "\n".join(lines)

    def _key(self, rank: int) -> str:
        return f"diptych/watchdog/{rank}"

    def _seen_key(self, rank: int) -> str:
        return f"{_FAILURE}/seen/{rank}"
