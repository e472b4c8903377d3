"""Time and memory of the two contrastive losses, forward and backward: our tiles beside open_clip's classes.

    python benchmarks/loss.py --peer-python PEER/bin/python               # 32,768 pairs: the peer takes 17 GB
    python benchmarks/loss.py --peer-python PEER/bin/python --pairs 8192  # the same in a tenth of the time
    python benchmarks/loss.py --growth --plot docs/plots/loss-memory      # ours from 8,192 to 131,072 pairs
    python benchmarks/loss.py --peer-python PEER/bin/python --device cuda --pairs 262144

Each side runs in a process of its own (loss_side.py), one after the other in one run. Memory is the peak
minus the memory with the inputs ready (resident size on a CPU, torch's allocator on a GPU); it includes the
gradients, which both sides return. Seconds are wall-clock; CPU seconds are printed too because other load on
the machine affects them less. The peer keeps several N x N matrices. If those do not fit into free memory,
it is measured on half the pairs (or a quarter, ...) and its time and memory are multiplied by four (or
sixteen, ...), which the printout says. The bound is the time of the products that a loss without stored
matrices needs (2 N^2 D operations each; four for InfoNCE, three for the sigmoid loss) at the best rate of
one large product, measured in our process after the loss. Peer: open_clip_torch 3.3, ClipLoss and
SigLipLoss.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, machine, run_peer

from diptych.reports import Curve, Curves, save_plot

SIDE = Path(__file__).with_name("loss_side.py").read_text("utf-8")
KINDS = ("infonce", "sigmoid")
TIME_WANTED = {"infonce": 0.6, "sigmoid": 0.7}
PRODUCTS = {"infonce": 4, "sigmoid": 3}
# Matrices of N x N float32 that the peer holds at once, plus 5 %.
PEER_MATRICES = {"infonce": 4.2, "sigmoid": 5.25}
GROWTH = tuple(8192 * 2**n for n in range(5))

Measurement = dict[str, Any]


def measure(
    side: str, kind: str, pairs: int, python: Path, folder: Path, options: argparse.Namespace
) -> Measurement:
    """Measure one side once in a fresh process; it saves its gradients on the small problem in `folder`."""
    folder.mkdir(exist_ok=True)
    work = {name: getattr(options, name) for name in ("width", "small", "scale", "bias", "threads", "device")}
    work |= {"side": side, "loss": kind, "pairs": pairs, "folder": str(folder)}
    result: Measurement = run_peer(python, SIDE, work, timeout=3600)
    print(
        f"  {kind:<8} {side:<10}{pairs:>8,} {result['seconds']:8.2f} s (forward {result['forward']:.2f})"
        f" {result['cpu']:8.2f} CPU s {result['bytes'] / 1e6:8,.0f} MB   loss {result['loss']:.6f}",
        flush=True,
    )
    return result


def free(device: str) -> int:
    """Bytes of memory free now."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(info["MemAvailable"].split()[0]) * 1024


def pairs_that_fit(pairs: int, matrices: float, free: float) -> int:
    """`pairs`, halved until so many float32 matrices of pairs x pairs fit, and 2 GB for all else.

    Examples
    --------
    >>> pairs_that_fit(32768, 4.0, 20e9), pairs_that_fit(32768, 5.0, 20e9)
    (32768, 16384)
    """
    while pairs > 1 and matrices * 4 * pairs**2 + 2e9 > free:
        pairs //= 2
    return pairs


def scaled(measurement: Measurement, factor: int) -> Measurement:
    """Scale time and memory to a problem with matrices `factor` times as large."""
    return measurement | {key: measurement[key] * factor for key in ("seconds", "cpu", "bytes")}


def differences(ours: Path, peers: Path) -> str:
    """Largest difference of each gradient, relative to its largest entry."""
    parts = []
    for path in sorted(peers.glob("*.npy")):
        mine, theirs = np.load(ours / path.name), np.load(path)
        parts.append(f"{path.stem} {np.abs(mine - theirs).max() / np.abs(theirs).max():.1e}")
    return ", ".join(parts)


def median_of(runs: list[Measurement], key: str) -> float:
    """Median of one figure over the rounds."""
    return statistics.median(float(run[key]) for run in runs)


