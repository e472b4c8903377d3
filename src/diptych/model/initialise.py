"""Models made from a config, and how every parameter starts (paper, section 2.5, and the released code)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diptych.model.blocks import Attention, Transformer
from diptych.model.clip import CLIP, RobertaCLIP
from diptych.model.config import CLIPConfig, RobertaConfig
from diptych.model.resnet import AttentionPool, AveragePool, Bottleneck, ModifiedResNet
from diptych.model.sharding import shard_like
from diptych.model.statistics import BatchNorm
from diptych.model.text.roberta import RobertaTower
from diptych.model.timm_trunk import TimmTrunk, fill_buffers
from diptych.model.vit import VisionTransformer


def build(config: CLIPConfig, *, device: torch.device | str = "cpu", seed: int | None = None) -> CLIP:
    """A model of that shape.

    Parameters
    ----------
    config : CLIPConfig
        The shape.
    device : str or torch.device
        Where to; "meta" for the shapes alone, without memory.
    seed : int, optional
        Initialise with this seed. Without one the parameters are left unset, to be loaded.
    """
    with torch.device("meta"):
        model = RobertaCLIP(config) if isinstance(config.text, RobertaConfig) else CLIP(config)
    if torch.device(device).type == "meta":
        return model
    model.to_empty(device=device)
    fill_buffers(model, torch.device(device))
    if seed is not None:
        initialise(model, seed=seed)
    return model


def initialise(model: CLIP, *, seed: int) -> None:
    """Set every parameter and buffer from a seed, the same on every device, and in shards (FSDP2) as whole.

    ======================================  =====================================================
    parameter                               start
    ======================================  =====================================================
    token_embedding                         normal, std 0.02
    positional_embedding (text)             normal, std 0.01
    text blocks: attn.in_proj               normal, std width^-1/2
    text blocks: attn.out_proj, mlp.c_proj  normal, std (2 width layers)^-1/2, so that the sum over
                                            the residual branches keeps its size with depth
    text blocks: mlp.c_fc                   normal, std (2 width)^-1/2
    text_projection                         normal, std width^-1/2
    RoBERTa: all matrices and tables        normal, std 0.02
    ViT: class, position, proj, probe       normal, std width^-1/2
    ViT blocks: attn.in_proj                uniform as Xavier's (Glorot and Bengio 2010)
    pool (ResNet): q, k, v, c; positions    normal, std (channels of the last stage)^-1/2
    last norm of each bottleneck: gain      0, so that a block starts as the identity
    other convolutions and linear layers    uniform within (fan in)^-1/2, torch's default
    other gains 1; all biases of the text   0
    tower, of norms and of attention
    logit_scale                             ln(1 / 0.07), or as the config says
    logit_bias                              as the config says
    ======================================  =====================================================

    Parameters
    ----------
    model : CLIP
        Changed in place.
    seed : int
        Of a generator on the CPU: random numbers differ between devices, these do not.
    """
    draw = _Draw(seed)
    with torch.no_grad():
        ours = [model] if not isinstance(model.visual, TimmTrunk) else model.text_modules()
        for module in (inner for part in ours for inner in part.modules()):
            _default(module, draw)
        if isinstance(model, RobertaCLIP):
            _roberta(model.text, draw)
        else:
            _text(model, draw)
        if isinstance(model.visual, ModifiedResNet):
            _resnet(model.visual, draw)
        elif isinstance(model.visual, TimmTrunk):
            model.visual.initialise(seed)
        else:
            _vit(model.visual, draw)
        model.logit_scale.fill_(model.config.init_logit_scale)
        if model.logit_bias is not None:
            model.logit_bias.fill_(model.config.init_logit_bias or 0.0)


class _Draw:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, parameter: Tensor, std: float) -> None:
        parameter.copy_(shard_like(torch.randn(parameter.shape, generator=self.generator) * std, parameter))

    def uniform(self, parameter: Tensor, bound: float) -> None:
        values = (torch.rand(parameter.shape, generator=self.generator) * 2 - 1) * bound
        parameter.copy_(shard_like(values, parameter))


def _default(module: nn.Module, draw: _Draw) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        bound = module.weight[0].numel() ** -0.5
        draw.uniform(module.weight, bound)
        if module.bias is not None:
            draw.uniform(module.bias, bound)
    elif isinstance(module, nn.LayerNorm):
        module.reset_parameters()
    elif isinstance(module, BatchNorm):
        module.reset_parameters()  # its running mean and variance too
    elif isinstance(module, Attention):
        width = module.in_proj_weight.shape[1]
        draw.uniform(module.in_proj_weight, math.sqrt(6 / (4 * width)))
        module.in_proj_bias.zero_()
        module.out_proj.bias.zero_()


def _text(model: CLIP, draw: _Draw) -> None:
    draw.normal(model.token_embedding.weight, 0.02)
    draw.normal(model.positional_embedding, 0.01)
    _blocks(model.transformer, model.text_config.width, draw)
    projection = model.text_projection
    if isinstance(projection, nn.Linear):
        draw.normal(projection.weight, projection.in_features**-0.5)
        projection.bias.zero_()
    elif projection is not None:
        draw.normal(projection, projection.shape[0] ** -0.5)


def _roberta(tower: RobertaTower, draw: _Draw) -> None:
    for name, parameter in tower.named_parameters():
        if parameter.ndim > 1:
            draw.normal(parameter, 0.02)
        elif name.endswith("bias"):
            parameter.zero_()


def _blocks(transformer: Transformer, width: int, draw: _Draw) -> None:
    branch = (2 * width * len(transformer.resblocks)) ** -0.5
    for block in transformer.blocks:
        draw.normal(block.attn.in_proj_weight, width**-0.5)
        draw.normal(block.attn.out_proj.weight, branch)
        draw.normal(block.mlp.c_fc.weight, (2 * width) ** -0.5)
        draw.normal(block.mlp.c_proj.weight, branch)
        block.mlp.c_fc.bias.zero_()
        block.mlp.c_proj.bias.zero_()


def _vit(tower: VisionTransformer, draw: _Draw) -> None:
    std = tower.config.width**-0.5
    loose = [tower.class_embedding, tower.positional_embedding, tower.proj]
    if tower.pool_head is not None:
        loose.append(tower.pool_head.probe)
    for parameter in loose:
        if isinstance(parameter, Tensor):  # a projection with a bias is a linear layer: torch's default
            draw.normal(parameter, std)


def _resnet(tower: ModifiedResNet, draw: _Draw) -> None:
    for module in tower.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif isinstance(module, AttentionPool):
            std = module.k_proj.in_features**-0.5
            draw.normal(module.positional_embedding, std)
            for layer in (module.q_proj, module.k_proj, module.v_proj, module.c_proj):
                draw.normal(layer.weight, std)
        elif isinstance(module, AveragePool):
            draw.normal(module.c_proj.weight, module.c_proj.in_features**-0.5)
