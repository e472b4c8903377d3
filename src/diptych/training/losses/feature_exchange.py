"""Exchange of text features between processes: all-gathered at once, or passed round a ring.

The N x N logit matrix on W processes is cut into W bands of rows: a process holds n = N / W images and needs
every text. What it computes for a text (a log-sum, a gradient) belongs to the process that holds that text.
So blocks of text features travel, each process adds to the sums that travel with them, and the sums return:

=================== ============================== ============================ ===========================
exchange            held by a process at once      sent by a process            use
=================== ============================== ============================ ===========================
`NoExchange`        its own texts, which are all   nothing                      one process
`AllGatherExchange` all N texts and their sums     N texts, and N sums          one collective; the default
`RingExchange`      n texts and n sums, twice      the same, in W small steps   N texts would not fit
=================== ============================== ============================ ===========================

Example, N = 6 on W = 2 in a ring: process 0 computes rows 0..2 against columns 0..2 and then against columns
3..5, which process 1 has sent; meanwhile process 1 computes rows 3..5 against 3..5, then against 0..2. The
sums of columns 0..2 go 0 -> 1 -> 0 and so contain all six rows when they are back.

No process ever holds a matrix of N x N, nor of n x N. The losses decide what is added to the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

# Shapes: n pairs on a process, W processes, N = n W.

Merge = Literal["add", "logaddexp"]
# Tensors of n rows by name, e.g. {"texts": (n, D), "groups": (n,) or None}. The order of the names is the
# order in which tensors are sent, so it must be the same on every process.
ColumnInputs = Mapping[str, Tensor | None]


@dataclass(frozen=True)
class ColumnBlock:
    """Some columns of the logit matrix.

    Attributes
    ----------
    start : int
        Number of the first column, among all N.
    inputs : ColumnInputs
        What was passed to `for_each_block`, for these columns; read only.
    sums : Tensor or None
        To be added to in place.
    """

    start: int
    inputs: ColumnInputs
    sums: Tensor | None


Work = Callable[[ColumnBlock], None]


class Exchange(Protocol):
    """How this process gets the columns of the others, and returns sums to them.

    Attributes
    ----------
    rank, size : int
        Number of this process, and number of processes.
    """

    rank: int
    size: int

    def for_each_block(
        self, inputs: ColumnInputs, sums: Tensor | None, work: Work, merge: Merge = "add"
    ) -> Tensor | None:
        """Call `work` with blocks that cover all N columns, and return the sums to their owners.

        Parameters
        ----------
        inputs : ColumnInputs
            Tensors that describe the columns of this process, each of n rows on every process.
        sums : Tensor or None
            One sum per column of this process, n rows, filled with the neutral element: 0, or -inf for
            "logaddexp".
        work : callable
            Called once for each block.
        merge : {"add", "logaddexp"}
            How sums of different processes are combined.

        Returns
        -------
        Tensor or None
            The sums of this process's own columns over the rows of all processes.
        """

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""


class NoExchange:
    """A single process."""

    rank, size = 0, 1

    def for_each_block(
        self, inputs: ColumnInputs, sums: Tensor | None, work: Work, merge: Merge = "add"
    ) -> Tensor | None:
        """One block with all columns."""
        work(ColumnBlock(0, inputs, sums))
        return sums

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """The value itself."""
        return value


def global_mean(values: Tensor, exchange: Exchange) -> Tensor:
    """Mean over the pairs of all processes; its gradient is this process's part of the sum.

    Parameters
    ----------
    values : Tensor, shape (n,)
        One for each pair here; every process has the same number.
    """
    part = values.sum() / (len(values) * exchange.size)
    # Value: the sum of all parts. Gradient: that of our part alone, as the others compute theirs.
    return part + (exchange.all_reduce_sum(part.detach()) - part.detach())


class _DistributedExchange:
    """Base of the exchanges between processes.

    Parameters
    ----------
    group : ProcessGroup, optional
        By default all processes.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        value = value.clone()
        dist.all_reduce(value, group=self.group)
        return value


