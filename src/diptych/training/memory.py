"""The memory plan of a run: what it holds besides a chunk, and how large a chunk can be.

`footprint.py` counts what a pass through the towers keeps; this file adds what is held whatever the chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import interpolate

from diptych.model.config import ResNetConfig
from diptych.model.sharding import local_shard
from diptych.model.statistics import frozen_statistics
from diptych.pairs import Batch
from diptych.training.config import TrainConfig
from diptych.training.footprint import SIZES, Footprint, footprint, free_bytes
from diptych.training.objective import Objective
from diptych.training.world import World

BATCHES = 3  # whose pictures lie in memory: the one at work and those that are made ahead


def bytes_each(config: TrainConfig) -> int:
    """Bytes that every pair of a batch takes, whatever the chunks: rows, their gradients, and pictures."""
    rows = 8 * 4 * config.architecture.embed_dim
    return rows + BATCHES * 3 * config.largest_side**2


@dataclass(frozen=True)
class MemoryPlanner:
    """Counts what a run will hold.

    Attributes
    ----------
    config : TrainConfig
    objective : Objective
        What is trained, in training mode.
    device : torch.device
    world : World
    precision : callable
        Makes the autocast of a pass.
    """

    config: TrainConfig
    objective: Objective
    device: torch.device
    world: World
    precision: Callable[[], AbstractContextManager[object]]

    def largest_chunk(self, batch: Batch, most: int) -> int:
        """Pairs that can be encoded at once in the memory there is.

        Parameters
        ----------
        batch : Batch
            Some pairs to try.
        most : int
            Pairs of this process in a step; the answer if all of them can.
        """
        if len(batch) <= max(SIZES):
            return most
        parameters = list(self.objective.parameters())
        # Still to come: gradients, and two moments for each weight that learns.
        coming = 12 * sum(local_shard(p).numel() for p in parameters if p.requires_grad)
        free = free_bytes(self.device) - coming
        chunk = self.footprint(batch).largest(free, most, bytes_each(self.config))
        return int(min(self.world.all_gather(chunk)))

    def footprint(self, batch: Batch) -> Footprint:
        """Memory of a pass, from a few pairs, on pictures as large as the run will have them."""
        side = self.config.largest_side
        few = batch.crops[: max(SIZES)].float()
        batch = replace(batch, crops=interpolate(few, (side, side)).to(torch.uint8))

        def encode(count: int) -> object:
            with self.precision(), frozen_statistics(self.objective):
                return self.objective(*batch.part(slice(0, count), self.device))

        parameters = [local_shard(p) for p in self.objective.parameters()]
        counted = footprint(encode, parameters)
        if not self.config.grad_checkpointing:
            return counted
        # What is computed again on the way back is there for one block at a time.
        model = self.objective.model
        model.set_grad_checkpointing(False)
        whole = footprint(encode, parameters)
        model.set_grad_checkpointing(True)
        vision, text = model.config.vision, model.config.text
        blocks = len(vision.layers) if isinstance(vision, ResNetConfig) else vision.layers
        return counted.with_part(whole, 1 / min(blocks, text.layers))
