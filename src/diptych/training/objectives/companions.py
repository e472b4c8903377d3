"""Losses on the texts that go with the pairs of a batch: text pairs, and nodes of a label tree.

Both compare only the texts and pictures of one process: a text pair has enough negatives there, and the
targets of a tree are known for each picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diptych.training.losses.contrastive import info_nce
from diptych.training.losses.feature_exchange import Exchange, NoExchange, global_mean
from diptych.training.losses.label_tree import label_tree_loss
from diptych.training.objectives.label_tree import LabelTreeTeacher

_START_SCALE = math.log(1 / 0.07)  # as in the paper


class CompanionObjective(nn.Module):
    """Losses on the companions of the pairs; see `data.texts.companions`.

    Parameters
    ----------
    pairs_weight : float or None
        Weight of the loss on text pairs; None: there are none.
    epochs_alone : int
        First epochs that train the text pairs alone.
    tree : LabelTreeTeacher, optional
    tree_weight : float
        Weight of the loss on the tree.

    Attributes
    ----------
    count : int
        Companions of each pair, C: two texts of a text pair, then the text of a node.
    pairs_alone : bool
        Whether the text pairs are trained alone, as in the first epochs of a run.
    learned, fixed : int
        Number of tensors that `loss` gets with a gradient (companions, made-up features), and without (mask
        of the text pairs; class probabilities of the pictures, of the made-up features, and the nodes).
    """

    def __init__(
        self,
        *,
        pairs_weight: float | None = None,
        epochs_alone: int = 0,
        tree: LabelTreeTeacher | None = None,
        tree_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.pairs_weight, self.tree, self.tree_weight = pairs_weight, tree, tree_weight
        has_pairs, has_tree = pairs_weight is not None, tree is not None
        self.epochs_alone, self.pairs_alone = epochs_alone, False
        self.count = 2 * has_pairs + has_tree
        self.learned, self.fixed = 1 + has_tree, has_pairs + 3 * has_tree
        # Factors on cosines of their own: the scale of the model fits captions.
        self.pairs_scale = nn.Parameter(torch.tensor(_START_SCALE)) if has_pairs else None
        self.tree_scale = nn.Parameter(torch.tensor(_START_SCALE)) if has_tree else None

    def initialise(self) -> None:
        """Set the scales."""
        with torch.no_grad():
            for scale in self.parameters():
                scale.fill_(_START_SCALE)

    def targets(self, images: Tensor, tokens: Tensor, nodes: Tensor | None) -> list[Tensor]:
        """What needs no gradient, of `fixed` tensors.

        Parameters
        ----------
        images : Tensor
            (B, 3, S, S), or features (B, W).
        tokens : Tensor, shape (B, 1 + K + C, L)
        nodes : Tensor, shape (B, 3), or None
        """
        fixed = [] if self.pairs_weight is None else [self.is_pair(tokens).to(images.device)]
        if self.tree is not None:
            assert nodes is not None
            features = self.tree.features(images)
            synthetic = self.tree.synthetic_features(features, nodes)
            probabilities = map(self.tree.class_probabilities, (features, synthetic))
            fixed += [*probabilities, nodes]
        return fixed

    def text_pairs(self, tokens: Tensor) -> Tensor:
        """Tokens of the two texts of each text pair, (B, 1 + K + C, L) -> (B, 2, L)."""
        start = tokens.shape[1] - self.count
        return tokens[:, start : start + 2]

    def is_pair(self, tokens: Tensor) -> Tensor:
        """Which visits bring a text pair, (B,): the others have two empty texts."""
        first, second = self.text_pairs(tokens).unbind(1)
        return (first != second).any(-1)

    def loss(
        self, image: Tensor, learned: Sequence[Tensor], fixed: Sequence[Tensor], exchange: Exchange
    ) -> Tensor:
        """The weighted losses.

        Parameters
        ----------
        image : Tensor, shape (B, E)
            Unit length.
        learned : sequence of Tensor
            Companions (B, C, E); with a tree, embeddings of made-up features (B, E).
        fixed : sequence of Tensor
            Of `targets`.
        """
        companions, fixed = learned[0], list(fixed)
        loss = companions.new_zeros(())
        if self.pairs_weight is not None:
            loss = loss + self.weighted_pairs_loss(companions, fixed.pop(0), exchange)
        if self.tree is not None and self.tree_scale is not None:
            of_images, of_synthetic, nodes = fixed
            is_synthetic = nodes[:, 1] >= 0
            members = self.tree.members[:, nodes[:, 0]]  # (C, B)
            part = label_tree_loss(
                torch.cat([image, learned[1][is_synthetic]]),
                companions[:, -1],
                torch.cat([of_images, of_synthetic[is_synthetic]]) @ members,
                self.tree.information[nodes[:, 0]],
                self.tree_scale.exp(),
            )
            loss = loss + self.tree_weight * global_mean(part[None], exchange)
        return loss

    def weighted_pairs_loss(self, companions: Tensor, is_pair: Tensor, exchange: Exchange) -> Tensor:
        """InfoNCE between the first and the second texts of the pairs, times its weight."""
        assert self.pairs_scale is not None
        assert self.pairs_weight is not None
        first, second = companions[is_pair, 0], companions[is_pair, 1]
        part = 0 * self.pairs_scale  # without two pairs there is no negative
        if len(first) > 1:
            part = info_nce(first, second, self.pairs_scale.exp(), exchange=NoExchange())
        return self.pairs_weight * global_mean(part[None], exchange)
