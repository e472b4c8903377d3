"""Optimiser step: unscale and clip gradients by their global norm, skip the step if it is not finite.

Loss scaling for float16 (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2) works with or without
shards. `torch.amp.GradScaler` looks for overflow in each parameter's gradient with a kernel that cannot take
FSDP2's shards and plain parameters together. Here overflow is read from the norm of all gradients, which a
step computes anyway and sums over all processes: one number, equal on all, so no process skips a step alone.
The host does not wait for the device: the optimiser's fused kernel reads on the device whether to skip.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.model.sharding import is_sharded, local_shard
from diptych.training.distributed.world import World

INITIAL = 2.0**16
GROW_AFTER = 2000  # steps without overflow
# Skipped steps in a row that end the run: the scale has fallen by 2**24, so it is not the cause of the
# overflow.
MAX_SKIPPED = 24


class LossScaler:
    """Factor on the loss, halved when a gradient overflows and doubled after `GROW_AFTER` steps without.

    Parameters
    ----------
    enabled : bool
        Whether the towers compute in float16; else the factor is always 1.
    """

    def __init__(self, device: torch.device, enabled: bool) -> None:
        self.enabled = enabled
        self.scale = torch.full((), INITIAL if enabled else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)
        self.skipped = torch.zeros((), device=device)  # in a row

    @torch.no_grad()
    def update(self, overflow: Tensor) -> None:
        """Adapt the scale to whether a step's gradients were finite.

        Parameters
        ----------
        overflow : Tensor of bool, shape ()
        """
        if not self.enabled:
            return
        # `where` and not `if`: a Python condition would wait for the device.
        good = torch.where(overflow, 0.0, self.good_steps + 1)
        grows = good >= GROW_AFTER
        grown = torch.where(grows, self.scale * 2, self.scale)
        self.scale.copy_(torch.where(overflow, self.scale / 2, grown))
        self.good_steps.copy_(torch.where(grows, 0.0, good))
        self.skipped.copy_(torch.where(overflow, self.skipped + 1, 0.0))

    def state_dict(self) -> dict[str, Tensor]:
        """For a checkpoint; empty if the scaler is disabled."""
        names = ("scale", "good_steps", "skipped") if self.enabled else ()
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for name in self.state_dict():
            getattr(self, name).copy_(state[name])


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
