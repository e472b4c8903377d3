"""The processes of a run: collectives, common decisions, and what happens when one of them fails.

`torchrun` (or Slurm) starts the same command several times and gives each process its rank; `joining.py`
makes a `World` of them. A single process is a world of size 1. The exchange of features in the loss is in
`losses.feature_exchange`.

Two rules keep collectives matched. No process enters one because of something that only it knows: the
decision is shared first (`broadcast`, `any_rank`, `run_on_first`). And an error on one process ends all
(`fail`). e.g. the time limit is over on rank 0 at step 100 and on rank 1 at step 101: `any_rank` makes both
stop at 100.
"""

from __future__ import annotations

import gc
import inspect
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.errors import SaveError, TrainingError
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.sharding import Parallel, keep_tokens_on_host, outside_parameters, shard
from diptych.training.distributed.watchdog import SILENCE, Watchdog
from diptych.training.losses.feature_exchange import AllGatherExchange, Exchange, NoExchange, RingExchange
from diptych.training.objectives.objective import Objective

T = TypeVar("T")
CPU = torch.device("cpu")
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed out", re.IGNORECASE)
# Option by which a forward pass overwrites running statistics with those of rank 0; torch 2.13 renamed it.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"


class World:
    """A single process, and the interface of several.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of all processes.
    exchange : Exchange
        For the losses.
    """

    rank, size = 0, 1
    exchange: Exchange = NoExchange()

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files and messages."""
        return self.rank == 0

    def wrap(self, objective: Objective, parallel: Parallel, dtype: torch.dtype) -> nn.Module:
        """Wrap the objective, so that its gradients are averaged over the processes."""
        return objective

    @contextmanager
    def backward(self, wrapped: nn.Module, last: bool) -> Iterator[None]:
        """Context of the forward and backward pass of a chunk; `last`: the last one of a step."""
        yield

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor with its mean over the processes."""

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set on any process."""
        return flags

    def broadcast(self, value: T) -> T:
        """The value of rank 0."""
        return value

    def run_on_first(self, work: Callable[[], T], serve: Callable[[int], object] | None = None) -> T:
        """Call `work` on rank 0 alone, without a time-out, and return its result on all processes.

        Parameters
        ----------
        work : callable
            Its result must consist of values of JSON.
        serve : callable, optional
            Called on the other processes with each number that `work` sends (`send_from_first`).
        """
        return work()

    def send_from_first(self, number: int) -> None:
        """Within `run_on_first`, on rank 0: make the others call `serve(number)`."""

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        return [value]

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        return value

    def barrier(self) -> None:
        """Wait for all processes."""

    def note(self, text: str) -> None:
        """Record what this process does next, for the reports of the watchdog."""

    def fail(self, error: BaseException, step: int) -> TrainingError | None:
        """Report an error of this process to all others, which then end as well.

        Parameters
        ----------
        error : BaseException
            May be a consequence of another process's failure, such as a lost connection.
        step : int
            Steps done, for the message.

        Returns
        -------
        TrainingError or None
            The error to raise instead, if another process failed first.
        """
        return None

    def close(self, *, failed: bool = False) -> None:
        """Leave the process group; with `failed`, without waiting for running collectives."""


class DistributedWorld(World):
    """One of several processes; see `joining.join`.

    Parameters
    ----------
    exchange : {"gathered", "ring"}
    """

    def __init__(self, accelerator: Accelerator, exchange: Literal["gathered", "ring"]) -> None:
        self.accelerator, self.device = accelerator, accelerator.device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.exchange = RingExchange() if exchange == "ring" else AllGatherExchange()
        self.store = dist.distributed_c10d._get_default_store()
        self._runs = self._sent = 0  # calls of `run_on_first`, and messages of the last one
        # A connection of its own: a store serves one call at a time, and this process may be waiting in one
        # (NCCL sets up communicators through the store) for the process that has failed.
        connection = self.store.clone()  # type: ignore[attr-defined]
        self.watchdog = Watchdog(connection, self.rank, self.size, abort=self._abort)

    def wrap(self, objective: Objective, parallel: Parallel, dtype: torch.dtype) -> nn.Module:
        """Wrap with DDP, which keeps the model on every process, or FSDP2, which shards every parameter.

        Gradients of `outside_parameters` are averaged by `all_reduce_mean` instead.
        """
        outside = outside_parameters(objective, parallel)
        if parallel == "fsdp":
            shard(objective, dtype, set(outside), self.device.type)
            keep_tokens_on_host(objective)
            return objective
        flags = [parameter.requires_grad for parameter in outside]
        for parameter in outside:
            parameter.requires_grad_(False)  # DDP ignores parameters without gradients
        # Without `device_ids`: with them DDP moves every argument to the GPU, but tokens are read on the
        # host.
        wrapped = DistributedDataParallel(
            objective,
            gradient_as_bucket_view=True,  # else every gradient would be held twice
            **{_SYNC_BUFFERS: False},  # type: ignore[arg-type]
        )
        for parameter, flag in zip(outside, flags, strict=True):
            parameter.requires_grad_(flag)
        return wrapped

    @contextmanager
    def backward(self, wrapped: nn.Module, last: bool) -> Iterator[None]:
        """DDP all-reduces gradients in the last pass; FSDP2 reduce-scatters them in each.

        Otherwise FSDP2 would hold the unsharded float32 gradient of the model until the last chunk: more than
        the parameters that it shards.
        """
        without_reduction = isinstance(wrapped, DistributedDataParallel) and not last
        with wrapped.no_sync() if without_reduction else nullcontext():  # type: ignore[operator]
            yield

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor with its mean over the processes: one message, summed in float64."""
        if not tensors:
            return
        flat = torch.cat([tensor.detach().flatten().double() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            with torch.no_grad():
                tensor.copy_(part.view_as(tensor))

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set on any process; by gloo, without waiting for kernels."""
        values = torch.tensor(flags, dtype=torch.int32, device=CPU)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return tuple(bool(value) for value in values.tolist())

    def broadcast(self, value: T) -> T:
        """The value of rank 0."""
        values = [value]
        dist.broadcast_object_list(values, device=CPU)
        return values[0]

    def run_on_first(self, work: Callable[[], T], serve: Callable[[int], object] | None = None) -> T:
        """Call `work` on rank 0; the others wait for its messages, of which the last is the result.

        Messages are numbered entries of the store, "diptych/first/CALL/NUMBER": a collective would time out
        during a long evaluation.
        """
        self._runs, self._sent = self._runs + 1, 0
        if self.first:
            value = work()
            self._send({"result": value})
            return value
        while True:
            message = self._receive()
            if "result" in message:
                return message["result"]  # type: ignore[no-any-return]
            assert serve is not None, "work sends numbers, but there is no `serve`"
            serve(message["number"])

    def send_from_first(self, number: int) -> None:
        """Send a number to the other processes."""
        self._send({"number": number})

    def _send(self, message: dict[str, Any]) -> None:
        self.store.set(self._message_key(self._sent), json.dumps(message))
        self._sent += 1

    def _receive(self) -> dict[str, Any]:
        """Wait for the next message; raises if another process fails or rank 0 is silent for `SILENCE`."""
        key = self._message_key(self._sent)
        beats, last_beat = 0, time.monotonic()
        # Polling, since `TCPStore.wait` prints a warning at each time-out and cannot be interrupted without
        # one. A short pause at first: messages often follow each other (the blocks of a model).
        pause = 0.001
        while not self.store.check([key]):
            if self.watchdog.failure is not None:
                raise TrainingError(self.watchdog.failure.text)
            if (now := self.watchdog.beats(0)) != beats:
                beats, last_beat = now, time.monotonic()
            if time.monotonic() - last_beat > SILENCE:
                raise TrainingError(f"connection closed: process 0 gave no sign of life for {SILENCE:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        self._sent += 1
        message = json.loads(self.store.get(key))
        # The last reader removes the entry. Rank 0 cannot, as it does not know when all have read it: NCCL's
        # collectives are queued, so it may be far ahead.
        if self.store.add(f"{key}/readers", 1) == self.size - 1:
            self.store.delete_key(key)
            self.store.delete_key(f"{key}/readers")
        return message  # type: ignore[no-any-return]

    def _message_key(self, number: int) -> str:
        return f"diptych/first/{self._runs}/{number}"

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        value = value.clone()
        dist.all_reduce(value)
        return value

    def barrier(self) -> None:
        """Wait for all processes."""
        self.any_rank(False)

    def note(self, text: str) -> None:
        """Pass the note to the watchdog."""
        self.watchdog.note(text)

    def fail(self, error: BaseException, step: int) -> TrainingError | None:
        """Write the error to the store, unless it is the consequence of another process's failure."""
        lost = isinstance(error, Exception) and is_connection_error(error)
        if lost and self.watchdog.failure is None:
            self._await_failure()
        failure = self.watchdog.failure
        if failure is None and not lost:
            failure = self.watchdog.report_failure(f"{type(error).__name__}: {error}")
            if failure.rank == self.rank:
                return None
        way_out = "The last checkpoint is complete: run the same command with --resume"
        if failure is None:
            return TrainingError(
                f"process {self.rank} of {self.size} lost the connection to another one at step {step} "
                f"({error}). {way_out}"
            )
        return TrainingError(
            f"process {failure.rank} of {self.size} failed, and so process {self.rank} ends at step {step}: "
            f"{failure.text}. {way_out}"
        )

    def _await_failure(self, seconds: float = 3.0) -> None:
        """Wait for the failure that broke a connection: its process may not have reported it yet."""
        deadline = time.monotonic() + seconds
        try:
            while self.watchdog.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        except Exception:  # the store is gone as well
            pass

    def close(self, *, failed: bool = False) -> None:
        """Close the connections; after a failure abort collectives, for which closing would wait."""
        self.watchdog.stop()
        gc.collect()
        if failed:
            self._abort()
        if dist.is_initialized():
            dist.destroy_process_group()

    def _abort(self) -> None:
        """Abort NCCL's collectives; those of gloo end when the other process closes its connection."""
        if self.device.type == "cuda" and dist.is_initialized():
            dist.distributed_c10d._abort_process_group()


def is_connection_error(error: Exception) -> bool:
    """Whether the connection to another process was lost: NCCL raises DistErrors, gloo RuntimeErrors.

    A lost connection to a data server raises other classes: it is an error of this process, to be reported to
    the others.
    """
    if isinstance(error, dist.DistError):
        return True
    # `checkpoint` and `run_on_first` wrap errors of connections in these two.
    possible = isinstance(error, RuntimeError | SaveError | TrainingError)
    return possible and _LOST.search(str(error)) is not None
