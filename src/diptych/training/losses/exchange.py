"""How the texts of all processes meet the pictures of each: gathered once, or passed round a ring.

The matrix of N pairs on W processes is cut into W bands of rows: a process holds n = N / W pictures and has
to see every text. What it finds out about a text (a log-sum, a gradient) belongs to the process that holds
it. So blocks of texts travel, something is added to the sums that travel with them, and the sums come home:

========== ============================== ============================ =================================
exchange   what a process holds at once   what is sent, a process      when
========== ============================== ============================ =================================
`Alone`    its own texts, all there are   nothing                      one process
`Gathered` all N texts and their sums     N rows, and N rows of sums   one step of talk; the default
`Ring`     n texts and n sums, two times  the same, in W small steps   N rows of texts would not fit
========== ============================== ============================ =================================

No process ever holds a matrix of N x N, nor of n x N. `contrastive.py` says what is added; this file does
not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

Merge = Literal["add", "logaddexp"]
Fixed = Sequence[Tensor | None]


@dataclass(frozen=True)
class Block:
    """Some columns of the whole matrix.

    Attributes
    ----------
    start : int
        Number of the first one, among all N.
    fixed : sequence of Tensor or None
        What was handed to `carry`, for these columns: to be read.
    sums : Tensor or None
        To be added to in place.
    """

    start: int
    fixed: Fixed
    sums: Tensor | None


Work = Callable[[Block], None]


class Exchange(Protocol):
    """Where this process stands among the others, and how blocks of columns get about.

    Attributes
    ----------
    rank, size : int
        This process, and how many there are.
    """

    rank: int
    size: int

    def carry(self, fixed: Fixed, sums: Tensor | None, work: Work, merge: Merge = "add") -> Tensor | None:
        """Call `work` with blocks that cover all N columns, and bring the sums home.

        Parameters
        ----------
        fixed : sequence of Tensor or None
            What the columns of this process are, each of n rows on every process.
        sums : Tensor or None
            What is to be summed for each of them, n rows; its present content counts as empty and must be
            what adding begins with: 0, or -inf for "logaddexp".
        work : callable
            Called once for each block.
        merge : {"add", "logaddexp"}
            How sums of different processes are put together.

        Returns
        -------
        Tensor or None
            The sums of this process's own columns over the rows of all processes.
        """

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes."""


class Alone:
    """One process."""

    rank, size = 0, 1

    def carry(self, fixed: Fixed, sums: Tensor | None, work: Work, merge: Merge = "add") -> Tensor | None:
        """One block: all there is."""
        work(Block(0, fixed, sums))
        return sums

    def total(self, value: Tensor) -> Tensor:
        """The value."""
        return value


def mean_of(values: Tensor, exchange: Exchange) -> Tensor:
    """The mean over the pairs of all processes; the gradient is this process's part of it.

    Parameters
    ----------
    values : Tensor, shape (n,)
        One for each pair here; as many on every process.
    """
    part = values.sum() / (len(values) * exchange.size)
    return part + (exchange.total(part.detach()) - part.detach())


class _Processes:
    """What both exchanges between processes share.

    Parameters
    ----------
    group : ProcessGroup, optional
        By default all processes.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        value = value.clone()
        dist.all_reduce(value, group=self.group)
        return value


class Gathered(_Processes):
    """Every process holds all texts for as long as the loss takes."""

    def carry(self, fixed: Fixed, sums: Tensor | None, work: Work, merge: Merge = "add") -> Tensor | None:
        """One block: all columns, gathered."""
        whole = [None if tensor is None else self._gather(tensor) for tensor in fixed]
        if sums is None:
            work(Block(0, whole, None))
            return None
        count = sums.shape[0]
        every = sums.repeat(self.size, *[1] * (sums.ndim - 1))  # what adding begins with, N times
        work(Block(0, whole, every))
        self._reduce(every, merge)
        return every[self.rank * count : (self.rank + 1) * count].clone()

    def _gather(self, tensor: Tensor) -> Tensor:
        whole = tensor.new_empty(self.size * tensor.shape[0], *tensor.shape[1:])
        # Into views of one tensor: the call that takes the whole has changed its name over the years.
        dist.all_gather(list(whole.chunk(self.size)), tensor.contiguous(), group=self.group)
        return whole

    def _reduce(self, every: Tensor, merge: Merge) -> None:
        if merge == "add":
            dist.all_reduce(every, group=self.group)
            return
        top = every.clone()
        dist.all_reduce(top, dist.ReduceOp.MAX, group=self.group)
        top.clamp_min_(torch.finfo(top.dtype).min)  # -inf less -inf would be no number
        every.sub_(top).exp_()
        dist.all_reduce(every, group=self.group)
        every.log_().add_(top)


class Ring(_Processes):
    """Texts and their sums go from process to process, until they are home again."""

    def carry(self, fixed: Fixed, sums: Tensor | None, work: Work, merge: Merge = "add") -> Tensor | None:
        """W blocks: one's own columns first, then those of the process before, and so on."""
        # Sums that travel are added to where they are, so there is nothing to merge.
        now = [None if tensor is None else tensor.contiguous() for tensor in fixed]
        for turn in range(self.size):
            owner = (self.rank - turn) % self.size
            # What is only read is on its way to the next process while this one computes with it.
            last = turn + 1 == self.size
            coming, arrived = ([], None) if last else self._pass([t for t in now if t is not None])
            rows = next(tensor.shape[0] for tensor in now if tensor is not None)
            work(Block(owner * rows, now, sums))
            if arrived is not None:
                arrived()
            left = iter(coming)
            now = [None if tensor is None else next(left, tensor) for tensor in now]
            if sums is not None:  # also after the last turn: that step brings them home
                (sums,), wait = self._pass([sums])
                wait()
        return sums

    def _pass(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Callable[[], None]]:
        """Send to the next process, receive from the one before; returns the buffers and what waits."""
        if self.size == 1:
            return list(tensors), lambda: None
        after, before = ((self.rank + step) % self.size for step in (1, -1))
        if self.group is not None:
            after, before = (dist.get_global_rank(self.group, rank) for rank in (after, before))
        coming = [torch.empty_like(tensor) for tensor in tensors]
        steps = [dist.P2POp(dist.isend, tensor, after, self.group) for tensor in tensors]
        steps += [dist.P2POp(dist.irecv, tensor, before, self.group) for tensor in coming]
        running = dist.batch_isend_irecv(steps)

        def wait() -> None:
            for work in running:
                work.wait()

        return coming, wait
