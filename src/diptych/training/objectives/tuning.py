"""Fine-tuning methods: locked towers, low-rank updates (LoRA), layer-wise learning rates.

Fine-tuning on a few thousand pairs can lose within an epoch what pretraining learned. Four remedies, which
can be combined: lock a tower (LiT, Zhai et al. 2022, arXiv 2111.07991) or all but its last groups; train
low-rank updates in place of the weights (LoRA, Hu et al. 2021, arXiv 2106.09685); use lower learning rates in
early layers; keep the statistics of batch norms. A fifth needs no training: interpolate the weights before
and after it, `diptych.weights.combine` (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903). docs/fine-tuning.md
compares what each learns and forgets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from diptych.errors import InputError, WeightsError
from diptych.model.blocks import MLP, Attention
from diptych.model.clip import CLIP, RobertaCLIP
from diptych.model.config import CLIPConfig, EfficientNetConfig, ResNetConfig, TimmConfig, ViTConfig
from diptych.model.efficientnet import EfficientNet
from diptych.model.resnet import ModifiedResNet
from diptych.model.text.roberta import RobertaTower
from diptych.model.timm_trunk import TimmTrunk
from diptych.weights import Checkpoint, fit, load_checkpoint
from diptych.weights.resizing import resize_positions

Lock = Literal["", "image", "text", "both"]

_BLOCK = re.compile(r"(?:resblocks|encoder\.layer)\.(\d+)\.")
_TRUNK = re.compile(r"trunk\.(?:(?:stages|blocks|layers)\.|layer)(\d+)\.")
_STAGE = re.compile(r"visual\.layer(\d)\.")
_CONVOLUTIONAL_STAGE = re.compile(r"visual\.blocks\.(\d)\.")
# Beginnings of the names of parameters that belong to the last layer of a tower.
_LAST = (
    "ln_final", "text_projection", "text.proj", "text.transformer.pooler", "visual.ln_post",
    "visual.proj", "visual.pool_head", "visual.attnpool", "visual.meanpool", "visual.head",
)  # fmt: skip


def fine_tuning_defaults(shape: CLIPConfig) -> dict[str, Any]:
    """Fields of a `TrainConfig` for fine-tuning: the defaults of `train --from`.

    Measured on the default model in docs/fine-tuning.md. Batch norms that adapt to new images lose the
    statistics of all others within about twenty steps, so they are frozen. Early layers detect edges, which
    are the same in old and new images: the first layer of the deeper tower has 0.005 of the rate of the last,
    whatever their number (a factor of 0.35 per stage of the default model, 0.67 per layer of ViT-B). Small
    batches give enough steps with little data, and averaged weights reduce their noise. Wider models get a
    lower rate; that part is not measured.

    Parameters
    ----------
    shape : CLIPConfig
        Of the model that is fine-tuned.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> fine_tuning_defaults(preset("ViT-B-32"))["layer_decay"]
    0.67
    """
    vision, text = shape.vision, shape.text
    layers = image_layers(shape)
    width = max(shape.embed_dim, text.width, vision.width if isinstance(vision, ViTConfig) else 0)
    return {
        "epochs": 5,
        "batch_size": 64,
        "lr": 5e-4 * min(1.0, (256 / width) ** 2),
        "layer_decay": round(0.005 ** (1 / (1 + max(layers, text.layers))), 2),
        "still_norms": True,
        "warmup": 20,
        "ema": 0.95,
    }


def inputs_of(name: str) -> dict[str, Any]:
    """Fields of a `TrainConfig` that keep the preprocessing and the tokenizer of given weights.

    Parameters
    ----------
    name : str
        The weights, as `diptych.load` names them.

    Returns
    -------
    dict
        `preprocess`, `tokenizer`, `tokenizer_file` and `languages`; and the sigmoid loss for a model with a
        bias, which was trained with it.

    Examples
    --------
    >>> inputs_of("default")["tokenizer"].vocab_size
    8192
    """
    checkpoint = load_checkpoint(name)
    spec, file = checkpoint.spec, checkpoint.tokenizer_file
    fields: dict[str, Any] = {
        "preprocess": spec.preprocess,
        "tokenizer": spec.tokenizer,
        "tokenizer_file": "" if file is None else str(file),
        "languages": spec.languages,
    }
    return fields if spec.architecture.init_logit_bias is None else {**fields, "loss": "sigmoid"}


def fitted_start(shape: CLIPConfig, start: Checkpoint, name: str) -> tuple[dict[str, Tensor], str]:
    """Fit given weights to the architecture of a run, with position tables resized if necessary.

    Parameters
    ----------
    shape : CLIPConfig
        Of the run.
    name : str
        Of the weights, for messages.

    Returns
    -------
    state : dict of str to Tensor
    note : str
        Message about what was resized; "" for nothing.
    """
    before = start.spec.architecture
    try:
        state = fit(shape, resize_positions(start.state, before, shape), source=name)
    except WeightsError:
        # Without resizing the message can name the presets that the weights fit.
        fit(shape, start.state, source=name)
        raise
    if all(state[key].shape == tensor.shape for key, tensor in start.state.items()):
        return state, ""
    return state, (
        f"{name} is made for pictures of {before.vision.image_size} pixels and texts of "
        f"{before.text.context_length} tokens: its position tables are resized to this run's "
        f"{shape.vision.image_size} and {shape.text.context_length}"
    )


def image_layers(shape: CLIPConfig) -> int:
    """Blocks of the image tower, or stages of a convolutional one; for a tower of timm, the text's layers."""
    vision = shape.vision
    if isinstance(vision, ResNetConfig):
        return len(vision.layers)
    if isinstance(vision, EfficientNetConfig):
        return len(vision.layers) + 1  # and the last convolution
    return shape.text.layers if isinstance(vision, TimmConfig) else vision.layers


