"""Batch norm layers: list their running statistics and freeze them for a second forward pass.

A step that encodes a batch twice (gradient checkpointing, gradient caching) must update the running
statistics once only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """Every batch norm layer of a module."""
    return [layer for layer in module.modules() if isinstance(layer, BatchNorm)]


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Running means and variances of every batch norm layer."""
    norms = batch_norms(module)
    buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    return [buffer for buffer in buffers if buffer is not None]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Within the context, batch norm layers in training mode do not update their running statistics."""
    # A momentum of 0, rather than no running statistics: gradient checkpointing demands that the recomputed
    # forward pass saves the same tensors as the first.
    norms = [norm for norm in batch_norms(module) if norm.num_batches_tracked is not None]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[union-attr]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            # Counted by each forward pass whatever the momentum is.
            with torch.no_grad():
                norm.num_batches_tracked.copy_(batches)  # type: ignore[union-attr]


def checkpointed(stage: nn.Module, x: Tensor) -> Tensor:
    """Apply a stage with gradient checkpointing: its running statistics are updated once, not twice."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), frozen_statistics(stage)

    return cast(Tensor, checkpoint(stage, x, use_reentrant=False, context_fn=contexts))
