"""Check training on the GPUs of this machine and measure its speed, in one table within ten minutes.

    python benchmarks/gpu_check.py                        # all GPUs, or one process where there are none
    python benchmarks/gpu_check.py --processes 2 --small  # toys, as the test suite runs it on a processor
    python benchmarks/gpu_check.py --out docs/gpu.md      # the table in a file, too

One process is started for each GPU. They train ViT-B/32 on random pairs in every precision, compiled, with
checkpointing, in chunks, with DDP and FSDP2, and compare losses. Then they measure speed: the loss on many
pairs against the matrix products that it needs, and pairs per second with the model FLOP utilisation. A
failed check is a row of the table and makes the exit status 1. Checks that do not fit into the time limit
are marked as left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.model.config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.cost import cost, peak_rate
from diptych.model.initialise import build
from diptych.training import TrainConfig
from diptych.training.data import AugmentConfig, Batch, Mixture, TarPairs
from diptych.training.data.batch import DeferredTransform
from diptych.training.distributed.accelerator import Accelerator, pick_accelerator
from diptych.training.distributed.joining import join
from diptych.training.distributed.world import World
from diptych.training.loop.trainable_model import TrainableModel
from diptych.training.losses.contrastive import info_nce
from diptych.training.losses.logit_tiles import CPU_TILE, GPU_TILE
from diptych.training.objectives.objective import Objective

GIB = 2**30
ROW = tuple[str, str, str]  # what was checked, the result, "ok" or what is wrong
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2}  # of a loss, relative, after a few steps


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of the checks.

    Attributes
    ----------
    model : str or CLIPConfig
        Model of the checks, without batch norms: chunks would change their statistics.
    pairs : int
        Pairs per step of the checks, on each process.
    steps : int
        Steps of each check.
    losses : tuple of int
        Pairs of all processes together, for the loss alone.
    speeds : tuple of (name, model, pairs on each process)
    timed : int
        Steps that are timed.
    """

    model: str | CLIPConfig
    pairs: int
    steps: int
    losses: tuple[int, ...]
    speeds: tuple[tuple[str, str | CLIPConfig, int], ...]
    timed: int


TOY = CLIPConfig(
    embed_dim=16,
    vision=ViTConfig(image_size=32, patch_size=8, width=32, layers=2, head_width=16),
    text=TextConfig(context_length=16, vocab_size=256, width=32, heads=2, layers=2),
)
SPEEDS = (("ViT-B/32", "ViT-B-32", 1024), ("ViT-L/14", "ViT-L-14", 128))
FULL = Scale("ViT-B-32", 64, 4, (32_768, 262_144), SPEEDS, 8)
SMALL = Scale(TOY, 8, 2, (64,), (("toy", TOY, 8),), 1)


