"""One step: gradients of all processes, clipped, an optimiser's move, the averaged weights.

Holds everything that learning changes (weights, optimiser, average, loss scaling) and gives it out for a
checkpoint. Which batch, which rate and when to stop is the trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diptych.errors import TrainingError
from diptych.model.clip import CLIP
from diptych.model.initialise import build
from diptych.model.machine import pick_dtype
from diptych.model.statistics import batch_norms, frozen_statistics, running_statistics
from diptych.pairs import Batch
from diptych.pairs.order import hash_keys
from diptych.training.config import TrainConfig
from diptych.training.footprint import SIZES, Footprint, footprint, free_bytes
from diptych.training.gradients import cached_gradients, chunk_seed
from diptych.training.meter import first_bad_layer
from diptych.training.objective import Contrastive, Objective
from diptych.training.optim import Average, optimizer, optimizer_state
from diptych.training.predicting import BagPrediction, CaptionPrediction, Classification
from diptych.training.tuning import add_low_rank, image_layers, lock_tower, merged, still_modules, unmerged
from diptych.training.world import World, in_pieces, local, whole
from diptych.weights import ModelSpec, load_checkpoint

BATCHES = 3  # whose pictures lie in memory: the one at work and those that are made ahead


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
        self.teachers = [self._teacher(name) for name in config.teachers]
        self.objective = self._objective(self._build())
        self.model = self.objective.model
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        self.forward = world.wrap(self.objective, config.parallel, self.dtype)
        self.average = None
        if config.ema:
            average = self._objective(self._build())
            if self.in_pieces:
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
        late = [p.grad for p in self.objective.late() if p.grad is not None]
        world.mean(late)
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.objective.parameters() if p.grad is not None]
        norm = gradient_norm([p.grad for p in parameters if p.grad is not None], world)
        if not torch.isfinite(loss) or not (torch.isfinite(norm) or self.scaler.is_enabled()):
            size = self.chunk or len(batch)
            # Of parameters in pieces each process knows its own, and would go another way than the others.
            some = batch.part(slice(0, size), self.device)
            where = "" if self.in_pieces else first_bad_layer(self.objective, *some)
            raise TrainingError(
                f"the loss is {loss.item()} and the gradient {norm.item()} at step {number}: the run went "
                f"astray{f', first in {where}' if where else ''}. Start again in another folder with a lower "
                f"lr (now {config.lr:g}), a longer warmup or float32"
            )
        if config.clip:
            shrink = (config.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([local(p.grad) for p in parameters if p.grad is not None], shrink)
        self.scaler.step(self.optimizer)  # float16: leaves the step out where a gradient overflowed
        self.scaler.update()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(config.max_scale))
        world.mean(self.statistics)
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

    def largest_chunk(self, batch: Batch, most: int) -> int:
        """Pairs that can be encoded at once in the memory there is.

        Parameters
        ----------
        batch : Batch
            Some pairs to try.
        most : int
            Pairs of this process in a step; the answer if all of them can.
        """
        if len(batch) <= max(SIZES):
            return most
        parameters = list(self.objective.parameters())
        # Still to come: gradients, and two moments for each weight that learns.
        coming = 12 * sum(local(p).numel() for p in parameters if p.requires_grad)
        found = self.footprint(batch).largest(free_bytes(self.device) - coming, most, bytes_each(self.config))
        return int(min(self.world.every(found)))

    def footprint(self, batch: Batch) -> Footprint:
        """Memory of a pass, from a few pairs, on pictures as large as the run will have them."""
        self._train_mode()
        side = self.config.largest_side
        few = batch.crops[: max(SIZES)].float()
        batch = replace(batch, crops=interpolate(few, (side, side)).to(torch.uint8))

        def encode(count: int) -> object:
            with self._precision(), frozen_statistics(self.objective):
                return self.objective(*batch.part(slice(0, count), self.device))

        parameters = [local(p) for p in self.objective.parameters()]
        counted = footprint(encode, parameters)
        if not self.config.grad_checkpointing:
            return counted
        # What is computed again on the way back is there for one block at a time.
        self.model.set_grad_checkpointing(False)
        whole = footprint(encode, parameters)
        self.model.set_grad_checkpointing(True)
        shape = self.model.config
        return counted.with_part(whole, 1 / min(image_layers(shape), shape.text.layers))

    def _train_mode(self) -> None:
        self.objective.train()
        for module in self.still:
            module.eval()

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _build(self, *, plain: bool = False) -> CLIP:
        """A model at its start, changed as the config has it, or plain."""
        config = self.config
        model = build(config.architecture, seed=config.seed).to(self.device)
        if not self.in_pieces:  # FSDP2 cuts contiguous parameters only
            model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not plain and config.lora:
            add_low_rank(model, config.lora, config.lora_alpha, seed=config.seed, lock=config.lock)
        elif not plain:
            lock_tower(model, config.lock)
        return model

    def _objective(self, model: CLIP) -> Objective:
        config = self.config
        if config.objective == "contrastive":
            return Contrastive(
                model,
                loss=config.loss,
                share_text=config.share_text,
                compiled=config.compile,
                teachers=self.teachers,
                similarity=config.distil_similarity,
                features=config.distil_features,
                positive=config.same_caption == "positive",
                negatives=config.negatives_weight if config.negatives else None,
            )
        if config.objective == "classes":
            classes = torch.from_numpy(hash_keys(config.classes).view(np.int64).copy()).sort().values
            return Classification(model, classes, config.seed).to(self.device)
        if config.objective == "captions":
            return CaptionPrediction(model, config.seed).to(self.device)
        return BagPrediction(model, 1 if config.objective == "words" else 3, config.seed).to(self.device)

    def _teacher(self, name: str) -> CLIP:
        """A stronger model, which must read what this one reads: the same colours and ids."""
        checkpoint = load_checkpoint(name)
        refuse_other_inputs(self.config, checkpoint.spec, name)
        model = build(checkpoint.spec.architecture, seed=0).to(self.device)
        model.load_state_dict(checkpoint.state)
        model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval().requires_grad_(False)

    def _objectives(self) -> dict[str, Objective]:
        found = {"model": self.objective}
        return found if self.average is None else {**found, "average": self.average.model}

    @property
    def in_pieces(self) -> bool:
        """Whether each process holds a piece of every parameter."""
        return self.config.parallel == "fsdp" and self.world.size > 1

    def evaluated(self) -> Objective:
        """What to measure and keep: averaged if there is an average, whole and plain. All must call this."""
        trained = self._objectives().get("average", self.objective)
        if not self.in_pieces and not self.config.lora:
            return trained
        plain = self._objective(self._build(plain=True))
        state = {name: whole(tensor) for name, tensor in trained.state_dict().items()}
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
                    **{key: _like(memory[key], parameter) for key in ("exp_avg", "exp_avg_sq")},
                }
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(tensors["scaler"])


def bytes_each(config: TrainConfig) -> int:
    """What every pair of a batch takes, whatever the chunks: its rows, their gradients, and its pictures."""
    rows = 8 * 4 * config.architecture.embed_dim
    return rows + BATCHES * 3 * config.largest_side**2


def refuse_other_inputs(config: TrainConfig, spec: ModelSpec, name: str) -> None:
    """Raise TrainingError for a model that reads other ids or other colours than the run gives."""
    # Side and length may differ: position tables are resized, and what does not fit is refused elsewhere.
    ours = config.spec
    sized = replace(spec.preprocess, size=ours.preprocess.size)
    cut = replace(spec.tokenizer, context_length=ours.tokenizer.context_length)
    for what, theirs in (("tokenizer", cut), ("preprocess", sized)):
        mine = getattr(ours, what)
        if theirs != mine:
            raise TrainingError(
                f"{name} has another {what}: {theirs}, this run has {mine}. To go on from it, set its "
                "inputs: TrainConfig(start=name, **inputs_of(name)), as --from does"
            )


def gradient_norm(gradients: Sequence[Tensor], world: World) -> Tensor:
    """The Euclidean norm of all gradients together, those in pieces summed over the processes."""
    if not gradients:
        return torch.zeros(())
    pieces = [g for g in gradients if in_pieces(g)]
    here = [g for g in gradients if not in_pieces(g)]
    square = torch.zeros((), device=gradients[0].device)
    if here:
        square += torch.stack(torch._foreach_norm(here)).square().sum()
    if pieces:
        square += world.sum(torch.stack(torch._foreach_norm([local(g) for g in pieces])).square().sum())
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
        tensor.copy_(_like(state[name], tensor))


def _like(new: Tensor, tensor: Tensor) -> Tensor:
    """A new tensor on the device of another, and cut into pieces as that is."""
    new = new.detach().to(tensor.device)
    if in_pieces(tensor) and not in_pieces(new):
        from torch.distributed.tensor import distribute_tensor

        new = distribute_tensor(new, tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]
    return new.clone(memory_format=torch.preserve_format)
