"""The matrix of all scaled cosines, walked tile by tile; and products of tiles with features.

Rows of the matrix are pictures, columns are texts. One tile exists at a time, in a buffer made once. What a
tile is good for, `contrastive.py` says: it hands in what turns a tile of scores into a tile of derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Shapes: N pairs, D width, m x n one tile.

CPU_TILE = (1024, 2048)  # 8 MiB in float32: still in the last cache; 256 x 1024 takes a quarter longer
GPU_TILE = (4096, 8192)  # large enough that launching is free, 128 MiB in float32


class Tiles:
    """A part of the matrix ``scale a b^T``, one tile at a time in one buffer.

    Parameters
    ----------
    a, b : Tensor, (R, D) and (K, D)
        Some rows and some columns of the whole matrix.
    scale : Tensor
        One number.
    groups : (LongTensor (R,), LongTensor (K,)), optional
        Entries of equal number off the diagonal are absent (-inf).
    tile : (int, int), optional
        Rows and columns of a tile.
    ahead : int
        By how many the first row's number exceeds the first column's: where the diagonal lies.
    """

    def __init__(
        self,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        groups: tuple[Tensor, Tensor] | None = None,
        tile: tuple[int, int] | None = None,
        ahead: int = 0,
    ) -> None:
        self.dtype = working_type(a, b)
        self.a, self.b, self.groups, self.ahead = a.detach(), b.detach().contiguous(), groups, ahead
        self.scale = scale.detach().to(a.device, self.dtype).reshape(())
        wanted = tile or (CPU_TILE if a.device.type == "cpu" else GPU_TILE)
        height, width = min(wanted[0], a.shape[0]), min(wanted[1], b.shape[0])
        self.rows, self.columns = _slices(a.shape[0], height), _slices(b.shape[0], width)
        self.buffers = a.new_empty(2, height * width, dtype=self.dtype)

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Row slice, column slice and tile; the tile may be written to, the next one overwrites it."""
        for rows in self.rows:
            a = self.a[rows].to(self.dtype) * self.scale  # (m, D)
            for columns in self.columns:
                yield rows, columns, self.scores(rows, columns, a)

    def scores(self, rows: slice, columns: slice, scaled: Tensor | None = None) -> Tensor:
        """One tile, (m, n); `scaled` are its rows of a times the scale, where they are at hand."""
        s = self.view(0, rows, columns)
        a = self.a[rows].to(self.dtype) * self.scale if scaled is None else scaled
        torch.mm(a, self.b[columns].to(self.dtype).t(), out=s)
        if self.groups is not None:
            same = self.groups[0][rows, None] == self.groups[1][None, columns]
            self.diagonal(same, rows, columns).fill_(False)
            s.masked_fill_(same, -torch.inf)
        return s

    def view(self, which: int, rows: slice, columns: slice) -> Tensor:
        """One of the two buffers in the shape of a tile, without gaps also at the edges."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return self.buffers[which, : height * width].view(height, width)

    def diagonal(self, tile: Tensor, rows: slice, columns: slice) -> Tensor:
        """View of those entries of a tile that lie on the diagonal of the whole matrix; often none."""
        offset = rows.start + self.ahead - columns.start
        if -tile.shape[0] < offset < tile.shape[1]:
            return tile.diagonal(offset)
        return tile.new_empty(0)

    def multiply(
        self,
        weigh: Callable[[slice, slice, Tensor], Tensor],
        onto_a: Tensor | None,
        onto_b: Tensor | None,
    ) -> None:
        """Add ``P b`` to `onto_a`, ``P^T a`` to `onto_b`; `weigh` makes a tile of P of a tile of scores."""
        for rows, columns, s in self:
            weights = weigh(rows, columns, s)  # (m, n)
            if onto_b is not None:
                onto_b[columns].addmm_(weights.t(), self.a[rows].to(self.dtype))
            if onto_a is not None:
                onto_a[rows].addmm_(weights, self.b[columns].to(self.dtype))


def working_type(a: Tensor, b: Tensor) -> torch.dtype:
    """What tiles are computed in: float32 at least."""
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)


def _slices(count: int, size: int) -> list[slice]:
    """Cut 0..count into slices of `size`, the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
