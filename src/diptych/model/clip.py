"""CLIP: two encoders, one space (paper, figure 3).

The torch module, with the signatures that harnesses written for open_clip call. Files, texts and pictures
are left to `diptych.weights` and `diptych.inputs`; the loss to `diptych.training`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.errors import InputError
from diptych.model.blocks import unit_rows
from diptych.model.config import CLIPConfig, ResNetConfig, RobertaConfig, TimmConfig
from diptych.model.machine import send
from diptych.model.resnet import ModifiedResNet
from diptych.model.text.roberta import RobertaTower
from diptych.model.text.transformer import TextTower
from diptych.model.timm_trunk import TimmTrunk
from diptych.model.vit import VisionTransformer


class CLIP(TextTower):
    """A picture encoder and a text encoder whose vectors can be compared.

    The text tower is inherited rather than held because the released files name its parameters without a
    prefix (`token_embedding.weight`, `transformer.resblocks.0...`), and a name is a file format.

    Parameters
    ----------
    config : CLIPConfig
        The shape of both encoders.

    Attributes
    ----------
    visual : VisionTransformer, ModifiedResNet or TimmTrunk
        The picture encoder.
    logit_scale : Parameter
        Logarithm of the factor on cosines, 0-d (paper, section 2.5).
    logit_bias : Parameter or None
        Added to the logits, 0-d; only in models for the sigmoid loss.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> from diptych.model.initialise import build
    >>> model = build(preset("diptych-tiny"), seed=0)
    >>> image, text, scale = model(torch.zeros(2, 3, 32, 32), torch.tensor([[8190, 320, 8191]]))
    >>> (scale * image @ text.T).shape
    torch.Size([2, 1])
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__(config.text, config.embed_dim, config.activation)
        self._add_pictures(config)

    def _add_pictures(self, config: CLIPConfig) -> None:
        """The half that is the same whatever reads the texts."""
        self.config = config
        self.visual = _image_tower(config)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.logit_bias = nn.Parameter(torch.empty(())) if config.init_logit_bias is not None else None

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both in the shared space, and the factor that turns their cosines into logits.

        Parameters
        ----------
        image : Tensor
            Normalised pictures, (B, 3, S, S).
        text : Tensor
            Token ids, (N, L).

        Returns
        -------
        tuple of Tensor
            Unit rows (B, E), unit rows (N, E), and the scale, 0-d, already exponentiated.
        """
        image_features = self.encode_image(image, normalize=True)
        text_features = self.encode_text(text, normalize=True)
        return image_features, text_features, self.logit_scale.exp()

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Pictures (B, 3, S, S) in the shared space, (B, E)."""
        features: Tensor = self.visual(image)
        return unit_rows(features) if normalize else features

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """How well each picture and each text fit, (B, N): the numbers a softmax or sigmoid is taken of."""
        image_features, text_features, scale = self(image, text)
        logits: Tensor = scale * image_features @ text_features.T
        return logits if self.logit_bias is None else logits + self.logit_bias

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self._checkpoint_text(enable)
        if isinstance(self.visual, VisionTransformer):
            self.visual.transformer.grad_checkpointing = enable
        elif isinstance(self.visual, TimmTrunk):
            self.visual.set_grad_checkpointing(enable)
        else:
            self.visual.grad_checkpointing = enable

    def text_modules(self) -> list[nn.Module]:
        """The parts of the text encoder."""
        return [part for name, part in self.named_children() if name != "visual"]

    def _checkpoint_text(self, enable: bool) -> None:
        self.transformer.grad_checkpointing = enable


def _image_tower(config: CLIPConfig) -> ModifiedResNet | VisionTransformer | TimmTrunk:
    vision = config.vision
    if isinstance(vision, ResNetConfig):
        return ModifiedResNet(vision, config.embed_dim)
    if isinstance(vision, TimmConfig):
        return TimmTrunk(vision, config.embed_dim)
    return VisionTransformer(vision, config.embed_dim, config.activation)


class RobertaCLIP(CLIP):
    """A CLIP whose texts are read by a tower of RoBERTa's kind.

    It is held under `text`, for open_clip's files name its parameters so (`text.transformer.embeddings...`,
    `text.proj...`), and what a `CLIP` inherits from its own text tower is not there.

    Parameters
    ----------
    config : CLIPConfig
        Its text tower is a `RobertaConfig`.
    """

    def __init__(self, config: CLIPConfig) -> None:
        nn.Module.__init__(self)  # not TextTower's: its parameters would be in the way
        if not isinstance(config.text, RobertaConfig):
            raise InputError("RobertaCLIP needs a RobertaConfig for its texts; build() takes either kind")
        self.text_config = config.text
        self.text = RobertaTower(config.text, config.embed_dim)
        self._add_pictures(config)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Padded token ids (N, L) in the shared space, (N, E)."""
        features: Tensor = self.text(send(tokens, self.logit_scale.device))
        return unit_rows(features) if normalize else features

    def encode_ids(self, tokens: Tensor) -> Tensor:
        """`encode_text` without a look at what is in the ids, (N, L) -> (N, E): what can be traced."""
        return self.text.encode_ids(tokens)

    def encode_tree(self, tokens: Tensor, depth: Tensor, sees: Tensor, ends: Tensor) -> Tensor:
        """Refused: where every token sees all others, texts that begin alike share nothing."""
        raise InputError("a text tower that looks both ways cannot share beginnings; use encode_text")

    def _checkpoint_text(self, enable: bool) -> None:
        self.text.grad_checkpointing = enable
