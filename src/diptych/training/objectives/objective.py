"""Training objectives in two stages: features of each chunk of pairs, then one loss on all features.

This is all that a training step knows of an objective, so chunks, processes, precision and resuming
(`loop/gradients.py`, `distributed/world.py`) are written once. `Contrastive` is the paper's objective.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, dropout, interpolate

from diptych.errors import TrainingError
from diptych.model.blocks import l2_normalize
from diptych.model.clip import CLIP
from diptych.model.text.prefix_tree import encode_with_prefix_trees, supports_prefix_trees
from diptych.training.losses.contrastive import ContrastiveLoss, info_nce, sigmoid_loss
from diptych.training.losses.distillation import similarity_distillation
from diptych.training.losses.feature_exchange import Exchange, global_mean
from diptych.training.losses.hard_negatives import hard_negative_loss
from diptych.training.losses.multi_positive import multi_positive_info_nce_term, multi_positive_sigmoid_term
from diptych.training.objectives.companions import CompanionObjective

# Nodes of one prefix tree of texts: small towers are faster with smaller masks than
# `model.text.prefix_tree.NODES`.
TREE_NODES = 128

# Features of B pairs, each (B, ...); None where the caller passed no images or no tokens.
PairFeatures = tuple[Tensor | None, ...]


class Objective(nn.Module, ABC):
    """A loss and the features that it needs.

    Attributes
    ----------
    model : CLIP
        The model that is trained and saved.
    """

    model: CLIP

    @abstractmethod
    def forward(
        self, images: Tensor | None, tokens: Tensor | None, samples: Tensor | None = None
    ) -> PairFeatures:
        """Features of a chunk of pairs; those of a pair must not depend on the other pairs.

        Parameters
        ----------
        images : Tensor or None
            (B, 3, S, S), on the device; None where nothing that reads images is trained. Or the output of
            the locked part of the image tower, from which the rest is computed.
        tokens : Tensor or None
            (B, L), on the CPU, or (B, 1 + K + C, L) with K hard negatives and C companions; None where
            nothing that reads texts is trained.
        samples : Tensor or None
            (B, D), see `Batch.samples`.
        """

    def frozen_features(
        self, images: Tensor, tokens: Tensor, samples: Tensor | None = None
    ) -> Sequence[Tensor]:
        """Further features of a chunk that get no gradient, so they are computed once."""
        return ()

    @abstractmethod
    def loss(self, features: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """The loss on all pairs of a step, those of the other processes included.

        Every process gets the same value. Gradients of what this process holds are its part of a sum over
        the processes.

        Parameters
        ----------
        features : sequence of Tensor
            Those of `forward`, then those of `frozen_features`.
        groups : LongTensor, shape (B,), or None
            See `Batch.groups`.
        """

    def initialise(self, seed: int) -> None:
        """Set the parameters and buffers outside the model from a seed; by default there are none."""

    def scales(self) -> Sequence[nn.Parameter]:
        """Logarithms of the factors on cosines, which are limited after every step."""
        return [self.model.logit_scale]

    def set_epoch(self, epoch: int) -> bool:
        """Prepare for a step of an epoch; returns whether it trains a part of the parameters only."""
        return False

    @property
    def needs_groups(self) -> bool:
        """Whether `loss` needs the groups, independent of how the config treats equal captions."""
        return False

    @property
    def product(self) -> nn.Module:
        """The module that evaluators are called with."""
        return self.model

    @abstractmethod
    def trainable_towers(self) -> tuple[bool, bool]:
        """Whether anything that reads images is trained, and anything that reads texts."""

    @abstractmethod
    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """Parameters that `loss` uses and `forward` does not."""


class Contrastive(Objective):
    """Contrastive objective: match images with texts (paper, section 2.3; SigLIP, arXiv 2303.15343).

    Parameters
    ----------
    model : CLIP
        Both towers.
    loss : {"infonce", "sigmoid"}
        The sigmoid loss needs a model with a bias.
    share_text : bool
        Compute common prefixes of texts once, where the text tower allows it.
    compiled : bool
        Compile the image tower with torch.compile.
    teachers : sequence of CLIP
        Models to distil from, which read the same pixels and ids; of several, the mean of their logits.
    positive : bool
        Pairs of one group are positives (`losses.multi_positive`), not only masked as negatives.
    negatives : float or None
        Weight of the hard negative loss; None where tokens come without hard negatives.
    similarity, features : float
        Weight of the distillation of similarities; and of features, 1 - cosine to those of the one teacher,
        the mean over images and texts.
    companions : CompanionObjective, optional
        Losses on the texts that go with the pairs.
    unlocked : int or None
        Groups of the image tower that follow the output which `forward` gets in place of images; None: it
        gets images.
    feature_dropout : float
        Fraction of the features before the projection that are dropped, where `forward` gets no images.

    Raises
    ------
    TrainingError
        The sigmoid loss without a bias, or a teacher whose features have another width.
    """

    def __init__(
        self,
        model: CLIP,
        *,
        loss: ContrastiveLoss = "infonce",
        share_text: bool = True,
        compiled: bool = False,
        teachers: Sequence[CLIP] = (),
        similarity: float = 1.0,
        features: float = 0.0,
        positive: bool = False,
        negatives: float | None = None,
        companions: CompanionObjective | None = None,
        unlocked: int | None = None,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.loss_name, self.positive, self.negatives = model, loss, positive, negatives
        self.companions, self.unlocked, self.feature_dropout = companions, unlocked, feature_dropout
        self.share_text = share_text and supports_prefix_trees(model.text_config)
        self._encode_image: Callable[..., Tensor] = (
            torch.compile(model.encode_image) if compiled else model.encode_image
        )
        if loss == "sigmoid" and model.logit_bias is None:
            raise TrainingError(
                "the sigmoid loss needs a model with a bias: set init_logit_bias (SigLIP: -10)"
            )
        # In a tuple: nn.Module registers modules among its attributes, and would train and save them.
        self.teachers, self.similarity, self.features = tuple(teachers), similarity, features
        widths = [teacher.config.embed_dim for teacher in self.teachers]
        if teachers and features and widths != [model.config.embed_dim]:
            raise TrainingError(
                f"distil_features needs one teacher of the model's embedding width "
                f"({model.config.embed_dim}), got widths {widths}: set distil_features=0, which distils "
                "similarities only"
            )

    def forward(
        self, images: Tensor | None, tokens: Tensor | None, samples: Tensor | None = None
    ) -> PairFeatures:
        """Unit-length features of a chunk of pairs.

        Returns
        -------
        tuple of Tensor or None
            Images (B, E) and texts (B, E); hard negatives (B, K, E) if there are any; companions (B, C, E)
            if there are any; made-up features that show a class (B, E) with a label tree. While text pairs
            are trained alone, their two texts only, (B, 2, E).
        """
        if self.companions is not None and self.companions.pairs_alone:
            assert tokens is not None
            return (self._text_embeddings(self.companions.text_pairs(tokens)),)
        image = None if images is None else self._image_embeddings(images)
        if tokens is None or tokens.ndim == 2:
            text = None if tokens is None else self._encode_text(self.model, tokens)
            missing = (self.negatives is not None) + (self.companions is not None)
            return image, text, *[None] * missing, *self._synthetic_embeddings(images, samples)
        texts = self._text_embeddings(tokens)  # (B, 1 + K + C, E)
        start = texts.shape[1] - self._companion_count
        hard = [] if self.negatives is None else [texts[:, 1:start]]
        companions = [] if self.companions is None else [texts[:, start:]]
        return image, texts[:, 0], *hard, *companions, *self._synthetic_embeddings(images, samples)

    def _text_embeddings(self, tokens: Tensor) -> Tensor:
        """Embeddings of several texts of each pair, (B, T, L) -> (B, T, E), encoded as one batch."""
        return self._encode_text(self.model, tokens.flatten(0, 1)).view(*tokens.shape[:2], -1)

    @property
    def _companion_count(self) -> int:
        return 0 if self.companions is None else self.companions.count

    def _synthetic_embeddings(self, images: Tensor | None, samples: Tensor | None) -> PairFeatures:
        """Embeddings of made-up features, if there is a label tree: () or one entry."""
        if self.companions is None or self.companions.tree is None:
            return ()
        if images is None or samples is None:
            return (None,)
        with torch.no_grad():
            tree = self.companions.tree
            features = tree.synthetic_features(tree.features(images, self.unlocked), samples)
        return (self._project(features),)

    def frozen_features(
        self, images: Tensor, tokens: Tensor, samples: Tensor | None = None
    ) -> Sequence[Tensor]:
        """Mask of the hard negatives, (B, K); targets of the companions; the teachers' features."""
        fixed: list[Tensor] = []
        if self.companions is not None and self.companions.pairs_alone:
            return [self.companions.pair_groups(tokens).to(images.device)]
        if self.companions is not None:
            fixed += self.companions.targets(images, tokens, samples, self.unlocked)
        if self.negatives is not None:
            # A pair with fewer than K hard negatives is filled up with copies of its own caption.
            hard = tokens[:, 1 : tokens.shape[1] - self._companion_count]
            fixed.insert(0, (hard != tokens[:, :1]).any(-1).to(images.device, images.dtype))
        captions = tokens if tokens.ndim == 2 else tokens[:, 0]
        return [*fixed, *self._teacher_features(images, captions)]

    def _teacher_features(self, images: Tensor, tokens: Tensor) -> Sequence[Tensor]:
        """Image and text features of all teachers side by side, (B, sum of their widths) each.

        Their products are the mean of the teachers' logits: for M teachers with features x_m, y_m and scales
        t_m, ``[x_1 .. x_M].[t_1 y_1 .. t_M y_M] / M = 1/M sum_m t_m x_m.y_m``.
        """
        if not self.teachers:
            return ()
        image_features, text_features = [], []
        for teacher in self.teachers:
            size = teacher.config.vision.image_size
            resized = images
            if images.shape[-1] != size:
                resized = interpolate(images, (size, size), mode="bicubic", antialias=True)
            image_features.append(teacher.encode_image(resized, normalize=True))
            weight = teacher.logit_scale.exp() / len(self.teachers)
            text_features.append(weight * self._encode_text(teacher, tokens))
        return torch.cat(image_features, 1), torch.cat(text_features, 1)

    def _image_embeddings(self, images: Tensor) -> Tensor:
        if self.unlocked is None:
            return self._encode_image(images, normalize=True)
        visual = self.model.visual
        features = visual.features_after(images, self.unlocked) if self.unlocked > 1 else images  # type: ignore[operator]
        return self._project(features)

    def _project(self, features: Tensor) -> Tensor:
        features = dropout(features, self.feature_dropout, self.training)
        return l2_normalize(self.model.visual.project(features))  # type: ignore[operator]

    def _encode_text(self, model: CLIP, tokens: Tensor) -> Tensor:
        if self.share_text and supports_prefix_trees(model.text_config):
            return encode_with_prefix_trees(model, tokens, nodes=TREE_NODES)
        return model.encode_text(tokens, normalize=True)

    def loss(self, features: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """InfoNCE or the sigmoid loss; added are those of hard negatives, companions and distillation."""
        if self.companions is not None and self.companions.pairs_alone:
            companions, pair_groups = features
            return self.companions.weighted_pairs_loss(companions, pair_groups, exchange)
        image, text, *more = features
        # The scale is learned as its logarithm, so that it stays positive.
        scale = self.model.logit_scale.exp()
        bias = self.model.logit_bias if self.loss_name == "sigmoid" else None
        loss = self._contrastive_loss(image, text, scale, bias, groups, exchange)
        # First all features with a gradient, then all without: e.g. [negatives, companions, synthetic,
        # mask of the negatives, targets of the companions].
        negatives = None if self.negatives is None else more.pop(0)
        learned = [] if self.companions is None else [more.pop(0) for _ in range(self.companions.learned)]
        if negatives is not None and self.negatives is not None:
            loss = loss + self.negatives * hard_negative_loss(
                image, text, negatives, more.pop(0), scale, bias, exchange
            )
        if self.companions is not None:
            targets = [more.pop(0) for _ in range(self.companions.fixed)]
            loss = loss + self.companions.loss(image, learned, targets, exchange)
        return loss + self._distillation_loss(image, text, scale, more, exchange)

    def _contrastive_loss(
        self,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        groups: Tensor | None,
        exchange: Exchange,
    ) -> Tensor:
        """InfoNCE or the sigmoid loss; pairs of one group are positives, or masked as negatives."""
        positives = groups if self.positive else None
        masked = None if self.positive else groups
        if self.loss_name == "infonce":
            loss = info_nce(image, text, scale, groups=masked, exchange=exchange)
            if positives is None:
                return loss
            return loss + multi_positive_info_nce_term(image, text, scale, positives, exchange)
        if self.loss_name == "sigmoid":
            assert bias is not None  # __init__ refuses a model without one
            loss = sigmoid_loss(image, text, scale, bias, groups=masked, exchange=exchange)
            if positives is None:
                return loss
            return loss + multi_positive_sigmoid_term(image, text, scale, bias, positives, exchange)
        assert_never(self.loss_name)

    def _distillation_loss(
        self, image: Tensor, text: Tensor, scale: Tensor, teacher: Sequence[Tensor], exchange: Exchange
    ) -> Tensor:
        """Weighted distances from the teachers' similarities and features; 0 without teachers."""
        loss = torch.zeros_like(scale)
        if teacher and self.similarity:
            loss = loss + self.similarity * similarity_distillation(
                image, text, scale, *teacher, exchange=exchange
            )
        if teacher and self.features:
            pairs = zip((image, text), teacher, strict=True)
            cosines = torch.stack([cosine_similarity(own, taught, dim=1) for own, taught in pairs])  # (2, B)
            loss = loss + self.features * global_mean(1 - cosines.mean(0), exchange)
        return loss

    def trainable_towers(self) -> tuple[bool, bool]:
        """Which towers have parameters that are not locked."""
        image_parameters = {id(parameter) for parameter in self.model.visual.parameters()}
        # Scale and bias belong to no tower: a model with both towers locked can still train them.
        excluded = {id(parameter) for parameter in self.loss_parameters()}
        trained = [id(p) for p in self.model.parameters() if p.requires_grad and id(p) not in excluded]
        return any(p in image_parameters for p in trained), any(p not in image_parameters for p in trained)

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """Scale and bias of the logits, and the scales of the companions' losses."""
        bias = [] if self.model.logit_bias is None else [self.model.logit_bias]
        return [*self.scales(), *bias]

    def scales(self) -> Sequence[nn.Parameter]:
        """That of the model, and those of the companions' losses."""
        own = [] if self.companions is None else self.companions.parameters()
        return [self.model.logit_scale, *own]

    def set_epoch(self, epoch: int) -> bool:
        """Whether text pairs are trained alone in this epoch."""
        if self.companions is None:
            return False
        self.companions.pairs_alone = epoch < self.companions.epochs_alone
        return self.companions.pairs_alone

    def initialise(self, seed: int) -> None:
        """Set the scales of the companions' losses."""
        if self.companions is not None:
            self.companions.initialise()
