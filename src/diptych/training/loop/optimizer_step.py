"""Optimiser step: unscale and clip gradients by their global norm, skip the step if it is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.model.sharding import is_sharded, local_shard
from diptych.training.distributed.world import World
from diptych.training.loop.scaling import LossScaler


def gradient_norm(gradients: Sequence[Tensor], world: World) -> Tensor:
    """The Euclidean norm of all gradients together, shards summed over the processes.

    Parameters
    ----------
    gradients : sequence of Tensor
        Unsharded ones are the same on every process.
    """
    if not gradients:
        return torch.zeros(())
    shards = [local_shard(g) for g in gradients if is_sharded(g)]
    whole = [g for g in gradients if not is_sharded(g)]
    # |g|^2 is the sum over tensors; of shards also over processes, of which each holds a part of the tensor.
    square = torch.zeros((), device=gradients[0].device)
    if whole:
        square += torch.stack(torch._foreach_norm(whole)).square().sum()
    if shards:
        square += world.all_reduce_sum(torch.stack(torch._foreach_norm(shards)).square().sum())
    return square.sqrt()


@torch.no_grad()
def apply_gradients(
    optimizer: torch.optim.AdamW, scaler: LossScaler, loss: Tensor, clip: float, world: World
) -> Tensor:
    """Update the weights, unless a gradient or the loss is not finite.

    Parameters
    ----------
    optimizer : AdamW
        Fused: its kernel reads on the device whether to skip the step, so the host does not wait.
    scaler : LossScaler
        Its scale is a factor of the gradients, which is divided out.
    loss : Tensor, shape ()
        On the pairs of all processes.
    clip : float
        Largest norm; 0: no clipping.

    Returns
    -------
    Tensor, shape ()
        The norm before clipping.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    gradients = [p.grad for p in parameters]
    norm = gradient_norm(gradients, world).to(loss.device) / scaler.scale
    # Equal on all processes, since norm and loss are sums over them: all skip the same steps.
    overflow = ~(torch.isfinite(norm) & torch.isfinite(loss))
    if gradients and (clip or scaler.enabled):
        factor = 1 / scaler.scale
        if clip:
            # As torch's clip_grad_norm_, without waiting for the norm.
            factor = factor * (clip / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_([local_shard(g) for g in gradients], factor)
    optimizer.found_inf = overflow.float()  # type: ignore[attr-defined]  # as GradScaler passes it
    optimizer.step()
    scaler.update(overflow)
    return norm
