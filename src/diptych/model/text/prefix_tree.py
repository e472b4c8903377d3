"""Prefix trees of token sequences: texts that begin alike share the computation of their common prefix.

In a causal transformer the vector at a position depends only on the tokens up to it, so "a photo of a cat."
and "a photo of a dog." share the vectors of their first five tokens (start token included). A classifier for
1,000 classes from 80 templates has 9.6 tokens per prompt, of which only 4.1 are new once prefixes are shared.
There is no padding either, which is half of all positions in a batch of captions. The result is that of
`TextTower.encode_text` up to the order of additions. The attention mask of a tree of L nodes has L * L
entries, so a large set of texts becomes many trees of bounded size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.model.config import TextConfig
from diptych.model.devices import to_device
from diptych.model.text.transformer import TextTower

NODES = 256  # per tree: the mask then adds less than a tenth to the work at a width of 512
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PrefixTrees:
    """N texts as T trees of L nodes; shorter trees are padded.

    Attributes
    ----------
    tokens, depth : (T, L) int64
        Token id of each node, and its distance from the root, which is its position in the text.
    attention_mask : (T, L, L) bool
        True where the node of the row may attend to the node of the column: itself and its ancestors.
        Padding attends to itself only.
    ends : (N,) int64
        For each text the index of its last node among all T * L.
    """

    tokens: Ids
    depth: Ids
    attention_mask: NDArray[np.bool_]
    ends: Ids

    def __len__(self) -> int:
        return len(self.tokens)


def supports_prefix_trees(config: TextConfig) -> bool:
    """Whether prefixes can be shared: attention is causal and the feature is read at the end token."""
    return config.causal and config.pool == "end"  # never a RobertaConfig, which is not causal


def build_prefix_trees(tokens: Ids, config: TextConfig, *, nodes: int = NODES) -> PrefixTrees:
    """Arrange texts as prefix trees.

    Parameters
    ----------
    tokens : (N, L) int64
        Padded token ids.
    config : TextConfig
        Says which token ends a text.
    nodes : int
        Maximum size of a tree. A single text that is longer still gets a tree of its own.

    Examples
    --------
    >>> config = TextConfig(vocab_size=10, context_length=4)
    >>> trees = build_prefix_trees(np.array([[8, 1, 2, 9], [8, 1, 3, 9]]), config)
    >>> trees.tokens.tolist(), trees.ends.tolist()
    ([[8, 1, 2, 9, 3, 9]], [3, 5])
    """
    if tokens.ndim != 2 or not len(tokens) or tokens.shape[1] > config.context_length:
        raise InputError(
            f"tokens have shape {tokens.shape}, expected (1 or more, at most {config.context_length})"
        )
    end = tokens.argmax(1) if config.end_id is None else (tokens == config.end_id).argmax(1)
    length = end + 1
    width = int(length.max())
    inside = np.arange(width) < length[:, None]  # (N, width)
    ids = np.where(inside, tokens[:, :width], -1)
    # Sorted texts share their longest prefix with a neighbour. lexsort's last key is the primary one, so the
    # columns are given last to first.
    order = np.lexsort(ids.T[::-1])
    ids, inside, length = ids[order], inside[order], length[order]
    # Length of the prefix shared with the previous text: cumprod turns "equal here" into "equal up to here".
    # E.g. [8, 1, 3, 9] after [8, 1, 2, 9]: equal 1 1 0 1 -> cumprod 1 1 0 0 -> 2 tokens.
    common = np.zeros(len(ids), np.int64)
    common[1:] = np.cumprod(ids[1:] == ids[:-1], axis=1).sum(1)
    common = np.minimum(common, length)  # equal texts are equal in their padding too
    tree = _assign_trees(length, common, nodes)
    common[np.flatnonzero(np.diff(tree, prepend=-1))] = 0  # the first text of a tree shares nothing
    new = inside & (np.arange(width) >= common[:, None])  # (N, width): tokens that need a node
    return _arrange_nodes(ids, length, new, tree, order)


def _assign_trees(length: Ids, common: Ids, nodes: int) -> Ids:
    """Fill trees with sorted texts up to `nodes` nodes each; the number of each text's tree, (N,)."""
    tree, size, current = np.empty(len(length), np.int64), 0, 0
    for row, (whole, shared) in enumerate(zip(length.tolist(), common.tolist(), strict=True)):
        if size and size + whole - shared > nodes:
            current, size = current + 1, 0
        size += whole if size == 0 else whole - shared
        tree[row] = current
    return tree


