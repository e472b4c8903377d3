"""One embedding run as a separate process to be killed: `embedder.py FOLDER SOURCE [--ray DIR|--die N]`.

The encoder is slow, so that a kill finds it at work. With `--ray` each worker writes a file named after its
process into DIR when it starts, and waits for a file `release` beside DIR. With `--die N` the process kills
itself before its N-th rename.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from diptych.embedding import EmbeddingSettings, embed_to_folder
from diptych.embedding.cluster import ray_runner
from tests.toys import ToyEncoder
from tests.waiting import pause, wait_until


class Slow(ToyEncoder):
    """The toy encoder limited to 500 pictures a second."""

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        pause(len(images) / 500)
        return super().encode_images(images)


class Worker(ToyEncoder):
    """The toy encoder of a Ray worker: it records its process and waits for the release."""

    pids: Path

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        (self.pids / str(os.getpid())).touch()
        wait_until(self.pids.with_name("release").exists, "the test has killed a worker")
        return super().encode_images(images)


def worker(pids: str) -> Worker:
    opened = Worker()
    opened.pids = Path(pids)
    return opened


def die_at(number: int) -> None:
    """Kill this process just before its `number`-th rename."""
    rename, seen = Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.replace = replace  # type: ignore[method-assign, assignment]


def main() -> None:
    folder, source, *more = sys.argv[1:]
    settings = EmbeddingSettings(batch_size=4, threads=1)
    runner = ray_runner(functools.partial(worker, more[1]), workers=2) if "--ray" in more else None
    if "--die" in more:
        die_at(int(more[1]))
    print("begun", flush=True)  # imports are finished
    done = embed_to_folder(Slow(), [source], folder, settings=settings, unit_rows=20, runner=runner)
    print(done.rows, done.embedded, flush=True)


if __name__ == "__main__":
    main()
