"""Distillation of a teacher's image-text similarities, in tiles.

A teacher says more of N images and N texts than which belong together: how similar each image is to every
text. With ``t_ij`` the teacher's scaled cosines and ``T`` their softmax, the loss is the divergence of the
student's softmax from it in both directions (as in CLIP-KD, arXiv 2307.12732, and MobileCLIP, arXiv
2311.17049)::

    L = 1/2N (sum_i KL(T_i. || S_i.) + sum_j KL(T_.j || S_.j))
      = 1/2N (sum_i (R_i - R'_i) + sum_j (C_j - C'_j) - sum_ij (T_ij + T'_ij) (s_ij - t_ij))
    dL/ds_ij = 1/2N (S_ij + S'_ij - T_ij - T'_ij)

where R, C are the student's log-sums of rows and columns, R', C' the teacher's, and S', T' the softmaxes over
columns. It is InfoNCE with the teacher's softmax as soft targets, so it is computed in the same tiles:
nothing of size N x N is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.errors import InputError
from diptych.training.losses.feature_exchange import ColumnBlock, Exchange, NoExchange
from diptych.training.losses.logit_tiles import LogitTiles
from diptych.training.losses.row_band import RowBand, cast_gradients
from diptych.training.losses.tile_softmax import add_to_log_sums, sum_of_softmaxes

# Shapes: N pairs, D and E widths of student and teacher. a: image features, b: text features.


def similarity_distillation(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    teacher_images: Tensor,
    teacher_texts: Tensor,
    *,
    tile: tuple[int, int] | None = None,
    exchange: Exchange | None = None,
) -> Tensor:
    """Mean divergence of the student's softmaxes from the teacher's, over rows and over columns.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        The student's, unit length.
    scale : Tensor, shape ()
        Factor on the student's cosines.
    teacher_images, teacher_texts : Tensor, shape (N, E)
        Features whose products are the teacher's logits: its scale is included. They get no gradient.
    tile : (int, int), optional
        Rows and columns of a tile.
    exchange : Exchange, optional
        With other processes; as for `info_nce`.

    Returns
    -------
    Tensor, shape ()
        0 where student and teacher agree. Differentiable once.

    Raises
    ------
    InputError
        If shapes do not fit.

    Examples
    --------
    >>> x = torch.eye(3)
    >>> similarity_distillation(x, x, torch.tensor(2.0), 2 * x, x).item()
    0.0
    >>> round(similarity_distillation(x, x, torch.tensor(2.0), 2 * x, x.flip(0)).item(), 3)
    0.907
    """
    shapes = [x.shape for x in (image_features, text_features, teacher_images, teacher_texts)]
    if shapes[0] != shapes[1] or shapes[2] != shapes[3] or shapes[0][:1] != shapes[2][:1]:
        raise InputError(
            f"features of shapes {', '.join(str(tuple(shape)) for shape in shapes)}: expected (N, D) "
            "twice for the student and (N, E) twice for the teacher"
        )
    inputs = (image_features, text_features, scale, teacher_images.detach(), teacher_texts.detach())
    loss: Tensor = _Distil.apply(*inputs, tile, exchange or NoExchange())  # type: ignore[no-untyped-call]
    return loss


class _Distil(torch.autograd.Function):
    """Keeps the features and four vectors of length N."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        teacher_a: Tensor,
        teacher_b: Tensor,
        tile: tuple[int, int] | None,
        exchange: Exchange,
    ) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            bands = _StudentAndTeacher(RowBand(a, b, scale, tile, exchange), teacher_a)
            # First pass: the log-sums. Column 0 is the student's, column 1 the teacher's.
            row = a.new_full((len(a), 2), -torch.inf, dtype=bands.student.wide)  # R, R'

            def add(block: ColumnBlock) -> None:
                block_column = block.sums  # C, C': (k, 2)
                assert block_column is not None
                for model, tiles in enumerate(bands.tiles(block)):
                    for rows, columns, s in tiles:
                        row[rows, model], block_column[columns, model] = add_to_log_sums(
                            s, tiles.view(1, rows, columns), row[rows, model], block_column[columns, model]
                        )

            inputs = {"texts": b, "teacher_texts": teacher_b}
            column = exchange.for_each_block(inputs, torch.full_like(row, -torch.inf), add, "logaddexp")
            assert column is not None
            # Second pass: sum_ij (T_ij + T'_ij) (s_ij - t_ij), for which the teacher's R' and C' are final.
            overlap = bands.student.zero()

            def add_overlap(block: ColumnBlock) -> None:
                student, teacher = bands.tiles(block)
                block_column = block.inputs["log_sums"]
                assert block_column is not None
                for rows, columns, s in student:
                    t = teacher.logits(rows, columns)
                    s.sub_(t)  # s - t, before t is overwritten with its softmaxes
                    work = teacher.view(1, rows, columns)
                    t = sum_of_softmaxes(t, work, row[rows, 1:], block_column[columns, 1][None], None)
                    overlap.add_(s.mul_(t).sum())

            exchange.for_each_block({**inputs, "log_sums": column}, None, add_overlap)
            ctx.save_for_backward(a, b, scale, teacher_a, teacher_b, row, column)
            ctx.tile, ctx.exchange = tile, exchange
            log_sums = (row[:, 0] - row[:, 1]).sum() + (column[:, 0] - column[:, 1]).sum()
            loss = exchange.all_reduce_sum(log_sums - overlap) / (2 * bands.student.pairs)
            return loss.to(bands.student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, teacher_a, teacher_b, row, column = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            bands = _StudentAndTeacher(RowBand(a, b, scale, ctx.tile, ctx.exchange), teacher_a)

            def add_gradients(block: ColumnBlock, image_sum: Tensor | None, text_sum: Tensor | None) -> None:
                student, teacher = bands.tiles(block)
                block_column = block.inputs["log_sums"]
                assert block_column is not None

                def derivatives(rows: slice, columns: slice, s: Tensor) -> Tensor:
                    # (S + S') - (T + T'), both with two exponentials per entry: shifts that are safe for one
                    # model need not be for the other.
                    t = teacher.logits(rows, columns)
                    work = student.view(1, rows, columns)
                    t = sum_of_softmaxes(t, work, row[rows, 1:], block_column[columns, 1][None], None)
                    s = sum_of_softmaxes(s, work, row[rows, :1], block_column[columns, 0][None], None)
                    return s.sub_(t)

                student.multiply(derivatives, image_sum, text_sum)

            factor = grad.to(bands.student.dtype) / (2 * bands.student.pairs)
            inputs = {"texts": b, "teacher_texts": teacher_b, "log_sums": column}
            gradients = bands.student.gradients(inputs, add_gradients, factor, ctx.needs_input_grad[:3])
            return *cast_gradients(gradients, (a, b, scale)), None, None, None, None


class _StudentAndTeacher:
    """A band of the student's logit matrix and the same band of the teacher's."""

    def __init__(self, student: RowBand, teacher_images: Tensor) -> None:
        self.student = student
        # The teacher's scale is in its features already.
        scale = torch.ones((), dtype=student.dtype, device=teacher_images.device)
        self.teacher = RowBand(
            teacher_images.to(student.dtype), teacher_images, scale, student.tile, student.exchange
        )

    def tiles(self, block: ColumnBlock) -> tuple[LogitTiles, LogitTiles]:
        """Tiles of both for a block whose inputs have `texts` and `teacher_texts`; equal rows and columns."""
        student_block = ColumnBlock(block.start, {"texts": block.inputs["texts"]}, None)
        teacher_block = ColumnBlock(block.start, {"texts": block.inputs["teacher_texts"]}, None)
        return self.student.tiles(student_block, None), self.teacher.tiles(teacher_block, None)
