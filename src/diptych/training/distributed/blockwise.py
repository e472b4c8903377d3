"""Evaluation of a sharded model on the first process, whose blocks are gathered one at a time.

Evaluators run on the first process alone and may call any method of the model. With FSDP2 no process holds
the whole model, and a copy beside the training state may not fit onto one GPU. So the first process evaluates
a model whose blocks have no weights. Calling block k sends "k" to all processes, which gather that block
together (a collective); the first process computes with it and drops it again:

    process 0:    ...  block 7 called -> send 7 | gather 7 | compute, drop | block 8 called -> send 8 | ...
    the others:   wait for a message  ->        | gather 7 | wait                           ->        | ...

Weights outside of all blocks (embeddings, projections, norms) are gathered once and kept.
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

OUTSIDE = -1  # number of the group of weights that are in no block
METHODS = ("forward", "own_value")  # the methods of a block that use its weights


class BlockwiseModel:
    """Gathers the blocks of a sharded objective; every process makes one, and the first evaluates it.

    Parameters
    ----------
    sharded : Objective
        Wrapped by FSDP2; it is not changed.
    build : callable
        Makes the same objective on the meta device, not wrapped. Called on the first process.
    device : torch.device
        Device of this process.

    Attributes
    ----------
    objective : Objective or None
        The objective for evaluators, on the first process, while the others wait in `World.run_on_first`
        with `serve=gather`.
    """

    def __init__(
        self, sharded: Objective, build: Callable[[], Objective], world: World, device: torch.device
    ) -> None:
        self.world, self.device = world, device
        self.state: Mapping[str, Tensor] = sharded.state_dict()
        self.names = _names_by_group(sharded)
        outside = self.gather(OUTSIDE)
        self.objective = self._without_blocks(build(), outside) if world.first else None

    def gather(self, group: int) -> dict[str, Tensor]:
        """The weights of a block, or those outside of blocks; all processes must call this together."""
        # Evaluators turn on inference mode, whose tensors cannot become parameters.
        with torch.inference_mode(False), torch.no_grad():
            return {name: full_tensor(self.state[name]).to(self.device) for name in self.names[group]}

    def _without_blocks(self, objective: Objective, outside: Mapping[str, Tensor]) -> Objective:
        """Load the weights outside of blocks into an objective on the meta device; wrap its blocks."""
        objective.requires_grad_(False).eval()
        # A placeholder has the weight's shape, precision and device but the memory of one number (`expand`),
        # and it is NaN, so that computing with weights that were not gathered cannot go unnoticed.
        placeholders = {
            name: torch.full((), _nan_or_zero(tensor.dtype), dtype=tensor.dtype, device=self.device).expand(
                tensor.shape
            )
            for name, tensor in objective.state_dict().items()
        }
        objective.load_state_dict({**placeholders, **outside}, assign=True)
        fill_buffers(objective.model, self.device)
        for group, (prefix, block) in enumerate(_blocks(objective)):
            for method in METHODS:
                if hasattr(block, method):
                    function = self._with_gathered_weights(
                        getattr(block, method), block, group, prefix, placeholders
                    )
                    setattr(block, method, function)
        return objective

    def _with_gathered_weights(
        self,
        method: Callable[..., Any],
        block: nn.Module,
        group: int,
        prefix: str,
        placeholders: Mapping[str, Tensor],
    ) -> Callable[..., Any]:
        """Wrap a method of a block: gather the weights, call it, drop the weights."""

        # `assign=True` replaces the tensors instead of copying into them: placeholders have no memory to copy
        # to.
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
                fill(placeholders)

        return call


def _blocks(objective: Objective) -> list[tuple[str, nn.Module]]:
    """Name and module of each block of FSDP2."""
    names = {id(module): name for name, module in objective.named_modules()}
    return [(names[id(block)], block) for block in sharding_blocks(objective)]


def _names_by_group(objective: Objective) -> dict[int, list[str]]:
    """Names in the state of an objective, by the number of their block or `OUTSIDE`."""
    names: dict[int, list[str]] = {
        group: [f"{prefix}.{name}" for name in block.state_dict()]
        for group, (prefix, block) in enumerate(_blocks(objective))
    }
    inside = {name for group in names.values() for name in group}
    names[OUTSIDE] = [name for name in objective.state_dict() if name not in inside]
    return names


def _nan_or_zero(dtype: torch.dtype) -> float:
    """NaN; 0 in types without NaN."""
    return math.nan if dtype.is_floating_point else 0
