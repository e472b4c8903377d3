"""The memory plan of a run: what a process holds besides a chunk, and how large a chunk can be.

`footprint.py` counts what a pass through the towers keeps; this file adds what is held whatever the chunk.
Example, ViT-B/32 (151 million parameters) on 8 GPUs in bfloat16, 32,768 pairs a step: DDP holds 0.6 GB of
gradients and 1.2 GB of moments. FSDP2 holds an eighth of both, and for a while what is gathered: the
parameters outside the blocks (mostly the table of tokens, 25 million) twice in bfloat16 and once in float32,
two blocks likewise: 0.3 GB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import interpolate

from diptych.model.batch_norm import frozen_statistics
from diptych.model.sharding import local_shard
from diptych.training.config import TrainConfig
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.footprint import SIZES, Footprint, footprint
from diptych.training.distributed.sharding import sharded_groups
from diptych.training.distributed.world import World
from diptych.training.losses.tiles import CPU_TILE, GPU_TILE
from diptych.training.objectives.objective import Objective
from diptych.training.objectives.tuning import image_layers

BATCHES = 3  # whose pictures lie in the host's memory: the one at work and those that are made ahead
KEPT_PICTURES = 2**30  # bytes of normalised pictures that are kept between the two passes of a step
ROWS = 8  # copies of a pair's two rows: of each chunk, put together, their gradients, and the loss's sums


@dataclass(frozen=True)
class MemoryPlanner:
    """Counts what a run will hold.

    Attributes
    ----------
    config : TrainConfig
    objective : Objective
        What is trained, in training mode.
    accelerator : Accelerator
    world : World
    dtype : torch.dtype
        What the towers compute in.
    """

    config: TrainConfig
    objective: Objective
    accelerator: Accelerator
    world: World
    dtype: torch.dtype

    def largest_chunk(self, batch: Batch, most: int) -> int:
        """Pairs that can be encoded at once in the memory there is; the same on all processes.

        Parameters
        ----------
        batch : Batch
            Some pairs to try.
        most : int
            Pairs of this process in a step; the answer if all of them can.

        Raises
        ------
        TrainingError
            Not even one pair fits.
        """
        if len(batch) <= max(SIZES):
            return most
        coming = self.state_bytes() + self.gathered_bytes() + self.loss_bytes(most) + self.kept_bytes(most)
        free = self.accelerator.free_bytes() - coming
        chunk = self.footprint(batch).largest(free, most, self.bytes_each())
        return int(min(self.world.all_gather(chunk)))

    def state_bytes(self) -> float:
        """Gradients and AdamW's two moments: float32, of this process's shards."""
        return 12.0 * sum(local_shard(p).numel() for p in self.objective.parameters() if p.requires_grad)

    def gathered_bytes(self) -> float:
        """With FSDP2, the most that is whole at a time: the root's parameters and those of two blocks.

        Parameters and their gradients in the towers' precision, and the input of the reduction in float32.
        Two blocks, because the next one is gathered while one computes.
        """
        if self.config.parallel != "fsdp" or self.world.size == 1:
            return 0.0
        root, blocks = sharded_groups(self.objective)
        each = 2 * torch.empty((), dtype=self.dtype).element_size() + 4
        return float(each * (root + sum(sorted(blocks)[-2:])))

    def loss_bytes(self, most: int) -> float:
        """Two buffers of the loss's tile, and a mask of one."""
        tile = CPU_TILE if self.accelerator.device.type == "cpu" else GPU_TILE
        height, width = min(most, tile[0]), min(most * self.world.size, tile[1])
        return 9.0 * height * width

    def kept_bytes(self, most: int) -> float:
        """Normalised pictures that are kept between the two passes, if that is little."""
        pictures = 12.0 * most * self.config.largest_side**2
        return pictures if pictures <= KEPT_PICTURES else 0.0

    def bytes_each(self) -> int:
        """What every pair of this process takes, whatever the chunks: rows, their gradients, its picture."""
        gathered = 2 * self.world.size if self.config.exchange == "gathered" and self.world.size > 1 else 0
        missed = 2 * self.config.negatives_each if self.config.negatives else 0
        rows = (ROWS + gathered + missed) * 4 * self.config.architecture.embed_dim
        # A GPU is sent one batch; in the host's memory there are those ahead, too.
        batches = 1 if self.accelerator.copies_async else BATCHES
        return rows + batches * 3 * self.config.largest_side**2

    def footprint(self, batch: Batch) -> Footprint:
        """Memory of a pass, from a few pairs, on pictures as large as the run will have them."""
        side = self.config.largest_side
        few = batch.crops[: max(SIZES)].float()
        batch = replace(batch, crops=interpolate(few, (side, side)).to(torch.uint8))

        def encode(count: int) -> object:
            with self.accelerator.autocast(self.dtype), frozen_statistics(self.objective):
                return self.objective(*batch.part(slice(0, count), self.accelerator.device))

        parameters = [local_shard(p) for p in self.objective.parameters()]
        counted = footprint(encode, parameters)
        if not self.config.grad_checkpointing:
            return counted
        # What is computed again on the way back is there for one block at a time.
        model = self.objective.model
        model.set_grad_checkpointing(False)
        whole = footprint(encode, parameters)
        model.set_grad_checkpointing(True)
        shape = model.config
        return counted.with_part(whole, 1 / min(image_layers(shape), shape.text.layers))