class LowRank(nn.Module):
    """Low-rank update (LoRA) of a frozen weight: W + (scale / rank) B A.

    A is initialised at random and B with zeros, so training starts from the unchanged model. A convolution is
    taken as a matrix with a row per output channel.

    Parameters
    ----------
    weight : Tensor, shape (O, ...)
        The frozen weight.
    rank : int
        Of the update; limited to the smaller side of the matrix.
    scale : float
        Alpha in the paper.
    seed : int
        Of the initial A.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, seed: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(rank, columns, generator=generator) * columns**-0.5
        self.a = nn.Parameter(start.to(weight.device, weight.dtype))  # (R, I)
        self.b = nn.Parameter(torch.zeros(rows, rank, device=weight.device, dtype=weight.dtype))  # (O, R)
        self.factor = scale / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight."""
        return weight + self.factor * (self.b @ self.a).view_as(weight)


def add_low_rank(
    model: CLIP, rank: int, scale: float, *, seed: int = 0, locked: Collection[nn.Parameter] = ()
) -> None:
    """Add a low-rank update to every matrix of attention, MLPs and convolutions; freeze the weights.

    Scale and bias of the logits stay trainable. Locked matrices get no update.
    """
    trainable, frozen = {id(model.logit_scale), id(model.logit_bias)}, set(map(id, locked))
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trainable)
    matrices = [
        (module, name) for module, name in _matrices(model) if id(getattr(module, name)) not in frozen
    ]
    for number, (module, name) in enumerate(matrices):
        weight = getattr(module, name)
        change = LowRank(weight, rank, scale, seed + number)
        # `unsafe` skips a test call by torch, which would compute every updated weight once.
        parametrize.register_parametrization(module, name, change, unsafe=True)


def _matrices(model: CLIP) -> Iterator[tuple[nn.Module, str]]:
    """Modules and names of the weights that get low-rank updates."""
    towers: list[nn.Module] = [model.text if isinstance(model, RobertaCLIP) else model.transformer]
    towers.append(model.visual)
    kinds: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
        ModifiedResNet: (nn.Conv2d,),
        EfficientNet: (nn.Conv2d,),
        RobertaTower: (nn.Linear,),
        TimmTrunk: (nn.Linear, nn.Conv2d),  # three quarters of a FastViT are convolutions
    }
    for tower in towers:
        for module in tower.modules():
            if isinstance(module, Attention):
                yield module, "in_proj_weight"
                yield module.out_proj, "weight"
            elif isinstance(module, MLP):
                yield module.c_fc, "weight"
                yield module.c_proj, "weight"
            elif isinstance(module, kinds.get(type(tower), ())) and getattr(module, "groups", 1) == 1:
                # Without grouped convolutions: a depthwise one has few parameters and no matrix across
                # channels.
                yield module, "weight"


def locked_parameters(model: CLIP, lock: Lock, *, groups: int = 0, layers: int = 0) -> list[nn.Parameter]:
    """Parameters of the locked towers, without those of their last groups.

    A group is the parameters of equal `depth`: group 0 is the projection and the norm before it, group 1 the
    last block, group 2 the block before it, the last group the embeddings. In a ResNet and in towers of timm
    with stages, stages count instead of blocks. Two or more groups of a transformer are those of open_clip's
    `--lock-image-unlocked-groups`, where a single group is the projection alone.

    Parameters
    ----------
    lock : {"", "image", "text", "both"}
        Which tower is locked.
    groups, layers : int
        Unlocked groups at the end of the image tower and of the text tower.

    Raises
    ------
    InputError
        All groups of a tower, or more, are to be unlocked.

    Examples
    --------
    >>> from diptych.model.initialise import build
    >>> from diptych.model.presets.table import preset
    >>> model = build(preset("ViT-B-32"), device="meta")
    >>> locked = locked_parameters(model, "image", groups=2)
    >>> block = model.visual.transformer.resblocks[10]
    >>> any(p is block.mlp.c_fc.weight for p in locked), any(p is model.visual.proj for p in locked)
    (True, False)
    """
    locked: list[nn.Parameter] = []
    for tower, unlocked in (("image", groups), ("text", layers)):
        if lock not in (tower, "both"):
            continue
        depths = [
            (parameter, depth(name, model))
            for name, parameter in model.named_parameters()
            # Scale and bias belong to neither tower.
            if name.startswith("visual.") == (tower == "image") and name not in ("logit_scale", "logit_bias")
        ]
        count = 1 + max(group for _, group in depths)
        if unlocked >= count:
            raise InputError(
                f"the {tower} tower has {count} groups, and {unlocked} are to be unlocked: expected fewer "
                f"than {count}, or leave out the lock"
            )
        locked += [parameter for parameter, group in depths if group >= unlocked]
    return locked


