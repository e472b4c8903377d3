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
InfoNCE's forward pass needs of S only R, C and the diagonal. The backward pass needs P, which is a function
of S, R and C entry by entry; so S is computed again, a tile at a time, and each tile of P is multiplied into
both gradients while it is still in the cache. That is four products of 2 N^2 D operations (one forward, three
backward) where the textbook version spends six and keeps several N x N matrices. ``dL/dt`` costs no further
pass: ``sum_ij P_ij a_i.b_j = sum_i a_i.(sum_j P_ij b_j)``, a dot product with what is there already.
`softmaxes.py` finds both softmaxes of a tile with one exponential an entry.

The sigmoid loss asks nothing of other tiles. So its gradients are found in the forward pass, with three
products, and kept: 2 N D numbers that the backward pass only multiplies with the gradient that comes in.

Many processes
--------------
Each of W processes holds n = N / W pictures and their texts, and computes the n rows of S that belong to its
pictures; texts come to it by an exchange (`exchange.py`), with sums that travel with them. Forward, C is what
travels, and each process adds its rows to it; backward, dL/db (which the sigmoid loss finds forward). So
every process does a W-th of the products, features are sent once a pass, and the gradient through everybody
else's features is in the sums.
All processes get the same loss. dL/da and dL/db of a process's own features are whole; what a process finds
for scale and bias is that of its part of the matrix. So the gradients of all parameters, those two included,
are parts of a sum: over the processes they add up to the gradient of the one loss.

`tiles.py` walks the matrix, `exchange.py` talks. This module knows nothing of models and optimisers; features
come in as unit rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from diptych.errors import InputError
from diptych.training.losses.bands import Part, like
from diptych.training.losses.exchange import Alone, Block, Exchange
from diptych.training.losses.softmaxes import absorb, shifts_of, softmaxes

# Shapes: N pairs here, D width, m x n one tile. a: picture rows, b: text rows.


def info_nce(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    *,
    groups: Tensor | None = None,
    tile: tuple[int, int] | None = None,
    exchange: Exchange | None = None,
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
    exchange : Exchange, optional
        With the other processes; each has N pairs of its own. By default there is none. See "Many processes"
        above for what the gradients are then.

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
    inputs = (image_features, text_features, scale, groups, tile, exchange or Alone())
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
    exchange: Exchange | None = None,
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
    exchange : Exchange, optional
        With the other processes, as for `info_nce`.

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
    inputs = (image_features, text_features, scale, bias, groups, tile, exchange or Alone())
    loss: Tensor = _Sigmoid.apply(*inputs, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
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
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        groups: Tensor | None,
        tile: tuple[int, int] | None,
        exchange: Exchange,
    ) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            part = Part(a, b, scale, tile, exchange)
            row = a.new_full(a.shape[:1], -torch.inf, dtype=part.wide)  # R
            agreement = torch.empty_like(row)  # s_ii

            def add(block: Block) -> None:
                tiles, sums = part.tiles(block, groups), block.sums
                assert sums is not None
                for rows, columns, s in tiles:
                    own = tiles.diagonal(s, rows, columns)
                    first = max(rows.start, columns.start - tiles.ahead)
                    agreement[first : first + own.shape[0]] = own
                    row[rows], sums[columns] = absorb(
                        s, tiles.view(1, rows, columns), row[rows], sums[columns]
                    )

            column = exchange.carry((b, groups), torch.full_like(row, -torch.inf), add, "logaddexp")  # C
            assert column is not None
            ctx.save_for_backward(a, b, scale, groups, row, column)
            ctx.tile, ctx.exchange = tile, exchange
            loss = exchange.total((row - agreement).sum() + (column - agreement).sum())
            return loss.div(2 * part.pairs).to(part.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, groups, row, column = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            part = Part(a, b, scale, ctx.tile, ctx.exchange)

            def derive(block: Block, onto_a: Tensor | None, onto_b: Tensor | None) -> None:
                tiles, theirs = part.tiles(block, groups), block.fixed[2]
                assert theirs is not None
                shifts = shifts_of(tiles, row, theirs)

                def weigh(rows: slice, columns: slice, s: Tensor) -> Tensor:
                    work = tiles.view(1, rows, columns)
                    shift = shifts[rows.start, columns.start]
                    p = softmaxes(s, work, row[rows, None], theirs[None, columns], shift)
                    tiles.diagonal(p, rows, columns).sub_(2)
                    return p

                tiles.multiply(weigh, onto_a, onto_b)

            factor = grad.to(part.dtype) / (2 * part.pairs)
            found = part.gradients((b, groups, column), derive, factor, ctx.needs_input_grad[:3])
            return *like(found, (a, b, scale)), None, None, None


class _Sigmoid(torch.autograd.Function):
    """Loss and gradients in one pass; the gradients are kept until they are asked for."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        bias: Tensor,
        groups: Tensor | None,
        tile: tuple[int, int] | None,
        exchange: Exchange,
        graph: bool,
    ) -> Tensor:
        needs = ctx.needs_input_grad[:4] if graph else (False,) * 4
        with torch.autocast(a.device.type, enabled=False):
            part = Part(a, b, scale, tile, exchange)
            total, slope = part.zero(), part.zero()
            shift = bias.to(a.device, part.dtype).reshape(())

            def add(block: Block, onto_a: Tensor | None, onto_b: Tensor | None) -> None:
                tiles = part.tiles(block, groups)

                def weigh(rows: slice, columns: slice, s: Tensor) -> Tensor:
                    agreement = torch.neg(s.add_(shift), out=tiles.view(1, rows, columns))
                    tiles.diagonal(agreement, rows, columns).neg_()  # now z x
                    total.sub_(F.logsigmoid(agreement).sum())
                    if any(needs):
                        tiles.diagonal(s.sigmoid_(), rows, columns).sub_(1)
                        slope.add_(s.sum())
                    return s

                tiles.multiply(weigh, onto_a, onto_b)

            factor = part.zero().to(part.dtype) + 1 / part.pairs
            found = part.gradients((b, groups), add, factor, needs[:3])
            ctx.save_for_backward(*found, slope * factor if needs[3] else None, a, b, scale, bias)
            return (exchange.total(total) / part.pairs).to(part.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found, inputs = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
        found = tuple(None if kept is None else kept * grad.to(kept.dtype) for kept in found)
        return *like(found, inputs), None, None, None, None
