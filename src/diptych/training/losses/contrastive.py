"""Contrastive losses computed in tiles: no N x N matrix in memory, forward or backward.

Definitions
-----------
``a_i`` and ``b_i`` are the unit-length features of image i and of its text, ``s_ij = t a_i.b_j`` the scaled
cosine, ``R_i = log sum_j exp s_ij`` and ``C_j = log sum_i exp s_ij`` the log-sums of rows and columns.

*InfoNCE* is the mean of two cross-entropies, over rows and over columns, whose target is the diagonal
(Radford et al. 2021, figure 3)::

    L = 1/2N (sum_i (R_i - s_ii) + sum_j (C_j - s_jj))
    dL/ds_ij = 1/2N P_ij      P_ij = exp(s_ij - R_i) + exp(s_ij - C_j) - 2 [i = j]
    dL/da_i = t/2N sum_j P_ij b_j      dL/db_j = t/2N sum_i P_ij a_i      dL/dt = 1/2N sum_ij P_ij a_i.b_j

The first two terms of P are the softmaxes over row i and over column j, the last is the target of both.
The *sigmoid loss* (Zhai et al. 2023, arXiv 2303.15343, equation 1) is a binary cross-entropy for each of the
N x N combinations. With ``x_ij = s_ij + bias`` and z = 1 on the diagonal, -1 elsewhere::

    L = -1/N sum_ij log sigmoid(z_ij x_ij)      dL/dx_ij = 1/N (sigmoid(x_ij) - [i = j])

Why tiles suffice
-----------------
InfoNCE's forward pass needs only R, C and the diagonal of S. The backward pass needs P, whose entries depend
on the same entry of S, on R and on C; so S is computed again, a tile at a time, and each tile of P is
multiplied into both gradients while it is still in the cache. That is four products of 2 N^2 D operations
(one forward, three backward), where the textbook version has six and keeps several N x N matrices. ``dL/dt``
needs no further pass: ``sum_ij P_ij a_i.b_j = sum_i a_i.(sum_j P_ij b_j)``, a dot product with a sum that is
computed anyway. `tile_softmax.py` computes both softmaxes of a tile with one exponential per entry.

e.g. N = 32,768 pairs of width 512 in float32: S alone would be 4 GiB; here it is two buffers of 8 MiB on a
processor, two (N, D) sums of 64 MiB and two vectors of length N.

The tiles of the sigmoid loss are independent. So its gradients are computed in the forward pass, with three
products, and kept: 2 N D numbers that the backward pass multiplies with the incoming gradient.

Several processes
-----------------
Each of W processes holds n = N / W images and their texts, and computes the n rows of S of its images
(`row_band.py`); it receives the texts of the others through an exchange (`feature_exchange.py`), with sums
that travel with them. Forward, the sums are C, to which each process adds its rows; backward, dL/db (which
the sigmoid loss computes forward). So every process computes 1 / W of the products, features are sent once
per pass, and the gradient through the features of other processes is in the sums.
All processes get the same loss. dL/da and dL/db of a process's own features are complete; its gradients of
scale and bias are those of its rows. So the gradients of all parameters, scale and bias included, are
parts of a sum: added up over the processes they are the gradient of the loss.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from diptych.errors import InputError
from diptych.training.losses.feature_exchange import ColumnBlock, Exchange, NoExchange
from diptych.training.losses.row_band import RowBand, cast_gradients
from diptych.training.losses.tile_softmax import add_to_log_sums, sum_of_softmaxes, tile_shifts

# The losses that `objectives.objective.Contrastive` can train, as `TrainConfig.loss` names them.
ContrastiveLoss: TypeAlias = Literal["infonce", "sigmoid"]

# Shapes: N pairs here, D width, m x n one tile. a: image features, b: text features.


def info_nce(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    *,
    groups: Tensor | None = None,
    tile: tuple[int, int] | None = None,
    exchange: Exchange | None = None,
) -> Tensor:
    """Symmetric InfoNCE: mean of the cross-entropies over rows and over columns.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        Unit length, not normalised again; row i of both belongs to pair i. Half precision is multiplied and
        summed in float32.
    scale : Tensor, shape ()
        Factor on the cosines: the exponential of the model's `logit_scale`.
    groups : LongTensor, shape (N,) or (N, 2), optional
        Pairs of one group (e.g. the same caption) are not each other's negatives: their off-diagonal
        entries are masked. With a second column, the kind of a pair, neither are pairs of different kinds.
    tile : (int, int), optional
        Rows and columns of a tile. It changes time and memory, and the result by rounding only.
    exchange : Exchange, optional
        With the other processes, each of which has N pairs of its own; by default there are none. See
        "Several processes" above for the gradients.

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
    >>> x = torch.eye(4)
    >>> round(info_nce(x, x, torch.tensor(10.0)).item(), 6)     # log(1 + 3 exp(-10))
    0.000136
    >>> round(info_nce(x, x.flip(0), torch.tensor(10.0)).item(), 3)
    10.0
    >>> info_nce(x, x, torch.tensor(10.0), groups=torch.zeros(4, dtype=torch.long)).item()
    0.0
    """
    _check(image_features, text_features, scale, groups, tile)
    inputs = (image_features, text_features, scale, groups, tile, exchange or NoExchange())
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
    """SigLIP's loss: binary cross-entropy for each of the N x N combinations of an image and a text.

    Parameters
    ----------
    image_features, text_features, groups, tile, exchange
        As for `info_nce`.
    scale, bias : Tensor, shape ()
        The logit of a combination is scale times its cosine plus bias.

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
    >>> x = torch.eye(4)
    >>> scale, bias = torch.tensor(20.0), torch.tensor(-10.0)  # logits of 10 on the diagonal, -10 elsewhere
    >>> round(sigmoid_loss(x, x, scale, bias).item(), 6)  # 4 log(1 + exp(-10))
    0.000182
    >>> round(sigmoid_loss(x, x.flip(0), scale, bias).item(), 3)
    20.0
    """
    _check(image_features, text_features, scale, groups, tile)
    inputs = (image_features, text_features, scale, bias, groups, tile, exchange or NoExchange())
    loss: Tensor = _Sigmoid.apply(*inputs, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return loss


def _check(a: Tensor, b: Tensor, scale: Tensor, groups: Tensor | None, tile: tuple[int, int] | None) -> None:
    """Raise InputError for shapes that would fail inside the tiles with an unclear message."""
    if a.ndim != 2 or a.shape != b.shape or a.shape[0] == 0:
        raise InputError(
            f"features of shapes {tuple(a.shape)} and {tuple(b.shape)}: expected one shape (N, D), N > 0"
        )
    if scale.numel() != 1:
        raise InputError(f"scale has shape {tuple(scale.shape)}: expected one number, logit_scale.exp()")
    is_shaped = groups is None or groups.shape in (a.shape[:1], (a.shape[0], 2))
    if groups is not None and (not is_shaped or groups.is_floating_point()):
        raise InputError(
            f"groups is {groups.dtype} of shape {tuple(groups.shape)}: expected {a.shape[0]} integers"
        )
    if tile is not None and min(tile) < 1:
        raise InputError(f"tile is {tile}: expected two positive numbers: rows and columns")


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
            band = RowBand(a, b, scale, tile, exchange)
            row = a.new_full(a.shape[:1], -torch.inf, dtype=band.wide)  # R, (n,)
            diagonal = torch.empty_like(row)  # s_ii, (n,)

            def add(block: ColumnBlock) -> None:
                tiles, block_column = band.tiles(block, groups), block.sums
                assert block_column is not None
                for rows, columns, s in tiles:
                    own = tiles.diagonal(s, rows, columns)
                    # The diagonal in this tile begins at its first row, or at the row of its first column.
                    # e.g. rows 0..3, columns 2..5, offset 0: s_22 and s_33, so `first` is 2.
                    first = max(rows.start, columns.start - tiles.offset)
                    diagonal[first : first + own.shape[0]] = own
                    row[rows], block_column[columns] = add_to_log_sums(
                        s, tiles.view(1, rows, columns), row[rows], block_column[columns]
                    )

            inputs = {"texts": b, "groups": groups}
            column = exchange.for_each_block(inputs, torch.full_like(row, -torch.inf), add, "logaddexp")  # C
            assert column is not None
            ctx.save_for_backward(a, b, scale, groups, row, column)
            ctx.tile, ctx.exchange = tile, exchange
            loss = exchange.all_reduce_sum((row - diagonal).sum() + (column - diagonal).sum())
            return loss.div(2 * band.pairs).to(band.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, groups, row, column = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            band = RowBand(a, b, scale, ctx.tile, ctx.exchange)

            def add_gradients(block: ColumnBlock, image_sum: Tensor | None, text_sum: Tensor | None) -> None:
                tiles, block_column = band.tiles(block, groups), block.inputs["log_sums"]
                assert block_column is not None
                shifts = tile_shifts(tiles, row, block_column)

                def derivatives(rows: slice, columns: slice, s: Tensor) -> Tensor:
                    work = tiles.view(1, rows, columns)
                    shift = shifts[rows.start, columns.start]
                    p = sum_of_softmaxes(s, work, row[rows, None], block_column[None, columns], shift)
                    tiles.diagonal(p, rows, columns).sub_(2)  # the target, once for each direction
                    return p

                tiles.multiply(derivatives, image_sum, text_sum)

            # 1/2N of the mean, and the incoming gradient; the scale t is added in `RowBand.gradients`.
            factor = grad.to(band.dtype) / (2 * band.pairs)
            inputs = {"texts": b, "groups": groups, "log_sums": column}
            gradients = band.gradients(inputs, add_gradients, factor, ctx.needs_input_grad[:3])
            return *cast_gradients(gradients, (a, b, scale)), None, None, None


class _Sigmoid(torch.autograd.Function):
    """Loss and gradients in one pass; the gradients are kept for the backward pass."""

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
        grad_enabled: bool,
    ) -> Tensor:
        # Under `no_grad` autograd still reports that inputs need gradients, but they would not be used.
        needs = ctx.needs_input_grad[:4] if grad_enabled else (False,) * 4
        with torch.autocast(a.device.type, enabled=False):
            band = RowBand(a, b, scale, tile, exchange)
            total, bias_sum = band.zero(), band.zero()
            shift = bias.to(a.device, band.dtype).reshape(())

            def add(block: ColumnBlock, image_sum: Tensor | None, text_sum: Tensor | None) -> None:
                tiles = band.tiles(block, groups)

                def derivatives(rows: slice, columns: slice, s: Tensor) -> Tensor:
                    # s becomes x; the second buffer takes -x, and z x after the diagonal has been negated.
                    zx = torch.neg(s.add_(shift), out=tiles.view(1, rows, columns))
                    tiles.diagonal(zx, rows, columns).neg_()
                    total.sub_(F.logsigmoid(zx).sum())
                    if any(needs):
                        tiles.diagonal(s.sigmoid_(), rows, columns).sub_(1)  # N dL/dx
                        bias_sum.add_(s.sum())
                    return s

                tiles.multiply(derivatives, image_sum, text_sum)

            factor = band.zero().to(band.dtype) + 1 / band.pairs
            gradients = band.gradients({"texts": b, "groups": groups}, add, factor, needs[:3])
            ctx.save_for_backward(*gradients, bias_sum * factor if needs[3] else None, a, b, scale, bias)
            # The kept gradients are of this loss, with an incoming gradient of 1.
            return (exchange.all_reduce_sum(total) / band.pairs).to(band.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients, inputs = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
        scaled = tuple(
            None if gradient is None else gradient * grad.to(gradient.dtype) for gradient in gradients
        )
        return *cast_gradients(scaled, inputs), None, None, None, None