def _arrange_nodes(ids: Ids, length: Ids, new: NDArray[np.bool_], tree: Ids, order: Ids) -> PrefixTrees:
    """Number the nodes and derive each one's ancestors.

    Every true entry of `new` becomes a node; nodes are numbered by row. The comments follow the example of
    `build_prefix_trees`: two texts in one tree, of which the second shares two tokens with the first::

        ids    8 1 2 9    new    1 1 1 1    node    0 1 2 3
               8 1 3 9           0 0 1 1            . . 4 5
    """
    row, depth = np.nonzero(new)  # of every node: (0, 0) (0, 1) (0, 2) (0, 3) (1, 2) (1, 3)
    node_tree = tree[row]
    sizes = np.bincount(node_tree)  # nodes per tree: [6]
    # Index of a node within its tree: its number less the number of nodes in earlier trees.
    index = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shape = (len(sizes), int(sizes.max()))
    tokens, depths = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tokens[node_tree, index], depths[node_tree, index] = ids[row, depth], depth
    # The nodes of a text from the root on. Where a text has no node of its own at a depth, it shares that of
    # the last text above it that has one: texts are sorted, and numbers grow downwards, so this is the
    # running maximum of each column. Here: [[0, 1, 2, 3], [0, 1, 4, 5]].
    last = np.zeros(new.shape, np.int64)
    last[row, depth] = np.arange(len(row))
    path = np.maximum.accumulate(last, axis=0)  # (N, width)
    attention_mask = np.zeros((*shape, shape[1]), np.bool_)
    attention_mask[:, np.arange(shape[1]), np.arange(shape[1])] = True  # each node, padding too, itself
    # One (node, ancestor) pair for every node and every depth up to its own: node 4 at depth 2 gives the
    # depths 0, 1, 2 and so the ancestors path[1, :3] = 0, 1, 4. `ancestor_depth` counts 0, 1, ... anew
    # for each node: position in the list of pairs less the node's first position.
    node = np.repeat(np.arange(len(row)), depth + 1)
    ancestor_depth = np.arange(len(node)) - np.repeat(np.cumsum(depth + 1) - depth - 1, depth + 1)
    ancestor = path[row[node], ancestor_depth]
    attention_mask[node_tree[node], index[node], index[ancestor]] = True
    final = path[np.arange(len(length)), length - 1]  # last node of each sorted text: [3, 5]
    ends = np.empty(len(length), np.int64)
    ends[order] = node_tree[final] * shape[1] + index[final]  # back in the order of the input
    return PrefixTrees(tokens, depths, attention_mask, ends)


def encode_with_prefix_trees(
    tower: TextTower, tokens: Tensor, *, nodes: int = NODES, batch_size: int | None = None
) -> Tensor:
    """Embed texts, normalised; common prefixes are computed once.

    Parameters
    ----------
    tower : TextTower
        One whose config `supports_prefix_trees`.
    tokens : Tensor
        Padded token ids, (N, L), on the CPU.
    nodes : int
        Maximum size of a tree.
    batch_size : int, optional
        Trees computed together; by default all, as a training step needs.

    Returns
    -------
    Tensor
        (N, E), on the tower's device, differentiable.
    """
    trees = build_prefix_trees(tokens.numpy(), tower.text_config, nodes=nodes)
    device = tower.token_embedding.weight.device
    step = batch_size or len(trees)
    size = trees.tokens.shape[1]
    text_tree = trees.ends // size  # (N,)
    embeddings, texts = [], []
    for start in range(0, len(trees), step):
        batch = slice(start, start + step)
        # Texts whose trees are in this batch, and their end nodes counted from the batch's first node.
        members = np.flatnonzero((text_tree >= start) & (text_tree < start + step))
        ends = trees.ends[members] - start * size
        arrays = (trees.tokens[batch], trees.depth[batch], trees.attention_mask[batch], ends)
        tensors = (to_device(torch.from_numpy(array), device) for array in arrays)
        embeddings.append(tower.encode_prefix_trees(*tensors))
        texts.append(members)
    # Batches follow the sorted texts; the inverse permutation restores the order of the input.
    inverse = np.argsort(np.concatenate(texts))
    return torch.cat(embeddings).index_select(0, to_device(torch.from_numpy(inverse), device))
