"""Texts as trees of tokens: common beginnings are computed once.

The vector of a causal transformer at a position depends on the tokens up to it, so "a photo of a cat." and
"a photo of a dog." share the vectors of their first five tokens. Building a classifier for 1,000 classes from
80 templates has 9.6 tokens a prompt, of which only 4.1 are new once beginnings are shared; and no padding is
left, which in a batch of captions is half of all positions. Nothing is approximated: the numbers are those
of `TextTower.encode_text` but for the order of additions. The mask that says who sees whom costs L * L for a
tree of L nodes, so large sets of texts become many trees of bounded size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.model.config import TextConfig
from diptych.model.machine import send
from diptych.model.text.transformer import TextTower

NODES = 256  # of one tree: the mask then adds less than a tenth to the work at a width of 512
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Trees:
    """N texts as T trees of L nodes.

    Attributes
    ----------
    tokens, depth : (T, L) int64
        A node's token and its distance from the root, which is its position in the text.
    sees : (T, L, L) bool
        Whether a node sees another: itself and the way to the root. Nodes that only fill up see themselves.
    ends : (N,) int64
        The node, among all T * L, where each text ends.
    """

    tokens: Ids
    depth: Ids
    sees: NDArray[np.bool_]
    ends: Ids

    def __len__(self) -> int:
        return len(self.tokens)


def can_share(config: TextConfig) -> bool:
    """Whether beginnings can be shared: only where nothing later is seen, and the end is read."""
    return config.causal and config.pool == "end"  # never a RobertaConfig, which is not causal


def plant(tokens: Ids, config: TextConfig, *, nodes: int = NODES) -> Trees:
    """Arrange texts as trees.

    Parameters
    ----------
    tokens : (N, L) int64
        Padded token ids.
    config : TextConfig
        Says where a text ends.
    nodes : int
        Size a tree may grow to; a text that is longer alone still gets one.

    Examples
    --------
    >>> config = TextConfig(vocab_size=10, context_length=4)
    >>> trees = plant(np.array([[8, 1, 2, 9], [8, 1, 3, 9]]), config)
    >>> trees.tokens.tolist(), trees.ends.tolist()
    ([[8, 1, 2, 9, 3, 9]], [3, 5])
    """
    if tokens.ndim != 2 or not len(tokens) or tokens.shape[1] > config.context_length:
        raise InputError(
            f"tokens have shape {tokens.shape}, expected (1 or more, at most {config.context_length})"
        )
    at_end = tokens.argmax(1) if config.end_id is None else (tokens == config.end_id).argmax(1)
    length = at_end + 1
    width = int(length.max())
    inside = np.arange(width) < length[:, None]  # (N, width)
    ids = np.where(inside, tokens[:, :width], -1)
    order = np.lexsort(ids.T[::-1])
    ids, inside, length = ids[order], inside[order], length[order]
    common = np.zeros(len(ids), np.int64)  # tokens shared with the text before
    common[1:] = np.cumprod(ids[1:] == ids[:-1], axis=1).sum(1)
    common = np.minimum(common, length)
    tree = _assign(length, common, nodes)
    common[np.flatnonzero(np.diff(tree, prepend=-1))] = 0
    new = inside & (np.arange(width) >= common[:, None])
    return _lay_out(ids, length, new, tree, order)


def _assign(length: Ids, common: Ids, nodes: int) -> Ids:
    """Fill trees with texts in order; the number of each text's tree, (N,)."""
    tree, size, current = np.empty(len(length), np.int64), 0, 0
    for row, (whole, shared) in enumerate(zip(length.tolist(), common.tolist(), strict=True)):
        if size and size + whole - shared > nodes:
            current, size = current + 1, 0
        size += whole if size == 0 else whole - shared
        tree[row] = current
    return tree


def _lay_out(ids: Ids, length: Ids, new: NDArray[np.bool_], tree: Ids, order: Ids) -> Trees:
    row, depth = np.nonzero(new)  # of every node, trees one after the other
    home = tree[row]
    sizes = np.bincount(home)
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its tree
    shape = (len(sizes), int(sizes.max()))
    tokens, depths = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tokens[home, place], depths[home, place] = ids[row, depth], depth
    # A text's way from the root: at each depth the last node made there. Texts are sorted, so it is its own.
    last = np.zeros(new.shape, np.int64)
    last[row, depth] = np.arange(len(row))
    path = np.maximum.accumulate(last, axis=0)  # (N, width)
    sees = np.zeros((*shape, shape[1]), np.bool_)
    sees[:, np.arange(shape[1]), np.arange(shape[1])] = True
    node = np.repeat(np.arange(len(row)), depth + 1)
    up = np.arange(len(node)) - np.repeat(np.cumsum(depth + 1) - depth - 1, depth + 1)
    sees[home[node], place[node], place[path[row[node], up]]] = True
    final = path[np.arange(len(length)), length - 1]
    ends = np.empty(len(length), np.int64)
    ends[order] = home[final] * shape[1] + place[final]
    return Trees(tokens, depths, sees, ends)


def encode_shared(
    tower: TextTower, tokens: Tensor, *, nodes: int = NODES, at_once: int | None = None
) -> Tensor:
    """Texts as unit rows of the shared space, common beginnings computed once.

    Parameters
    ----------
    tower : TextTower
        Causal, read at the end (see `can_share`).
    tokens : Tensor
        Padded token ids, (N, L), on the CPU.
    nodes : int
        Size a tree may grow to.
    at_once : int, optional
        Trees computed together; by default all, as a training step needs.

    Returns
    -------
    Tensor
        (N, E), on the tower's device, differentiable.
    """
    trees = plant(tokens.numpy(), tower.text_config, nodes=nodes)
    device = tower.token_embedding.weight.device
    step = at_once or len(trees)
    size = trees.tokens.shape[1]
    home = trees.ends // size
    rows, where = [], []
    for start in range(0, len(trees), step):
        chosen = slice(start, start + step)
        mine = np.flatnonzero((home >= start) & (home < start + step))
        ends = trees.ends[mine] - start * size
        parts = (trees.tokens[chosen], trees.depth[chosen], trees.sees[chosen], ends)
        rows.append(tower.encode_tree(*(send(torch.from_numpy(part), device) for part in parts)))
        where.append(mine)
    back = np.argsort(np.concatenate(where))
    return torch.cat(rows).index_select(0, send(torch.from_numpy(back), device))
