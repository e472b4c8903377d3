"""Sharding of a model by FSDP2, and the parameters that neither DDP nor FSDP2 may handle."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn

from diptych.model.batch_norm import batch_norms
from diptych.model.blocks import ResidualAttentionBlock
from diptych.model.resnet import Bottleneck
from diptych.model.text.roberta import RobertaLayer
from diptych.model.timm_trunk import TimmTrunk
from diptych.training.objectives.objective import Objective

Parallel = Literal["ddp", "fsdp"]


def outside_parameters(objective: Objective, parallel: Parallel) -> list[nn.Parameter]:
    """Parameters outside of the wrapper: unsharded on each process, which averages their gradients itself.

    Those of the loss: DDP would wait for their gradients, which come from the loss and not from the towers.
    With FSDP2 also scalars, which cannot be sharded, and batch norms: their kernels need float32 parameters
    beside float32 statistics, whatever the precision of the towers.
    """
    outside = list(objective.loss_parameters())
    if parallel == "fsdp":
        outside += [p for p in objective.parameters() if p.ndim == 0]
        outside += [p for norm in batch_norms(objective) for p in norm.parameters()]
    return list({id(p): p for p in outside}.values())  # each once, in order


def keep_tokens_on_host(objective: nn.Module) -> None:
    """Let `forward` get its tokens on the CPU, although the wrapper moves tensors to the device.

    FSDP2 sends all tensor arguments to the GPU, and the text towers read the ids on the host. It ignores
    NumPy arrays, so the tokens are passed through its hook as one. Call this after wrapping.

    Parameters
    ----------
    objective : Objective
        Called with images and tokens, either of which may be None, and possibly samples.
    """

    def to_array(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        images, tokens, *others = arguments
        return images, None if tokens is None else tokens.numpy(), *others

    def to_tensor(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        images, tokens, *others = arguments
        return images, None if tokens is None else torch.from_numpy(tokens), *others

    # Order of the hooks: to_array, that of FSDP2, to_tensor.
    objective.register_forward_pre_hook(to_array, prepend=True)
    objective.register_forward_pre_hook(to_tensor)


def sharding_blocks(objective: Objective) -> list[nn.Module]:
    """Modules that FSDP2 gathers one after the other; the other parameters belong to the root."""
    blocks: list[nn.Module] = []
    for module in objective.modules():
        if isinstance(module, ResidualAttentionBlock | Bottleneck | RobertaLayer):
            blocks.append(module)
        elif isinstance(module, TimmTrunk):
            blocks += module.blocks()
    return blocks


def sharded_groups(objective: Objective) -> tuple[int, list[int]]:
    """Number of parameters outside all blocks, and of each block."""
    outside = {id(p) for p in outside_parameters(objective, "fsdp")}
    blocks = [[p for p in m.parameters() if id(p) not in outside] for m in sharding_blocks(objective)]
    inside = outside | {id(p) for block in blocks for p in block}
    root = sum(p.numel() for p in objective.parameters() if id(p) not in inside)
    return root, [sum(p.numel() for p in block) for block in blocks]


def shard(objective: Objective, dtype: torch.dtype, outside: set[nn.Parameter], device_type: str) -> None:
    """Apply FSDP2: a group for each block, and one for the rest.

    Parameters are gathered in the towers' precision, so that autocast has nothing to cast: its copies would
    be kept for the backward pass, the whole model on every process. Gradients are summed in float32. Inputs
    are not cast: as with DDP, autocast decides the precision of the residual stream.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # slow to import

    half = dtype in (torch.bfloat16, torch.float16)
    policy = MixedPrecisionPolicy(
        param_dtype=dtype if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,
    )
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    options: dict[str, Any] = {"mesh": mesh, "mp_policy": policy, "ignored_params": outside}
    # Inner modules first: the root then takes the parameters that are in no block.
    for block in sharding_blocks(objective):
        fully_shard(block, reshard_after_forward=True, **options)
    fully_shard(objective, reshard_after_forward=True, **options)
