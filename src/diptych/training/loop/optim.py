"""Parameter groups, learning rate schedule and averaged weights (paper, section 2.5 and table 18)."""

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
    max_rate: float,
    warmup: int,
    cooldown: int = 0,
    power: float = 1.0,
    end: float = 0.0,
) -> float:
    """Learning rate of a step: linear warmup, then a cosine to 0, a constant, or a constant with a cooldown.

    A cooldown is open_clip's `const-cooldown`: a constant rate that decays to `end` over the last steps.

    Parameters
    ----------
    step : int
        Steps before this one.
    total : int or None
        Steps of the run; None: constant after the warmup.
    max_rate : float
        The rate after the warmup.
    warmup : int
        Steps of warmup.
    cooldown : int
        Steps at the end in which the rate decays; 0: a cosine.
    power : float
        Exponent of the part of the cooldown that is left: 1 decays linearly, 2 faster at first.
    end : float
        The rate after a cooldown.

    Examples
    --------
    >>> [round(rate(step, 100, max_rate=1.0, warmup=10), 2) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    >>> [round(rate(step, 100, max_rate=1.0, warmup=10, cooldown=20), 2) for step in (9, 55, 80, 90, 99)]
    [1.0, 1.0, 1.0, 0.5, 0.05]
    """
    if step < warmup:
        return max_rate * (step + 1) / warmup  # never 0: the first step would be lost
    if total is None:
        return max_rate
    if cooldown:
        left = max(0.0, min(1.0, (total - step) / cooldown))
        return end + (max_rate - end) * math.pow(left, power)
    done = (step - warmup) / max(1, total - warmup)
    return max_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def scheduled_rate(config: TrainConfig, step: int, total: int, *, warmup: int, cooldown: int) -> float:
    """`rate` by the schedule of a config; `total`, `warmup` and `cooldown` are steps of the run."""
    # A constant schedule does not depend on the length of the run, so that it can be extended.
    falls = config.schedule == "cosine" or cooldown
    return rate(
        step,
        total if falls else None,
        max_rate=config.lr,
        warmup=warmup,
        cooldown=cooldown,
        power=config.lr_cooldown_power,
        end=config.lr_cooldown_end,
    )


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter: to matrices, not to gains, biases and the scale.

    Examples
    --------
    >>> decays("visual.proj", torch.zeros(3, 3)), decays("ln_final.weight", torch.zeros(3))
    (True, False)
    """
    return parameter.ndim >= 2 and not name.endswith("bias")


def optimizer(objective: Objective, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW on the trainable parameters: groups by weight decay and, with layer decay, by depth.

    The `share` of a group is its factor on the rate. Scalars (scale and bias) have a group of their own, and
    with FSDP2 so have unsharded parameters: a fused kernel takes either shards or plain tensors.
    """
    # By (depth, without weight decay, scalar, sharded).
    by_kind: dict[tuple[int, bool, bool, bool], list[Tensor]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            own, of_model = name.removeprefix("model."), name.startswith("model.")
            layer = depth(own, objective.model) if of_model and config.layer_decay < 1 else 0
            kind = (layer, not decays(name, parameter), not parameter.ndim, is_sharded(parameter))
            by_kind.setdefault(kind, []).append(parameter)
    groups = [
        {
            "params": parameters,
            "weight_decay": 0.0 if free else config.weight_decay,
            "share": config.layer_decay**layer,
        }
        for (layer, free, *_), parameters in sorted(by_kind.items(), key=lambda item: item[0])
    ]
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True
    )


def adamw_state(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, dict[str, Tensor]]:
    """AdamW's moments by parameter name, sharded like the parameters; zeros before the first step."""
    # By name and not by position in the groups: the groups depend on the number of processes.
    return {
        name: {
            "step": optimizer.state[p].get("step", torch.zeros(())),
            **{m: optimizer.state[p].get(m, torch.zeros_like(p)) for m in ("exp_avg", "exp_avg_sq")},
        }
        for name, p in model.named_parameters()
        if p.requires_grad
    }


class AveragedModel(Generic[M]):
    """Exponential moving average of weights and of the running statistics of batch norms.

    Early in a run the decay is lower, (1 + step) / (10 + step), so that the random start has less weight.

    Parameters
    ----------
    model : nn.Module
        A copy of the initial model, which becomes the average.
    decay : float
        Below 1.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model after `step` steps."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, new = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in new.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [local_shard(mine[n]) for n in floats], [local_shard(new[n]) for n in floats], weight
        )
        # Counters of batch norms are integers: they are copied.
        for name in new.keys() - set(floats):
            mine[name].copy_(new[name])
