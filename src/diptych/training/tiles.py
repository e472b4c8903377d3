"""The matrix of all scaled cosines, walked tile by tile; and products of tiles with features.

Rows of the matrix are pictures, columns are texts. One tile exists at a time, in a buffer made once. What a
tile is good for, `loss.py` says: it hands in what turns a tile of scores into a tile of derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Shapes: N pairs, D width, m x n one tile.

CPU_TILE = (1024, 2048)  # 8 MiB in float32: still in the last cache; 256 x 1024 takes a quarter longer
GPU_TILE = (4096, 8192)  # large enough that launching is free, 128 MiB in float32


class Tiles:
    """The matrix ``scale a b^T``, one tile at a time in one buffer."""

    def __init__(
        self, a: Tensor, b: Tensor, scale: Tensor, groups: Tensor | None, tile: tuple[int, int] | None
    ) -> None:
        count = a.shape[0]
        self.dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        # Vectors of length N cost nothing, so they take the widest type the device has.
        self.wide = self.dtype if a.device.type == "mps" else torch.float64
        self.a, self.b, self.groups = a.detach().contiguous(), b.detach().contiguous(), groups
        self.scale = scale.detach().to(a.device, self.dtype).reshape(())
        height, width = (
            min(side, count) for side in tile or (CPU_TILE if a.device.type == "cpu" else GPU_TILE)
        )
        self.rows, self.columns = _slices(count, height), _slices(count, width)
        self.buffers = a.new_empty(2, height * width, dtype=self.dtype)

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Row slice, column slice and tile; the tile may be written to, the next one overwrites it."""
        for rows in self.rows:
            a = self.a[rows].to(self.dtype) * self.scale  # (m, D)
            for columns in self.columns:
                s = self.view(0, rows, columns)
                torch.mm(a, self.b[columns].to(self.dtype).t(), out=s)  # (m, n)
                if self.groups is not None:
                    same = self.groups[rows, None] == self.groups[None, columns]
                    diagonal(same, rows, columns).fill_(False)
                    s.masked_fill_(same, -torch.inf)
                yield rows, columns, s

    def view(self, which: int, rows: slice, columns: slice) -> Tensor:
        """One of the two buffers in the shape of a tile, without gaps also at the edges."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return self.buffers[which, : height * width].view(height, width)

    def gradients(
        self, weigh: Callable[[slice, slice, Tensor], Tensor], factor: Tensor, needs: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients in a, b and scale, where `weigh` turns a tile of scores into a tile of dL/ds / factor."""
        need_a, need_b, need_scale = needs
        grad_a = torch.empty_like(self.a) if need_a else None
        grad_b = torch.zeros_like(self.b, dtype=self.dtype) if need_b else None
        dot = torch.zeros((), dtype=self.wide, device=self.a.device)
        block = self.a.new_empty(self.rows[0].stop, self.a.shape[1], dtype=self.dtype)
        with_rows = need_a or (need_scale and not need_b)
        for rows, columns, s in self:
            weights = weigh(rows, columns, s)  # (m, n)
            if grad_b is not None:
                grad_b[columns].addmm_(weights.t(), self.a[rows].to(self.dtype))
            if not with_rows:
                continue
            sums = block[: rows.stop - rows.start]
            sums.addmm_(weights, self.b[columns].to(self.dtype), beta=0 if columns.start == 0 else 1)
            if columns.stop == self.b.shape[0]:  # the row of tiles is complete
                dot += torch.linalg.vecdot(self.a[rows].to(self.dtype), sums).sum(dtype=self.wide)
                if grad_a is not None:
                    grad_a[rows] = sums.mul_(factor * self.scale)
        if grad_b is not None:
            if not with_rows:
                for columns in self.columns:
                    rows_b = self.b[columns].to(self.dtype)
                    dot += torch.linalg.vecdot(rows_b, grad_b[columns]).sum(dtype=self.wide)
            grad_b = grad_b.mul_(factor * self.scale).to(self.b.dtype)
        return grad_a, grad_b, dot * factor if need_scale else None


def diagonal(tile: Tensor, rows: slice, columns: slice) -> Tensor:
    """View of those entries of a tile that lie on the diagonal of the whole matrix; often none."""
    offset = rows.start - columns.start
    if -tile.shape[0] < offset < tile.shape[1]:
        return tile.diagonal(offset)
    return tile.new_empty(0)


def _slices(count: int, size: int) -> list[slice]:
    """Cut 0..count into slices of `size`, the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
