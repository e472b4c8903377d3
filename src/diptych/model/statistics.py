"""Running statistics of batch norms: which there are, and how they are kept still.

A step that encodes a batch twice (gradient checkpointing, gradient caching) must note its statistics once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """Every batch norm."""
    return [m for m in module.modules() if isinstance(m, BatchNorm)]


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Running means and variances of every batch norm."""
    norms = batch_norms(module)
    return [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms use the batch's statistics, as in training, and do not note them.

    By a momentum of 0, not by leaving the statistics out: a recomputed forward pass has to save the same
    tensors as the first one.
    """
    norms = [norm for norm in batch_norms(module) if norm.num_batches_tracked is not None]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[union-attr]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            with torch.no_grad():
                norm.num_batches_tracked.copy_(batches)  # type: ignore[union-attr]
