"""Memory plan of a run: what a process holds besides the activations of a chunk, and the largest chunk.

`footprint.py` counts the activations of a pass through the towers; this file adds what does not depend on the
chunk. Example, ViT-B/32 (151 million parameters) on 8 GPUs in bfloat16, 32,768 pairs per step: DDP holds 0.6
GB of gradients and 1.2 GB of moments. FSDP2 holds an eighth of both, and temporarily what is gathered: the
parameters outside the blocks (mostly the token embeddings, 25 million) twice in bfloat16 and once in float32,
and two blocks likewise: 0.3 GB.
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
from diptych.training.losses.logit_tiles import CPU_TILE, GPU_TILE
from diptych.training.objectives.objective import Objective
from diptych.training.objectives.tuning import image_layers

BATCHES = 3  # whose crops are in the host's memory: the current one and those prepared in advance
MAX_KEPT_BYTES = 2**30  # of normalised images that are kept between the two passes of a step
# Vectors of the embedding width per pair, two (image and text) of each: features per chunk, concatenated,
# their gradients, and the sums of the loss.
FEATURE_COPIES = 8


@dataclass(frozen=True)
class MemoryPlanner:
    """Computes the memory of a run.

    Attributes
    ----------
    objective : Objective
        In training mode.
    dtype : torch.dtype
        Precision of the towers.
    """

    config: TrainConfig
    objective: Objective
    accelerator: Accelerator
    world: World
    dtype: torch.dtype

    def largest_chunk(self, batch: Batch, most: int) -> int:
        """Largest number of pairs that can be encoded at once; the same on all processes.

        Parameters
        ----------
        batch : Batch
            Pairs to measure with.
        most : int
            Pairs of this process in a step: the upper limit.

        Raises
        ------
        TrainingError
            Not even one pair fits.
        """
        if len(batch) <= max(SIZES):
            return most
        # Weights are allocated already; these are not yet.
        planned = self.state_bytes() + self.gathered_bytes() + self.loss_bytes(most) + self.kept_bytes(most)
        free = self.accelerator.free_bytes() - planned
        chunk = self.footprint(batch).largest(free, most, self.bytes_each())
        return int(min(self.world.all_gather(chunk)))

    def state_bytes(self) -> float:
        """Gradients and AdamW's two moments of this process's shards: three float32 per parameter."""
        return 12.0 * sum(local_shard(p).numel() for p in self.objective.parameters() if p.requires_grad)

    def gathered_bytes(self) -> float:
        """With FSDP2, the most that is unsharded at a time: the parameters of the root and of two blocks.

        Parameters and their gradients in the towers' precision, and the input of the reduction in float32.
        Two blocks, because the next one is gathered while one computes.
        """
        if self.config.parallel != "fsdp" or self.world.size == 1:
            return 0.0
        root, blocks = sharded_groups(self.objective)
        each = 2 * torch.empty((), dtype=self.dtype).element_size() + 4
        return float(each * (root + sum(sorted(blocks)[-2:])))

    def loss_bytes(self, most: int) -> float:
        """Two float32 buffers and a mask of one byte per entry of a tile of the loss."""
        tile = CPU_TILE if self.accelerator.device.type == "cpu" else GPU_TILE
        height, width = min(most, tile[0]), min(most * self.world.size, tile[1])
        return 9.0 * height * width

    def kept_bytes(self, most: int) -> float:
        """Normalised images (3 float32 per pixel) that are kept between the two passes of a step."""
        images = 12.0 * most * self.config.largest_side**2
        return images if images <= MAX_KEPT_BYTES else 0.0

    def bytes_each(self) -> int:
        """Bytes per pair of this process that do not depend on the chunk: features, gradients, crops."""
        # An all-gather holds the text features of all W processes, and as many sums.
        gathered = 2 * self.world.size if self.config.exchange == "gathered" and self.world.size > 1 else 0
        negatives = 2 * self.config.negatives_each if self.config.negatives else 0
        features = (FEATURE_COPIES + gathered + negatives) * 4 * self.config.architecture.embed_dim
        # On a GPU there is one batch; in the host's memory there are also those prepared in advance.
        batches = 1 if self.accelerator.copies_async else BATCHES
        return features + batches * 3 * self.config.largest_side**2

    def footprint(self, batch: Batch) -> Footprint:
        """Activations of a pass, measured with a few pairs at the largest image side of the run."""
        side = self.config.largest_side
        if not self.config.cache_features:
            few = batch.crops[: max(SIZES)].float()
            batch = replace(batch, crops=interpolate(few, (side, side)).to(torch.uint8))

        def encode(count: int) -> object:
            with self.accelerator.autocast(self.dtype), frozen_statistics(self.objective):
                return self.objective(*batch.part(slice(0, count), self.accelerator.device))

        parameters = [local_shard(p) for p in self.objective.parameters()]
        counted = footprint(encode, parameters)
        if not self.config.grad_checkpointing:
            return counted
        # With checkpointing, the activations of one block at a time are computed again in the backward pass.
        model = self.objective.model
        model.set_grad_checkpointing(False)
        whole = footprint(encode, parameters)
        model.set_grad_checkpointing(True)
        shape = model.config
        return counted.with_part(whole, 1 / min(image_layers(shape), shape.text.layers))
