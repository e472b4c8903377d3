"""A model in training: weights, optimiser, averaged weights and loss scaling; training steps and evaluation.

It holds all that a training step changes, and returns it for a checkpoint. The trainer decides on batches,
learning rates and the end of the run.
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
from diptych.model.batch_norm import batch_norms, frozen_statistics, fuse_batch_norms, running_statistics
from diptych.model.devices import pick_dtype
from diptych.model.efficientnet import EfficientNet
from diptych.model.sharding import full_tensor, shard_like
from diptych.model.timm_trunk import TimmTrunk
from diptych.training.config import TrainConfig
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.blockwise import BlockwiseModel
from diptych.training.distributed.memory import MAX_KEPT_BYTES, MemoryPlanner
from diptych.training.distributed.sharding import outside_parameters
from diptych.training.distributed.world import World
from diptych.training.loop.gradients import Chunk, cached_gradients, chunk_seed
from diptych.training.loop.loading import LockedEncoder
from diptych.training.loop.meter import first_bad_layer
from diptych.training.loop.optim import AveragedModel, adamw_state, optimizer
from diptych.training.loop.optimizer_step import MAX_SKIPPED, LossScaler, apply_gradients
from diptych.training.objectives.build import build_objective, load_label_tree, load_teacher, materialise
from diptych.training.objectives.objective import Objective
from diptych.training.objectives.tuning import frozen_modules, merge_low_rank, split_low_rank
from diptych.weights.identity import hash_state

META = torch.device("meta")
T = TypeVar("T")


class TrainableModel:
    """A model in training.

    Parameters
    ----------
    accelerator : Accelerator
        The device of this process.

    Attributes
    ----------
    model : CLIP
        The model that is trained; with FSDP2 its parameters are sharded.
    dtype : torch.dtype
        Precision of the towers.
    chunk : int
        Pairs encoded at once; 0: all.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator, world: World) -> None:
        self.config, self.accelerator, self.world = config, accelerator, world
        self.device, self.chunk = accelerator.device, max(0, config.chunk)
        self.dtype = pick_dtype(config.precision, self.device)
        # Unsharded on every process: their features are needed for this process's pairs only.
        self.teachers = [load_teacher(config, name, self.device) for name in config.teachers]
        self.tree = load_label_tree(config, self.device)
        self.objective, self.forward = self._build()
        self.model = self.objective.model
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        self.average = None
        if config.ema:
            # Wrapped only to be sharded: with DDP each process averages the same weights by itself.
            self.average = AveragedModel(self._build(wrapped=self.is_sharded)[0], config.ema)
        self.optimizer = optimizer(self.objective, config)
        self.scaler = LossScaler(self.device, self.dtype == torch.float16)
        self.statistics = running_statistics(self.model)
        # Modules kept in evaluation mode while the others train.
        self.frozen = frozen_modules(self.model) if config.lock or config.lora else []
        self.frozen += batch_norms(self.model) if config.still_norms else []
        # Figures of the last step that have not been read yet, its number and its batch.
        self._unread: tuple[Callable[[], list[float]], int, Batch] | None = None

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Start from given weights, before the first step."""
        for objective in self._objectives().values():
            copy_state(objective.model, split_low_rank(state, objective.model))

    def load_image_tower(self, tower: Mapping[str, Tensor]) -> None:
        """Start the image tower from given weights; what they do not contain (the projection) stays."""
        for objective in self._objectives().values():
            own = {f"visual.{name}" for name in tower}
            state = {name: tensor for name, tensor in objective.model.state_dict().items() if name not in own}
            state |= {f"visual.{name}": tensor for name, tensor in tower.items()}
            copy_state(objective.model, state)

    def step(self, batch: Batch, number: int, lr: float) -> tuple[Tensor, Tensor]:
        """Train on one batch.

        The host waits for the device only in the loss, where a few numbers decide how tiles are computed.
        Whether the step was finite is read during the next one (`check`); if not, it changed no weight.

        Parameters
        ----------
        batch : Batch
            This process's pairs.
        number : int
            Number of the step, which seeds dropout.

        Returns
        -------
        loss, norm : Tensor, shape ()
            The loss on the pairs of all processes, and the norm of all gradients before clipping.

        Raises
        ------
        TrainingError
            The loss or the gradient of the step before was not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]  # "share": the factor of layer decay
        self._train_mode()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(batch, number)
        outside = outside_parameters(self.objective, self.config.parallel)
        self.world.all_reduce_mean([p.grad for p in outside if p.grad is not None])
        norm = apply_gradients(self.optimizer, self.scaler, loss, self.config.clip, self.world)
        # As in the paper: the logits are never scaled by more than 100, which keeps training stable.
        with torch.no_grad():
            for scale in self.objective.scales():
                scale.clamp_(max=math.log(self.config.max_scale))
        # Running statistics of batch norms are averaged, so that all processes have the same model.
        self.world.all_reduce_mean(self.statistics)
        if self.average is not None:
            self.average.update(self.objective, number)
        figures = torch.stack([loss.float(), norm.float(), self.scaler.skipped])
        read = self.accelerator.read_async(figures)
        # The figures of the step before have arrived by now, so reading them does not wait.
        self.check()
        self._unread = (read, number, batch)
        return loss, norm

    def check(self) -> None:
        """Raise TrainingError if the last step was not finite; all processes read the same figures."""
        if self._unread is None:
            return
        (read, number, batch), self._unread = self._unread, None
        loss, norm, skipped = read()
        if skipped >= MAX_SKIPPED:
            raise TrainingError(
                f"the gradient overflowed float16 in {skipped:.0f} steps in a row, up to step {number}, "
                f"although the loss scale fell to {self.scaler.scale.item():g}. Use bfloat16 or float32, or "
                "start again in another folder with a lower lr"
            )
        if math.isfinite(loss) and (math.isfinite(norm) or self.scaler.enabled):
            return
        size = self.chunk or len(batch)
        # A sharded layer cannot be run on one process alone.
        layer = "" if self.is_sharded else first_bad_layer(self.objective, *self._chunk(batch, 0, size))
        raise TrainingError(
            f"the loss is {loss} and the gradient norm {norm} at step {number}: training "
            f"diverged{f', first in {layer}' if layer else ''}. Start again in another folder with a lower "
            f"lr (now {self.config.lr:g}), a longer warmup or float32"
        )

    def _gradients(self, batch: Batch, number: int) -> Tensor:
        """Add the gradients of a batch to the parameters; returns the loss."""
        config, world = self.config, self.world
        size = self.chunk or len(batch)
        starts = range(0, len(batch), size)
        # Chunks are numbered over all processes. e.g. 2 processes with 3 chunks each: rank 1 has 3..5.
        first = world.rank * len(starts)
        grouped = config.same_caption != "negative" or self.objective.needs_groups
        groups = batch.negative_groups(by_kind=config.negatives_from == "same_kind")
        # DDP expects a gradient for every parameter, which text pairs alone do not give: it is left out then.
        alone = self.objective.set_epoch(batch.epoch)
        loss = cached_gradients(
            self.objective,
            self._chunks(batch, size),
            self.accelerator.send(groups) if grouped else None,
            seeds=[chunk_seed(config.seed, number, first + n) for n in range(len(starts))],
            exchange=world.exchange,
            forward=self.objective if alone else self.forward,
            backward=None if alone else partial(self.world.backward, self.forward),
            precision=self._precision,
            # DDP and FSDP2 average gradients over processes, where those of our losses are parts of a sum.
            factor=world.size * self.scaler.scale,
        )
        if alone and config.parallel == "ddp":
            outside = {id(parameter) for parameter in outside_parameters(self.objective, config.parallel)}
            inside = [p for p in self.objective.parameters() if id(p) not in outside and p.grad is not None]
            world.all_reduce_mean([p.grad for p in inside if p.grad is not None])
        return loss

    def _chunks(self, batch: Batch, size: int) -> list[Callable[[], Chunk]]:
        """Functions that return the chunks, at each call; crops are sent to the device once, before.

        Normalised images are kept between the two passes if they fit into `MAX_KEPT_BYTES`; else they are
        made again from the uint8 crops, which take a quarter of the memory.
        """
        sent = replace(batch, crops=self.accelerator.send(batch.crops))
        chunks = [partial(self._chunk, sent, start, size) for start in range(0, len(batch), size)]
        # 4 bytes of float32 for each byte of the crops.
        if len(chunks) > 1 and 4 * batch.crops.numel() <= MAX_KEPT_BYTES:
            return [cache(chunk) for chunk in chunks]
        return list(chunks)

    def _chunk(self, batch: Batch, start: int, size: int) -> Chunk:
        return batch.part(slice(start, start + size), self.device)

    def locked_encoder(self) -> LockedEncoder:
        """The locked part of the image tower, whose output is computed once.

        Raises
        ------
        TrainingError
            The tower is one of timm, whose projection cannot be separated; or another than an EfficientNet,
            and more than its projection is unlocked.
        """
        visual, unlocked = self.model.visual, self.config.lock_image_unlocked_groups
        if isinstance(visual, TimmTrunk):
            raise TrainingError("cache_features needs a tower whose projection is separate; timm's are not")
        if unlocked > 1 and not isinstance(visual, EfficientNet):
            raise TrainingError(
                "cache_features with more than the projection unlocked needs an EfficientNet: set "
                "lock_image_unlocked_groups=1"
            )

        fused = fuse_batch_norms(visual)
        fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def encode(images: Tensor) -> Tensor:
            with torch.inference_mode(), self._precision():
                images = self.accelerator.send(images)
                if isinstance(fused, EfficientNet):
                    return fused.locked_features(images, unlocked).float().cpu()
                features: Tensor = fused.features(images)
            return features.float().cpu()

        side = self.config.architecture.vision.image_size
        shape = tuple(encode(torch.zeros(1, 3, side, side)).shape[1:])
        # Without the modules that are trained: also the statistics of their norms change.
        trained = {
            name.rpartition(".")[0]
            for name, parameter in visual.named_parameters()
            if parameter.requires_grad
        }
        tensors = {
            name: tensor
            for name, tensor in visual.state_dict().items()
            if name.rpartition(".")[0] not in trained
        }
        return LockedEncoder(encode, shape, f"{hash_state(tensors)}/{self.dtype}")

    def dry_run(self, batch: Batch, number: int) -> None:
        """Forward and backward pass of a batch that changes neither weights nor statistics."""
        self._train_mode()
        with frozen_statistics(self.objective):
            self._gradients(batch, number)
        self.optimizer.zero_grad(set_to_none=True)

    def memory(self) -> MemoryPlanner:
        """The memory planner of this run."""
        self._train_mode()
        return MemoryPlanner(self.config, self.objective, self.accelerator, self.world, self.dtype)

    def _train_mode(self) -> None:
        self.objective.train()
        for module in self.frozen:
            # Not `eval()`, which includes submodules: the last blocks of a locked tower may be trained.
            module.training = False

    def _precision(self) -> Any:
        return self.accelerator.autocast(self.dtype)

    def _build(self, *, wrapped: bool = True) -> tuple[Objective, nn.Module]:
        """The initialised objective, and the module to call in its place (its wrapper)."""
        config, sharded = self.config, self.is_sharded
        objective = build_objective(config, META if sharded else self.device, self.teachers, self.tree)
        if not wrapped:
            return objective, objective
        if config.use_bn_sync and self.world.size > 1:
            # Before wrapping, as DDP and FSDP2 take the modules as they are; names and tensors stay the same.
            objective.model.visual = self.accelerator.sync_batch_norms(objective.model.visual)
        forward = self.world.wrap(objective, config.parallel, self.dtype)
        if sharded:  # built on the meta device, and allocated only now: shard by shard
            materialise(objective, self.device, config.seed)
        return objective, forward

    def _objectives(self) -> dict[str, Objective]:
        averaged = {} if self.average is None else {"average": self.average.model}
        return {"model": self.objective, **averaged}

    @property
    def is_sharded(self) -> bool:
        """Whether parameters are sharded over the processes."""
        return self.config.parallel == "fsdp" and self.world.size > 1

    @property
    def _evaluated(self) -> Objective:
        """The objective that is evaluated and saved: the average if there is one."""
        return self._objectives().get("average", self.objective)

    def evaluate(self, work: Callable[[Objective], T]) -> T:
        """Call `work` on the first process with the objective to evaluate; returns its result on all.

        All processes must call this. A sharded model is gathered on the first process block by block.

        Parameters
        ----------
        work : callable
            Gets an objective without wrapper or low-rank updates, in evaluation mode. Its result must
            consist of values of JSON.
        """
        objective = self._evaluated
        if self.is_sharded:
            build = partial(build_objective, self.config, META, self.teachers, self.tree, plain=True)
            model = BlockwiseModel(objective, build, self.world, self.device)
            return self.world.run_on_first(lambda: work(cast(Objective, model.objective)), serve=model.gather)
        return self.world.run_on_first(lambda: work(self._merged(objective).eval()))

    def _merged(self, objective: Objective) -> Objective:
        """The objective itself, or with low-rank updates a copy with these added to the weights."""
        if not self.config.lora:
            return objective
        plain = build_objective(self.config, self.device, self.teachers, self.tree, plain=True)
        copy_state(plain, merge_low_rank(objective.state_dict(), objective))
        return plain

    def weights(self) -> dict[str, Tensor] | None:
        """The weights to save, unsharded and on the CPU; None except on the first process.

        All processes must call this: shards are gathered, one parameter at a time.
        """
        model = self._evaluated.model
        state: dict[str, Tensor] = {}
        for name, tensor in merge_low_rank(model.state_dict(), model).items():
            gathered = full_tensor(tensor)
            if self.world.first:
                state[name] = gathered.detach().cpu()
        return state if self.world.first else None

    def tensors(self) -> dict[str, Any]:
        """All tensors that training changes, by parameter names; with FSDP2 this process's shards."""
        tensors: dict[str, Any] = {
            name: objective.state_dict() for name, objective in self._objectives().items()
        }
        tensors["optimizer"] = adamw_state(self.objective, self.optimizer)
        tensors["scaler"] = self.scaler.state_dict()
        return tensors

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Restore what `tensors` returned, unsharded or as this process's shards."""
        for name, objective in self._objectives().items():
            copy_state(objective, tensors[name])
        for name, parameter in self.objective.named_parameters():
            if parameter.requires_grad:
                moments = tensors["optimizer"][name]
                self.optimizer.state[parameter] = {
                    # The fused kernel expects the step count as float32 on the device.
                    "step": moments["step"].float().to(parameter.device),
                    **{key: shard_like(moments[key], parameter) for key in ("exp_avg", "exp_avg_sq")},
                }
        self.scaler.load_state_dict(tensors["scaler"])


@torch.no_grad()
def copy_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module in place; unsharded ones into shards if the module is sharded.

    Raises
    ------
    TrainingError
        The names are not the module's.
    """
    own = model.state_dict()
    if own.keys() != state.keys():
        raise TrainingError(
            f"the weights belong to another model: {sorted(own.keys() ^ state.keys())[:3]} differ"
        )
    for name, tensor in own.items():
        tensor.copy_(shard_like(state[name], tensor))
