"""Estimate of a run before it starts: size, operations, memory, hours here and on known GPUs.

Sizes are counted and speed is measured: a few pairs of the run's data pass forward and backward on this
machine. Hours on other GPUs are operations divided by `ASSUMED_UTILISATION` of their peak rates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from diptych.model.cost import GPUS
from diptych.training.config import Run
from diptych.training.data import Batch, Loader, StreamLoader
from diptych.training.distributed.accelerator import pick_accelerator
from diptych.training.distributed.footprint import SIZES
from diptych.training.distributed.world import World
from diptych.training.loop.loading import no_batch_error, open_loader
from diptych.training.loop.meter import mean_text_length
from diptych.training.loop.trainable_model import TrainableModel
from diptych.training.objectives.predicting import cost_of

MEASURED_PAIRS = 32  # encoded to measure the speed
# Share of a GPU's peak that a run reaches if data does not limit it; published runs reach 0.11 to 0.22.
ASSUMED_UTILISATION = 0.4


@dataclass(frozen=True)
class RunPlan:
    """Estimated size, time and memory of a run.

    Attributes
    ----------
    parameters : dict of str to int
        Of each tower, and the number of trainable ones.
    pairs_an_epoch, steps, pairs : int
        Steps and pairs of the whole run.
    tokens : float
        Mean length of a text, start and end included.
    operations : float
        Floating point operations for a pair, forward and backward.
    memory : dict of str to float
        Bytes of each process, by use.
    free : float
        Bytes that a run may use here.
    chunk : int
        Pairs encoded at once; with chunk=-1, the largest that fits.
    pairs_per_second : float
        Of the model on this machine, forward and backward, one process.
    decoded_per_second : float
        Of the workers here, on one process.
    hours : dict of str to float
        On this machine, and on one GPU of each kind at `ASSUMED_UTILISATION` of its peak.
    """

    parameters: dict[str, int]
    pairs_an_epoch: int
    steps: int
    pairs: int
    tokens: float
    operations: float
    memory: dict[str, float]
    free: float
    chunk: int
    device: str
    precision: str
    pairs_per_second: float
    decoded_per_second: float
    hours: dict[str, float] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the run fits into memory."""
        return sum(self.memory.values()) <= self.free


