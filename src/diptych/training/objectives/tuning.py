"""Training that leaves much of a model as it is: locked towers, low-rank changes, slower early layers.

Fine-tuning on a few thousand pairs can lose in an epoch what pretraining learned of everything else. Four
ways against that, which can be combined: lock a tower (LiT, Zhai et al. 2022, arXiv 2111.07991) or all of it
but its last groups, learn a
change of low rank in place of the weights (LoRA, Hu et al. 2021, arXiv 2106.09685), let early layers learn
slower than late ones, and keep the statistics of batch norms as they are. A fifth needs no training: weights
between the start and the end, `diptych.weights.combine` (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).
What each learns and forgets: docs/fine-tuning.md.
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
from diptych.model.config import CLIPConfig, ResNetConfig, TimmConfig, ViTConfig
from diptych.model.resnet import ModifiedResNet
from diptych.model.text.roberta import RobertaTower
from diptych.model.timm_trunk import TimmTrunk
from diptych.weights import Checkpoint, fit, load_checkpoint
from diptych.weights.resizing import resize_positions

Lock = Literal["", "image", "text", "both"]

_BLOCK = re.compile(r"(?:resblocks|encoder\.layer)\.(\d+)\.")
_TRUNK = re.compile(r"trunk\.(?:(?:stages|blocks|layers)\.|layer)(\d+)\.")
_STAGE = re.compile(r"visual\.layer(\d)\.")
_LAST = (
    "ln_final",
    "text_projection",
    "text.proj",
    "text.transformer.pooler",
    "visual.ln_post",
    "visual.proj",
    "visual.pool_head",
    "visual.attnpool",
    "visual.meanpool",
)


def gentle(shape: CLIPConfig) -> dict[str, Any]:
    """Fields of a `TrainConfig` that change a model without destroying it: what `train --from` takes.

    Measured on the default model in docs/fine-tuning.md. Batch norms that follow new pictures lose the
    statistics of all others within some twenty steps, so they stay still. Early layers see edges, which are
    the same in old and new pictures: the first of the deeper tower learns at 0.005 of the last one's
    rate, however many there are (0.35 a stage of the default model, 0.67 a layer of ViT-B). Small batches
    make enough steps of little data, and averaged weights steady so few steps. Wider models get a lower rate;
    that part is not measured.

    Parameters
    ----------
    shape : CLIPConfig
        Of the model that is fine-tuned.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> gentle(preset("ViT-B-32"))["layer_decay"]
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
    """Fields of a `TrainConfig` that keep what pictures and texts are to the weights that it goes on from.

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
    """Fit the weights that a run goes on from to its architecture, their position tables resized if need be.

    Parameters
    ----------
    shape : CLIPConfig
        Of the run.
    start : Checkpoint
    name : str
        Of the weights, for messages.

    Returns
    -------
    state : dict of str to Tensor
    note : str
        What was resized; empty if nothing was.
    """
    before = start.spec.architecture
    try:
        state = fit(shape, resize_positions(start.state, before, shape), source=name)
    except WeightsError:
        fit(shape, start.state, source=name)  # as they are, the message can name the presets that they fit
        raise
    if all(state[key].shape == tensor.shape for key, tensor in start.state.items()):
        return state, ""
    return state, (
        f"{name} is made for pictures of {before.vision.image_size} pixels and texts of "
        f"{before.text.context_length} tokens: its position tables are resized to this run's "
        f"{shape.vision.image_size} and {shape.text.context_length}"
    )


def image_layers(shape: CLIPConfig) -> int:
    """Blocks of the image tower, stages of a ResNet; for one that timm builds, the text tower's number."""
    vision = shape.vision
    if isinstance(vision, ResNetConfig):
        return len(vision.layers)
    return shape.text.layers if isinstance(vision, TimmConfig) else vision.layers


class LowRank(nn.Module):
    """A change of low rank added to a weight: W + (scale / rank) B A, with W as it was.

    A begins random and B zero, so the first step sees the model unchanged. Convolutions count as the matrix
    of their output channels against everything else.

    Parameters
    ----------
    weight : Tensor, shape (O, ...)
        What is changed.
    rank : int
        Of the change; no more than the weight has.
    scale : float
        Called alpha in the paper.
    seed : int
        Of A.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, seed: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        draw = torch.Generator().manual_seed(seed)
        start = torch.randn(rank, columns, generator=draw) * columns**-0.5
        self.a = nn.Parameter(start.to(weight.device, weight.dtype))  # (R, I)
        self.b = nn.Parameter(torch.zeros(rows, rank, device=weight.device, dtype=weight.dtype))  # (O, R)
        self.factor = scale / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the layer uses it."""
        return weight + self.factor * (self.b @ self.a).view_as(weight)


def add_low_rank(
    model: CLIP, rank: int, scale: float, *, seed: int = 0, locked: Collection[nn.Parameter] = ()
) -> None:
    """Give every matrix of attention, MLPs and convolutions a change of low rank; nothing else learns then.

    Scale and bias of the logits go on learning. What is locked gets no change.
    """
    late, fixed = {id(model.logit_scale), id(model.logit_bias)}, set(map(id, locked))
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in late)
    matrices = [(module, name) for module, name in _matrices(model) if id(getattr(module, name)) not in fixed]
    for number, (module, name) in enumerate(matrices):
        weight = getattr(module, name)
        change = LowRank(weight, rank, scale, seed + number)
        # Unsafe only in that torch does not try it out first, which would cost a forward of every layer.
        parametrize.register_parametrization(module, name, change, unsafe=True)


