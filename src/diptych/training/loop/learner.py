"""One step: gradients of all processes, clipped, an optimiser's move, the averaged weights.

Holds everything that learning changes (weights, optimiser, average, loss scaling) and gives it out for a
checkpoint. Which batch, which rate and when to stop is the trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from diptych.errors import TrainingError
from diptych.model.batch_norm import batch_norms, frozen_statistics, running_statistics
from diptych.model.devices import pick_dtype
from diptych.model.sharding import full_tensor, shard_like
from diptych.training.config import TrainConfig
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.blockwise import BlockwiseModel
from diptych.training.distributed.memory import KEPT_PICTURES, MemoryPlanner
from diptych.training.distributed.sharding import outside_parameters
from diptych.training.distributed.world import World
from diptych.training.loop.gradients import cached_gradients, chunk_seed
from diptych.training.loop.meter import first_bad_layer
from diptych.training.loop.optim import Average, optimizer, optimizer_state
from diptych.training.loop.scaling import LIMIT, LossScaler
from diptych.training.loop.step import apply_gradients
from diptych.training.objectives.build import build_objective, load_teacher, materialise
from diptych.training.objectives.objective import Objective
from diptych.training.objectives.tuning import merged, still_modules, unmerged

META = torch.device("meta")
T = TypeVar("T")


class Learner:
    """A model in training.

    Parameters
    ----------
    config : TrainConfig
    accelerator : Accelerator
        What this process computes on.
    world : World

    Attributes
    ----------
    model : CLIP
        Being trained; with FSDP2 its parameters are sharded.
    dtype : torch.dtype
        What the towers compute in.
    chunk : int
        Pairs encoded at once; 0: all.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator, world: World) -> None:
        self.config, self.accelerator, self.world = config, accelerator, world
        self.device, self.chunk = accelerator.device, max(0, config.chunk)
        self.dtype = pick_dtype(config.precision, self.device)
        self.teachers = [load_teacher(config, name, self.device) for name in config.teachers]
        self.objective, self.forward = self._build()
        self.model = self.objective.model
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        self.average = None
        if config.ema:
            # Only shards are wrapped: with DDP each process averages the same weights by itself.
            self.average = Average(self._build(wrapped=self.is_sharded)[0], config.ema)
        self.optimizer = optimizer(self.objective, config)
        self.scaler = LossScaler(self.device, self.dtype == torch.float16)
        self.statistics = running_statistics(self.model)
        self.still = still_modules(self.model) if config.lock or config.lora else []
        self.still += batch_norms(self.model) if config.still_norms else []
        self._unread: tuple[Callable[[], list[float]], int, Batch] | None = None

    def begin(self, state: Mapping[str, Tensor]) -> None:
        """Take over plain weights, before the first step."""
        for objective in self._objectives().values():
            fill(objective.model, unmerged(state, objective.model))

    def step(self, batch: Batch, number: int, lr: float) -> tuple[Tensor, Tensor]:
        """Learn from one batch.

        Only the loss waits for the device: a few numbers decide how its tiles are computed. Whether the step
        was good is read during the next one (`check`); one that was not has moved no weight.

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
            The step before was no good.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        self._train_mode()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(batch, number)
        outside = outside_parameters(self.objective, self.config.parallel)
        self.world.all_reduce_mean([p.grad for p in outside if p.grad is not None])
        norm = apply_gradients(self.optimizer, self.scaler, loss, self.config.clip, self.world)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(self.config.max_scale))
        self.world.all_reduce_mean(self.statistics)
        if self.average is not None:
            self.average.update(self.objective, number)
        figures = torch.stack([loss.float(), norm.float(), self.scaler.skipped])
        read = self.accelerator.read_later(figures)
        self.check()
        self._unread = (read, number, batch)
        return loss, norm

    def check(self) -> None:
        """Raise TrainingError if the last step was no good; all processes read the same."""
        if self._unread is None:
            return
        (read, number, batch), self._unread = self._unread, None
        loss, norm, skipped = read()
        if skipped >= LIMIT:
            raise TrainingError(
                f"the gradient overflowed float16 in {skipped:.0f} steps in a row, up to step {number}, "
                f"although the loss scale fell to {self.scaler.scale.item():g}. Use bfloat16 or float32, or "
                "start again in another folder with a lower lr"
            )
        if math.isfinite(loss) and (math.isfinite(norm) or self.scaler.enabled):
            return
        size = self.chunk or len(batch)
        where = "" if self.is_sharded else first_bad_layer(self.objective, *self._chunk(batch, 0, size))
        raise TrainingError(
            f"the loss is {loss} and the gradient {norm} at step {number}: the run went "
            f"astray{f', first in {where}' if where else ''}. Start again in another folder with a lower "
            f"lr (now {self.config.lr:g}), a longer warmup or float32"
        )

    def _gradients(self, batch: Batch, number: int) -> Tensor:
        config, world = self.config, self.world
        size = self.chunk or len(batch)
        starts = range(0, len(batch), size)
        first = world.rank * len(starts)
        grouped = config.same_caption != "negative" or self.objective.needs_groups
        return cached_gradients(
            self.objective,
            self._chunks(batch, size),
            self.accelerator.send(batch.groups) if grouped else None,
            seeds=[chunk_seed(config.seed, number, first + n) for n in range(len(starts))],
            exchange=world.exchange,
            forward=self.forward,
            backward=partial(self.world.backward, self.forward),
            precision=self._precision,
            # Wrappers for many processes take the mean, and the gradient is a sum.
            factor=world.size * self.scaler.scale,
        )

    def _chunks(self, batch: Batch, size: int) -> list[Callable[[], tuple[Tensor, Tensor]]]:
        """Functions that return the chunks, each as often as it is called; crops are sent once, before.

        Normalised pictures are kept between the two passes where that is little memory; else they are made
        again from the crops, which take a quarter.
        """
        sent = replace(batch, crops=self.accelerator.send(batch.crops))
        chunks = [partial(self._chunk, sent, start, size) for start in range(0, len(batch), size)]
        if len(chunks) > 1 and 4 * batch.crops.numel() <= KEPT_PICTURES:
            return [cache(chunk) for chunk in chunks]
        return list(chunks)

    def _chunk(self, batch: Batch, start: int, size: int) -> tuple[Tensor, Tensor]:
        return batch.part(slice(start, start + size), self.device)

    def try_out(self, batch: Batch, number: int) -> None:
        """Forward and backward of a batch, of which nothing stays."""
        self._train_mode()
        with frozen_statistics(self.objective):
            self._gradients(batch, number)
        self.optimizer.zero_grad(set_to_none=True)

    def memory(self) -> MemoryPlanner:
        """Counts what this run holds."""
        self._train_mode()
        return MemoryPlanner(self.config, self.objective, self.accelerator, self.world, self.dtype)

    def _train_mode(self) -> None:
        self.objective.train()
        for module in self.still:
            module.training = False  # not what is inside: the last blocks of a locked tower may learn

    def _precision(self) -> Any:
        return self.accelerator.autocast(self.dtype)

    def _build(self, *, wrapped: bool = True) -> tuple[Objective, nn.Module]:
        """The objective at its start, and the module to call in its place."""
        config, sharded = self.config, self.is_sharded
        objective = build_objective(config, META if sharded else self.device, self.teachers)
        if not wrapped:
            return objective, objective
        if config.use_bn_sync and self.world.size > 1:
            # Before the wrapper, which takes the modules as they are; names and tensors stay the same.
            objective.model.visual = self.accelerator.sync_batch_norms(objective.model.visual)
        forward = self.world.wrap(objective, config.parallel, self.dtype)
        if sharded:  # only now is there memory: for the shards
            materialise(objective, self.device, config.seed)
        return objective, forward

    def _objectives(self) -> dict[str, Objective]:
        averaged = {} if self.average is None else {"average": self.average.model}
        return {"model": self.objective, **averaged}

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a shard of every parameter."""
        return self.config.parallel == "fsdp" and self.world.size > 1

    @property
    def _evaluated(self) -> Objective:
        """What is evaluated and kept: the average if there is one."""
        return self._objectives().get("average", self.objective)

    def evaluate(self, work: Callable[[Objective], T]) -> T:
        """Call `work` on the first process with what is to be evaluated; its result on all processes.

        All processes must call this. Where the model is sharded, the first one has a block of it at a time.

        Parameters
        ----------
        work : callable
            Gets an objective without wrapper or changes of low rank, in evaluation mode. Its result must be
            something that JSON can hold.
        """
        trained = self._evaluated
        if self.is_sharded:
            build = partial(build_objective, self.config, META, self.teachers, plain=True)
            model = BlockwiseModel(trained, build, self.world, self.device)
            return self.world.run_on_first(lambda: work(cast(Objective, model.objective)), serve=model.gather)
        return self.world.run_on_first(lambda: work(self._merged(trained).eval()))

    def _merged(self, trained: Objective) -> Objective:
        """The same without changes of low rank: they are added to the weights of a copy."""
        if not self.config.lora:
            return trained
        plain = build_objective(self.config, self.device, self.teachers, plain=True)
        fill(plain, merged(trained.state_dict(), trained))
        return plain

    def weights(self) -> dict[str, Tensor] | None:
        """The weights to keep, whole, under their plain names and on the CPU; None but on the first process.

        All processes must call this: shards are gathered, a parameter at a time.
        """
        model = self._evaluated.model
        state: dict[str, Tensor] = {}
        for name, tensor in merged(model.state_dict(), model).items():
            gathered = full_tensor(tensor)
            if self.world.first:
                state[name] = gathered.detach().cpu()
        return state if self.world.first else None

    def tensors(self) -> dict[str, Any]:
        """Everything that learning changed, by the parameters' names; with FSDP2 this process's shards."""
        tensors: dict[str, Any] = {
            name: objective.state_dict() for name, objective in self._objectives().items()
        }
        tensors["optimizer"] = optimizer_state(self.objective, self.optimizer)
        tensors["scaler"] = self.scaler.state_dict()
        return tensors

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Take over what `tensors` gave, whole or this process's shards."""
        for name, objective in self._objectives().items():
            fill(objective, tensors[name])
        for name, parameter in self.objective.named_parameters():
            if parameter.requires_grad:
                memory = tensors["optimizer"][name]
                self.optimizer.state[parameter] = {
                    "step": memory["step"].float().to(parameter.device),
                    **{key: shard_like(memory[key], parameter) for key in ("exp_avg", "exp_avg_sq")},
                }
        self.scaler.load_state_dict(tensors["scaler"])


@torch.no_grad()
def fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights into a module, whole ones into shards where the module is sharded.

    Raises
    ------
    TrainingError
        The names are not the module's.
    """
    own = model.state_dict()
    if own.keys() != state.keys():
        raise TrainingError(
            f"the weights are another model's: {sorted(own.keys() ^ state.keys())[:3]} differ"
        )
    for name, tensor in own.items():
        tensor.copy_(shard_like(state[name], tensor))
