"""What is trained, cut in two where the pairs meet: towers, a chunk of pairs at a time; then one loss of all.

Everything a step needs to know of a way to train is here, so that chunks, processes, precision and resuming
(`gradients.py`, `world.py`) are written once. An objective says what the rows of a pair are and what is lost
on all rows together; `Contrastive` is the paper's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from diptych.errors import TrainingError
from diptych.model.clip import CLIP
from diptych.model.text.prefix_tree import encode_with_prefix_trees, supports_prefix_trees
from diptych.training.losses.contrastive import info_nce, sigmoid_loss
from diptych.training.losses.distillation import similarity_distillation
from diptych.training.losses.exchange import Exchange, mean_of
from diptych.training.losses.negatives import near_misses
from diptych.training.losses.positives import all_yes, equal_shares

TREE_NODES = 128  # of one tree of texts: small towers want smaller masks than `model.text.prefix_tree.NODES`

Rows = tuple[Tensor | None, ...]  # None: not asked for


class Objective(nn.Module, ABC):
    """A way to train.

    Attributes
    ----------
    model : CLIP
        What is kept in the end.
    """

    model: CLIP

    @abstractmethod
    def forward(self, images: Tensor | None, tokens: Tensor | None) -> Rows:
        """Rows of a chunk of pairs, in which every pair is on its own.

        Parameters
        ----------
        images : Tensor or None
            (B, 3, S, S), on the device; None where nothing that reads pictures learns.
        tokens : Tensor or None
            (B, L), on the CPU, or (B, 1 + K, L) with near misses; None likewise.
        """

    def frozen_features(self, images: Tensor, tokens: Tensor) -> Sequence[Tensor]:
        """Further rows of a chunk, through which no gradient goes: they are computed once."""
        return ()

    @abstractmethod
    def loss(self, rows: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """What is lost on all pairs of a step, those of the other processes included.

        Every process gets the same number; gradients of what this process holds are parts of a sum over the
        processes.
        """

    def initialise(self, seed: int) -> None:
        """Set the parameters and buffers beside the model from a seed; a contrastive objective has none."""

    @property
    def needs_groups(self) -> bool:
        """Whether `loss` wants the groups whatever the config says of equal captions."""
        return False

    @property
    def product(self) -> nn.Module:
        """What evaluators get to see."""
        return self.model

    @abstractmethod
    def trainable_towers(self) -> tuple[bool, bool]:
        """Whether anything that reads pictures is trained, and anything that reads texts."""

    @abstractmethod
    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """Parameters that `loss` uses and `forward` does not."""


class Contrastive(Objective):
    """Which picture and which text belong together (paper, section 2.3; SigLIP, arXiv 2303.15343).

    Parameters
    ----------
    model : CLIP
        Both towers.
    loss : {"infonce", "sigmoid"}
        The sigmoid loss needs a model with a bias.
    share_text : bool
        Compute common beginnings of texts once, where the text tower allows it.
    compiled : bool
        Let torch.compile have the picture tower.
    teachers : sequence of CLIP
        Stronger models to learn from, which read the same pixels and ids; several count as one, by the mean
        of their logits.
    positive : bool
        Pairs of one group are right answers too (`diptych.training.losses`), not only absent as wrong ones.
    negatives : float or None
        How much counts what is lost to near misses, where tokens come with some.
    similarity, features : float
        How much counts what the teachers find alike, and how near the rows are to those
        of the one teacher: 1 less the cosine, the mean over pictures and texts.

    Raises
    ------
    TrainingError
        The sigmoid loss without a bias, or a teacher whose rows cannot be compared.
    """

    def __init__(
        self,
        model: CLIP,
        *,
        loss: Literal["infonce", "sigmoid"] = "infonce",
        share_text: bool = True,
        compiled: bool = False,
        teachers: Sequence[CLIP] = (),
        similarity: float = 1.0,
        features: float = 0.0,
        positive: bool = False,
        negatives: float | None = None,
    ) -> None:
        super().__init__()
        self.model, self.kind, self.positive, self.negatives = model, loss, positive, negatives
        self.share_text = share_text and supports_prefix_trees(model.text_config)
        self._encode_image: Callable[..., Tensor] = (
            torch.compile(model.encode_image) if compiled else model.encode_image
        )
        if loss == "sigmoid" and model.logit_bias is None:
            raise TrainingError(
                "the sigmoid loss needs a model with a bias: set init_logit_bias (SigLIP: -10)"
            )
        # In a tuple: a module among the attributes would be trained and saved with the model.
        self.teachers, self.similarity, self.features = tuple(teachers), similarity, features
        widths = [teacher.config.embed_dim for teacher in self.teachers]
        if teachers and features and widths != [model.config.embed_dim]:
            raise TrainingError(
                f"features can be learned from one teacher as wide as the model ({model.config.embed_dim}), "
                f"not from widths {widths}: set distil_features=0, similarities have no width"
            )

    def forward(self, images: Tensor | None, tokens: Tensor | None) -> Rows:
        """Unit rows of pictures and of texts, (B, E) each; then of near misses, (B, K, E)."""
        image = None if images is None else self._encode_image(images, normalize=True)
        if self.negatives is None:
            return image, None if tokens is None else self._encode_text(self.model, tokens)
        if tokens is None:
            return image, None, None
        texts = self._encode_text(self.model, tokens.flatten(0, 1)).view(*tokens.shape[:2], -1)
        return image, texts[:, 0], texts[:, 1:]

    def frozen_features(self, images: Tensor, tokens: Tensor) -> Sequence[Tensor]:
        """Which near misses are some, (B, K); rows whose products are the mean of the teachers' logits."""
        present = []
        if self.negatives is not None:
            present = [(tokens[:, 1:] != tokens[:, :1]).any(-1).to(images.device, images.dtype)]
            tokens = tokens[:, 0]
        return [*present, *self._taught(images, tokens)]

    def _taught(self, images: Tensor, tokens: Tensor) -> Sequence[Tensor]:
        """Rows for pictures and for texts, (B, sum of E) each."""
        if not self.teachers:
            return ()
        pictures, texts = [], []
        for teacher in self.teachers:
            size = teacher.config.vision.image_size
            shown = images
            if images.shape[-1] != size:
                shown = interpolate(images, (size, size), mode="bicubic", antialias=True)
            pictures.append(teacher.encode_image(shown, normalize=True))
            weight = teacher.logit_scale.exp() / len(self.teachers)
            texts.append(weight * self._encode_text(teacher, tokens))
        return torch.cat(pictures, 1), torch.cat(texts, 1)

    def _encode_text(self, model: CLIP, tokens: Tensor) -> Tensor:
        if self.share_text and supports_prefix_trees(model.text_config):
            return encode_with_prefix_trees(model, tokens, nodes=TREE_NODES)
        return model.encode_text(tokens, normalize=True)

    def loss(self, rows: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """InfoNCE or the sigmoid loss on all pairs, and what the teachers make of them."""
        image, text, *more = rows
        scale, bias = self.model.logit_scale.exp(), None
        if self.kind == "sigmoid":
            bias = self.model.logit_bias
        loss = self._pairs(image, text, scale, bias, groups, exchange)
        if self.negatives is not None:
            missed, present, *more = more
            loss = loss + self.negatives * near_misses(image, text, missed, present, scale, bias, exchange)
        return loss + self._distance(image, text, scale, more, exchange)

    def _pairs(
        self,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        groups: Tensor | None,
        exchange: Exchange,
    ) -> Tensor:
        right = groups if self.positive else None
        wrong = None if self.positive else groups
        if bias is None:
            loss = info_nce(image, text, scale, groups=wrong, exchange=exchange)
            return loss if right is None else loss + equal_shares(image, text, scale, right, exchange)
        loss = sigmoid_loss(image, text, scale, bias, groups=wrong, exchange=exchange)
        return loss if right is None else loss + all_yes(image, text, scale, bias, right, exchange)

    def _distance(
        self, image: Tensor, text: Tensor, scale: Tensor, taught: Sequence[Tensor], exchange: Exchange
    ) -> Tensor:
        """From the teachers."""
        loss = torch.zeros_like(scale)
        if taught and self.similarity:
            loss = loss + self.similarity * similarity_distillation(
                image, text, scale, *taught, exchange=exchange
            )
        if taught and self.features:
            theirs = zip((image, text), taught, strict=True)
            near = torch.stack([cosine_similarity(own, other, dim=1) for own, other in theirs])  # (2, B)
            loss = loss + self.features * mean_of(1 - near.mean(0), exchange)
        return loss

    def trainable_towers(self) -> tuple[bool, bool]:
        """Which tower is not locked."""
        pictures = {id(parameter) for parameter in self.model.visual.parameters()}
        late = {id(parameter) for parameter in self.loss_parameters()}
        learning = [id(p) for p in self.model.parameters() if p.requires_grad and id(p) not in late]
        return any(p in pictures for p in learning), any(p not in pictures for p in learning)

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """Scale and bias."""
        model = self.model
        return [model.logit_scale] if model.logit_bias is None else [model.logit_scale, model.logit_bias]
