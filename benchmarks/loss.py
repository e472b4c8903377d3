"""Symmetric InfoNCE, forward and backward on the CPU: our tiles beside open_clip's ClipLoss.

    python benchmarks/loss.py --peer-python PEER/bin/python               # 32,768 pairs: the peer takes 17 GB
    python benchmarks/loss.py --peer-python PEER/bin/python --pairs 8192  # the same in a tenth of the time

Each side runs in a process of its own, one after the other in one run. Memory is what the peak resident size
lies above the size with the inputs ready; so it holds the gradients, which both must give back. Seconds are
wall-clock; CPU seconds stand beside them because they suffer less from whatever else the machine is doing.
The bound is four products of 2 N^2 D operations at the best rate one large product reaches, measured in our
process after the loss. Peer: open_clip_torch 3.3.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, machine, run_peer

# Runs in either interpreter: reads its work as JSON, prints a JSON line.
SCRIPT = """
import json, resource, sys, time
work = json.load(sys.stdin)
import numpy, torch
torch.set_num_threads(work["threads"] or torch.get_num_threads())

if work["side"] == "ours":
    from diptych.losses.contrastive import info_nce as loss_function
else:
    try:
        import torchvision_cpu
    except ImportError:
        pass
    from open_clip.loss import ClipLoss
    loss_function = ClipLoss()

def inputs(count, width):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(count, width, generator=generator)
    b = torch.randn(count, width, generator=generator).add_(a, alpha=0.2)  # a cosine of about 0.2
    for rows in (a, b):
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True)).requires_grad_()
    return a, b, torch.tensor(work["scale"], requires_grad=True)

def run(count, width):
    leaves = inputs(count, width)
    base, cpu, wall = resident(), time.process_time(), time.perf_counter()
    loss = loss_function(*leaves)
    forward = time.perf_counter() - wall
    loss.backward()
    found = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "forward": forward}
    found["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
    return found | {"loss": loss.item()}, [leaf.grad for leaf in leaves]

def resident():
    # The size now, not its peak so far: a peak while importing would hide what the loss takes.
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def product_rate(size=4096, width=512, repeat=5):
    a, out = torch.randn(size, width), torch.empty(size, size)
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        torch.mm(a, a.t(), out=out)
        taken.append(time.perf_counter() - start)
    return 2 * size * size * width / min(taken)

def exact_gradients(count, width):
    leaves = [leaf.detach().double().requires_grad_() for leaf in inputs(count, width)]
    s, own = leaves[2] * leaves[0] @ leaves[1].t(), torch.arange(count)
    entropy = torch.nn.functional.cross_entropy
    return torch.autograd.grad((entropy(s, own) + entropy(s.t(), own)) / 2, leaves)

gradients = run(work["small"], work["width"])[1]  # also the warm-up
found = run(work["pairs"], work["width"])[0]
# Not before the run above: its float64 matrices would raise the peak.
errors, expected = {}, exact_gradients(work["small"], work["width"])
for name, mine, exact in zip(("images", "texts", "scale"), gradients, expected):
    errors[name] = ((mine - exact).abs().max() / exact.abs().max()).item()
    numpy.save(work["folder"] + "/" + name + ".npy", mine.numpy())
if work["side"] == "ours":
    found["rate"] = product_rate()
print(json.dumps(found | {"errors": errors, "threads": torch.get_num_threads()}))
"""


def measure(side: str, python: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One side, once, in a fresh process; its gradients on the smaller problem are left in `folder`."""
    folder.mkdir(exist_ok=True)
    work = {name: getattr(options, name) for name in ("pairs", "width", "small", "scale", "threads")}
    work |= {"side": side, "folder": str(folder)}
    found: dict[str, Any] = run_peer(python, SCRIPT, work, timeout=3600)
    print(
        f"  {side:<10} {found['seconds']:8.2f} s (forward {found['forward']:.2f})   "
        f"{found['cpu']:8.2f} CPU s   {found['bytes'] / 1e6:10,.0f} MB   loss {found['loss']:.6f}",
        flush=True,
    )
    return found


def fits(pairs: int) -> bool:
    """Whether the peer's matrices fit into the memory free now: about four matrices, and the inputs."""
    info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(info["MemAvailable"].split()[0]) * 1024 > 4.2 * 4 * pairs**2 + 2e9


def differences(ours: Path, peers: Path) -> str:
    """Largest difference of each gradient, as a part of its largest entry."""
    parts = []
    for name in ("images", "texts", "scale"):
        mine, theirs = (np.load(folder / f"{name}.npy") for folder in (ours, peers))
        parts.append(f"{name} {np.abs(mine - theirs).max() / np.abs(theirs).max():.1e}")
    return ", ".join(parts)


def middle(runs: list[dict[str, Any]], key: str) -> float:
    """Median of one figure over the rounds."""
    return statistics.median(float(run[key]) for run in runs)


def main() -> None:
    """Parse, run both sides in turn, print the ratios."""
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=32768)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--scale", type=float, default=100.0)
    parser.add_argument(
        "--small", type=int, default=2048, help="pairs of the problem gradients are compared on"
    )
    parser.add_argument("--threads", type=int, help="1 makes CPU seconds comparable on a busy machine")
    parser.add_argument("--rounds", type=int, default=1, help="each is ours, then the peer's")
    options = parser.parse_args()
    peer = options.peer_python or Path(sys.executable)
    print(machine())
    print(
        f"{options.pairs:,} pairs x {options.width}, float32, forward and backward; memory above the inputs"
    )
    with_peer = fits(options.pairs)
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = Path(folder) / "ours", Path(folder) / "peer"
        ours: list[dict[str, Any]] = []
        peers: list[dict[str, Any]] = []
        for _ in range(options.rounds):
            ours.append(measure("ours", Path(sys.executable), mine, options))
            if with_peer:
                peers.append(measure("open_clip", peer, theirs, options))
        report(ours, peers, options)
        if peers:
            print(f"gradients at {options.small:,} pairs, largest difference as a part of the largest entry")
            print(f"  ours from open_clip's  {differences(mine, theirs)}")
            for side, run in (("ours", ours[0]), ("open_clip's", peers[0])):
                errors = ", ".join(f"{name} {error:.1e}" for name, error in run["errors"].items())
                print(f"  {side + ' from float64':<22} {errors}")
        else:
            print("open_clip not run: less memory is free than its matrices take; try fewer --pairs")


def report(ours: list[dict[str, Any]], peers: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Ratios to the peer, and the distance from what the products alone take."""
    operations = 4 * 2 * options.pairs**2 * options.width
    rate = max(run["rate"] for run in ours)
    bound, seconds = operations / rate, middle(ours, "seconds")
    print(
        f"bound: 4 products, {operations / 1e12:.2f} TFLOP at {rate / 1e9:.0f} GFLOP/s "
        f"({ours[0]['threads']} threads): {bound:.1f} s; ours takes {seconds / bound:.2f} times that"
    )
    if peers:
        print(
            f"ours / open_clip: time {seconds / middle(peers, 'seconds'):.3f} (at most 0.6 wanted), "
            f"CPU time {middle(ours, 'cpu') / middle(peers, 'cpu'):.3f}, "
            f"memory 1/{middle(peers, 'bytes') / middle(ours, 'bytes'):.0f} (at most 1/50 wanted)"
        )


if __name__ == "__main__":
    main()
