"""The two contrastive losses, in tiles: no N x N matrix in memory, forward or backward.

What is computed
----------------
``a_i`` and ``b_i`` are the unit rows of picture i and of its text, ``s_ij = t a_i.b_j`` the scaled cosine,
``R_i = log sum_j exp s_ij`` and ``C_j = log sum_i exp s_ij`` the log-sums of rows and columns.

*InfoNCE* asks row i and column i of the matrix to pick entry i, and takes the mean of the two cross-entropies
(Radford et al. 2021, figure 3)::

    L = 1/2N (sum_i (R_i - s_ii) + sum_j (C_j - s_jj))
    dL/ds_ij = 1/2N P_ij      P_ij = exp(s_ij - R_i) + exp(s_ij - C_j) - 2 [i = j]
    dL/da_i = t/2N sum_j P_ij b_j      dL/db_j = t/2N sum_i P_ij a_i      dL/dt = 1/2N sum_ij P_ij a_i.b_j

The first two terms of P are what the softmaxes believe, the last is the truth, once for each direction.
The *sigmoid loss* (Zhai et al. 2023, arXiv 2303.15343, equation 1) asks of each pair on its own whether it
belongs together. With ``x_ij = s_ij + bias`` and z = 1 on the diagonal, -1 elsewhere::

    L = -1/N sum_ij log sigmoid(z_ij x_ij)      dL/dx_ij = 1/N (sigmoid(x_ij) - [i = j])

Why it fits in tiles
--------------------
The forward pass needs of S only R, C and the diagonal. The backward pass needs P, which is a function of S, R
and C entry by entry; so S is computed again, a tile at a time, and each tile of P is multiplied into both
gradients while it is still in the cache. That is four products of 2 N^2 D operations (one forward, three
backward) where the textbook version spends six and keeps several N x N matrices. ``dL/dt`` costs no further
pass: ``sum_ij P_ij a_i.b_j = sum_i a_i.(sum_j P_ij b_j)``, a dot product with what is there already.

One exponential for two softmaxes
---------------------------------
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

`tiles.py` walks the matrix. This module knows nothing of models, optimisers or processes; features come in as
unit rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from diptych.errors import InputError
from diptych.training.tiles import Tiles, diagonal

# Shapes: N pairs, D width, m x n one tile. a: picture rows, b: text rows.

SPREAD = 60.0  # how far below a tile's shift a row's log-sum may lie; see "One exponential" above


def info_nce(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    *,
    groups: Tensor | None = None,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """Symmetric InfoNCE: the mean of the cross-entropies over rows and over columns.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        Unit rows; row i of both belongs to pair i. They are not normalised again. Half precision is
        multiplied and summed in float32.
    scale : Tensor, shape ()
        What the cosines are multiplied with: the exponential of the model's `logit_scale`.
    groups : LongTensor, shape (N,), optional
        Pairs of equal number (the same caption, say) are not each other's negatives: their entries off the
        diagonal count as absent.
    tile : (int, int), optional
        Rows and columns of a tile. It changes time and memory, not the result beyond rounding.

    Returns
    -------
    Tensor, shape ()
        The loss, float32 (float64 for float64 features). Differentiable once, in features and scale.

    Raises
    ------
    InputError
        If shapes, groups or tile do not fit.

    Examples
    --------
    >>> rows = torch.eye(4)
    >>> round(info_nce(rows, rows, torch.tensor(10.0)).item(), 6)     # log(1 + 3 exp(-10))
    0.000136
    >>> round(info_nce(rows, rows.flip(0), torch.tensor(10.0)).item(), 3)
    10.0
    >>> info_nce(rows, rows, torch.tensor(10.0), groups=torch.zeros(4, dtype=torch.long)).item()
    0.0
    """
    _check(image_features, text_features, scale, groups, tile)
    inputs = (image_features, text_features, scale, groups, tile)
    loss: Tensor = _InfoNCE.apply(*inputs)  # type: ignore[no-untyped-call]
    return loss


def sigmoid_loss(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    groups: Tensor | None = None,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """SigLIP's loss: for each of the N x N combinations, does it belong together?

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        Unit rows; row i of both belongs to pair i.
    scale, bias : Tensor, shape ()
        The logit of a combination is scale times its cosine plus bias.
    groups : LongTensor, shape (N,), optional
        Pairs of equal number are not each other's negatives.
    tile : (int, int), optional
        Rows and columns of a tile.

    Returns
    -------
    Tensor, shape ()
        The sum over all combinations divided by N; float32 (float64 for float64 features).

    Raises
    ------
    InputError
        If shapes, groups or tile do not fit.

    Examples
    --------
    >>> rows = torch.eye(4)
    >>> yes = torch.tensor(20.0), torch.tensor(-10.0)  # logits of 10 on the diagonal, -10 elsewhere
    >>> round(sigmoid_loss(rows, rows, *yes).item(), 6)  # 4 log(1 + exp(-10))
    0.000182
    >>> round(sigmoid_loss(rows, rows.flip(0), *yes).item(), 3)
    20.0
    """
    _check(image_features, text_features, scale, groups, tile)
    inputs = (image_features, text_features, scale, bias, groups, tile)
    loss: Tensor = _Sigmoid.apply(*inputs)  # type: ignore[no-untyped-call]
    return loss


def _check(a: Tensor, b: Tensor, scale: Tensor, groups: Tensor | None, tile: tuple[int, int] | None) -> None:
    """Refuse what the tiles would turn into a puzzling message further down."""
    if a.ndim != 2 or a.shape != b.shape or a.shape[0] == 0:
        raise InputError(
            f"features of shapes {tuple(a.shape)} and {tuple(b.shape)}: expected twice the same (N, D), N > 0"
        )
    if scale.numel() != 1:
        raise InputError(f"scale has shape {tuple(scale.shape)}: expected one number, logit_scale.exp()")
    if groups is not None and (groups.shape != a.shape[:1] or groups.is_floating_point()):
        raise InputError(
            f"groups is {groups.dtype} of shape {tuple(groups.shape)}: expected {a.shape[0]} integers"
        )
    if tile is not None and min(tile) < 1:
        raise InputError(f"tile is {tile}: expected two positive numbers, rows and columns")


class _InfoNCE(torch.autograd.Function):
    """The closed form of the module's docstring; keeps the features and two vectors of length N."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, groups: Tensor | None, tile: tuple[int, int] | None
    ) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            tiles = Tiles(a, b, scale, groups, tile)
            row = a.new_full(a.shape[:1], -torch.inf, dtype=tiles.wide)  # R
            column = row.clone()  # C
            agreement = torch.empty_like(row)  # s_ii
            for rows, columns, s in tiles:
                own = diagonal(s, rows, columns)
                first = max(rows.start, columns.start)
                agreement[first : first + own.shape[0]] = own
                row[rows], column[columns] = _absorb(
                    s, tiles.view(1, rows, columns), row[rows], column[columns]
                )
            ctx.save_for_backward(a, b, scale, groups, row, column)
            ctx.tile = tile
            return ((row - agreement).mean() + (column - agreement).mean()).div(2).to(tiles.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, groups, row, column = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            tiles = Tiles(a, b, scale, groups, ctx.tile)
            shifts = _shifts(tiles, row, column)

            def weigh(rows: slice, columns: slice, s: Tensor) -> Tensor:
                work = tiles.view(1, rows, columns)
                shift = shifts[rows.start, columns.start]
                p = _softmaxes(s, work, row[rows, None], column[None, columns], shift)
                diagonal(p, rows, columns).sub_(2)
                return p

            factor = grad.to(tiles.dtype) / (2 * a.shape[0])
            found = tiles.gradients(weigh, factor, ctx.needs_input_grad[:3])
            return *_like(found, (a, b, scale)), None, None


class _Sigmoid(torch.autograd.Function):
    """Sums over tiles; nothing but the inputs is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        bias: Tensor,
        groups: Tensor | None,
        tile: tuple[int, int] | None,
    ) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            tiles = Tiles(a, b, scale, groups, tile)
            total = torch.zeros((), dtype=tiles.wide, device=a.device)
            shift = bias.to(a.device, tiles.dtype).reshape(())
            for rows, columns, s in tiles:
                x = s.add_(shift).neg_()
                diagonal(x, rows, columns).neg_()  # now z x
                total -= F.logsigmoid(x).sum()
            ctx.save_for_backward(a, b, scale, bias, groups)
            ctx.tile = tile
            return (total / a.shape[0]).to(tiles.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias, groups = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            tiles = Tiles(a, b, scale, groups, ctx.tile)
            shift = bias.to(a.device, tiles.dtype).reshape(())
            total = torch.zeros((), dtype=tiles.wide, device=a.device)

            def weigh(rows: slice, columns: slice, s: Tensor) -> Tensor:
                weights = s.add_(shift).sigmoid_()
                diagonal(weights, rows, columns).sub_(1)
                total.add_(weights.sum())
                return weights

            factor = grad.to(tiles.dtype) / a.shape[0]
            found = tiles.gradients(weigh, factor, ctx.needs_input_grad[:3])
            grad_bias = total * factor if ctx.needs_input_grad[3] else None
            return *_like((*found, grad_bias), (a, b, scale, bias)), None, None


def _absorb(s: Tensor, work: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
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


def _shifts(tiles: Tiles, row: Tensor, column: Tensor) -> dict[tuple[int, int], float | None]:
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


def _softmaxes(s: Tensor, work: Tensor, row: Tensor, column: Tensor, shift: float | None) -> Tensor:
    """``exp(s - R) + exp(s - C)`` in place, with one exponential an entry where one shift fits all."""
    if shift is None:
        row_shift, column_shift = row.ceil(), column.ceil()
        torch.sub(s, row_shift.to(s.dtype), out=work).exp_().mul_((row_shift - row).exp().to(s.dtype))
        s.sub_(column_shift.to(s.dtype)).exp_().mul_((column_shift - column).exp().to(s.dtype))
        return s.add_(work)
    s.sub_(shift).exp_()
    torch.add((shift - row).exp().to(s.dtype), (shift - column).exp().to(s.dtype), out=work)
    return s.mul_(work)


def _like(found: tuple[Tensor | None, ...], inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Each gradient in the type, shape and place of its input."""
    return tuple(
        None if grad is None else grad.to(given.device, given.dtype).reshape(given.shape)
        for grad, given in zip(found, inputs, strict=True)
    )
