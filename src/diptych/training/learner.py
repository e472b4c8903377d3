"""One step: gradients of all processes, clipped, an optimiser's move, the averaged weights.

Holds everything that learning changes (weights, optimiser, average, loss scaling) and gives it out for a
checkpoint. Which batch, which rate and when to stop is the trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diptych.errors import TrainingError
from diptych.model.machine import pick_dtype
from diptych.model.sharding import full_tensor, is_sharded, local_shard, shard_like
from diptych.model.statistics import batch_norms, frozen_statistics, running_statistics
from diptych.pairs import Batch
from diptych.training.build import build_model, build_objective, load_teacher
from diptych.training.config import TrainConfig
from diptych.training.gradients import cached_gradients, chunk_seed
from diptych.training.memory import MemoryPlanner
from diptych.training.meter import first_bad_layer
from diptych.training.objective import Objective
from diptych.training.optim import Average, optimizer, optimizer_state
from diptych.training.tuning import merged, still_modules, unmerged
from diptych.training.world import World


class Learner:
    """A model in training.

    Parameters
    ----------
    config : TrainConfig
    device : torch.device
    world : World

    Attributes
    ----------
    model : CLIP
        Being trained; with FSDP2 its parameters are cut into pieces.
    dtype : torch.dtype
        What the towers compute in.
    chunk : int
        Pairs encoded at once; 0: all.
    """

    def __init__(self, config: TrainConfig, device: torch.device, world: World) -> None:
        self.config, self.device, self.world, self.chunk = config, device, world, max(0, config.chunk)
        self.dtype = pick_dtype(config.precision, device)
        self.teachers = [load_teacher(config, name, device) for name in config.teachers]
        self.objective = self._build()
        self.model = self.objective.model
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        self.forward = world.wrap(self.objective, config.parallel, self.dtype)
        self.average = None
        if config.ema:
            average = self._build()
            if self.is_sharded:
                world.wrap(average, "fsdp", self.dtype)
            self.average = Average(average, config.ema)
        self.optimizer = optimizer(self.objective, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.statistics = running_statistics(self.model)
        self.still = still_modules(self.model) if config.lock or config.lora else []
        self.still += batch_norms(self.model) if config.still_norms else []

    def begin(self, state: Mapping[str, Tensor]) -> None:
        """Take over plain weights, before the first step."""
        for objective in self._objectives().values():
            _fill(objective.model, unmerged(state, objective.model))

    def step(self, batch: Batch, number: int, lr: float) -> tuple[Tensor, Tensor]:
        """Learn from one batch.

        Parameters
        ----------
        batch : Batch
            This process's pairs.
        number : int
            Of the step; it seeds dropout.
        lr : float

        Returns
        -------
        loss, norm : Tensor, shape ()
            The loss on the pairs of all processes, and the norm of all gradients before clipping.

        Raises
        ------
        TrainingError
            Either is no number.
        """
        config, world = self.config, self.world
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        self._train_mode()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(batch, number)
        late = [p.grad for p in self.objective.loss_parameters() if p.grad is not None]
        world.all_reduce_mean(late)
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.objective.parameters() if p.grad is not None]
        norm = gradient_norm([p.grad for p in parameters if p.grad is not None], world)
        if not torch.isfinite(loss) or not (torch.isfinite(norm) or self.scaler.is_enabled()):
            size = self.chunk or len(batch)
            # Of parameters in pieces each process knows its own, and would go another way than the others.
            some = batch.part(slice(0, size), self.device)
            where = "" if self.is_sharded else first_bad_layer(self.objective, *some)
            raise TrainingError(
                f"the loss is {loss.item()} and the gradient {norm.item()} at step {number}: the run went "
                f"astray{f', first in {where}' if where else ''}. Start again in another folder with a lower "
                f"lr (now {config.lr:g}), a longer warmup or float32"
            )
        if config.clip:
            shrink = (config.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([local_shard(p.grad) for p in parameters if p.grad is not None], shrink)
        self.scaler.step(self.optimizer)  # float16: leaves the step out where a gradient overflowed
        self.scaler.update()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(config.max_scale))
        world.all_reduce_mean(self.statistics)
        if self.average is not None:
            self.average.update(self.objective, number)
        return loss, norm

    def _gradients(self, batch: Batch, number: int) -> Tensor:
        config, world = self.config, self.world
        size = self.chunk or len(batch)
        starts = range(0, len(batch), size)
        first = world.rank * len(starts)
        wanted = config.same_caption != "negative" or self.objective.needs_groups
        return cached_gradients(
            self.objective,
            [partial(batch.part, slice(start, start + size), self.device) for start in starts],
            batch.groups.to(self.device) if wanted else None,
            seeds=[chunk_seed(config.seed, number, first + n) for n in range(len(starts))],
            exchange=world.exchange,
            forward=self.forward,
            backward=partial(self.world.backward, self.forward),
            precision=self._precision,
            # Wrappers for many processes take the mean, and the gradient is a sum.
            factor=world.size * float(self.scaler.get_scale()),
        )

    def try_out(self, batch: Batch, number: int) -> None:
        """Forward and backward of a batch, of which nothing stays."""
        self._train_mode()
        with frozen_statistics(self.objective):
            self._gradients(batch, number)
        self.optimizer.zero_grad(set_to_none=True)

    def memory(self) -> MemoryPlanner:
        """Counts what this run holds."""
        self._train_mode()
        return MemoryPlanner(self.config, self.objective, self.device, self.world, self._precision)

    def _train_mode(self) -> None:
        self.objective.train()
        for module in self.still:
            module.eval()

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _build(self, *, plain: bool = False) -> Objective:
        """The objective on a model at its start."""
        model = build_model(self.config, self.device, plain=plain, channels_last=not self.is_sharded)
        return build_objective(self.config, model, self.device, self.teachers)

    def _objectives(self) -> dict[str, Objective]:
        found = {"model": self.objective}
        return found if self.average is None else {**found, "average": self.average.model}

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a piece of every parameter."""
        return self.config.parallel == "fsdp" and self.world.size > 1

    def evaluated(self) -> Objective:
        """What to measure and keep: averaged if there is an average, whole and plain. All must call this."""
        trained = self._objectives().get("average", self.objective)
        if not self.is_sharded and not self.config.lora:
            return trained
        plain = self._build(plain=True)
        state = {name: full_tensor(tensor) for name, tensor in trained.state_dict().items()}
        _fill(plain, merged(state, trained))
        return plain

    def tensors(self) -> dict[str, Any]:
        """Everything that learning changed, by the parameters' names; with FSDP2 this process's pieces."""
        found: dict[str, Any] = {name: one.state_dict() for name, one in self._objectives().items()}
        found["optimizer"] = optimizer_state(self.objective, self.optimizer)
        found["scaler"] = self.scaler.state_dict()
        return found

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Take over what `tensors` gave, whole or this process's pieces."""
        for name, objective in self._objectives().items():
            _fill(objective, tensors[name])
        for name, parameter in self.objective.named_parameters():
            if parameter.requires_grad:
                memory = tensors["optimizer"][name]
                self.optimizer.state[parameter] = {
                    "step": memory["step"].float().to(parameter.device),
                    **{key: shard_like(memory[key], parameter) for key in ("exp_avg", "exp_avg_sq")},
                }
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(tensors["scaler"])


def gradient_norm(gradients: Sequence[Tensor], world: World) -> Tensor:
    """The Euclidean norm of all gradients together, those in pieces summed over the processes."""
    if not gradients:
        return torch.zeros(())
    pieces = [g for g in gradients if is_sharded(g)]
    here = [g for g in gradients if not is_sharded(g)]
    square = torch.zeros((), device=gradients[0].device)
    if here:
        square += torch.stack(torch._foreach_norm(here)).square().sum()
    if pieces:
        square += world.all_reduce_sum(
            torch.stack(torch._foreach_norm([local_shard(g) for g in pieces])).square().sum()
        )
    return square.sqrt()


@torch.no_grad()
def _fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights into a module, whole ones into pieces where the model is in pieces."""
    own = model.state_dict()
    if own.keys() != state.keys():
        raise TrainingError(
            f"the weights are another model's: {sorted(own.keys() ^ state.keys())[:3]} differ"
        )
    for name, tensor in own.items():
        tensor.copy_(shard_like(state[name], tensor))
