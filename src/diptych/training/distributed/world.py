"""The processes of a run: how they communicate and agree on what to do next.

`torchrun` (or Slurm) starts the same command several times and gives each process its number; `joining.py`
makes one object of that, which the loop and the step ask. One process is a world too. How features are
exchanged in the loss is `diptych.training.losses`' matter.

Two rules keep collectives matched. Nobody enters one because of something that only this process knows: the
decision is broadcast first (`broadcast`, `any_rank`, `run_on_first`). And an error on one process ends all
of them (`fail`).
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
from diptych.training.losses.exchange import Alone, Exchange, Gathered, Ring
from diptych.training.objectives.objective import Objective

T = TypeVar("T")
CPU = torch.device("cpu")
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed out", re.IGNORECASE)
# Whether a forward pass overwrites running statistics with the first process's; torch 2.13 renamed it.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"


class World:
    """One process.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.
    exchange : Exchange
        For the losses.
    """

    rank, size = 0, 1
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
        """The context of a forward and backward pass of one chunk; `last` of a step."""
        yield

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over the processes in place of each tensor."""

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set on any process."""
        return flags

    def broadcast(self, value: T) -> T:
        """The first process's value."""
        return value

    def run_on_first(self, work: Callable[[], T], serve: Callable[[int], object] | None = None) -> T:
        """Call `work` on the first process alone, however long it takes, and return its result on all.

        Parameters
        ----------
        work : callable
            Its result must be something that JSON can hold.
        serve : callable, optional
            Called on the other processes with each number that `work` sends (`send_from_first`).
        """
        return work()

    def send_from_first(self, number: int) -> None:
        """Inside `run_on_first`, on the first process: let the others call `serve(number)`."""

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes."""
        return [value]

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        return value

    def barrier(self) -> None:
        """Wait until all processes are here."""

    def note(self, text: str) -> None:
        """Record what this process does next, for the report of processes that wait for it."""

    def fail(self, error: BaseException, step: int) -> TrainingError | None:
        """Report an error of this process to all others, which then end, too.

        Parameters
        ----------
        error : BaseException
            It may also be what another process's failure did to this one.
        step : int
            Steps done, for the message.

        Returns
        -------
        TrainingError or None
            What to raise instead, where another process failed first.
        """
        return None

    def close(self, *, failed: bool = False) -> None:
        """Leave the other processes; `failed` does not wait for collectives under way."""


class DistributedWorld(World):
    """One process among several; see `joining.join`.

    Parameters
    ----------
    accelerator : Accelerator
    exchange : {"gathered", "ring"}
    """

    def __init__(self, accelerator: Accelerator, exchange: Literal["gathered", "ring"]) -> None:
        self.accelerator, self.device = accelerator, accelerator.device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.exchange = Ring() if exchange == "ring" else Gathered()
        self.store = dist.distributed_c10d._get_default_store()
        self._runs = self._sent = 0  # calls of `run_on_first`, and messages of the last one
        # A connection of its own: a store answers one call at a time, and this process may wait inside one
        # (NCCL makes its communicators through the store) for the very process that has failed.
        connection = self.store.clone()  # type: ignore[attr-defined]
        self.watchdog = Watchdog(connection, self.rank, self.size, abort=self._abort)

    def wrap(self, objective: Objective, parallel: Parallel, dtype: torch.dtype) -> nn.Module:
        """DDP keeps the whole model on every process, FSDP2 shards every parameter.

        What neither may touch (see `outside_parameters`) has its gradients averaged by `all_reduce_mean`.
        """
        outside = outside_parameters(objective, parallel)
        if parallel == "fsdp":
            shard(objective, dtype, set(outside), self.device.type)
            keep_tokens_on_host(objective)
            return objective
        flags = [parameter.requires_grad for parameter in outside]
        for parameter in outside:
            parameter.requires_grad_(False)  # DDP ignores what does not learn
        # No `device_ids`: with them DDP sends every argument to the GPU, but tokens are read on the host.
        wrapped = DistributedDataParallel(
            objective,
            gradient_as_bucket_view=True,  # or every gradient would be held twice
            **{_SYNC_BUFFERS: False},  # type: ignore[arg-type]
        )
        for parameter, flag in zip(outside, flags, strict=True):
            parameter.requires_grad_(flag)
        return wrapped

    @contextmanager
    def backward(self, wrapped: nn.Module, last: bool) -> Iterator[None]:
        """DDP all-reduces with the last pass. FSDP2 reduce-scatters with each.

        Without that, FSDP2 would hold the full float32 gradient of the model until the last chunk: more than
        the parameters that it shards.
        """
        alone = isinstance(wrapped, DistributedDataParallel) and not last
        with wrapped.no_sync() if alone else nullcontext():  # type: ignore[operator]
            yield

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """In one message, summed in float64."""
        if not tensors:
            return
        flat = torch.cat([tensor.detach().flatten().double() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            with torch.no_grad():
                tensor.copy_(part.view_as(tensor))

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set on any process; over gloo, so no kernel is waited for."""
        values = torch.tensor(flags, dtype=torch.int32, device=CPU)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return tuple(bool(value) for value in values.tolist())

    def broadcast(self, value: T) -> T:
        """The first process's value."""
        box = [value]
        dist.broadcast_object_list(box, device=CPU)
        return box[0]

    def run_on_first(self, work: Callable[[], T], serve: Callable[[int], object] | None = None) -> T:
        """Call `work` on the first process; the others wait for its messages; the last is the result.

        The messages are numbered entries of the store: a collective would end with its time-out where an
        evaluation takes longer.
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
            assert serve is not None, "work sends numbers, and nothing serves them"
            serve(message["number"])

    def send_from_first(self, number: int) -> None:
        """Write a number for the other processes."""
        self._send({"number": number})

    def _send(self, message: dict[str, Any]) -> None:
        self.store.set(self._message_key(self._sent), json.dumps(message))
        self._sent += 1

    def _receive(self) -> dict[str, Any]:
        """The next message; waiting for it ends if another process fails or the first one falls silent."""
        key = self._message_key(self._sent)
        beats, heard = 0, time.monotonic()
        # A message often follows at once (the next block of a model). `TCPStore.wait` would print a warning
        # at each of its time-outs, and without one it could not be interrupted.
        pause = 0.001
        while not self.store.check([key]):
            if self.watchdog.failure is not None:
                raise TrainingError(self.watchdog.failure.text)
            if (now := self.watchdog.beats(0)) != beats:
                beats, heard = now, time.monotonic()
            if time.monotonic() - heard > SILENCE:
                raise TrainingError(f"connection closed: process 0 gave no sign of life for {SILENCE:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        self._sent += 1
        message = json.loads(self.store.get(key))
        # The last reader removes it. The first process cannot: it may be far ahead, as NCCL's collectives are
        # only queued where they are called.
        if self.store.add(f"{key}/readers", 1) == self.size - 1:
            self.store.delete_key(key)
            self.store.delete_key(f"{key}/readers")
        return message  # type: ignore[no-any-return]

    def _message_key(self, number: int) -> str:
        return f"diptych/first/{self._runs}/{number}"

    def all_gather(self, value: T) -> list[T]:
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
        """Wait until all processes are here."""
        self.any_rank(False)

    def note(self, text: str) -> None:
        """Tell the watchdog."""
        self.watchdog.note(text)

    def fail(self, error: BaseException, step: int) -> TrainingError | None:
        """Write the error to the store, unless another process's error there has caused it."""
        lost = isinstance(error, Exception) and is_connection_error(error)
        if lost and self.watchdog.failure is None:
            self._await_failure()
        failure = self.watchdog.failure
        if failure is None and not lost:
            failure = self.watchdog.report_failure(f"{type(error).__name__}: {error}")
            if failure.rank == self.rank:
                return None
        goes_on = "What was saved is whole: the same command with --resume goes on"
        if failure is None:
            return TrainingError(
                f"process {self.rank} of {self.size} lost another one at step {step} ({error}). {goes_on}"
            )
        return TrainingError(
            f"process {failure.rank} of {self.size} failed, and so process {self.rank} ends at step {step}: "
            f"{failure.text}. {goes_on}"
        )

    def _await_failure(self, seconds: float = 3.0) -> None:
        """A connection broke: give the process that broke it the time to say why."""
        deadline = time.monotonic() + seconds
        try:
            while self.watchdog.look() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        except Exception:
            pass

    def close(self, *, failed: bool = False) -> None:
        """Close the connections. After a failure collectives may be under way, which would be waited for."""
        self.watchdog.stop()
        gc.collect()
        if failed:
            self._abort()
        if dist.is_initialized():
            dist.destroy_process_group()

    def _abort(self) -> None:
        """End NCCL's collectives. Gloo's end as the other process closes its connection."""
        if self.device.type == "cuda" and dist.is_initialized():
            dist.distributed_c10d._abort_process_group()


def is_connection_error(error: Exception) -> bool:
    """Whether another process is gone: NCCL's errors are DistErrors, gloo's plain RuntimeErrors.

    A connection to a server of data raises other classes: that is an error of this process, which the others
    have to be told of.
    """
    if isinstance(error, dist.DistError):
        return True
    # `checkpoint` and `run_on_first` wrap what the connections raise.
    possible = isinstance(error, RuntimeError | SaveError | TrainingError)
    return possible and _LOST.search(str(error)) is not None
