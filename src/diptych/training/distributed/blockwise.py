"""A sharded model on the first process, its blocks gathered one at a time, as they are called.

Evaluators run on the first process alone and may call any method of the model. With FSDP2 no process holds
the model, and a whole copy beside the training state may not fit onto one GPU. So the first process evaluates
a model whose blocks are empty. Calling block k sends "k" to all processes, which gather that block together
(a collective); the first computes with it and drops it again:

    process 0:    ...  block 7 called -> send 7 | gather 7 | compute, drop | block 8 called -> send 8 | ...
    the others:   wait for a message  ->        | gather 7 | wait                           ->        | ...

What lies outside of all blocks (embeddings, projections, norms) is gathered once, and stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from diptych.model.sharding import full_tensor
from diptych.model.timm_trunk import fill_buffers
from diptych.training.distributed.sharding import sharding_blocks
from diptych.training.distributed.world import World
from diptych.training.objectives.objective import Objective

OUTSIDE = -1  # the group of all weights that are in no block
METHODS = ("forward", "own_value")  # of a block, by which a model uses its weights


class BlockwiseModel:
    """Gathers the blocks of a sharded objective; all processes make one, and the first evaluates it.

    Parameters
    ----------
    sharded : Objective
        Wrapped by FSDP2; nothing of it is changed.
    build : callable
        Makes the same objective on the meta device, not wrapped. Called on the first process.
    world : World
    device : torch.device
        Where the first process computes.

    Attributes
    ----------
    objective : Objective or None
        What evaluators may call, on the first process, while the others wait in `World.run_on_first` with
        `gather` to serve it.
    """

    def __init__(
        self, sharded: Objective, build: Callable[[], Objective], world: World, device: torch.device
    ) -> None:
        self.world, self.device = world, device
        self.state: Mapping[str, Tensor] = sharded.state_dict()
        self.names = _names_by_group(sharded)
        whole = self.gather(OUTSIDE)
        self.objective = self._empty(build(), whole) if world.first else None

    def gather(self, group: int) -> dict[str, Tensor]:
        """The weights of a block, or of all that is outside; all processes must call this together."""
        # Evaluators turn on inference mode, whose tensors could not become parameters.
        with torch.inference_mode(False), torch.no_grad():
            return {name: full_tensor(self.state[name]).to(self.device) for name in self.names[group]}

    def _empty(self, objective: Objective, outside: Mapping[str, Tensor]) -> Objective:
        """Give an objective of the meta device the weights outside, and its blocks a way to get theirs."""
        objective.requires_grad_(False).eval()
        # A weight that is not there has its shape, precision and device, takes the memory of one number, and
        # makes what is computed with it NaN.
        absent = {
            name: torch.full((), _nothing(tensor.dtype), dtype=tensor.dtype, device=self.device).expand(
                tensor.shape
            )
            for name, tensor in objective.state_dict().items()
        }
        objective.load_state_dict({**absent, **outside}, assign=True)
        fill_buffers(objective.model, self.device)
        for group, (prefix, block) in enumerate(_blocks(objective)):
            for method in METHODS:
                if hasattr(block, method):
                    function = self._gathering(getattr(block, method), block, group, prefix, absent)
                    setattr(block, method, function)
        return objective

    def _gathering(
        self,
        method: Callable[..., Any],
        block: nn.Module,
        group: int,
        prefix: str,
        absent: Mapping[str, Tensor],
    ) -> Callable[..., Any]:
        """A method of a block that has the block's weights while it runs."""

        def fill(weights: Mapping[str, Tensor]) -> None:
            own = {name: weights[f"{prefix}.{name}"] for name in block.state_dict()}
            with torch.inference_mode(False):
                block.load_state_dict(own, assign=True)

        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            self.world.send_from_first(group)
            fill(self.gather(group))
            try:
                return method(*arguments, **options)
            finally:
                fill(absent)

        return call


def _blocks(objective: Objective) -> list[tuple[str, nn.Module]]:
    """Each block that FSDP2 shards by itself, with its name."""
    names = {id(module): name for name, module in objective.named_modules()}
    return [(names[id(block)], block) for block in sharding_blocks(objective)]


def _names_by_group(objective: Objective) -> dict[int, list[str]]:
    """Names in the state of an objective, by the number of the block that holds them or `OUTSIDE`."""
    names: dict[int, list[str]] = {
        group: [f"{prefix}.{name}" for name in block.state_dict()]
        for group, (prefix, block) in enumerate(_blocks(objective))
    }
    inside = {name for group in names.values() for name in group}
    names[OUTSIDE] = [name for name in objective.state_dict() if name not in inside]
    return names


def _nothing(dtype: torch.dtype) -> float:
    """NaN, where numbers of that type have one."""
    return math.nan if dtype.is_floating_point else 0
