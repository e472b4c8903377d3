"""A training step: ours beside open_clip's own loop, same model, weights, pairs, order and precision.

    python benchmarks/train.py --peer-python PEER/bin/python --plot docs/plots/training-loss
    python benchmarks/train.py --peer-python PEER/bin/python --device cuda --batch-size 256 --rounds 20

ViT-B-32 from equal random weights on Flickr8k's training pictures and captions, decoded once to 224 x 224 by
the product's loader; AdamW with open_clip's defaults, but for a rate and a warmup that suit a short run. Each
side is a process of its own (train_side.py), both fed from memory: the figure is that of the step, without
reading and decoding. They take turns of some steps while the other waits, so that drift of the machine
affects both; the first turn warms up and does not count. Ours is the step that `diptych train` takes
(`TrainableModel`), which normalises bytes, never computes padding after the end token and shares common
prefixes. The peer is open_clip_train's `train_one_epoch`, given the very same normalised pixels and padded
token ids.

Utilisation (MFU) is the operations that the model needs for the pairs, forward and backward, without padding
(`diptych.model.cost`), against the rate of one large product in that precision: equal counts for both sides.
CPU seconds stand beside wall-clock because they suffer less from whatever else the machine is doing.
Peer: open_clip_torch 3.3.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Conversation, arguments, machine
from safetensors.torch import save_file
from torch import Tensor

from diptych.inputs import load_tokenizer
from diptych.model.cost import cost, peak_rate
from diptych.model.devices import DTYPES
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.reports import Curve, Curves, save_plot
from diptych.training import TrainConfig
from diptych.training.data import Batch, Mixture, TarPairs, open_pairs

SIDE = Path(__file__).with_name("train_side.py")
WANTED = 1.4
# open_clip's defaults for a ViT, but for rate and warmup, which are a short run's.
OPTIMIZER = {"lr": 1e-4, "warmup": 10, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.2}


@dataclass
class SideRun:
    """Figures of one side.

    Attributes
    ----------
    rates : list of float
        Pairs per second of each round.
    work : list of float
        CPU seconds per pair of each round.
    losses : list of float
        Loss of each step.
    memory : float
        Peak memory, bytes.
    """

    rates: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    memory: float = 0.0

    def add(self, answer: dict[str, Any], pairs: int) -> None:
        """Add the answer of a round."""
        self.rates.append(pairs / answer["seconds"])
        self.work.append(answer["cpu"] / pairs)
        self.losses += answer["losses"]
        self.memory = answer["bytes"]

    @property
    def rate(self) -> float:
        """Median pairs a second, the first round left out."""
        return statistics.median(self.rates[1:])

    @property
    def cpu(self) -> float:
        """Median CPU seconds a pair, the first round left out."""
        return statistics.median(self.work[1:])


def pairs_of(options: argparse.Namespace, count: int) -> Iterator[Batch]:
    """Batches until there are `count` pairs, as the product's loader makes them for validation."""
    pattern = options.shared / "data" / "flickr8k-train-{000000..000002}.tar"
    spec = TrainConfig(data=Mixture(()), model=options.model).spec
    loader = open_pairs(
        Mixture(((TarPairs(pattern), float(-(-count // 6000))),)),
        load_tokenizer(spec.tokenizer),
        batch_size=options.batch_size,
        image_size=spec.preprocess.size,
        cache=False,
    )
    for number, batch in enumerate(loader.batches(0)):
        if number * options.batch_size >= count:
            return
        yield batch


def prepare(folder: Path, options: argparse.Namespace) -> Tensor:
    """Save the arrays and the initial weights in `folder` for both sides; return the token ids."""
    count = options.batch_size * options.round * (options.rounds + 1)
    parts: dict[str, list[Tensor]] = {"crops": [], "pixels": [], "tokens": [], "groups": []}
    for batch in pairs_of(options, count):
        for name, tensors in parts.items():
            tensors.append(batch.images.contiguous() if name == "pixels" else getattr(batch, name))
    for name, tensors in parts.items():
        np.save(folder / f"{name}.npy", torch.cat(tensors).contiguous().numpy())
    model = build(preset(options.model), seed=0)
    save_file(
        {name: t.contiguous() for name, t in model.state_dict().items()}, folder / "weights.safetensors"
    )
    return torch.cat(parts["tokens"])


def run_in_turns(precision: str, folder: Path, options: argparse.Namespace) -> dict[str, SideRun]:
    """Run all rounds, the two sides in turn."""
    work = {
        name: getattr(options, name) for name in ("model", "batch_size", "round", "device", "threads", "set")
    }
    work |= {"precision": precision, "folder": str(folder), "optimizer": OPTIMIZER}
    work["steps"] = options.round * (options.rounds + 1)
    sides = {"ours": Conversation(Path(sys.executable), SIDE)}
    if options.peer_python:
        sides["open_clip"] = Conversation(options.peer_python, SIDE)
    runs = {side: SideRun() for side in sides}
    for side, process in sides.items():
        process.ask(work | {"side": side})
    for turn in range(options.rounds + 1):
        for side, process in sides.items():
            runs[side].add(process.ask("go"), options.round * options.batch_size)
        rates = ", ".join(f"{side} {run.rates[-1]:.2f}" for side, run in runs.items())
        print(f"  {precision} round {turn}: {rates} pairs/s{' (warm-up)' if not turn else ''}", flush=True)
    for process in sides.values():
        process.close()
    return runs


def report(precision: str, runs: dict[str, SideRun], lengths: Tensor, options: argparse.Namespace) -> None:
    """Print a line for each side, the ratio, and the differences of the losses."""
    device = torch.device(options.device)
    tokens = round(lengths.float().mean().item())
    needed, device_rate = cost(preset(options.model), tokens).pair, peak_rate(device, DTYPES[precision])
    for side, run in runs.items():
        rates = run.rates[1:]
        utilisation = f"{needed * run.rate / device_rate:4.0%}" if device_rate else "unknown"
        print(
            f"  {precision:<9}{side:<10} {run.rate:7.2f} pairs/s ({min(rates):.2f} to {max(rates):.2f})   "
            f"MFU {utilisation}   {run.cpu:5.3f} CPU s a pair   {run.memory / 1e9:5.2f} GB"
        )
    if "open_clip" not in runs:
        return
    ours, peer = runs["ours"], runs["open_clip"]
    aim = f" (at least {WANTED} wanted)" if precision == "float32" else ""
    print(
        f"  {precision}, ours / open_clip: {ours.rate / peer.rate:.2f} times the pairs a second{aim}, "
        f"{ours.cpu / peer.cpu:.2f} of the CPU time"
    )
    loss_differences = [abs(a - b) for a, b in zip(ours.losses, peer.losses, strict=True)]
    print(
        f"  losses apart: {loss_differences[0]:.1e} at the first step, at most {max(loss_differences):.1e} "
        f"(step {loss_differences.index(max(loss_differences)) + 1} of {len(loss_differences)})"
    )


def plot(path: Path, precision: str, runs: dict[str, SideRun], options: argparse.Namespace) -> None:
    """Plot the loss curves of both sides."""
    curves = {
        side: Curve(range(1, len(run.losses) + 1), run.losses, dashed=side != "ours")
        for side, run in runs.items()
    }
    title = f"{options.model}, {options.batch_size} pairs a step, {precision}"
    save_plot(
        path.with_name(f"{path.name}-{precision}"),
        Curves(curves=curves, x="step", y="loss", title=title, markers=False),
    )


def main() -> None:
    """Parse, prepare, let both sides take turns in each precision, report."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--round", type=int, default=3, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns that count; one more warms up")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="both if not given")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="of torch, on each side")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of our TrainConfig")
    parser.add_argument("--plot", type=Path, help="where to plot the losses, without precision and ending")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        ids = prepare(Path(folder), options)
        lengths = ids.argmax(1) + 1
        print(
            f"{options.model}, {options.batch_size} pairs a step, {options.device}; texts of "
            f"{lengths.float().mean():.1f} tokens, the longest {lengths.max()}, padded to {ids.shape[1]}"
        )
        for precision in [options.precision] if options.precision else ("float32", "bfloat16"):
            runs = run_in_turns(precision, Path(folder), options)
            report(precision, runs, lengths, options)
            if options.plot:
                plot(options.plot, precision, runs, options)


if __name__ == "__main__":
    main()
