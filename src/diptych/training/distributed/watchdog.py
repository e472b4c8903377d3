"""A thread on each process that reports what all processes do, and ends this one when another has failed.

A collective call waits for everybody, so one process that hangs (a disk, a dead neighbour, a branch the
others did not take) stops all of them, and each looks as if it hung in the same place. Every process
therefore notes what it does in the store through which they met; a thread publishes the notes, and reads
those of all when its own process has not moved for a while.

An error on one process alone would leave the others in a collective until its time-out. So the process that
fails puts the error into the store and waits until the others have seen it; their threads look every second
and abort the process group, which ends the collective they are in.
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

LOOK = 1.0  # seconds between two looks for a failure
PUBLISH = 5.0  # seconds between two publications of the note
GRACE = 30.0  # seconds that a process has to end by itself once another one failed
SILENCE = 120.0  # seconds without a sign of life after which a process counts as gone
_FAILURE = "diptych/failure"


class Store(Protocol):
    """The part of a torch.distributed store that is used."""

    def set(self, key: str, value: str) -> None:
        """Put a text."""

    def get(self, key: str) -> bytes:
        """Get a text; waits for it."""

    def check(self, keys: list[str]) -> bool:
        """Whether all keys are there."""

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        """Put a text where `expected` (or, if empty, nothing) is; returns what is there then."""


@dataclass(frozen=True)
class Failure:
    """The error that ended a run.

    Attributes
    ----------
    rank : int
        Of the process that failed first.
    text : str
        Type and message of its error.
    """

    rank: int
    text: str


def say(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr, flush=True)


class Watchdog:
    """Notes of one process, and a thread that watches the others.

    Parameters
    ----------
    store : Store
    rank, size : int
    patience : float
        Seconds without a new note after which the notes of all are printed; and again after as long.
    tell : callable
        Called with each message for people; by default printed to standard error.
    abort : callable
        Ends the collective that this process may be in, when another process has failed.
    end : callable
        Ends this process with a status where aborting was not enough.

    Attributes
    ----------
    failure : Failure or None
        Of another process, once it is known here.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        *,
        patience: float = 60.0,
        tell: Callable[[str], None] = say,
        abort: Callable[[], None] = lambda: None,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.store, self.rank, self.size, self.patience, self.tell = store, rank, size, patience, tell
        self.abort, self.end = abort, end
        self.failure: Failure | None = None
        self._note, self._since = "starting", time.time()
        self._beats = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="diptych-watchdog", daemon=True)
        self._thread.start()

    def note(self, text: str) -> None:
        """Record what this process does next."""
        self._note, self._since = text, time.time()

    def stop(self) -> None:
        """Stop the thread: the run is over."""
        self._done.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def report_failure(self, text: str, wait: float = 10.0) -> Failure:
        """Tell the other processes of an error, and wait until all have seen it.

        The wait keeps connections open (and with rank 0 the store) until every process can name the error.

        Parameters
        ----------
        text : str
            The error.
        wait : float
            Seconds at most: a process that is gone sees nothing.

        Returns
        -------
        Failure
            The first failure of the run, which may be another process's.
        """
        mine = json.dumps([self.rank, text])
        first = json.loads(self.store.compare_set(_FAILURE, "", mine))
        self.store.set(self._seen_key(self.rank), "")
        deadline = time.monotonic() + wait
        keys = [self._seen_key(rank) for rank in range(self.size)]
        while not self.store.check(keys) and time.monotonic() < deadline:
            time.sleep(0.05)
        return Failure(*first)

    def look(self) -> Failure | None:
        """Look for a failure of another process, and confirm it."""
        if self.failure is None and self.store.check([_FAILURE]):
            failure = Failure(*json.loads(self.store.get(_FAILURE)))
            if failure.rank != self.rank:
                self.failure = failure
            self.store.set(self._seen_key(self.rank), "")
        return self.failure

    def publish(self) -> None:
        """Put this process's note where the others read it; done every few seconds by itself."""
        self._beats += 1
        self.store.set(self._key(self.rank), json.dumps([self._note, self._since, time.time(), self._beats]))

    def beats(self, rank: int) -> int:
        """How often a process has published; it lives as long as that grows."""
        key = self._key(rank)
        return int(json.loads(self.store.get(key))[3]) if self.store.check([key]) else 0

    def _watch(self) -> None:
        every, reported, published = min(LOOK, self.patience / 4), 0.0, 0.0
        while not self._done.wait(every):
            try:
                if self.look() is not None:
                    self._end_with_failure()
                    return
                if time.monotonic() - published > min(PUBLISH, self.patience / 4):
                    published = time.monotonic()
                    self.publish()
                idle = time.time() - max(self._since, reported)
                if idle > self.patience:
                    reported = time.time()
                    self.tell(self._report())
            except Exception as error:  # the store goes with the process that keeps it
                self.tell(f"process {self.rank} of {self.size} cannot reach the others: {error}")
                return

    def _end_with_failure(self) -> None:
        """Get this process out of whatever it waits for; in the last resort, end it."""
        assert self.failure is not None
        try:
            self.abort()
        except Exception as error:  # then the last resort has to do
            self.tell(f"the process group could not be aborted: {error}")
        if not self._done.wait(GRACE):
            self.tell(f"process {self.failure.rank} failed, so this one ends: {self.failure.text}")
            self.end(1)

    def _report(self) -> str:
        now = time.time()
        lines = [f"nothing has moved on process {self.rank} for {now - self._since:.0f} s:"]
        for rank in range(self.size):
            if not self.store.check([self._key(rank)]):
                lines.append(f"  process {rank}: no note yet")
                continue
            note, since, heard, _ = json.loads(self.store.get(self._key(rank)))
            silent = f"; silent for {now - heard:.0f} s, it has probably ended" if now - heard > 20 else ""
            lines.append(f"  process {rank}: {note}, for {now - since:.0f} s{silent}")
        return "\n".join(lines)

    def _key(self, rank: int) -> str:
        return f"diptych/watchdog/{rank}"

    def _seen_key(self, rank: int) -> str:
        return f"{_FAILURE}/seen/{rank}"
