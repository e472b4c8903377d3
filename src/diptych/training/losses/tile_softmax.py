"""Softmaxes of a tile over its rows and over its columns, with one exponential per entry.

A log-sum-exp must be shifted before the exponential. Rows and columns want different shifts, which would be
two exponentials per entry. One is enough if the whole tile is shifted by a single c, its largest entry::

    e_ij = exp(s_ij - c)      R_i <- log(exp R_i + exp(c) sum_j e_ij)      C_j likewise
    P_ij = e_ij (exp(c - R_i) + exp(c - C_j))

This loses entries more than 87 below c, where float32's exponential is zero. For a row whose log-sum is at
least c - 60 the loss is less than n exp(-87) / exp(-60) of its sum, e.g. 4e-9 for n = 2,048: negligible. So
after each tile the new R and C are checked, and where one is lower, the tile is computed again with a shift
per row and per column. A constant shift, such as the scale t, has no such check: it gives log 0 when all
cosines are low. In the backward pass R and C are final, every entry of a tile is at most
c = min(max R_i, max C_j), and the same check is made for all tiles at once. R and C are kept in float64:
next to 100, float32 has steps of 8e-6.

Names as in `contrastive.py`: s is a tile of scaled cosines, R and C are the log-sums of the rows and columns
of the whole matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.training.losses.logit_tiles import LogitTiles

# Shapes: m x n one tile.

SPREAD = 60.0  # how far below a tile's shift a row's log-sum may lie; see above


def add_to_log_sums(s: Tensor, work: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Add the entries of one tile to the log-sums R (m,) and C (n,); returns the new ones."""
    shift = s.max().clamp_min(torch.finfo(s.dtype).min)  # -inf where all of the tile is masked
    torch.sub(s, shift, out=work).exp_()
    new_row = torch.logaddexp(row, work.sum(1).to(row.dtype).log() + shift)
    new_column = torch.logaddexp(column, work.sum(0).to(row.dtype).log() + shift)
    # On a GPU this comparison waits for the tile; at the size of a GPU tile the wait is hidden.
    if torch.minimum(new_row.min(), new_column.min()) < shift - SPREAD:
        new_row = torch.logaddexp(row, _log_sum(s, work, 1, row.dtype))
        new_column = torch.logaddexp(column, _log_sum(s, work, 0, row.dtype))
    return new_row, new_column


def _log_sum(s: Tensor, work: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Log-sum-exp over one dimension with a shift per slice, without a third buffer."""
    shift = s.amax(dim, keepdim=True).clamp_min_(torch.finfo(s.dtype).min)
    torch.sub(s, shift, out=work).exp_()
    return work.sum(dim).to(dtype).log() + shift.squeeze(dim)


def tile_shifts(tiles: LogitTiles, row: Tensor, column: Tensor) -> dict[tuple[int, int], float | None]:
    """The common shift of each tile, by its first row and column; None where one shift is not enough."""
    row_ends = [torch.stack((row[rows].min(), row[rows].max())) for rows in tiles.rows]
    column_ends = [torch.stack((column[columns].min(), column[columns].max())) for columns in tiles.columns]
    (row_low, row_high), (column_low, column_high) = (
        torch.stack(ends).t() for ends in (row_ends, column_ends)
    )
    # No entry of the tile exceeds it: s_ij <= R_i <= max R and s_ij <= C_j <= max C. Rounded up to a whole
    # number, it is the same number in float32, in which the logits are shifted.
    shift = torch.minimum(row_high[:, None], column_high).ceil()  # (row slices, column slices)
    safe = torch.minimum(row_low[:, None], column_low) >= shift - SPREAD
    by_tile: dict[tuple[int, int], float | None] = {}
    for rows, shifts, are_safe in zip(tiles.rows, shift.tolist(), safe.tolist(), strict=True):
        for columns, value, is_safe in zip(tiles.columns, shifts, are_safe, strict=True):
            by_tile[rows.start, columns.start] = value if is_safe else None
    return by_tile


def sum_of_softmaxes(s: Tensor, work: Tensor, row: Tensor, column: Tensor, shift: float | None) -> Tensor:
    """``exp(s - R) + exp(s - C)`` in place.

    Parameters
    ----------
    s, work : Tensor, shape (m, n)
        A tile of logits, overwritten with the result; and a buffer.
    row, column : Tensor, shapes (m, 1) and (1, n)
        R and C.
    shift : float or None
        Of `tile_shifts`; None takes two exponentials per entry.
    """
    if shift is None:
        # Shifts as whole numbers, which float32 holds exactly; the rest is a factor per row or column.
        row_shift, column_shift = row.ceil(), column.ceil()
        torch.sub(s, row_shift.to(s.dtype), out=work).exp_().mul_((row_shift - row).exp().to(s.dtype))
        s.sub_(column_shift.to(s.dtype)).exp_().mul_((column_shift - column).exp().to(s.dtype))
        return s.add_(work)
    s.sub_(shift).exp_()
    torch.add((shift - row).exp().to(s.dtype), (shift - column).exp().to(s.dtype), out=work)
    return s.mul_(work)
