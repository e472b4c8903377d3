"""The CLIP module: an image and a text encoder with a shared embedding space (paper, figure 3).

Its signatures are those that harnesses written for open_clip call. `diptych.weights` loads it,
`diptych.inputs` has the tokenizer and preprocessing, `diptych.training` the losses. Shapes: B images, N
texts, S side in pixels, L tokens, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.errors import InputError
from diptych.model.blocks import l2_normalize
from diptych.model.config import CLIPConfig, EfficientNetConfig, ResNetConfig, RobertaConfig, TimmConfig
from diptych.model.devices import to_device
from diptych.model.efficientnet import EfficientNet
from diptych.model.resnet import ModifiedResNet
from diptych.model.text.roberta import RobertaTower
from diptych.model.text.transformer import TextTower
from diptych.model.timm_trunk import TimmTrunk
from diptych.model.vit import VisionTransformer


class CLIP(TextTower):
    """Image encoder and text encoder with a shared embedding space.

    The text tower is inherited, not an attribute, because the released files name its parameters without a
    prefix (`token_embedding.weight`, `transformer.resblocks.0...`).

    Parameters
    ----------
    config : CLIPConfig
        Architecture of both encoders.

    Attributes
    ----------
    visual : VisionTransformer, ModifiedResNet, EfficientNet or TimmTrunk
        The image encoder.
    logit_scale : Parameter
        Logarithm of the factor on cosine similarities, 0-d (paper, section 2.5).
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
        self._init_image_tower(config)

    def _init_image_tower(self, config: CLIPConfig) -> None:
        """Image encoder, logit scale and bias: the same for either kind of text tower."""
        self.config = config
        self.visual = _build_image_tower(config)
        # Left unset, as all parameters: they are loaded or initialised afterwards.
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.logit_bias = nn.Parameter(torch.empty(())) if config.init_logit_bias is not None else None

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed images and texts.

        Parameters
        ----------
        image : Tensor
            Preprocessed images, (B, 3, S, S).
        text : Tensor
            Token ids, (N, L).

        Returns
        -------
        tuple of Tensor
            Normalised image embeddings (B, E), normalised text embeddings (N, E), and the exponentiated
            logit scale, 0-d.
        """
        image_features = self.encode_image(image, normalize=True)
        text_features = self.encode_text(text, normalize=True)
        return image_features, text_features, self.logit_scale.exp()

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Embed preprocessed images, (B, 3, S, S) -> (B, E)."""
        features: Tensor = self.visual(image)
        return l2_normalize(features) if normalize else features

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Logits of every image with every text, (B, N), before the softmax or sigmoid."""
        image_features, text_features, scale = self(image, text)
        # (B, E) @ (E, N) -> (B, N)
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
        """Child modules of the text encoder."""
        # All but `visual`, as the text encoder's modules are this module's own children.
        return [part for name, part in self.named_children() if name != "visual"]

    def _checkpoint_text(self, enable: bool) -> None:
        self.transformer.grad_checkpointing = enable


def _build_image_tower(config: CLIPConfig) -> ModifiedResNet | VisionTransformer | EfficientNet | TimmTrunk:
    vision = config.vision
    if isinstance(vision, ResNetConfig):
        return ModifiedResNet(vision, config.embed_dim)
    if isinstance(vision, EfficientNetConfig):
        return EfficientNet(vision, config.embed_dim)
    if isinstance(vision, TimmConfig):
        return TimmTrunk(vision, config.embed_dim)
    return VisionTransformer(vision, config.embed_dim, config.activation)


class RobertaCLIP(CLIP):
    """CLIP with a RoBERTa text tower.

    The tower is the attribute `text`, because open_clip's files name its parameters so
    (`text.transformer.embeddings...`, `text.proj...`). The parameters of `TextTower` do not exist here.

    Parameters
    ----------
    config : CLIPConfig
        Its text tower is a `RobertaConfig`.
    """

    def __init__(self, config: CLIPConfig) -> None:
        nn.Module.__init__(self)  # not TextTower's, which would create parameters that no file has
        if not isinstance(config.text, RobertaConfig):
            raise InputError("RobertaCLIP needs a RobertaConfig as config.text; build() takes either kind")
        self.text_config = config.text
        self.text = RobertaTower(config.text, config.embed_dim)
        self._init_image_tower(config)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embed padded token ids, (N, L) -> (N, E)."""
        features: Tensor = self.text(to_device(tokens, self.logit_scale.device))
        return l2_normalize(features) if normalize else features

    def encode_ids(self, tokens: Tensor) -> Tensor:
        """`encode_text` without control flow that depends on the ids, (N, L) -> (N, E), for tracing."""
        return self.text.encode_ids(tokens)

    def encode_prefix_trees(
        self, tokens: Tensor, depth: Tensor, attention_mask: Tensor, ends: Tensor
    ) -> Tensor:
        """Refuse: with bidirectional attention the vectors of a prefix depend on what follows it."""
        raise InputError("a text tower with bidirectional attention has no prefix trees; use encode_text")

    def _checkpoint_text(self, enable: bool) -> None:
        self.text.grad_checkpointing = enable
