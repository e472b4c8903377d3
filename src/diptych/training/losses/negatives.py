"""Captions that are nearly right: each picture must tell its own from them.

In a batch of chance nearly all wrong texts are wrong at a glance, so a model can win without reading the
order of words ("a man bites a dog"). A file of near misses for each caption
(`diptych.training.data.negatives`) asks for more (NegCLIP, arXiv 2210.01936; TripletCLIP, arXiv 2411.02545).
Near misses count for their own picture alone, so this is a sum over pairs: no matrix, and nothing to exchange
but the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.training.losses.exchange import Exchange, mean_of

# Shapes: N pairs, K near misses each, D width.


def near_misses(
    image_features: Tensor,
    text_features: Tensor,
    missed: Tensor,
    present: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    exchange: Exchange,
) -> Tensor:
    """How far pictures are from telling their texts from near misses.

    Parameters
    ----------
    image_features, text_features : Tensor, shape (N, D)
        Unit rows.
    missed : Tensor, shape (N, K, D)
        Unit rows of the near misses.
    present : Tensor, shape (N, K)
        1 where there is one, 0 where a pair has fewer than K.
    scale : Tensor, shape ()
    bias : Tensor, shape (), or None
        With a bias as the sigmoid loss asks: "no" of each near miss. Without, as InfoNCE does: to pick the
        own text among itself and its near misses.
    exchange : Exchange
        As for `info_nce`.

    Returns
    -------
    Tensor, shape ()
        The mean over all pairs, those without near misses included.

    Examples
    --------
    >>> from diptych.training.losses.exchange import Alone
    >>> rows, there = torch.eye(2), torch.tensor([[1.0], [0.0]])
    >>> round(near_misses(rows, rows, rows[:, None], there, torch.tensor(9.0), None, Alone()).item(), 4)
    0.3466
    """
    s = scale * torch.linalg.vecdot(image_features[:, None], missed)  # (N, K)
    if bias is not None:
        return mean_of((F.softplus(s + bias) * present).sum(1), exchange)
    own = scale * torch.linalg.vecdot(image_features, text_features)  # (N,)
    ahead = (s - own[:, None]).masked_fill(present == 0, -torch.inf)
    # log(e^own + sum e^s) - own. A row of -inf alone has no gradient, not 0: it begins with the own text.
    return mean_of(torch.cat([torch.zeros_like(own)[:, None], ahead], dim=1).logsumexp(1), exchange)
