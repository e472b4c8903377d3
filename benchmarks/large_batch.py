"""Memory of a training step with a batch of 32,768 pairs on a small machine.

    python benchmarks/large_batch.py
    python benchmarks/large_batch.py --model diptych-small --set precision=bfloat16

Each measurement is the user's own command in a process of its own: `diptych train` with this file, which is
a recipe too. Its pairs are Flickr8k's 6,000 training pictures, each visited twelve times in other crops and
with another of its captions. First two steps of --batch-size pairs in chunks of --chunk (gradient caching).
Then one step without chunks at two smaller sizes that fit: the memory per further pair gives an estimate for
the large step, which is scaled and not measured. All of them use the tiled loss, so only the towers differ.
Memory is the peak resident size of the whole process, including decoded pictures, loader and optimiser.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common import arguments, machine, shared_folder

from diptych.training import Run, TrainConfig
from diptych.training.data import Mixture, TarPairs

ONE_STEP = "max_minutes=1e-6"  # stop when the first is done


def run() -> Run:
    """The recipe: 72,000 pairs, two steps of 32,768."""
    pictures = TarPairs(shared_folder() / "data" / "flickr8k-train-{000000..000002}.tar")
    return Run(TrainConfig(data=Mixture(((pictures, 12.0),)), model="diptych-tiny", epochs=1, log_every=1))


@dataclass(frozen=True)
class Step:
    """Figures of one step: pairs, peak memory (GiB), seconds, share of them spent waiting for data, loss."""

    pairs: int
    memory: float
    seconds: float
    waited: float
    loss: float


def steps(pairs: int, chunk: int, options: argparse.Namespace, *more: str) -> list[Step]:
    """Train in a fresh process and read its log; print each step."""
    with tempfile.TemporaryDirectory() as out:
        settings = [part for text in (*options.set, *more) for part in ("--set", text)]
        command = ["train", __file__, "--out", out, "--batch-size", str(pairs), "--chunk", str(chunk)]
        start = [sys.executable, "-m", "diptych", *command, *settings, "--quiet"]
        done = subprocess.run(start, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        lines = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text("utf-8").splitlines()]
    result: list[Step] = []
    for line in (line for line in lines if "loss" in line):
        seconds = pairs / line["pairs_per_second"]
        result.append(Step(pairs, line["memory"], seconds, line["wait_share"], line["loss"]))
        how = f"chunks of {chunk}" if chunk else "no chunks"
        print(
            f"  {pairs:>7,} pairs, {how:<14}{line['memory']:7.2f} GiB {seconds:8.1f} s "
            f"(waiting for data {line['wait_share']:.0%})   loss {line['loss']:.4f}",
            flush=True,
        )
    return result


def at(pairs: int, small: Step, large: Step) -> float:
    """Extrapolate memory (GiB) on the line through two measurements.

    Examples
    --------
    >>> at(4000, Step(1000, 1.5, 1.0, 0.0, 0.0), Step(2000, 2.0, 1.0, 0.0, 0.0))
    3.0
    """
    each = (large.memory - small.memory) / (large.pairs - small.pairs)
    return large.memory + each * (pairs - large.pairs)


def main() -> None:
    """Measure the steps, then estimate the memory without chunks."""
    parser = arguments(__doc__)
    parser.add_argument("--batch-size", type=int, default=32768)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument(
        "--whole", type=int, nargs=2, default=(2048, 4096), help="sizes that fit without chunks"
    )
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the TrainConfig")
    options = parser.parse_args()
    config = run().config.override(options.set)
    print(machine())
    print(f"{config.model}, {config.precision}, diptych train --batch-size {options.batch_size} ...")
    chunked = steps(options.batch_size, options.chunk, options)
    small, large = (steps(pairs, 0, options, ONE_STEP)[0] for pairs in options.whole)
    whole, most = at(options.batch_size, small, large), max(step.memory for step in chunked)
    print(
        f"  {options.batch_size:,} pairs: {most:.2f} GiB in chunks of {options.chunk}; without chunks "
        f"{whole:.1f} GiB, SCALED from {small.pairs:,} and {large.pairs:,} pairs and not measured"
    )


if __name__ == "__main__":
    main()
