"""Loss on hard negatives: each image must prefer its own caption to nearly right ones.

In a random batch nearly all wrong texts are easy, so a model can win without reading the order of words ("a
man bites a dog"). A file of hard negatives for each caption (`training.data.texts.hard_negatives`) demands
more (NegCLIP, arXiv 2210.01936; TripletCLIP, arXiv 2411.02545). A hard negative counts for its own image
only, so this is a sum over pairs: no matrix, and processes exchange nothing but the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.training.losses.feature_exchange import Exchange, global_mean

# Shapes: N pairs, K hard negatives each, D width.


def hard_negative_loss(
    image_features: Tensor,
    text_features: Tensor,
    negative_features: Tensor,
    present: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    exchange: Exchange,
) -> Tensor:
    """Cross-entropy of each image's own text among its hard negatives.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        Unit length.
    negative_features : Tensor, shape (N, K, D)
        Unit-length features of the hard negatives.
    present : Tensor, shape (N, K)
        1 where there is one, 0 where a pair has fewer than K.
    scale : Tensor, shape ()
    bias : Tensor, shape (), or None
        With a bias as in the sigmoid loss: each hard negative is a binary decision. Without, as in InfoNCE:
        one softmax over the own text and its hard negatives.
    exchange : Exchange
        As for `info_nce`.

    Returns
    -------
    Tensor, shape ()
        The mean over all pairs, those without hard negatives included.

    Examples
    --------
    >>> from diptych.training.losses.feature_exchange import NoExchange
    >>> x, present, scale = torch.eye(2), torch.tensor([[1.0], [0.0]]), torch.tensor(9.0)
    >>> round(hard_negative_loss(x, x, x[:, None], present, scale, None, NoExchange()).item(), 4)
    0.3466
    """
    s = scale * torch.linalg.vecdot(image_features[:, None], negative_features)  # (N, K)
    if bias is not None:
        # -log sigmoid(-x) = softplus(x): the label of every hard negative is "no".
        return global_mean((F.softplus(s + bias) * present).sum(1), exchange)
    own = scale * torch.linalg.vecdot(image_features, text_features)  # (N,)
    difference = (s - own[:, None]).masked_fill(present == 0, -torch.inf)
    # log(e^own + sum_k e^s_k) - own = logsumexp(0, s_1 - own, ...). The 0 of the own text also keeps the
    # gradient finite where a pair has no hard negatives: logsumexp of -inf alone has the gradient NaN.
    logits = torch.cat([torch.zeros_like(own)[:, None], difference], dim=1)  # (N, 1 + K)
    return global_mean(logits.logsumexp(1), exchange)
