"""The matrix of scaled cosines, tile by tile in one buffer; and products of tiles with features.

Rows of the matrix are images, columns are texts. What is done with a tile is up to the caller
(`contrastive.py`, `distillation.py`), which passes a function from logits to derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Shapes: R rows, C columns, D width, m x n one tile.

CPU_TILE = (1024, 2048)  # 8 MiB in float32: fits the last-level cache; 256 x 1024 takes a quarter longer
GPU_TILE = (4096, 8192)  # 128 MiB in float32: large enough that the time to launch kernels does not matter


class LogitTiles:
    """A part of the matrix ``scale a b^T``, one tile at a time.

    Parameters
    ----------
    a, b : Tensor, (R, D) and (C, D)
        Some rows and some columns of the whole matrix.
    scale : Tensor
        One number.
    groups : (LongTensor (R,), LongTensor (C,)), optional
        Off-diagonal entries whose row and column have the same group are masked (-inf). With a second column,
        (R, 2) and (C, 2), so are those whose kinds in it differ.
    tile : (int, int), optional
        Rows and columns of a tile.
    offset : int
        Number of the first row less number of the first column, in the whole matrix: locates its diagonal.
    """

    def __init__(
        self,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        groups: tuple[Tensor, Tensor] | None = None,
        tile: tuple[int, int] | None = None,
        offset: int = 0,
    ) -> None:
        self.dtype = working_type(a, b)
        self.a, self.b, self.groups, self.offset = a.detach(), b.detach().contiguous(), groups, offset
        self.scale = scale.detach().to(a.device, self.dtype).reshape(())
        largest = tile or (CPU_TILE if a.device.type == "cpu" else GPU_TILE)
        height, width = min(largest[0], a.shape[0]), min(largest[1], b.shape[0])
        self.rows, self.columns = _slices(a.shape[0], height), _slices(b.shape[0], width)
        # One buffer for the logits, one for intermediate results: (2, m n). All tiles reuse both.
        self.buffers = a.new_empty(2, height * width, dtype=self.dtype)

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Row slice, column slice and tile; the tile may be written to, and the next one overwrites it."""
        for rows in self.rows:
            # Scaling the m x D rows costs less than scaling each m x n tile.
            a = self.a[rows].to(self.dtype) * self.scale  # (m, D)
            for columns in self.columns:
                yield rows, columns, self.logits(rows, columns, a)

    def logits(self, rows: slice, columns: slice, scaled_rows: Tensor | None = None) -> Tensor:
        """One tile, (m, n); `scaled_rows` is ``scale a[rows]`` where the caller has it already."""
        s = self.view(0, rows, columns)
        a = self.a[rows].to(self.dtype) * self.scale if scaled_rows is None else scaled_rows
        torch.mm(a, self.b[columns].to(self.dtype).t(), out=s)
        if self.groups is not None:
            row_groups, column_groups = (
                part[where] for part, where in zip(self.groups, (rows, columns), strict=True)
            )
            if row_groups.ndim == 1:
                masked = row_groups[:, None] == column_groups[None, :]
            else:
                equal = row_groups[:, None, :] == column_groups[None, :, :]  # (m, n, 2): group, kind
                masked = equal[..., 0] | ~equal[..., 1]
            self.diagonal(masked, rows, columns).fill_(False)  # a pair's own text is never masked
            s.masked_fill_(masked, -torch.inf)
        return s

    def view(self, buffer: int, rows: slice, columns: slice) -> Tensor:
        """A buffer in the shape of a tile; contiguous also for the smaller tiles at the edges."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return self.buffers[buffer, : height * width].view(height, width)

    def diagonal(self, tile: Tensor, rows: slice, columns: slice) -> Tensor:
        """View of the entries of a tile that lie on the diagonal of the whole matrix; often empty."""
        # e.g. offset 0, rows 4..7, columns 2..7: entry (4, 4) of the matrix is (0, 2) of the tile, so the
        # diagonal of the matrix is the tile's diagonal number 4 + 0 - 2 = 2.
        offset = rows.start + self.offset - columns.start
        if -tile.shape[0] < offset < tile.shape[1]:
            return tile.diagonal(offset)
        return tile.new_empty(0)

    def multiply(
        self,
        derivatives: Callable[[slice, slice, Tensor], Tensor],
        image_sum: Tensor | None,
        text_sum: Tensor | None,
    ) -> None:
        """Add ``P b`` to `image_sum` (R, D) and ``P^T a`` to `text_sum` (C, D).

        `derivatives` turns a tile of logits into a tile of P, usually in place.
        """
        for rows, columns, s in self:
            p = derivatives(rows, columns, s)  # (m, n)
            if text_sum is not None:
                text_sum[columns].addmm_(p.t(), self.a[rows].to(self.dtype))
            if image_sum is not None:
                image_sum[rows].addmm_(p, self.b[columns].to(self.dtype))


def working_type(a: Tensor, b: Tensor) -> torch.dtype:
    """The type in which tiles are computed: float32 at least."""
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)


def _slices(count: int, size: int) -> list[slice]:
    """Cut 0..count into slices of `size`; the last one may be shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