class AllGatherExchange(_DistributedExchange):
    """Every process holds all texts while the loss is computed."""

    def for_each_block(
        self, inputs: ColumnInputs, sums: Tensor | None, work: Work, merge: Merge = "add"
    ) -> Tensor | None:
        """One block with all columns, gathered."""
        gathered = {name: None if tensor is None else self._gather(tensor) for name, tensor in inputs.items()}
        if sums is None:
            work(ColumnBlock(0, gathered, None))
            return None
        count = sums.shape[0]
        # `sums` holds the neutral element, so repeating it gives that for all N columns.
        all_sums = sums.repeat(self.size, *[1] * (sums.ndim - 1))  # (N, ...)
        work(ColumnBlock(0, gathered, all_sums))
        self._all_reduce(all_sums, merge)
        return all_sums[self.rank * count : (self.rank + 1) * count].clone()

    def _gather(self, tensor: Tensor) -> Tensor:
        gathered = tensor.new_empty(self.size * tensor.shape[0], *tensor.shape[1:])
        # Into views of one tensor: the call that takes the whole tensor has another name in older torch.
        dist.all_gather(list(gathered.chunk(self.size)), tensor.contiguous(), group=self.group)
        return gathered

    def _all_reduce(self, sums: Tensor, merge: Merge) -> None:
        if merge == "add":
            dist.all_reduce(sums, group=self.group)
            return
        # log sum_r exp x_r over ranks r: shift by the maximum, add exponentials, take the logarithm.
        top = sums.clone()
        dist.all_reduce(top, dist.ReduceOp.MAX, group=self.group)
        top.clamp_min_(torch.finfo(top.dtype).min)  # -inf - (-inf) would be NaN
        sums.sub_(top).exp_()
        dist.all_reduce(sums, group=self.group)
        sums.log_().add_(top)


class RingExchange(_DistributedExchange):
    """Texts and their sums travel from process to process until they are back with their owner."""

    def for_each_block(
        self, inputs: ColumnInputs, sums: Tensor | None, work: Work, merge: Merge = "add"
    ) -> Tensor | None:
        """W blocks: this process's own columns, then those of the process before it, and so on."""
        # `merge` is not needed: travelling sums are added to in place, by one process at a time.
        current = {name: None if tensor is None else tensor.contiguous() for name, tensor in inputs.items()}
        for turn in range(self.size):
            # e.g. W = 4, rank 1: the blocks of ranks 1, 0, 3, 2.
            owner = (self.rank - turn) % self.size
            # Inputs are only read, so they are sent on while this process computes with them.
            last = turn + 1 == self.size
            tensors = [tensor for tensor in current.values() if tensor is not None]
            received, wait_inputs = ([], None) if last else self._pass(tensors)
            count = tensors[0].shape[0]
            work(ColumnBlock(owner * count, current, sums))
            if wait_inputs is not None:
                wait_inputs()
            queue = iter(received)
            current = {
                name: None if tensor is None else next(queue, tensor) for name, tensor in current.items()
            }
            if sums is not None:  # also after the last turn: that step returns them to their owner
                (sums,), wait_sums = self._pass([sums])
                wait_sums()
        return sums

    def _pass(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Callable[[], None]]:
        """Start to send to the next process and to receive from the one before.

        Returns
        -------
        received : list of Tensor
            Buffers, filled once the function has returned.
        wait : callable
            Waits for both directions.
        """
        if self.size == 1:
            return list(tensors), lambda: None
        after, before = ((self.rank + step) % self.size for step in (1, -1))
        if self.group is not None:
            after, before = (dist.get_global_rank(self.group, rank) for rank in (after, before))
        received = [torch.empty_like(tensor) for tensor in tensors]
        operations = [dist.P2POp(dist.isend, tensor, after, self.group) for tensor in tensors]
        operations += [dist.P2POp(dist.irecv, tensor, before, self.group) for tensor in received]
        # One batch, so that all processes may send before they receive without a deadlock.
        running = dist.batch_isend_irecv(operations)

        def wait() -> None:
            for work in running:
                work.wait()

        return received, wait
