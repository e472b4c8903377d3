"""Loss scaling for float16 (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2), with shards or without.

`torch.amp.GradScaler` looks for overflow in each parameter's gradient by a kernel that does not take FSDP2's
shards and plain parameters together. Here the norm of all gradients, which a step needs anyway and which is
summed over all processes, says it: one number, the same everywhere, so no process skips a step alone.
Nothing waits for the device; the optimiser's fused kernel is told to skip.
"""

from __future__ import annotations

import torch
from torch import Tensor

INITIAL = 2.0**16
GROW_AFTER = 2000  # steps without overflow
LIMIT = 24  # skipped steps in a row: the scale has fallen by 16 million, so it is not what overflows


class LossScaler:
    """The factor on the loss, halved when a gradient overflows and doubled after many steps without.

    Parameters
    ----------
    device : torch.device
    enabled : bool
        Whether the towers compute in float16; else the factor is 1 and stays.
    """

    def __init__(self, device: torch.device, enabled: bool) -> None:
        self.enabled = enabled
        self.scale = torch.full((), INITIAL if enabled else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)
        self.skipped = torch.zeros((), device=device)  # in a row

    @torch.no_grad()
    def update(self, overflow: Tensor) -> None:
        """Note whether a step's gradients were finite.

        Parameters
        ----------
        overflow : Tensor of bool, shape ()
        """
        if not self.enabled:
            return
        good = torch.where(overflow, 0.0, self.good_steps + 1)
        grows = good >= GROW_AFTER
        grown = torch.where(grows, self.scale * 2, self.scale)
        self.scale.copy_(torch.where(overflow, self.scale / 2, grown))
        self.good_steps.copy_(torch.where(grows, 0.0, good))
        self.skipped.copy_(torch.where(overflow, self.skipped + 1, 0.0))

    def state_dict(self) -> dict[str, Tensor]:
        """For a checkpoint; empty where nothing is scaled."""
        names = ("scale", "good_steps", "skipped") if self.enabled else ()
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave."""
        for name in self.state_dict():
            getattr(self, name).copy_(state[name])
