"""Which process waits for what, when a run of several stands still.

A collective call waits for everybody, so one process that hangs (a disk, a dead neighbour, a branch the
others did not take) stops all of them, and each looks as if it hung in the same place. Every process
therefore notes what it is doing in the store through which they found each other; when one has not moved for
a while, it reads the notes of all and says them.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Store(Protocol):
    """The part of a torch.distributed store that is used."""

    def set(self, key: str, value: str) -> None:
        """Put a text."""

    def get(self, key: str) -> bytes:
        """Get a text; waits for it."""

    def check(self, keys: list[str]) -> bool:
        """Whether all keys are there."""


def say(text: str) -> None:
    """To standard error."""
    print(text, file=sys.stderr, flush=True)


class Watchdog:
    """Notes of one process, and a thread that reads those of all when this one does not move.

    Parameters
    ----------
    store : Store
    rank, size : int
    patience : float
        Seconds without a move after which the notes are read; and read again after as long.
    tell : callable
        Told what stands in them.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        *,
        patience: float = 60.0,
        tell: Callable[[str], None] = say,
    ) -> None:
        self.store, self.rank, self.size, self.patience, self.tell = store, rank, size, patience, tell
        self._note, self._since = "starting", time.time()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="diptych-watchdog", daemon=True)
        self._thread.start()

    def note(self, text: str) -> None:
        """Say what comes next, in this process."""
        self._note, self._since = text, time.time()

    def stop(self) -> None:
        """The run is over."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        every, told = min(5.0, self.patience / 4), 0.0
        while not self._done.wait(every):
            try:
                self.publish()
                still = time.time() - max(self._since, told)
                if still > self.patience:
                    told = time.time()
                    self.tell(self._report())
            except Exception as error:  # the store goes with the process that keeps it
                self.tell(f"process {self.rank} of {self.size} cannot reach the others: {error}")
                return

    def publish(self) -> None:
        """Put this process's note where the others find it; done every few seconds by itself."""
        self.store.set(self._key(self.rank), json.dumps([self._note, self._since, time.time()]))

    def _report(self) -> str:
        now = time.time()
        lines = [f"nothing has moved on process {self.rank} for {now - self._since:.0f} s:"]
        for rank in range(self.size):
            if not self.store.check([self._key(rank)]):
                lines.append(f"  process {rank}: never heard of")
                continue
            note, since, heard = json.loads(self.store.get(self._key(rank)))
            silent = f"; silent for {now - heard:.0f} s, it has ended" if now - heard > 20 else ""
            lines.append(f"  process {rank}: {note}, for {now - since:.0f} s{silent}")
        return "\n".join(lines)

    def _key(self, rank: int) -> str:
        return f"diptych/watchdog/{rank}"
