"""Losses on the texts that go with the pairs of a batch: text pairs, nodes of a label tree, caption words.

All compare only the texts and pictures of one process: a text pair has enough negatives there, and the
targets of nodes and words are known for each picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diptych.training.data.texts.companions import NODE_COLUMNS
from diptych.training.losses.contrastive import info_nce
from diptych.training.losses.feature_exchange import Exchange, NoExchange, global_mean
from diptych.training.losses.multi_label import multi_label_loss
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
    word_information : Tensor, shape (V,), optional
        Information content of the words of captions; None: there are none.
    words_weight : float
        Weight of the loss on them.

    Attributes
    ----------
    count : int
        Companions of each pair, C: two texts of a text pair, then the text of a node, then that of a word.
    pairs_alone : bool
        Whether the text pairs are trained alone, as in the first epochs of a run.
    learned, fixed : int
        Number of tensors that `loss` gets with a gradient (companions, made-up features), and without (groups
        of the text pairs; class probabilities of the pictures and of the made-up features; samples).
    """

    def __init__(
        self,
        *,
        pairs_weight: float | None = None,
        epochs_alone: int = 0,
        tree: LabelTreeTeacher | None = None,
        tree_weight: float = 1.0,
        word_information: Tensor | None = None,
        words_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.pairs_weight, self.tree, self.tree_weight = pairs_weight, tree, tree_weight
        # In a tuple: it is read from the config's file, so it is no part of the state.
        self._word_information: tuple[Tensor, ...] = () if word_information is None else (word_information,)
        self.words_weight = words_weight
        self.epochs_alone, self.pairs_alone = epochs_alone, False
        has_pairs, has_tree = pairs_weight is not None, tree is not None
        has_words = word_information is not None
        self.count = 2 * has_pairs + has_tree + has_words
        self.learned, self.fixed = 1 + has_tree, has_pairs + 2 * has_tree + (has_tree or has_words)
        # Factors on cosines of their own: the scale of the model fits captions.
        self.pairs_scale, self.tree_scale, self.words_scale = (
            nn.Parameter(torch.tensor(_START_SCALE)) if used else None
            for used in (has_pairs, has_tree, has_words)
        )

    def initialise(self) -> None:
        """Set the scales."""
        with torch.no_grad():
            for scale in self.parameters():
                scale.fill_(_START_SCALE)

    def targets(
        self, images: Tensor, tokens: Tensor, samples: Tensor | None, unlocked: int | None = None
    ) -> list[Tensor]:
        """What needs no gradient, of `fixed` tensors.

        Parameters
        ----------
        images : Tensor
            (B, 3, S, S), or the output of the locked part of the tower.
        tokens : Tensor, shape (B, 1 + K + C, L)
        samples : Tensor, shape (B, D), or None
            See `Batch.samples`.
        unlocked : int or None
            Groups after the locked part, see `Contrastive`.
        """
        fixed = [] if self.pairs_weight is None else [self.pair_groups(tokens).to(images.device)]
        if self.tree is not None:
            assert samples is not None
            features = self.tree.features(images, unlocked)
            synthetic = self.tree.synthetic_features(features, samples)
            fixed += map(self.tree.class_probabilities, (features, synthetic))
        if self.tree is not None or self._word_information:
            assert samples is not None
            fixed.append(samples)
        return fixed

    def text_pairs(self, tokens: Tensor) -> Tensor:
        """Tokens of the two texts of each text pair, (B, 1 + K + C, L) -> (B, 2, L)."""
        start = tokens.shape[1] - self.count
        return tokens[:, start : start + 2]

    def pair_groups(self, tokens: Tensor) -> Tensor:
        """Group of each text pair, (B,): equal for equal second texts, which are no negatives; 0 for none.

        A visit without a text pair has two empty texts.
        """
        first, second = self.text_pairs(tokens).unbind(1)
        # A polynomial hash modulo 2**64, the same in every chunk.
        powers = torch.cumprod(torch.full((second.shape[-1],), 6364136223846793005), 0)
        hashes = (second * powers).sum(-1)
        hashes[hashes == 0] = 1
        return torch.where((first != second).any(-1), hashes, 0)

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
        if self.tree is not None:
            texts = companions[:, -2 if self._word_information else -1]
            part = self._tree_loss(self.tree, image, learned[1], texts, *fixed)
            loss = loss + self.tree_weight * global_mean(part[None], exchange)
        if self._word_information:
            samples = fixed[-1][:, NODE_COLUMNS:] if self.tree is not None else fixed[-1]
            part = self._words_loss(image, companions[:, -1], samples)
            loss = loss + self.words_weight * global_mean(part[None], exchange)
        return loss

    def weighted_pairs_loss(self, companions: Tensor, groups: Tensor, exchange: Exchange) -> Tensor:
        """InfoNCE between the first and the second texts of the pairs, times its weight."""
        assert self.pairs_scale is not None
        assert self.pairs_weight is not None
        is_pair = groups != 0
        first, second = companions[is_pair, 0], companions[is_pair, 1]
        if len(first) > 1:
            scale = self.pairs_scale.exp()
            part = info_nce(first, second, scale, groups=groups[is_pair], exchange=NoExchange())
        else:  # there is no negative; every process must have the same gradients, if only of 0
            part = 0 * (self.pairs_scale + companions.sum())
        return self.pairs_weight * global_mean(part[None], exchange)

    def _tree_loss(
        self,
        tree: LabelTreeTeacher,
        image: Tensor,
        synthetic: Tensor,
        texts: Tensor,
        of_images: Tensor,
        of_synthetic: Tensor,
        samples: Tensor,
    ) -> Tensor:
        """Multi-label loss of pictures and made-up features with the drawn nodes."""
        assert self.tree_scale is not None
        nodes, is_synthetic = samples[:, 0], samples[:, 1] >= 0
        probabilities = torch.cat([of_images, of_synthetic[is_synthetic]]) @ tree.members[:, nodes]
        return multi_label_loss(
            torch.cat([image, synthetic[is_synthetic]]),
            texts,
            probabilities,
            tree.information[nodes],
            self.tree_scale.exp(),
        )

    def _words_loss(self, image: Tensor, texts: Tensor, samples: Tensor) -> Tensor:
        """Multi-label loss of captioned pictures with the words that their captions brought.

        Parameters
        ----------
        texts : Tensor, shape (B, E)
        samples : Tensor, shape (B, 1 + M)
            Of `WordTexts.of`.
        """
        assert self.words_scale is not None
        drawn, listed = samples[:, 0], samples[:, 1:]
        is_captioned = drawn >= 0
        if not is_captioned.any():
            return 0 * (self.words_scale + texts.sum())
        # Each word once, with the text of the first visit that drew it.
        # e.g. drawn [4, -1, 9, 4]: rows 0 and 2, words 4 and 9.
        order = torch.arange(len(drawn), device=drawn.device)
        earlier = (drawn[:, None] == drawn[None, :]) & (order[:, None] > order[None, :])
        rows = torch.nonzero(is_captioned & ~earlier.any(1))[:, 0]
        words, by_number = drawn[rows].sort()
        rows = rows[by_number]
        # A word that is listed twice stands in two captions or more. Column of each listed number, if it is
        # among the words: e.g. words [4, 9], listed [9, 9, 5]: positions [1, 1, 1], of which two are right.
        own = listed[is_captioned]
        position = torch.searchsorted(words, own).clamp(max=len(words) - 1)
        counts = image.new_zeros(len(own), len(words))  # (captioned, words)
        counts.scatter_add_(1, position, (words[position] == own).to(counts.dtype))
        information = self._word_information[0].to(image.device)[words]
        return multi_label_loss(
            image[is_captioned], texts[rows], counts / 2, information, self.words_scale.exp()
        )
