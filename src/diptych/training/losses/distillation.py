"""Learn from a stronger encoder: its features, and its view of which pictures and texts are alike.

Of N pictures and N texts a teacher says more than which belong together: how alike each picture is to every
text. With ``t_ij`` the teacher's scaled cosines and ``T`` their softmax, the student's softmax is drawn to it
in both directions (as in CLIP-KD, arXiv 2307.12732, and MobileCLIP, arXiv 2311.17049)::

    L = 1/2N (sum_i KL(T_i. || S_i.) + sum_j KL(T_.j || S_.j))
      = 1/2N (sum_i (R_i - R'_i) + sum_j (C_j - C'_j) - sum_ij (T_ij + T'_ij) (s_ij - t_ij))
    dL/ds_ij = 1/2N (S_ij + S'_ij - T_ij - T'_ij)

where R, C are the student's log-sums of rows and columns, R', C' the teacher's, and S', T' the softmaxes over
columns. It is InfoNCE with the teacher's belief in place of the one right answer, so it is computed in the
same tiles: nothing of size N x N is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.errors import InputError
from diptych.training.losses.bands import Part, like
from diptych.training.losses.exchange import Alone, Block, Exchange
from diptych.training.losses.softmaxes import absorb, softmaxes
from diptych.training.losses.tiles import Tiles

# Shapes: N pairs, D and E widths of student and teacher. a: picture rows, b: text rows; t...: the teacher's.


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
    """How far the student's view of a batch is from the teacher's, both ways.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        The student's unit rows.
    scale : Tensor, shape ()
        On the student's cosines.
    teacher_images, teacher_texts : Tensor, shape (N, E)
        Rows whose products are the teacher's logits: its scale is in them. No gradient goes there.
    tile : (int, int), optional
        Rows and columns of a tile.
    exchange : Exchange, optional
        With other processes; as for `info_nce`.

    Returns
    -------
    Tensor, shape ()
        0 where both agree. Differentiable once.

    Raises
    ------
    InputError
        If shapes do not fit.

    Examples
    --------
    >>> rows = torch.eye(3)
    >>> similarity_distillation(rows, rows, torch.tensor(2.0), 2 * rows, rows).item()
    0.0
    >>> round(similarity_distillation(rows, rows, torch.tensor(2.0), 2 * rows, rows.flip(0)).item(), 3)
    0.907
    """
    shapes = [x.shape for x in (image_features, text_features, teacher_images, teacher_texts)]
    if shapes[0] != shapes[1] or shapes[2] != shapes[3] or shapes[0][:1] != shapes[2][:1]:
        raise InputError(
            f"features of shapes {', '.join(str(tuple(shape)) for shape in shapes)}: expected twice (N, D), "
            "the student's, and twice (N, E), the teacher's"
        )
    inputs = (image_features, text_features, scale, teacher_images.detach(), teacher_texts.detach())
    loss: Tensor = _Distil.apply(*inputs, tile, exchange or Alone())  # type: ignore[no-untyped-call]
    return loss


class _Distil(torch.autograd.Function):
    """Keeps the features and four vectors of length N."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        ta: Tensor,
        tb: Tensor,
        tile: tuple[int, int] | None,
        exchange: Exchange,
    ) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            both = _Both(Part(a, b, scale, tile, exchange), ta)
            row = a.new_full((len(a), 2), -torch.inf, dtype=both.student.wide)  # R, R'

            def add(block: Block) -> None:
                sums = block.sums
                assert sums is not None
                for which, tiles in enumerate(both.tiles(block)):
                    for rows, columns, s in tiles:
                        row[rows, which], sums[columns, which] = absorb(
                            s, tiles.view(1, rows, columns), row[rows, which], sums[columns, which]
                        )

            column = exchange.carry((b, tb), torch.full_like(row, -torch.inf), add, "logaddexp")  # C, C'
            assert column is not None
            overlap = both.student.zero()

            def agree(block: Block) -> None:
                student, teacher = both.tiles(block)
                theirs = block.fixed[2]
                assert theirs is not None
                for rows, columns, s in student:
                    t = teacher.scores(rows, columns)
                    s.sub_(t)
                    work = teacher.view(1, rows, columns)
                    t = softmaxes(t, work, row[rows, 1:], theirs[columns, 1][None], None)
                    overlap.add_(s.mul_(t).sum())

            exchange.carry((b, tb, column), None, agree)
            ctx.save_for_backward(a, b, scale, ta, tb, row, column)
            ctx.tile, ctx.exchange = tile, exchange
            entropies = (row[:, 0] - row[:, 1]).sum() + (column[:, 0] - column[:, 1]).sum()
            loss = exchange.total(entropies - overlap) / (2 * both.student.pairs)
            return loss.to(both.student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, ta, tb, row, column = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            both = _Both(Part(a, b, scale, ctx.tile, ctx.exchange), ta)

            def derive(block: Block, onto_a: Tensor | None, onto_b: Tensor | None) -> None:
                student, teacher = both.tiles(block)
                theirs = block.fixed[2]
                assert theirs is not None

                def weigh(rows: slice, columns: slice, s: Tensor) -> Tensor:
                    t = teacher.scores(rows, columns)
                    work = student.view(1, rows, columns)
                    t = softmaxes(t, work, row[rows, 1:], theirs[columns, 1][None], None)
                    s = softmaxes(s, work, row[rows, :1], theirs[columns, 0][None], None)
                    return s.sub_(t)

                student.multiply(weigh, onto_a, onto_b)

            factor = grad.to(both.student.dtype) / (2 * both.student.pairs)
            fixed = (b, tb, column)
            found = both.student.gradients(fixed, derive, factor, ctx.needs_input_grad[:3])
            return *like(found, (a, b, scale)), None, None, None, None


class _Both:
    """A band of the student's matrix and the same band of the teacher's."""

    def __init__(self, student: Part, ta: Tensor) -> None:
        self.student = student
        one = torch.ones((), dtype=student.dtype, device=ta.device)
        self.teacher = Part(ta.to(student.dtype), ta, one, student.tile, student.exchange)

    def tiles(self, block: Block) -> tuple[Tiles, Tiles]:
        """Tiles of both; `block.fixed` begins with the student's texts and the teacher's."""
        theirs = Block(block.start, (block.fixed[1], None), None)
        ours = Block(block.start, (block.fixed[0], None), None)
        return self.student.tiles(ours, None), self.teacher.tiles(theirs, None)
