"""More than one right answer: pairs of one group (the same label, the same caption) all belong together.

The losses in `contrastive.py` know one right text for each picture. With several, InfoNCE asks a row to pick
each member of its group with an equal share (as SupCon, arXiv 2004.11362, and UniCL, arXiv 2204.03610, do),
and the sigmoid loss asks "yes" of each. Both differ from the loss with one right answer by a term that has no
softmax in it. With G_i the members of the group of i, all pairs counted::

    InfoNCE   L' - L = 1/N sum_i (s_ii - mean_{j in G_i} s_ij)
    sigmoid   L' - L = 1/N sum_i (x_ii -  sum_{j in G_i} x_ij)            since log sig(-x) - log sig(x) = -x

and a sum over a group is a product of one row with the sum of the group's rows. So the term costs N rows of
sums and no matrix. This module adds; it does not know the losses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.training.losses.exchange import Block, Exchange, mean_of
from diptych.training.losses.tiles import working_type

# Shapes: N pairs here, D width, K groups among them.


def equal_shares(
    image_features: Tensor, text_features: Tensor, scale: Tensor, groups: Tensor, exchange: Exchange
) -> Tensor:
    """What to add to `info_nce` (without groups) so that every member of a group is right.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        Unit rows.
    scale : Tensor, shape ()
    groups : LongTensor, shape (N,)
    exchange : Exchange
        As for `info_nce`; groups reach over processes.

    Returns
    -------
    Tensor, shape ()

    Examples
    --------
    >>> from diptych.training.losses.exchange import Alone
    >>> from diptych.training.losses.contrastive import info_nce
    >>> rows, scale = torch.eye(4), torch.tensor(10.0)
    >>> one = info_nce(rows, rows[[1, 0, 3, 2]], scale)  # each picture with its neighbour's text
    >>> more = equal_shares(rows, rows[[1, 0, 3, 2]], scale, torch.tensor([0, 0, 1, 1]), Alone())
    >>> round(one.item(), 3), round((one + more).item(), 3)  # half of what is right is where it should be
    (10.0, 5.0)
    """
    own, group = _sums(image_features, text_features, groups, exchange, mean=True)
    return mean_of(_part(image_features, text_features, own, group) * scale, exchange)


def all_yes(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    bias: Tensor,
    groups: Tensor,
    exchange: Exchange,
) -> Tensor:
    """What to add to `sigmoid_loss` (without groups) so that every member of a group is right.

    Parameters
    ----------
    image_features, text_features, scale, groups, exchange
        As for `equal_shares`.
    bias : Tensor, shape ()
        Of the logits.

    Returns
    -------
    Tensor, shape ()
    """
    own, group = _sums(image_features, text_features, groups, exchange, mean=False)
    others = (_counts(groups, exchange) - 1).to(text_features.dtype)
    return mean_of(_part(image_features, text_features, own, group) * scale - others * bias, exchange)


def _part(a: Tensor, b: Tensor, with_texts: Tensor, with_pictures: Tensor) -> Tensor:
    """``a_i.(b_i - B_i)`` for each pair, with the gradient of the sum over all pairs: (N,)."""
    # The group's rows are sums over pairs that have gradients of their own, also elsewhere. Each pair takes
    # its part as a picture and as a text; the two are one number, which is to count once.
    as_text = torch.linalg.vecdot(b, with_pictures)
    part: Tensor = torch.linalg.vecdot(a, b - with_texts) - (as_text - as_text.detach())
    return part


@torch.no_grad()
def _sums(a: Tensor, b: Tensor, groups: Tensor, exchange: Exchange, *, mean: bool) -> tuple[Tensor, Tensor]:
    """Each pair's group summed (or its mean): its texts and its pictures, of all processes, (N, D) each."""
    count = _counts(groups, exchange)[:, None] if mean else 1
    texts, pictures = (_collect(rows, groups, exchange) / count for rows in (b, a))
    return texts.to(b.dtype), pictures.to(a.dtype)


def _collect(rows: Tensor, groups: Tensor, exchange: Exchange) -> Tensor:
    """The sum of all rows of each pair's group, (N, D)."""
    known, place = torch.unique(groups, return_inverse=True)  # (K,) sorted, (N,)
    sums = rows.new_zeros(len(known), rows.shape[1], dtype=working_type(rows, rows))

    def add(block: Block) -> None:
        theirs, of = block.fixed
        assert theirs is not None
        assert of is not None
        where = torch.searchsorted(known, of).clamp(max=len(known) - 1)
        met = known[where] == of
        sums.index_add_(0, where[met], theirs[met].to(sums.dtype))

    exchange.carry((rows, groups), None, add)
    return sums[place]


@torch.no_grad()
def _counts(groups: Tensor, exchange: Exchange) -> Tensor:
    """Members of each pair's group, (N,)."""
    return _collect(groups.new_ones(len(groups), 1, dtype=torch.float32), groups, exchange)[:, 0]
