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

from diptych.errors import TrainingError
from diptych.model.clip import CLIP
from diptych.model.tree import can_share, encode_shared
from diptych.training.exchange import Exchange
from diptych.training.loss import info_nce, sigmoid_loss

TREE_NODES = 128  # of one tree of texts: small towers want smaller masks than `model.tree.NODES`

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
            (B, L), on the CPU; None likewise.
        """

    @abstractmethod
    def loss(self, rows: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """What is lost on all pairs of a step, those of the other processes included.

        Every process gets the same number; gradients of what this process holds are parts of a sum over the
        processes.
        """

    @abstractmethod
    def learns(self) -> tuple[bool, bool]:
        """Whether anything that reads pictures is trained, and anything that reads texts."""

    @abstractmethod
    def late(self) -> Sequence[nn.Parameter]:
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

    Raises
    ------
    TrainingError
        The sigmoid loss without a bias.
    """

    def __init__(
        self,
        model: CLIP,
        *,
        loss: Literal["infonce", "sigmoid"] = "infonce",
        share_text: bool = True,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.kind = model, loss
        self.share_text = share_text and can_share(model.text_config)
        self._encode_image: Callable[..., Tensor] = (
            torch.compile(model.encode_image) if compiled else model.encode_image
        )
        if loss == "sigmoid" and model.logit_bias is None:
            raise TrainingError(
                "the sigmoid loss needs a model with a bias: set init_logit_bias (SigLIP: -10)"
            )

    def forward(self, images: Tensor | None, tokens: Tensor | None) -> Rows:
        """Unit rows of pictures and of texts, (B, E) each."""
        image = None if images is None else self._encode_image(images, normalize=True)
        text = None if tokens is None else self._encode_text(tokens)
        return image, text

    def _encode_text(self, tokens: Tensor) -> Tensor:
        if self.share_text:
            return encode_shared(self.model, tokens, nodes=TREE_NODES)
        return self.model.encode_text(tokens.to(self.model.token_embedding.weight.device), normalize=True)

    def loss(self, rows: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """InfoNCE or the sigmoid loss on all pairs."""
        image, text = rows
        scale = self.model.logit_scale.exp()
        if self.kind == "infonce":
            return info_nce(image, text, scale, groups=groups, exchange=exchange)
        assert self.model.logit_bias is not None
        return sigmoid_loss(image, text, scale, self.model.logit_bias, groups=groups, exchange=exchange)

    def learns(self) -> tuple[bool, bool]:
        """Which tower is not locked."""
        pictures = {id(parameter) for parameter in self.model.visual.parameters()}
        late = {id(parameter) for parameter in self.late()}
        learning = [id(p) for p in self.model.parameters() if p.requires_grad and id(p) not in late]
        return any(p in pictures for p in learning), any(p not in pictures for p in learning)

    def late(self) -> Sequence[nn.Parameter]:
        """Scale and bias."""
        model = self.model
        return [model.logit_scale] if model.logit_bias is None else [model.logit_scale, model.logit_bias]
