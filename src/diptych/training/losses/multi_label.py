"""Losses on pictures that show several named things, each with a probability.

The probabilities come from a classifier whose classes are leaves of a tree of names, or from captions that
name things. A classifier gives each picture x a probability of each class c. A node n of a tree above the
classes ("dog", "animal", "vehicle") has the probability q(x, n), the sum over the classes below it. The
similarities of pictures and texts of nodes are trained towards q in both directions:

* picture to node: a softmax over the nodes, towards q(x, n) i(n) divided by its sum over the nodes. The
  information content i(n) = -log(share of all classes below n) (Resnik 1995, arXiv cmp-lg/9511007) prefers
  "corgi" to "animal", which are both right;
* node to picture: a softmax over the pictures, towards q(x, n) divided by its sum over the pictures.

Example: a picture of a corgi, and the nodes corgi (q = 0.9, i = 6.9), dog (0.95, 2.1) and boat (0.01, 5): the
targets are 0.75, 0.24 and 0.01. A picture or node without any mass in the batch says nothing, so it is
weighted by min(1, its mass).
"""

from __future__ import annotations

from torch import Tensor

_SMALL = 1e-6  # added to the targets, so that a picture without mass has finite ones

# Shapes: B pictures, N nodes, D width.


def multi_label_loss(
    image_features: Tensor, text_features: Tensor, probabilities: Tensor, information: Tensor, scale: Tensor
) -> Tensor:
    """Divergence of the student's softmaxes from the probabilities of the nodes, mean of both directions.

    Parameters
    ----------
    image_features : Tensor, shape (B, D)
        Unit length.
    text_features : Tensor, shape (N, D)
        Unit-length features of the nodes' texts.
    probabilities : Tensor, shape (B, N)
        q: each node's probability for each picture, from 0 to 1.
    information : Tensor, shape (N,)
        i: information content of the nodes, 0 or more.
    scale : Tensor, shape ()

    Returns
    -------
    Tensor, shape ()
        0 where the student agrees.

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(2)
    >>> agreeing = multi_label_loss(x, x, torch.eye(2), torch.ones(2), torch.tensor(50.0))
    >>> contrary = multi_label_loss(x, x.flip(0), torch.eye(2), torch.ones(2), torch.tensor(50.0))
    >>> round(agreeing.item(), 3), round(contrary.item(), 3)
    (0.0, 50.0)
    """
    logits = scale * image_features @ text_features.T  # (B, N)
    informative = probabilities * information
    to_nodes = _divergence(logits, informative, informative.sum(1))
    return (to_nodes + _divergence(logits.T, probabilities.T, probabilities.sum(0))) / 2


def _divergence(logits: Tensor, targets: Tensor, mass: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the rows' softmaxes, weighted by min(1, mass)."""
    targets = targets + _SMALL
    targets = targets / targets.sum(1, keepdim=True)
    rows = (targets * (targets.log() - logits.log_softmax(1))).sum(1)
    weights = mass.clamp(max=1)
    return (rows * weights).sum() / weights.sum().clamp(min=1)
