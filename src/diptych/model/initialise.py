"""Build models from configs and initialise their parameters (paper, section 2.5, and the released code)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diptych.model.batch_norm import BatchNorm
from diptych.model.blocks import Attention, Transformer
from diptych.model.clip import CLIP, RobertaCLIP
from diptych.model.config import CLIPConfig, RobertaConfig
from diptych.model.efficientnet import EfficientNet
from diptych.model.resnet import AttentionPool, AveragePool, Bottleneck, ModifiedResNet
from diptych.model.sharding import shard_like
from diptych.model.text.roberta import RobertaTower
from diptych.model.timm_trunk import TimmTrunk, fill_buffers
from diptych.model.vit import VisionTransformer


def build(config: CLIPConfig, *, device: torch.device | str = "cpu", seed: int | None = None) -> CLIP:
    """Build a model of an architecture.

    Parameters
    ----------
    config : CLIPConfig
        The architecture.
    device : str or torch.device
        Device of the parameters; "meta" for their shapes only, without memory.
    seed : int, optional
        Initialise with this seed. Without one the parameters are left unset, to be loaded.
    """
    # Built on the meta device, so that torch's own initialisation costs nothing.
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
    """Set every parameter and buffer from a seed: the same values on every device, sharded (FSDP2) or not.

    ======================================  =====================================================
    parameter                               initial value
    ======================================  =====================================================
    token_embedding                         normal, std 0.02
    positional_embedding (text)             normal, std 0.01
    text blocks: attn.in_proj               normal, std width^-1/2
    text blocks: attn.out_proj, mlp.c_proj  normal, std (2 width layers)^-1/2, so that the variance of
                                            the residual sum does not grow with depth
    text blocks: mlp.c_fc                   normal, std (2 width)^-1/2
    text_projection                         normal, std width^-1/2
    RoBERTa: all matrices and tables        normal, std 0.02
    ViT: class, position, proj, probe       normal, std width^-1/2
    ViT blocks: attn.in_proj                uniform as Xavier's (Glorot and Bengio 2010)
    pool (ResNet): q, k, v, c; positions    normal, std (channels of the last stage)^-1/2
    EfficientNet: convolutions              normal, std (2 / fan out)^1/2, as its authors do (He et al. 2015)
    EfficientNet: head.proj; head.fc2       normal, std (features)^-1/2; 0, so that the MLP starts as 0
    last norm of each bottleneck: gain      0, so that a block starts as the identity
    other convolutions and linear layers    uniform within (fan in)^-1/2, torch's default
    other gains of norms                    1
    biases of text tower, norms, attention  0
    logit_scale                             ln(1 / 0.07), or the config's value
    logit_bias                              the config's value
    ======================================  =====================================================

    Parameters
    ----------
    model : CLIP
        Changed in place.
    seed : int
        Seed of a generator on the CPU, because generators of other devices give other numbers.
    """
    sampler = _Sampler(seed)
    with torch.no_grad():
        # Layers get torch's default first; what the table says of single parameters is set afterwards. timm's
        # image towers initialise themselves.
        roots = [model] if not isinstance(model.visual, TimmTrunk) else model.text_modules()
        for module in (inner for root in roots for inner in root.modules()):
            _initialise_layer(module, sampler)
        if isinstance(model, RobertaCLIP):
            _initialise_roberta(model.text, sampler)
        else:
            _initialise_text(model, sampler)
        if isinstance(model.visual, ModifiedResNet):
            _initialise_resnet(model.visual, sampler)
        elif isinstance(model.visual, EfficientNet):
            _initialise_efficientnet(model.visual, sampler)
        elif isinstance(model.visual, TimmTrunk):
            model.visual.initialise(seed)
        else:
            _initialise_vit(model.visual, sampler)
        model.logit_scale.fill_(model.config.init_logit_scale)
        if model.logit_bias is not None:
            model.logit_bias.fill_(model.config.init_logit_bias or 0.0)


class _Sampler:
    """Fills parameters with random values from one generator on the CPU."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, parameter: Tensor, std: float) -> None:
        parameter.copy_(shard_like(torch.randn(parameter.shape, generator=self.generator) * std, parameter))

    def uniform(self, parameter: Tensor, bound: float) -> None:
        values = (torch.rand(parameter.shape, generator=self.generator) * 2 - 1) * bound
        parameter.copy_(shard_like(values, parameter))


