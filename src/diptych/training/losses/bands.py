"""One process's band of the matrix, rows of its own against blocks of everybody's columns; gradients of it.

What the losses in `contrastive.py` and `distillation.py` share: they differ in what they make of a tile.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diptych.training.losses.exchange import Block, Exchange
from diptych.training.losses.tiles import Tiles, working_type


class Part:
    """One process's part of the matrix: its own rows against whatever block of columns is there."""

    def __init__(
        self, a: Tensor, b: Tensor, scale: Tensor, tile: tuple[int, int] | None, exchange: Exchange
    ) -> None:
        self.a, self.b, self.scale, self.tile, self.exchange = a, b, scale, tile, exchange
        self.dtype = working_type(a, b)
        # Vectors of length N cost nothing, so they take the widest type the device has.
        self.wide = self.dtype if a.device.type == "mps" else torch.float64
        self.pairs = a.shape[0] * exchange.size

    def tiles(self, block: Block, own: Tensor | None) -> Tiles:
        """The tiles of a block; `block.fixed` begins with its texts and its groups, `own` are our groups."""
        b, groups = block.fixed[:2]
        assert b is not None
        both = None if own is None or groups is None else (own, groups)
        ahead = self.exchange.rank * self.a.shape[0] - block.start
        return Tiles(self.a, b, self.scale, both, self.tile, ahead)

    def zero(self) -> Tensor:
        """A sum to begin."""
        return torch.zeros((), dtype=self.wide, device=self.a.device)

    def gradients(
        self,
        fixed: tuple[Tensor | None, ...],
        derive: Callable[[Block, Tensor | None, Tensor | None], None],
        factor: Tensor,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients in a, b and scale; `derive` adds a block's ``P b`` and ``P^T a`` to what it is given."""
        need_a, need_b, need_scale = needs
        with_rows = need_a or (need_scale and not need_b)
        onto_a = torch.zeros_like(self.a, dtype=self.dtype) if with_rows else None
        onto_b = torch.zeros_like(self.b, dtype=self.dtype) if need_b else None
        onto_b = self.exchange.carry(fixed, onto_b, lambda block: derive(block, onto_a, block.sums))
        dot = self.zero()
        # Rows of the matrix that are ours, or columns: either way the processes' parts make up the whole.
        rows, sums = (self.a, onto_a) if onto_a is not None else (self.b, onto_b)
        if need_scale and sums is not None:
            for some, theirs in zip(torch.split(rows, 4096), torch.split(sums, 4096), strict=True):
                dot += torch.linalg.vecdot(some.to(self.dtype), theirs).sum(dtype=self.wide)
        slope = factor * self.scale.detach().to(factor.device, factor.dtype).reshape(())
        grad_a = onto_a.mul_(slope) if onto_a is not None and need_a else None
        grad_b = onto_b.mul_(slope) if onto_b is not None else None
        return grad_a, grad_b, dot * factor if need_scale else None


def like(found: tuple[Tensor | None, ...], inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Each gradient in the type, shape and place of its input."""
    return tuple(
        None if grad is None else grad.to(given.device, given.dtype).reshape(given.shape)
        for grad, given in zip(found, inputs, strict=True)
    )