def frozen_modules(model: CLIP) -> list[nn.Module]:
    """Modules that are to stay in evaluation mode, each without its submodules.

    Those whose own parameters are all frozen, so that batch norms keep their statistics; and modules without
    parameters inside a frozen part, such as dropout, so that a locked tower is deterministic.
    """
    frozen = [m for m in model.modules() if not any(p.requires_grad for p in m.parameters())]
    inside = {id(inner) for m in frozen if any(True for _ in m.parameters()) for inner in m.modules()}
    return [
        module
        for module in model.modules()
        if id(module) in inside
        or ((own := list(module.parameters(recurse=False))) and not any(p.requires_grad for p in own))
    ]


def depth(name: str, model: CLIP) -> int:
    """Distance of a parameter from the last layer of its tower: 0 for that layer and what follows it.

    e.g. a ViT of 12 blocks: `visual.proj` has depth 0, block 11 depth 1, block 0 depth 12, the patch
    embedding depth 13.

    Parameters
    ----------
    name : str
        In the model.
    model : CLIP
        Which decides the number of layers.
    """
    visual = model.config.vision
    in_image_tower = name.startswith("visual.")
    if name in ("logit_scale", "logit_bias") or name.startswith(_LAST):
        return 0
    if in_image_tower and isinstance(visual, ResNetConfig):
        stage = _STAGE.match(name)
        return 1 + len(visual.layers) - (int(stage[1]) if stage else 0)
    if in_image_tower and isinstance(visual, EfficientNetConfig):
        if name.startswith(("visual.conv_head", "visual.bn2")):
            return 1
        stage = _CONVOLUTIONAL_STAGE.match(name)
        return 1 + len(visual.layers) - (int(stage[1]) if stage else -1)
    if in_image_tower and isinstance(model.visual, TimmTrunk):
        return _trunk_depth(name, model.visual)
    layers = image_layers(model.config) if in_image_tower else model.config.text.layers
    block = _BLOCK.search(name)
    return layers - int(block[1]) if block else layers + 1


def _trunk_depth(name: str, tower: TimmTrunk) -> int:
    """Depth of a parameter, by the stages or blocks that timm numbers.

    timm registers modules in the order of computation: what comes before the first numbered block (a stem,
    position tables, a norm before the blocks) is deepest, and what follows the last one has depth 0.
    """
    inner = [name for name, _ in tower.named_parameters(prefix="visual")]
    numbers = [int(match[1]) if (match := _TRUNK.search(name)) else None for name in inner]
    blocks = sorted({number for number in numbers if number is not None})
    if match := _TRUNK.search(name):
        return len(blocks) - blocks.index(int(match[1]))
    first = next((position for position, number in enumerate(numbers) if number is not None), 0)
    return len(blocks) + 1 if inner.index(name) < first else 0


def merge_low_rank(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Plain weights under their own names, with low-rank updates added.

    Parameters
    ----------
    state : mapping
        The model's own `state_dict`.
    model : nn.Module
        With or without low-rank updates.
    """
    # torch names an updated weight x.parametrizations.weight.original, and the update's tensors
    # x.parametrizations.weight.0.a and .b; the attribute x.weight computes the sum.
    modules = dict(model.named_modules())
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        owner, parametrized, rest = name.partition(".parametrizations.")
        if not parametrized:
            plain[name] = tensor
        elif rest.endswith(".original"):
            attribute = rest.removesuffix(".original")
            plain[f"{owner}.{attribute}"] = getattr(modules[owner], attribute).detach()
    return plain


def split_low_rank(state: Mapping[str, Tensor], model: CLIP) -> dict[str, Tensor]:
    """Plain weights under the names of a model with low-rank updates, which are those of the model."""
    own_state = dict(model.state_dict())
    for name in own_state:
        plain = name.replace("parametrizations.", "").removesuffix(".original")
        if ".parametrizations." not in name or name.endswith(".original"):
            own_state[name] = state[plain]
    return own_state
