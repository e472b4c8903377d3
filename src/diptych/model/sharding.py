"""Handle sharded parameters (FSDP2's DTensors) and plain ones alike.

Importing DTensor's module takes a second, so it is imported only where a tensor is one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is a DTensor, of which each process holds a shard."""
    # By its method: isinstance would need the import.
    return hasattr(tensor, "full_tensor")


def local_shard(tensor: Tensor) -> Tensor:
    """Shard of a DTensor on this process; a plain tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a DTensor from all processes (a collective call); return a plain tensor as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def shard_like(values: Tensor, tensor: Tensor) -> Tensor:
    """Copy values to the device of another tensor, sharded as that one is.

    Parameters
    ----------
    values : Tensor
        The same full tensor on every process, or already sharded.
    tensor : Tensor
        Parameter that the values are for.
    """
    values = values.detach().to(tensor.device)
    if is_sharded(tensor) and not is_sharded(values):
        from torch.distributed.tensor import distribute_tensor

        # Every process has the same values, so each takes its own shard of them without communication.
        values = distribute_tensor(
            values,
            tensor.device_mesh,  # type: ignore[attr-defined]
            tensor.placements,  # type: ignore[attr-defined]
            src_data_rank=None,
        )
    return values.clone(memory_format=torch.preserve_format)