def plan(
    run: Run, counting: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None
) -> RunPlan:
    """Find out what a run will take, on one process, without beginning it.

    Writes nothing but the manifest of streamed shards.

    Parameters
    ----------
    counting : callable
        Called with the number of streamed shards to count, if any; returns a function that is called for
        each.

    Raises
    ------
    TrainingError, DataError
        The run could not start.
    """
    config = run.config
    accelerator = pick_accelerator(config.device)
    accelerator.make_current()
    if config.threads:
        torch.set_num_threads(config.threads)
    trainable = TrainableModel(config, accelerator, World())
    few = _measured_pairs(config.batch_size)
    loader = open_loader(replace(config, batch_size=few), World(), lanes=1)
    if isinstance(loader, StreamLoader):
        loader.prepare(counting)
    batch, once = _first_batch(trainable, loader)
    # Counted with the small batch, then divided by the real batch size below.
    visits = [loader.steps(epoch) * few for epoch in range(config.epochs)]
    loader.close()
    tokens = mean_text_length(batch.tokens, config.architecture)
    texts = batch.tokens.flatten(0, -2).shape[0] / few  # per pair: more than 1 with hard negatives
    chunk = config.chunk if config.chunk >= 0 else trainable.memory().largest_chunk(batch, config.batch_size)
    # At the side of the last epoch, the largest if image_sizes grow.
    cost = cost_of(config, round(tokens), config.side(config.epochs - 1))
    operations = (replace(cost, picture=0.0) if config.cache_features else cost).training(1, texts)
    cached = 0 < chunk < config.batch_size
    seconds = _seconds(trainable, batch)
    # With several chunks each is encoded twice (`gradients.py`): 4 units of work instead of 3.
    rate = few / seconds * (3 / 4 if cached else 1)
    decoded = few * config.workers / max(batch.work_seconds, 1e-9)
    steps = sum(count // config.batch_size for count in visits)
    if not steps:
        raise no_batch_error(config, loader)
    memory = _memory(trainable, batch, chunk or config.batch_size)
    pairs = steps * config.batch_size
    # On a processor, decoding and encoding share the cores, so their times add up; with a GPU they run at the
    # same time, and the slower one decides.
    here = 1 / rate + 1 / decoded if accelerator.device.type == "cpu" else max(1 / rate, 1 / decoded)
    if config.cache_features:  # pictures are decoded and encoded once
        once, here = (once + 1 / decoded) * visits[0] * config.cache_features, 1 / rate
    work = operations * (4 / 3 if cached else 1) * pairs
    return RunPlan(
        parameters=_parameters(trainable),
        pairs_an_epoch=visits[0],
        steps=steps,
        pairs=pairs,
        tokens=tokens,
        operations=operations,
        memory=memory,
        free=accelerator.free_bytes() + memory["weights"],  # these are allocated already
        chunk=chunk,
        device=str(accelerator.device),
        precision=str(trainable.dtype).removeprefix("torch."),
        pairs_per_second=rate,
        decoded_per_second=decoded,
        hours={
            "this machine": (once + pairs * here) / 3600,
            **{name: work / (ASSUMED_UTILISATION * rates[0]) / 3600 for name, rates in GPUS.items()},
        },
    )


def _first_batch(trainable: TrainableModel, loader: Loader) -> tuple[Batch, float]:
    """A batch as in the last epoch, and the seconds per picture that were spent before the first step."""
    batch = next(loader.batches(0))
    # The first epochs may train text pairs alone.
    batch = replace(batch, epoch=trainable.config.epochs - 1)
    trainable.objective.set_epoch(batch.epoch)
    if not trainable.config.cache_features:
        return batch, 0.0
    locked = trainable.locked_encoder()
    images = batch.images
    started = time.perf_counter()
    features = locked.encode(images)
    seconds = (time.perf_counter() - started) / len(batch)
    return replace(batch, crops=features.half()), seconds


def _measured_pairs(batch_size: int) -> int:
    """Pairs to measure with: a divisor of the batch size if possible, so that steps are counted exactly."""
    divisors = [n for n in range(MEASURED_PAIRS, max(SIZES), -1) if batch_size % n == 0]
    return divisors[0] if divisors else min(MEASURED_PAIRS, batch_size)


def _parameters(trainable: TrainableModel) -> dict[str, int]:
    in_image_tower = {id(p) for p in trainable.model.visual.parameters()}
    parameters = list(trainable.objective.parameters())
    return {
        "picture encoder": sum(p.numel() for p in parameters if id(p) in in_image_tower),
        "everything else": sum(p.numel() for p in parameters if id(p) not in in_image_tower),
        "learning": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _memory(trainable: TrainableModel, batch: Batch, chunk: int) -> dict[str, float]:
    pairs, planner = trainable.config.batch_size, trainable.memory()
    parameters = sum(p.numel() for p in trainable.objective.parameters())
    kept_bytes = planner.kept_bytes(pairs) if chunk < pairs else 0.0
    return {
        "weights": 4.0 * parameters * (2 if trainable.config.ema else 1),
        "gradients and moments": planner.state_bytes(),
        f"a chunk of {chunk:,} pairs": planner.footprint(batch).bytes(chunk),
        "rows and pictures": planner.bytes_each() * pairs + planner.loss_bytes(pairs) + kept_bytes,
    }


def _seconds(trainable: TrainableModel, batch: Batch) -> float:
    """Forward and backward of a small batch, the best of three."""
    seconds = []
    for number in range(3):
        started = time.perf_counter()
        trainable.dry_run(batch, number)
        trainable.accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