class Checks:
    """All checks of one process among `world.size`.

    Parameters
    ----------
    scale : Scale
    accelerator : Accelerator
    world : World
    deadline : float
        `time.monotonic` after which no check starts.
    """

    def __init__(self, scale: Scale, accelerator: Accelerator, world: World, deadline: float) -> None:
        self.scale, self.accelerator, self.world, self.deadline = scale, accelerator, world, deadline
        self.rows: list[ROW] = []
        self.plain: list[float] = []  # losses of float32 with DDP

    def run(self) -> list[ROW]:
        """Run every check in turn; the processes agree on which are left out."""
        for name, check in self._checks():
            self.world.note(f"checks {name}")
            if not self.world.broadcast(time.monotonic() < self.deadline):
                self.rows.append((name, "", "left out: no time"))
                continue
            try:
                self.rows.append((name, *check()))
            except Exception as error:  # a failing check must not hide the others
                if self.world.size > 1:
                    raise  # the other processes wait in a collective: end them with this error
                self.rows.append((name, "", f"FAILED: {type(error).__name__}: {error}"))
            if self.accelerator.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()  # the next check's memory is its own
        return self.rows

    def _checks(self) -> Iterator[tuple[str, Callable[[], tuple[str, str]]]]:
        for precision in ("float32", "bfloat16", "float16"):
            yield f"{precision}, DDP", lambda p=precision: self.check_losses(p)  # type: ignore[misc]
        yield "shared texts", lambda: self.check_losses("float32", share_text=True)
        yield "chunks", lambda: self.check_losses("float32", chunk=self.scale.pairs // 4)
        yield "checkpointing", lambda: self.check_losses("float32", grad_checkpointing=True)
        yield "ring", lambda: self.check_losses("float32", exchange="ring")
        for precision in ("float32", "bfloat16", "float16"):
            yield f"{precision}, FSDP2", lambda p=precision: self.check_losses(p, parallel="fsdp")  # type: ignore[misc]
        chunked = {"parallel": "fsdp", "chunk": self.scale.pairs // 4}
        yield "FSDP2, chunks", lambda: self.check_losses("float32", **chunked)
        shared = {"parallel": "fsdp", "share_text": True}
        yield "FSDP2, shared texts", lambda: self.check_losses("float32", **shared)
        yield "FSDP2, evaluation", self.check_evaluation
        if self.accelerator.device.type == "cuda" and self.world.size > 1:
            yield "synchronised batch norms", self.check_batch_norms
        for pairs in self.scale.losses:
            yield f"loss on {pairs:,} pairs", lambda n=pairs: self.loss_speed(n)  # type: ignore[misc]
        for name, model, pairs in self.scale.speeds:
            yield f"{name}, {pairs:,} pairs a process", lambda m=model, n=pairs: self.speed(m, n)  # type: ignore[misc]
        if self.scale is FULL:  # a compiler and a minute: too much for a test
            yield "compiled", lambda: self.check_losses("bfloat16", compile=True)

    def check_losses(self, precision: str, **changes: Any) -> tuple[str, str]:
        """Take a few steps on one batch; the losses must equal those of float32 with DDP."""
        config = self._config(self.scale.model, self.scale.pairs, precision=precision, **changes)
        trainable = TrainableModel(config, self.accelerator, self.world)
        batch = self._batch(config)
        begun = time.monotonic()
        with self.accelerator.fast_products(trainable.dtype):
            results = [trainable.step(batch, number, config.lr) for number in range(self.scale.steps)]
            trainable.check()
        taken = (time.monotonic() - begun) / self.scale.steps
        losses, norm = [loss.item() for loss, _ in results], results[-1][1].item()
        summary = f"loss {losses[0]:.4f} -> {losses[-1]:.4f}, {1000 * taken:.0f} ms a step"
        if not all(map(math.isfinite, losses)) or not (trainable.scaler.enabled or math.isfinite(norm)):
            return summary, f"FAILED: not finite (gradient {norm})"
        self.plain = self.plain or losses
        # The first loss is that of equal weights. With float16 the first steps may be left out, as the scale
        # is still too high: then the last loss says nothing of the others.
        compared = losses[:1] if trainable.scaler.enabled else losses
        difference = max(
            abs(own - plain) / abs(plain) for own, plain in zip(compared, self.plain, strict=False)
        )
        verdict = (
            "ok"
            if difference <= TOLERANCE[precision]
            else f"FAILED: {difference:.1%} from float32's loss with DDP"
        )
        return summary, verdict

    def check_evaluation(self) -> tuple[str, str]:
        """Compare embeddings of a sharded model, gathered block by block, with those of the whole model."""
        config = self._config(self.scale.model, self.scale.pairs, precision="float32", parallel="fsdp")
        trainable, batch = TrainableModel(config, self.accelerator, self.world), self._batch(config)
        trainable.step(batch, 0, config.lr)
        pixels = torch.rand(
            2, 3, *[config.architecture.vision.image_size] * 2, device=self.accelerator.device
        )
        weights = trainable.weights()

        def relative_difference(objective: Objective) -> float:
            whole = build(config.architecture, device=self.accelerator.device)
            whole.load_state_dict(weights or {})
            with torch.inference_mode():
                own, expected = objective.model.encode_image(pixels), whole.eval().encode_image(pixels)
            return float((own - expected).abs().max() / expected.abs().max())

        distance = trainable.evaluate(relative_difference)
        summary = f"embeddings differ from those of the whole model by {distance:.1e} at most"
        return summary, "ok" if distance <= TOLERANCE["float32"] else "FAILED: different embeddings"

    def check_batch_norms(self) -> tuple[str, str]:
        """Train a ResNet with `use_bn_sync`; torch has no synchronised batch norms on a CPU."""
        config = self._config("RN50", self.scale.pairs, precision="bfloat16", use_bn_sync=True)
        trainable, batch = TrainableModel(config, self.accelerator, self.world), self._batch(config)
        losses = [trainable.step(batch, number, config.lr)[0].item() for number in range(self.scale.steps)]
        trainable.check()
        return f"loss {losses[0]:.4f} -> {losses[-1]:.4f}", "ok"

    def loss_speed(self, pairs: int) -> tuple[str, str]:
        """Time forward and backward of InfoNCE against its four products of 2 N^2 D operations alone."""
        device, width = self.accelerator.device, 512
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        each = pairs // self.world.size
        draw = torch.Generator().manual_seed(self.world.rank)
        embeddings = [
            torch.nn.functional.normalize(torch.randn(each, width, generator=draw)) for _ in range(2)
        ]
        leaves = [embedding.to(device, dtype).requires_grad_() for embedding in embeddings]
        scale = torch.tensor(50.0, device=device)

        def both() -> None:
            info_nce(leaves[0], leaves[1], scale, exchange=self.world.exchange).backward()  # type: ignore[no-untyped-call]

        with self.accelerator.fast_products(dtype):
            taken = self._time(both, 1 if pairs > 100_000 else 3)
            bound = 8 * pairs**2 * width / self.world.size / self._product_rate(width)
        summary = f"{taken:.3f} s, products alone {bound:.3f} s: {bound / taken:.0%} of the bound"
        return summary, "ok"

    def speed(self, model: str | CLIPConfig, pairs: int) -> tuple[str, str]:
        """Measure pairs per second, MFU and memory of whole steps in the default precision of the device."""
        config = self._config(model, pairs, precision="auto")
        trainable, batch = TrainableModel(config, self.accelerator, self.world), self._batch(config)
        planned = trainable.memory()
        bytes_ = planned.state_bytes() + planned.bytes_each() * pairs + planned.footprint(batch).bytes(pairs)
        number = iter(range(1000))
        with self.accelerator.fast_products(trainable.dtype):
            taken = self._time(lambda: trainable.step(batch, next(number), config.lr), self.scale.timed)
        rate = pairs * self.world.size / taken
        shape = config.architecture
        device_rate = peak_rate(self.accelerator.device, trainable.dtype) * self.world.size
        utilisation = (
            f"{cost(shape, shape.text.context_length).pair * rate / device_rate:.0%} MFU"
            if device_rate
            else "MFU unknown"
        )
        memory = f"{self.accelerator.peak_bytes() / GIB:.2f} GiB, planned {bytes_ / GIB:.2f}"
        dtype = str(trainable.dtype).removeprefix("torch.")
        return f"{rate:,.0f} pairs/s, {utilisation}, {memory}, {dtype}", "ok"

    def _time(self, work: Callable[[], object], repeat: int) -> float:
        """Seconds of one call, after one that does not count."""
        work()
        self.accelerator.synchronize()
        begun = time.perf_counter()
        for _ in range(repeat):
            work()
        self.accelerator.synchronize()
        return (time.perf_counter() - begun) / repeat

    def _product_rate(self, width: int) -> float:
        """Operations a second of products of the loss's tiles, as the loss multiplies them."""
        device = self.accelerator.device
        height, length = CPU_TILE if device.type == "cpu" else GPU_TILE
        a, b = torch.randn(height, width, device=device), torch.randn(length, width, device=device)
        out = torch.empty(height, length, device=device)
        taken = self._time(lambda: torch.mm(a, b.t(), out=out), 2 if device.type == "cpu" else 50)
        return 2 * height * length * width / taken

    def _config(self, model: str | CLIPConfig, pairs: int, **changes: Any) -> TrainConfig:
        options = {"batch_size": pairs * self.world.size, "augment": AugmentConfig(), "share_text": False}
        data = Mixture(((TarPairs("random pairs"), 1.0),))  # never opened
        return TrainConfig(data=data, model=model, lr=1e-4, **{**options, **changes})

    def _batch(self, config: TrainConfig) -> Batch:
        """Random pairs of this process, the same in every check."""
        shape, count = config.architecture, config.batch_size // self.world.size
        draw = np.random.default_rng(self.world.rank)
        side, text = shape.vision.image_size, shape.text
        tokens = draw.integers(1, text.vocab_size - 2, (count, text.context_length))
        tokens[:, -1] = text.vocab_size - 1  # the end
        crops = torch.from_numpy(draw.integers(0, 256, (count, 3, side, side), dtype=np.uint8))
        names = [f"{self.world.rank}/{n}" for n in range(count)]
        return Batch(
            crops=self.accelerator.pin(crops),
            numbers=np.arange(count, dtype=np.uint64),
            transform=DeferredTransform(config.augment),
            tokens=torch.from_numpy(tokens),
            groups=torch.arange(count) + self.world.rank * count,
            captions=names,
            keys=names,
            epoch=0,
            positions={},
            wait_seconds=0.0,
            work_seconds=0.0,
        )


def work(arguments: argparse.Namespace) -> int:
    """One process: all checks; the first one prints the table."""
    accelerator = pick_accelerator(arguments.device)
    world = join(accelerator, "gathered", minutes=5)
    failed = True
    try:
        scale = SMALL if arguments.small else FULL
        deadline = time.monotonic() + arguments.seconds
        rows = Checks(scale, accelerator, world, deadline).run()
        failed = False
    except BaseException as error:
        other = world.fail(error, 0)
        if other is None:
            raise
        raise other from error
    finally:
        world.close(failed=failed)
    if world.first:
        text = table(rows, accelerator, world.size)
        print(text)
        if arguments.out:
            arguments.out.write_text(text + "\n", encoding="utf-8")
    return int(any(verdict.startswith("FAILED") for _, _, verdict in rows))


def table(rows: list[ROW], accelerator: Accelerator, processes: int) -> str:
    """Rows as Markdown, under the machine."""
    cuda = accelerator.device.type == "cuda"
    name = torch.cuda.get_device_name(accelerator.device) if cuda else "processor"
    head = f"{processes} x {name}, torch {torch.__version__}"
    lines = [f"| {' | '.join(row)} |" for row in (("check", "result", ""), ("---", "---", "---"), *rows)]
    return "\n".join([head, "", *lines])


def start(arguments: argparse.Namespace, count: int) -> int:
    """Start the processes and wait for all of them; return the largest exit status."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(count):
        rank_variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        texts = {name: str(value) for name, value in rank_variables.items()}
        environment = {**os.environ, **texts, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, *sys.orig_argv[1:], "--worker"]
        running.append(subprocess.Popen(command, env=environment))
    return max(process.wait() for process in running)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", type=int, default=0, help="0: one a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=480, help="no check starts later")
    parser.add_argument("--small", action="store_true", help="toys, in seconds on a processor")
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    wanted = given.processes or max(1, torch.cuda.device_count())
    sys.exit(work(given) if given.worker or wanted == 1 else start(given, wanted))
