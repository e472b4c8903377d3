"""What a run will take, before it begins: size, operations, memory, hours here and on machines one knows.

Sizes are counted, speed is measured: a few pairs of the run's own data go forward and back on this machine.
Hours elsewhere are operations over the makers' peak rates, at an assumed share of them; the loop itself is
`trainer.py`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from diptych.model.cost import GPUS
from diptych.training.config import Run
from diptych.training.data import Batch, StreamLoader
from diptych.training.distributed.accelerator import pick_accelerator
from diptych.training.distributed.footprint import SIZES
from diptych.training.distributed.world import World
from diptych.training.loop.learner import Learner
from diptych.training.loop.loading import no_batch, open_loader
from diptych.training.loop.meter import texts_of
from diptych.training.objectives.predicting import cost_of

TRIED = 32  # pairs that are encoded to measure
SHARE = 0.4  # of a GPU's peak: what a well-fed run reaches; published ones come to 0.11 to 0.22


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    parameters : dict of str to int
        Of each tower, and how many of all of them learn.
    pairs_an_epoch, steps, pairs : int
        Steps and pairs of the whole run.
    tokens : float
        Mean length of a text, start and end included.
    operations : float
        Floating point operations for a pair, forward and backward.
    memory : dict of str to float
        Bytes by what takes them, on each process.
    free : float
        Bytes that a run may take here.
    chunk : int
        Pairs encoded at once; where the config leaves it to be found, what would be.
    device, precision : str
    pairs_per_second : float
        Of the model on this machine, forward and backward, one process.
    decoded_per_second : float
        Of the workers here, on one process.
    hours : dict of str to float
        On this machine, and on one of each GPU at `SHARE` of its peak.
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
        """Whether the memory there is will do."""
        return sum(self.memory.values()) <= self.free


def plan(
    run: Run, counting: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None
) -> Plan:
    """Find out what a run will take, on one process, without beginning it.

    Writes nothing but the manifest of streamed shards.

    Parameters
    ----------
    run : Run
    counting : callable
        Told how many streamed shards have to be counted, where there are any; gives the function that is told
        of each.

    Raises
    ------
    TrainingError, DataError
        The run could not start.
    """
    config = run.config
    accelerator = pick_accelerator(config.device)
    accelerator.place()
    if config.threads:
        torch.set_num_threads(config.threads)
    learner = Learner(config, accelerator, World())
    few = _few(config.batch_size)
    loader = open_loader(replace(config, batch_size=few), World(), lanes=1)
    if isinstance(loader, StreamLoader):
        loader.prepare(counting)
    batch = next(loader.batches(0))
    visits = [loader.steps(epoch) * few for epoch in range(config.epochs)]
    loader.close()
    tokens, cells = texts_of(batch.tokens, config.architecture), batch.tokens.flatten(0, -2).shape[0] / few
    chunk = config.chunk
    if chunk < 0:
        chunk = learner.memory().largest_chunk(batch, config.batch_size)
    counted = cost_of(config, round(tokens), config.side(config.epochs - 1))
    operations = counted.training(1, cells)
    cached = 0 < chunk < config.batch_size
    seconds = _seconds(learner, batch)
    # Encoded once more where the graph is not kept: a third more work.
    rate = few / seconds * (3 / 4 if cached else 1)
    decoded = few * config.workers / max(batch.work_seconds, 1e-9)
    steps = sum(count // config.batch_size for count in visits)
    if not steps:
        raise no_batch(config, loader)
    memory = _memory(learner, batch, chunk or config.batch_size)
    pairs = steps * config.batch_size
    # On a processor the workers take their time from the towers; beside a GPU the slower one decides.
    here = 1 / rate + 1 / decoded if accelerator.device.type == "cpu" else max(1 / rate, 1 / decoded)
    work = operations * (4 / 3 if cached else 1) * pairs
    return Plan(
        parameters=_parameters(learner),
        pairs_an_epoch=visits[0],
        steps=steps,
        pairs=pairs,
        tokens=tokens,
        operations=operations,
        memory=memory,
        free=accelerator.free_bytes() + memory["weights"],  # which are there by now
        chunk=chunk,
        device=str(accelerator.device),
        precision=str(learner.dtype).removeprefix("torch."),
        pairs_per_second=rate,
        decoded_per_second=decoded,
        hours={
            "this machine": pairs * here / 3600,
            **{name: work / (SHARE * rates[0]) / 3600 for name, rates in GPUS.items()},
        },
    )


def _few(batch_size: int) -> int:
    """Pairs to try with: a divisor of the batch if there is a good one, so that steps are counted exactly."""
    divisors = [n for n in range(TRIED, max(SIZES), -1) if batch_size % n == 0]
    return divisors[0] if divisors else min(TRIED, batch_size)


def _parameters(learner: Learner) -> dict[str, int]:
    pictures = {id(p) for p in learner.model.visual.parameters()}
    every = list(learner.objective.parameters())
    return {
        "picture encoder": sum(p.numel() for p in every if id(p) in pictures),
        "everything else": sum(p.numel() for p in every if id(p) not in pictures),
        "learning": sum(p.numel() for p in every if p.requires_grad),
    }


def _memory(learner: Learner, batch: Batch, chunk: int) -> dict[str, float]:
    pairs, planner = learner.config.batch_size, learner.memory()
    every = sum(p.numel() for p in learner.objective.parameters())
    kept = planner.kept_bytes(pairs) if chunk < pairs else 0.0
    return {
        "weights": 4.0 * every * (2 if learner.config.ema else 1),
        "gradients and moments": planner.state_bytes(),
        f"a chunk of {chunk:,} pairs": planner.footprint(batch).bytes(chunk),
        "rows and pictures": planner.bytes_each() * pairs + planner.loss_bytes(pairs) + kept,
    }


def _seconds(learner: Learner, batch: Batch) -> float:
    """Forward and backward of a small batch, the best of three."""
    taken = []
    for number in range(3):
        started = time.perf_counter()
        learner.try_out(batch, number)
        learner.accelerator.synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken)
