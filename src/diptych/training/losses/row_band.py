"""One process's band of the logit matrix: its image rows against blocks of all processes' text columns.

Shared by the losses in `contrastive.py` and `distillation.py`, which differ in the derivative of a tile.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diptych.training.losses.feature_exchange import ColumnBlock, ColumnInputs, Exchange
from diptych.training.losses.logit_tiles import LogitTiles, working_type

# Shapes: n pairs on this process, W processes, N = n W, D width, k columns of a block.

AddGradients = Callable[[ColumnBlock, Tensor | None, Tensor | None], None]


class RowBand:
    """The n rows of the logit matrix that belong to this process.

    e.g. N = 6 pairs on W = 2 processes: process 0 holds rows 0..2, process 1 rows 3..5, and the matrix is

                   columns 0..2   columns 3..5
        process 0  with diagonal  off-diagonal
        process 1  off-diagonal   with diagonal

    Parameters
    ----------
    image_features, text_features : Tensor, shape (n, D)
        Of the pairs of this process.
    scale : Tensor, shape ()
    tile : (int, int) or None
        Rows and columns of a tile.
    """

    def __init__(
        self,
        image_features: Tensor,
        text_features: Tensor,
        scale: Tensor,
        tile: tuple[int, int] | None,
        exchange: Exchange,
    ) -> None:
        self.image_features, self.text_features = image_features, text_features
        self.scale, self.tile, self.exchange = scale, tile, exchange
        self.dtype = working_type(image_features, text_features)
        # Vectors of length N cost nothing, so they take the widest type of the device: MPS lacks float64.
        self.wide = self.dtype if image_features.device.type == "mps" else torch.float64
        self.pairs = image_features.shape[0] * exchange.size

    def tiles(self, block: ColumnBlock, groups: Tensor | None) -> LogitTiles:
        """The tiles of a block of columns; `groups` are those of this process's rows."""
        texts, column_groups = block.inputs["texts"], block.inputs.get("groups")
        assert texts is not None
        row_and_column_groups = None if groups is None or column_groups is None else (groups, column_groups)
        # Number of the first row less number of the first column, in the whole matrix. e.g. process 1 of 2
        # with n = 3: row 3 and the block 0..2 give 3 (the diagonal lies outside), the block 3..5 gives 0.
        offset = self.exchange.rank * self.image_features.shape[0] - block.start
        return LogitTiles(self.image_features, texts, self.scale, row_and_column_groups, self.tile, offset)

    def zero(self) -> Tensor:
        """A scalar 0 in the wide type, to sum into."""
        return torch.zeros((), dtype=self.wide, device=self.image_features.device)

    def gradients(
        self,
        inputs: ColumnInputs,
        add_gradients: AddGradients,
        factor: Tensor,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of the loss in the image features, the text features and the scale.

        Parameters
        ----------
        inputs : ColumnInputs
            What the exchange sends round for each column.
        add_gradients : callable
            Called with a block, an (n, D) sum and a (k, D) sum; adds ``P b`` to the first and ``P^T a`` to
            the second, where P are the derivatives of the loss in the logits of the block, not yet divided
            by the number of pairs.
        factor : Tensor, shape ()
            Multiplies all gradients.
        needs : (bool, bool, bool)
            Which of the three are needed.
        """
        need_image, need_text, need_scale = needs
        # The scale's gradient needs one of the two sums: that of the texts serves as well.
        with_rows = need_image or (need_scale and not need_text)
        image_sum = torch.zeros_like(self.image_features, dtype=self.dtype) if with_rows else None  # P b
        text_sum = torch.zeros_like(self.text_features, dtype=self.dtype) if need_text else None  # P^T a
        text_sum = self.exchange.for_each_block(
            inputs, text_sum, lambda block: add_gradients(block, image_sum, block.sums)
        )
        # d loss / d scale = sum_ij P_ij a_i.b_j = sum_i a_i.(P b)_i = sum_j b_j.(P^T a)_j. The first form
        # sums over this process's rows, the second over its columns; over all processes they are equal.
        dot = self.zero()
        features, sums = (
            (self.image_features, image_sum) if image_sum is not None else (self.text_features, text_sum)
        )
        if need_scale and sums is not None:
            # In slices, so that no second (n, D) matrix in the working type is made.
            for some_features, some_sums in zip(
                torch.split(features, 4096), torch.split(sums, 4096), strict=True
            ):
                dot += torch.linalg.vecdot(some_features.to(self.dtype), some_sums).sum(dtype=self.wide)
        # Logits are scale times cosine, so gradients in the features carry the scale.
        slope = factor * self.scale.detach().to(factor.device, factor.dtype).reshape(())
        image_grad = image_sum.mul_(slope) if image_sum is not None and need_image else None
        text_grad = text_sum.mul_(slope) if text_sum is not None else None
        return image_grad, text_grad, dot * factor if need_scale else None


def cast_gradients(
    gradients: tuple[Tensor | None, ...], inputs: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """Give each gradient the type, shape and device of its input, as autograd expects."""
    return tuple(
        None if gradient is None else gradient.to(tensor.device, tensor.dtype).reshape(tensor.shape)
        for gradient, tensor in zip(gradients, inputs, strict=True)
    )
