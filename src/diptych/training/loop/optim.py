"""The optimiser's groups, the schedule, and the averaged weights (paper, section 2.5 and table 18)."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from diptych.model.sharding import is_sharded, local_shard
from diptych.training.config import TrainConfig
from diptych.training.objectives.objective import Objective
from diptych.training.objectives.tuning import depth

M = TypeVar("M", bound=nn.Module)


def rate(
    step: int,
    total: int | None,
    *,
    peak: float,
    warmup: int,
    cooldown: int = 0,
    power: float = 1.0,
    end: float = 0.0,
) -> float:
    """The learning rate of a step: linear warmup, then a cosine down to 0, no change, or none but at the end.

    A cooldown is open_clip's `const-cooldown`: a constant rate, then a fall to `end` over the last steps.

    Parameters
    ----------
    step : int
        Steps done before this one.
    total : int or None
        Steps in all; None keeps the peak.
    peak : float
        The highest rate.
    warmup : int
        Steps of warmup.
    cooldown : int
        Steps at the end in which the rate falls from the peak, which it keeps until then; 0: a cosine.
    power : float
        Of the part of the cooldown that is left: 1 falls in a straight line, 2 fast at first.
    end : float
        The rate after a cooldown.

    Examples
    --------
    >>> [round(rate(step, 100, peak=1.0, warmup=10), 2) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    >>> [round(rate(step, 100, peak=1.0, warmup=10, cooldown=20), 2) for step in (9, 55, 80, 90, 99)]
    [1.0, 1.0, 1.0, 0.5, 0.05]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if total is None:
        return peak
    if cooldown:
        left = max(0.0, min(1.0, (total - step) / cooldown))
        return end + (peak - end) * math.pow(left, power)
    done = (step - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def scheduled_rate(config: TrainConfig, step: int, total: int, *, warmup: int, cooldown: int) -> float:
    """`rate` as a config schedules it; `total`, `warmup` and `cooldown` are steps of the run."""
    falls = config.schedule == "cosine" or cooldown
    return rate(
        step,
        total if falls else None,
        peak=config.lr,
        warmup=warmup,
        cooldown=cooldown,
        power=config.lr_cooldown_power,
        end=config.lr_cooldown_end,
    )


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay pulls on a parameter: on matrices, not on gains, biases and the scale.

    Examples
    --------
    >>> decays("visual.proj", torch.zeros(3, 3)), decays("ln_final.weight", torch.zeros(3))
    (True, False)
    """
    return parameter.ndim >= 2 and not name.endswith("bias")


def optimizer(objective: Objective, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW on what learns: groups by decay or none, and by depth where early layers are to learn slower.

    Each group has its `share` of the rate. Numbers without a dimension (scale and bias) have a group of their
    own, and with FSDP2 so has everything that is not sharded: one kernel takes shards or whole parameters.
    """
    found: dict[tuple[int, bool, bool, bool], list[Tensor]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            own, of_model = name.removeprefix("model."), name.startswith("model.")
            layer = depth(own, objective.model) if of_model and config.layer_decay < 1 else 0
            kind = (layer, not decays(name, parameter), not parameter.ndim, is_sharded(parameter))
            found.setdefault(kind, []).append(parameter)
    groups = [
        {
            "params": parameters,
            "weight_decay": 0.0 if free else config.weight_decay,
            "share": config.layer_decay**layer,
        }
        for (layer, free, *_), parameters in sorted(found.items(), key=lambda item: item[0])
    ]
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True
    )


def optimizer_state(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, dict[str, Tensor]]:
    """AdamW's memory by the parameters' names, in the pieces the parameters are in; zeros before a step."""
    return {
        name: {
            "step": optimizer.state[p].get("step", torch.zeros(())),
            "exp_avg": optimizer.state[p].get("exp_avg", torch.zeros_like(p)),
            "exp_avg_sq": optimizer.state[p].get("exp_avg_sq", torch.zeros_like(p)),
        }
        for name, p in model.named_parameters()
        if p.requires_grad
    }


class Average(Generic[M]):
    """An exponential moving average of weights, and of the running statistics of batch norms.

    Early on the decay is lower, (1 + step) / (10 + step), so that the random start is soon forgotten.

    Parameters
    ----------
    model : nn.Module
        A copy of the model at its start; it becomes the average.
    decay : float
        Below 1.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model as it is after `step` steps."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, new = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in new.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [local_shard(mine[n]) for n in floats], [local_shard(new[n]) for n in floats], weight
        )
        for name in new.keys() - set(floats):
            mine[name].copy_(new[name])
