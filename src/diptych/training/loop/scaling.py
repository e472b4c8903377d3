"""Loss scaling for float16 (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2), with or without shards.

`torch.amp.GradScaler` looks for overflow in each parameter's gradient with a kernel that cannot take FSDP2's
shards and plain parameters together. Here overflow is read from the norm of all gradients, which a step
computes anyway and sums over all processes: one number, equal on all, so no process skips a step alone.
The host does not wait for the device: the optimiser's fused kernel reads on the device whether to skip.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
