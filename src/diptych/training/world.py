"""The processes of a run: how they find each other, share a model, and agree.

`torchrun` (or Slurm) starts the same command several times and tells each process its number. Here that
becomes one object, asked by the loop and the step: who am I, wrap this model, is anybody out of data, add
this up. One process is a world too, with nothing to say. What is exchanged of features is `diptych.losses`'.
"""

from __future__ import annotations

import gc
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.errors import TrainingError
from diptych.losses.exchange import Alone, Exchange, Gathered, Ring
from diptych.model.blocks import ResidualAttentionBlock
from diptych.training.objective import Objective
from diptych.training.watchdog import Watchdog

Parallel = Literal["ddp", "fsdp"]
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed out", re.IGNORECASE)
# Whether a forward pass overwrites running statistics with the first process's; torch 2.13 renamed it.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"


class World:
    """One process.

    Attributes
    ----------
    rank, size, local : int
        This process's number, how many there are, and its number on its machine.
    exchange : Exchange
        For the losses.
    """

    rank, size, local = 0, 1, 0
    exchange: Exchange = Alone()

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks for all."""
        return self.rank == 0

    def wrap(self, objective: Objective, parallel: Parallel, dtype: torch.dtype) -> nn.Module:
        """The module to call in place of `objective`, so that its gradients are those of all processes."""
        return objective

    @contextmanager
    def backward(self, wrapped: nn.Module, last: bool) -> Iterator[None]:
        """A forward and backward pass; gradients are exchanged with the last one of a step."""
        yield

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over the processes in place of each tensor."""

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is up on any process."""
        return flags

    def broadcast(self, value: Any) -> Any:
        """The first process's value."""
        return value

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes."""
        return [value]

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        return value

    def barrier(self) -> None:
        """Until all are here."""

    def note(self, text: str) -> None:
        """Say what this process does next, for whoever waits for it."""

    def lost_peer(self, error: Exception) -> bool:
        """Whether an error means that another process is gone or does not answer."""
        return False

    def close(self) -> None:
        """The run is over."""


class DistributedWorld(World):
    """One process among several; see `join`."""

    def __init__(self, device: torch.device, exchange: Literal["gathered", "ring"]) -> None:
        self.device = device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local = int(os.environ.get("LOCAL_RANK", self.rank))
        self.exchange = Ring() if exchange == "ring" else Gathered()
        self.watchdog = Watchdog(dist.distributed_c10d._get_default_store(), self.rank, self.size)

    def wrap(self, objective: Objective, parallel: Parallel, dtype: torch.dtype) -> nn.Module:
        """DDP keeps the whole model on every process, FSDP2 cuts every parameter into as many pieces.

        Scale and bias stay outside: FSDP2 refuses parameters without a dimension, and DDP would wait for
        gradients that come from the loss and not from the towers. `mean` is for them.
        """
        late = set(objective.loss_parameters())
        if parallel == "fsdp":
            from torch.distributed.fsdp import fully_shard  # takes a second to import

            for block in objective.modules():
                if isinstance(block, ResidualAttentionBlock):
                    fully_shard(block)
            fully_shard(objective, ignored_params=late)
            return objective
        for parameter in late:
            parameter.requires_grad_(False)  # what does not learn, DDP leaves alone
        on = None if self.device.type == "cpu" else [self.device]
        wrapped = DistributedDataParallel(objective, device_ids=on, **{_SYNC_BUFFERS: False})  # type: ignore[arg-type]
        for parameter in late:
            parameter.requires_grad_()
        return wrapped

    @contextmanager
    def backward(self, wrapped: nn.Module, last: bool) -> Iterator[None]:
        """All-reduce (DDP) or reduce-scatter (FSDP2) with the last pass."""
        if isinstance(wrapped, DistributedDataParallel):
            with nullcontext() if last else wrapped.no_sync():
                yield
            return
        wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
        yield

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """In one message."""
        if not tensors:
            return
        flat = torch.cat([tensor.detach().flatten().double() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            with torch.no_grad():
                tensor.copy_(part.view_as(tensor))

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is up on any process."""
        told = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in told.tolist())

    def broadcast(self, value: Any) -> Any:
        """The first process's value."""
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        value = value.clone()
        dist.all_reduce(value)
        return value

    def barrier(self) -> None:
        """Until all are here."""
        dist.barrier()

    def note(self, text: str) -> None:
        """Tell the watchdog."""
        self.watchdog.note(text)

    def lost_peer(self, error: Exception) -> bool:
        """The backends have no class for it: NCCL's errors are DistErrors, gloo's plain RuntimeErrors."""
        return isinstance(error, dist.DistError) or _LOST.search(str(error)) is not None

    def close(self) -> None:
        """Close the connections."""
        self.watchdog.stop()
        gc.collect()
        dist.destroy_process_group()


def join(device: torch.device, exchange: Literal["gathered", "ring"], minutes: float = 10.0) -> World:
    """The world that the environment tells of: WORLD_SIZE and RANK, as torchrun and Slurm scripts set them.

    Parameters
    ----------
    device : torch.device
        What this process computes on.
    exchange : {"gathered", "ring"}
        How features meet.
    minutes : float
        How long to wait for another process before giving up.

    Raises
    ------
    TrainingError
        The processes do not find each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=timedelta(minutes=minutes))
        except (ValueError, RuntimeError, dist.DistError) as error:
            raise TrainingError(
                f"this process is told to be one of {os.environ['WORLD_SIZE']}, and cannot find the others: "
                f"{error}. Start them together: torchrun --nproc-per-node 2 -m diptych train ..."
            ) from error
    return DistributedWorld(device, exchange)
