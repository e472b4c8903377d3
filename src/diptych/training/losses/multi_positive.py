"""Several positives per image: all pairs of one group (the same label, the same caption) belong together.

The losses in `contrastive.py` have one positive text per image. With several, InfoNCE's target is uniform
over the members of the group (as in SupCon, arXiv 2004.11362, and UniCL, arXiv 2204.03610), and the sigmoid
loss labels each member as positive. Both differ from the loss with one positive by a term without a softmax.
With G_i the members of the group of i, all pairs counted::

    InfoNCE   L' - L = 1/N sum_i (s_ii - mean_{j in G_i} s_ij)
    sigmoid   L' - L = 1/N sum_i (x_ii -  sum_{j in G_i} x_ij)            since log sig(-x) - log sig(x) = -x

and a sum of logits over a group is the product of one feature with the sum of the group's features. So the
term needs N sums of features and no matrix. The functions here return the term only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.training.losses.feature_exchange import ColumnBlock, Exchange, global_mean
from diptych.training.losses.logit_tiles import working_type

# Shapes: N pairs here, D width, K groups among them.


def multi_positive_info_nce_term(
    image_features: Tensor, text_features: Tensor, scale: Tensor, groups: Tensor, exchange: Exchange
) -> Tensor:
    """What to add to `info_nce` (without groups) so that every member of a group is a positive.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        Unit length.
    scale : Tensor, shape ()
    groups : LongTensor, shape (N,)
    exchange : Exchange
        As for `info_nce`; groups may span processes.

    Returns
    -------
    Tensor, shape ()

    Examples
    --------
    >>> from diptych.training.losses.feature_exchange import NoExchange
    >>> from diptych.training.losses.contrastive import info_nce
    >>> images, scale = torch.eye(4), torch.tensor(10.0)
    >>> texts, groups = images[[1, 0, 3, 2]], torch.tensor([0, 0, 1, 1])  # each has its neighbour's text
    >>> loss = info_nce(images, texts, scale)
    >>> term = multi_positive_info_nce_term(images, texts, scale, groups, NoExchange())
    >>> round(loss.item(), 3), round((loss + term).item(), 3)  # half of the target is on the neighbour's text
    (10.0, 5.0)
    """
    texts, images = _group_features(image_features, text_features, groups, exchange, mean=True)
    return global_mean(_logit_difference(image_features, text_features, texts, images) * scale, exchange)


def multi_positive_sigmoid_term(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    bias: Tensor,
    groups: Tensor,
    exchange: Exchange,
) -> Tensor:
    """What to add to `sigmoid_loss` (without groups) so that every member of a group is a positive.

    Parameters
    ----------
    image_features, text_features, scale, groups, exchange
        As for `multi_positive_info_nce_term`.
    bias : Tensor, shape ()
        Of the logits.

    Returns
    -------
    Tensor, shape ()
    """
    texts, images = _group_features(image_features, text_features, groups, exchange, mean=False)
    # x_ij = s_ij + bias: of the |G_i| biases in the sum, one cancels against that of x_ii.
    others = (_group_sizes(groups, exchange) - 1).to(text_features.dtype)
    difference = _logit_difference(image_features, text_features, texts, images)
    return global_mean(difference * scale - others * bias, exchange)


def _logit_difference(a: Tensor, b: Tensor, group_texts: Tensor, group_images: Tensor) -> Tensor:
    """``a_i.(b_i - B_i)`` for each pair, with the gradient of the sum over all pairs: (N,)."""
    # B_i = sum_{j in G_i} b_j was computed without autograd, and some b_j live on other processes. Summed
    # over all pairs, sum_i a_i.B_i = sum_j b_j.A_j: so b_j's gradient is A_j, which the second term adds. Its
    # value is subtracted again, as a_i.B_i is to be counted once. e.g. a group of pairs 0 and 1: pair 0 has
    # the value a_0.(b_0 - b_0 - b_1), and b_0 gets a_0 - (a_0 + a_1), wherever pair 1 lives.
    as_text = torch.linalg.vecdot(b, group_images)
    difference: Tensor = torch.linalg.vecdot(a, b - group_texts) - (as_text - as_text.detach())
    return difference


@torch.no_grad()
def _group_features(
    a: Tensor, b: Tensor, groups: Tensor, exchange: Exchange, *, mean: bool
) -> tuple[Tensor, Tensor]:
    """Sum (or mean) of the texts and of the images of each pair's group, on all processes: (N, D) each."""
    count = _group_sizes(groups, exchange)[:, None] if mean else 1
    texts, images = (_sum_by_group(features, groups, exchange) / count for features in (b, a))
    return texts.to(b.dtype), images.to(a.dtype)


def _sum_by_group(values: Tensor, groups: Tensor, exchange: Exchange) -> Tensor:
    """The sum of the values of each pair's group over all processes, (N, D)."""
    # e.g. groups [7, 3, 7]: known [3, 7], position [1, 0, 1]; sums has one row for 3 and one for 7.
    own_groups, position = torch.unique(groups, return_inverse=True)  # (K,) sorted, (N,)
    sums = values.new_zeros(len(own_groups), values.shape[1], dtype=working_type(values, values))

    def add(block: ColumnBlock) -> None:
        block_values, block_groups = block.inputs["values"], block.inputs["groups"]
        assert block_values is not None
        assert block_groups is not None
        # Groups of other processes that no pair here belongs to are left out.
        index = torch.searchsorted(own_groups, block_groups).clamp(max=len(own_groups) - 1)
        matches = own_groups[index] == block_groups
        sums.index_add_(0, index[matches], block_values[matches].to(sums.dtype))

    exchange.for_each_block({"values": values, "groups": groups}, None, add)
    return sums[position]


@torch.no_grad()
def _group_sizes(groups: Tensor, exchange: Exchange) -> Tensor:
    """Number of members of each pair's group, (N,)."""
    return _sum_by_group(groups.new_ones(len(groups), 1, dtype=torch.float32), groups, exchange)[:, 0]