def _matrices(model: CLIP) -> Iterator[tuple[nn.Module, str]]:
    towers: list[nn.Module] = [model.text if isinstance(model, RobertaCLIP) else model.transformer]
    towers.append(model.visual)
    kinds: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
        ModifiedResNet: (nn.Conv2d,),
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
                yield (
                    module,
                    "weight",
                )  # a depthwise convolution has few numbers and no matrix across channels


def locked_parameters(model: CLIP, lock: Lock, *, groups: int = 0, layers: int = 0) -> list[nn.Parameter]:
    """Parameters of the locked towers, without those of their last groups.

    A group is what lies equally far from the end of its tower (`depth`): the projection and the norm before
    it; the last block; the block before that; at last the embeddings. Stages count instead of blocks in a
    ResNet and in towers of timm that have stages. Two or more groups of a transformer are those of
    open_clip's `--lock-image-unlocked-groups`; a single one is there the projection alone.

    Parameters
    ----------
    model : CLIP
    lock : {"", "image", "text", "both"}
        Which tower is locked.
    groups, layers : int
        Groups at the end of the image tower and of the text tower that learn all the same.

    Raises
    ------
    InputError
        A tower has no more groups than are to be unlocked.

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
            if name.startswith("visual.") == (tower == "image") and name not in ("logit_scale", "logit_bias")
        ]
        count = 1 + max(deep for _, deep in depths)
        if unlocked >= count:
            raise InputError(
                f"the {tower} tower has {count} groups, and {unlocked} are to be unlocked: expected fewer "
                f"than {count}, or leave out the lock"
            )
        locked += [parameter for parameter, deep in depths if deep >= unlocked]
    return locked


def still_modules(model: CLIP) -> list[nn.Module]:
    """Modules that do not learn, to be kept out of training mode, each for itself.

    Those whose own weights are fixed: batch norms then keep their statistics. And what has no weights inside
    a part of which nothing learns, such as dropout, so that a locked tower gives the same rows each time.
    """
    fixed = [m for m in model.modules() if not any(p.requires_grad for p in m.parameters())]
    inside = {id(inner) for m in fixed if any(True for _ in m.parameters()) for inner in m.modules()}
    return [
        module
        for module in model.modules()
        if id(module) in inside
        or ((own := list(module.parameters(recurse=False))) and not any(p.requires_grad for p in own))
    ]


def depth(name: str, model: CLIP) -> int:
    """How far a parameter lies from the last layer of its tower: 0 for the last and what follows it.

    Parameters
    ----------
    name : str
        As the model names it.
    model : CLIP
        Says how many layers there are.
    """
    visual = model.config.vision
    picture = name.startswith("visual.")
    if name in ("logit_scale", "logit_bias") or name.startswith(_LAST):
        return 0
    if picture and isinstance(visual, ResNetConfig):
        stage = _STAGE.match(name)
        return 1 + len(visual.layers) - (int(stage[1]) if stage else 0)
    if picture and isinstance(model.visual, TimmTrunk):
        return _trunk_depth(name, model.visual)
    layers = image_layers(model.config) if picture else model.config.text.layers
    block = _BLOCK.search(name)
    return layers - int(block[1]) if block else layers + 1


def _trunk_depth(name: str, tower: TimmTrunk) -> int:
    """How far a parameter lies from the end, by the stages or blocks that timm numbers.

    timm registers modules in the order in which they compute: what comes before the first numbered block (a
    stem, position tables, a norm before the blocks) learns slowest, what follows the last one fastest.
    """
    inner = [name for name, _ in tower.named_parameters(prefix="visual")]
    numbers = [int(match[1]) if (match := _TRUNK.search(name)) else None for name in inner]
    blocks = sorted({number for number in numbers if number is not None})
    if match := _TRUNK.search(name):
        return len(blocks) - blocks.index(int(match[1]))
    first = next((place for place, number in enumerate(numbers) if number is not None), 0)
    return len(blocks) + 1 if inner.index(name) < first else 0


def merged(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights under their plain names, changes of low rank added in.

    Parameters
    ----------
    state : mapping
        The model's own `state_dict`.
    model : nn.Module
        With or without changes.
    """
    modules = dict(model.named_modules())
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        owner, parametrized, rest = name.partition(".parametrizations.")
        if not parametrized:
            found[name] = tensor
        elif rest.endswith(".original"):
            attribute = rest.removesuffix(".original")
            found[f"{owner}.{attribute}"] = getattr(modules[owner], attribute).detach()
    return found


def unmerged(state: Mapping[str, Tensor], model: CLIP) -> dict[str, Tensor]:
    """Plain weights under the model's own names, its changes of low rank as they are."""
    found = dict(model.state_dict())
    for name in found:
        plain = name.replace("parametrizations.", "").removesuffix(".original")
        if ".parametrizations." not in name or name.endswith(".original"):
            found[name] = state[plain]
    return found
