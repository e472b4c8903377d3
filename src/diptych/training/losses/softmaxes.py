"""Two softmaxes of one tile, over its rows and over its columns, with one exponential an entry.

A log-sum-exp must be shifted before the exponential. Rows and columns want different shifts, which would be
two exponentials for each entry; one is enough if a tile is shifted by a single c, its largest entry::

    e_ij = exp(s_ij - c)      R_i <- log(exp R_i + exp(c) sum_j e_ij)      C_j likewise
    P_ij = e_ij (exp(c - R_i) + exp(c - C_j))

This loses what lies more than 87 below c (float32's exponential is zero there). For a row whose log-sum is
at least c - 60 that is less than n exp(-87) / exp(-60) of its sum, 4e-9 for n = 2,048: nothing. So after each
tile the new R and C are looked at, and where one lies lower the tile is done again with a shift for each row
and each column. A shift fixed once and for all, such as t, has no such check: it gives log 0 when all cosines
are low. In the backward pass R and C are final, every entry of a tile is at most c = min(max R_i, max C_j),
and the same test is made for all tiles at once. R and C are kept in float64: next to 100, float32 has steps
of 8e-6.

Names as in `contrastive.py`: s a tile of scaled cosines, R and C log-sums of the whole matrix's rows and
columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.training.losses.tiles import Tiles

# Shapes: m x n one tile.

SPREAD = 60.0  # how far below a tile's shift a row's log-sum may lie; see above


def absorb(s: Tensor, work: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """The log-sums R (m,) and C (n,) with the entries of one tile added."""
    shift = s.max().clamp_min(torch.finfo(s.dtype).min)  # a tile may be masked altogether
    torch.sub(s, shift, out=work).exp_()
    new_row = torch.logaddexp(row, work.sum(1).to(row.dtype).log() + shift)
    new_column = torch.logaddexp(column, work.sum(0).to(row.dtype).log() + shift)
    # On a GPU this comparison waits for the tile; with tiles of that size the wait is hidden.
    if torch.minimum(new_row.min(), new_column.min()) < shift - SPREAD:
        new_row = torch.logaddexp(row, _log_sum(s, work, 1, row.dtype))
        new_column = torch.logaddexp(column, _log_sum(s, work, 0, row.dtype))
    return new_row, new_column


def _log_sum(s: Tensor, work: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Log-sum-exp over one dimension with a shift for each slice, without a third buffer."""
    shift = s.amax(dim, keepdim=True).clamp_min_(torch.finfo(s.dtype).min)
    torch.sub(s, shift, out=work).exp_()
    return work.sum(dim).to(dtype).log() + shift.squeeze(dim)


def shifts_of(tiles: Tiles, row: Tensor, column: Tensor) -> dict[tuple[int, int], float | None]:
    """For each tile its common shift, None where rows and columns lie too far apart for one."""
    row_ends = [torch.stack((row[rows].min(), row[rows].max())) for rows in tiles.rows]
    column_ends = [torch.stack((column[columns].min(), column[columns].max())) for columns in tiles.columns]
    (row_low, row_high), (column_low, column_high) = (
        torch.stack(ends).t() for ends in (row_ends, column_ends)
    )
    # No entry of the tile is larger. A whole number is the same in float32, where the scores are shifted.
    shift = torch.minimum(row_high[:, None], column_high).ceil()
    safe = torch.minimum(row_low[:, None], column_low) >= shift - SPREAD
    found: dict[tuple[int, int], float | None] = {}
    for rows, shifts, fits in zip(tiles.rows, shift.tolist(), safe.tolist(), strict=True):
        for columns, value, fit in zip(tiles.columns, shifts, fits, strict=True):
            found[rows.start, columns.start] = value if fit else None
    return found


def softmaxes(s: Tensor, work: Tensor, row: Tensor, column: Tensor, shift: float | None) -> Tensor:
    """``exp(s - R) + exp(s - C)`` in place, with one exponential an entry where one shift fits all."""
    if shift is None:
        row_shift, column_shift = row.ceil(), column.ceil()
        torch.sub(s, row_shift.to(s.dtype), out=work).exp_().mul_((row_shift - row).exp().to(s.dtype))
        s.sub_(column_shift.to(s.dtype)).exp_().mul_((column_shift - column).exp().to(s.dtype))
        return s.add_(work)
    s.sub_(shift).exp_()
    torch.add((shift - row).exp().to(s.dtype), (shift - column).exp().to(s.dtype), out=work)
    return s.mul_(work)