def compare(kind: str, folder: Path, options: argparse.Namespace) -> None:
    """Measure both sides in turn, then print ratios and gradient differences."""
    mine, theirs = folder / f"{kind}-ours", folder / f"{kind}-peer"
    pairs = options.pairs
    fitting = pairs_that_fit(pairs, PEER_MATRICES[kind], free(options.device))
    ours: list[Measurement] = []
    peers: list[Measurement] = []
    for _ in range(options.rounds):
        ours.append(measure("ours", kind, pairs, Path(sys.executable), mine, options))
        if options.peer_python:
            measurement = measure("open_clip", kind, fitting, options.peer_python, theirs, options)
            peers.append(scaled(measurement, (pairs // fitting) ** 2))
    report(kind, ours, peers, options)
    if not peers:
        return
    if fitting < pairs:
        factor = (pairs // fitting) ** 2
        print(
            f"  open_clip did not fit into free memory at {pairs:,} pairs: its time and memory in the ratios "
            f"are those\n  at {fitting:,} pairs times {factor}, SCALED and not measured"
        )
    print(f"  gradients at {options.small:,} pairs, largest difference as a part of the largest entry")
    print(f"    ours from open_clip's    {differences(mine, theirs)}")
    for side, run in (("ours", ours[0]), ("open_clip's", peers[0])):
        errors = ", ".join(f"{name} {error:.1e}" for name, error in sorted(run["errors"].items()))
        print(f"    {side + ' from float64':<24} {errors}")


def report(kind: str, ours: list[Measurement], peers: list[Measurement], options: argparse.Namespace) -> None:
    """Print ratios to the peer and to the bound."""
    operations = PRODUCTS[kind] * 2 * options.pairs**2 * options.width
    rate = max(run["rate"] for run in ours)
    bound, seconds = operations / rate, median_of(ours, "seconds")
    print(
        f"  bound: {PRODUCTS[kind]} products, {operations / 1e12:.2f} TFLOP at {rate / 1e9:.0f} GFLOP/s "
        f"({ours[0]['threads']} threads): {bound:.2f} s; ours takes {seconds / bound:.2f} times that"
    )
    if peers:
        print(
            f"  {kind}, ours / open_clip: time {seconds / median_of(peers, 'seconds'):.3f} "
            f"(at most {TIME_WANTED[kind]} wanted), "
            f"CPU time {median_of(ours, 'cpu') / median_of(peers, 'cpu'):.3f}, "
            f"memory 1/{median_of(peers, 'bytes') / median_of(ours, 'bytes'):.0f} (at most 1/50 wanted)"
        )


def growth(folder: Path, options: argparse.Namespace) -> None:
    """Ours at more and more pairs: a table, and a plot if a path was given."""
    curves: dict[str, Curve] = {}
    for kind in KINDS:
        runs = [measure("ours", kind, pairs, Path(sys.executable), folder, options) for pairs in GROWTH]
        megabytes = [run["bytes"] / 1e6 for run in runs]
        curves[kind] = Curve(GROWTH, megabytes)
        doublings = ", ".join(f"{after / before:.2f}" for before, after in pairwise(megabytes))
        print(f"  {kind}: twice the pairs take {doublings} times the memory (2 is linear, 4 a matrix)")
        each = [f"{1e6 * size / pairs:,.0f}" for pairs, size in zip(GROWTH, megabytes, strict=True)]
        print(f"  {kind}: {', '.join(each)} bytes a pair; its two gradients alone are {8 * options.width:,}")
    gradients = [2 * 4 * options.width * pairs / 1e6 for pairs in GROWTH]
    curves["the two gradients alone"] = Curve(GROWTH, gradients, dashed=True)
    if options.plot:
        title = f"Memory of our losses, {options.width} wide, forward and backward"
        save_plot(options.plot, Curves(curves=curves, x="pairs", y="MB above the inputs", title=title))


def main() -> None:
    """Parse, then compare or grow."""
    parser = arguments(__doc__)
    parser.add_argument("--loss", choices=KINDS, help="one of the two; both if not given")
    parser.add_argument("--pairs", type=int, default=32768)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--scale", type=float, default=100.0)
    parser.add_argument("--bias", type=float, default=-10.0, help="of the sigmoid loss")
    parser.add_argument(
        "--small", type=int, default=2048, help="pairs of the problem gradients are compared on"
    )
    parser.add_argument("--threads", type=int, help="1 makes CPU seconds comparable on a busy machine")
    parser.add_argument("--rounds", type=int, default=1, help="each is ours, then the peer's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--growth", action="store_true", help="ours alone, 8,192 to 131,072 pairs")
    parser.add_argument("--plot", type=Path, help="with --growth: where to, without an ending")
    options = parser.parse_args()
    print(machine())
    print(
        f"width {options.width}, float32, forward and backward on {options.device}; memory above the inputs"
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.growth:
            growth(Path(folder), options)
            return
        for kind in [options.loss] if options.loss else KINDS:
            compare(kind, Path(folder), options)


if __name__ == "__main__":
    main()