def _initialise_layer(module: nn.Module, sampler: _Sampler) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        bound = module.weight[0].numel() ** -0.5  # (fan in)^-1/2
        sampler.uniform(module.weight, bound)
        if module.bias is not None:
            sampler.uniform(module.bias, bound)
    elif isinstance(module, nn.LayerNorm):
        module.reset_parameters()
    elif isinstance(module, BatchNorm):
        module.reset_parameters()  # its running mean and variance too
    elif isinstance(module, Attention):
        width = module.in_proj_weight.shape[1]
        # Xavier's bound sqrt(6 / (fan in + fan out)), where fan out counts queries, keys and values: 3 width.
        sampler.uniform(module.in_proj_weight, math.sqrt(6 / (4 * width)))
        module.in_proj_bias.zero_()
        module.out_proj.bias.zero_()


def _initialise_text(model: CLIP, sampler: _Sampler) -> None:
    sampler.normal(model.token_embedding.weight, 0.02)
    sampler.normal(model.positional_embedding, 0.01)
    _initialise_blocks(model.transformer, model.text_config.width, sampler)
    projection = model.text_projection
    if isinstance(projection, nn.Linear):
        sampler.normal(projection.weight, projection.in_features**-0.5)
        projection.bias.zero_()
    elif projection is not None:
        sampler.normal(projection, projection.shape[0] ** -0.5)


def _initialise_roberta(tower: RobertaTower, sampler: _Sampler) -> None:
    for name, parameter in tower.named_parameters():
        if parameter.ndim > 1:
            sampler.normal(parameter, 0.02)
        elif name.endswith("bias"):
            parameter.zero_()


def _initialise_blocks(transformer: Transformer, width: int, sampler: _Sampler) -> None:
    # Two residual branches per block, attention and MLP, are summed.
    branch = (2 * width * len(transformer.resblocks)) ** -0.5
    for block in transformer.blocks:
        sampler.normal(block.attn.in_proj_weight, width**-0.5)
        sampler.normal(block.attn.out_proj.weight, branch)
        sampler.normal(block.mlp.c_fc.weight, (2 * width) ** -0.5)
        sampler.normal(block.mlp.c_proj.weight, branch)
        block.mlp.c_fc.bias.zero_()
        block.mlp.c_proj.bias.zero_()


def _initialise_vit(tower: VisionTransformer, sampler: _Sampler) -> None:
    std = tower.config.width**-0.5
    parameters = [tower.class_embedding, tower.positional_embedding, tower.proj]
    if tower.pool_head is not None:
        parameters.append(tower.pool_head.probe)
    for parameter in parameters:
        if isinstance(parameter, Tensor):  # a projection with a bias is a linear layer: torch's default
            sampler.normal(parameter, std)


def _initialise_resnet(tower: ModifiedResNet, sampler: _Sampler) -> None:
    for module in tower.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif isinstance(module, AttentionPool):
            std = module.k_proj.in_features**-0.5
            sampler.normal(module.positional_embedding, std)
            for layer in (module.q_proj, module.k_proj, module.v_proj, module.c_proj):
                sampler.normal(layer.weight, std)
        elif isinstance(module, AveragePool):
            sampler.normal(module.c_proj.weight, module.c_proj.in_features**-0.5)


def _initialise_efficientnet(tower: EfficientNet, sampler: _Sampler) -> None:
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
            sampler.normal(module.weight, math.sqrt(2 / fan_out))
    head = tower.head
    sampler.normal(head.proj.weight, head.proj.in_features**-0.5)
    head.proj.bias.zero_()
    if head.fc2 is not None:
        head.fc2.weight.zero_()
        head.fc2.bias.zero_()
