"""Resize positional embeddings for another image size or context length.

The image tower's are interpolated as a 2-d grid, bicubic with antialiasing, without the class token's
(Dosovitskiy et al. 2021, section 3.2; open_clip's `resize_pos_embed` gives the same numbers). Shorter texts
keep the first positions, longer ones get linearly interpolated positions. Done on request only: the
embeddings differ from the released model's until it is fine-tuned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from diptych.errors import InputError
from diptych.model.config import CLIPConfig, RobertaConfig, TimmConfig
from diptych.weights.fitting import fit
from diptych.weights.identity import identity_of
from diptych.weights.spec import Checkpoint, State

_IMAGE_TABLES = ("visual.positional_embedding", "visual.attnpool.positional_embedding")
_TEXT_TABLE = "positional_embedding"


_CONVOLUTIONAL = ("convnext", "fastvit")  # prefixes of timm's names of convolutional towers
_STRIDE = 32  # total stride of these towers, pixels


def resize_checkpoint(
    checkpoint: Checkpoint, *, image_size: int | None = None, context_length: int | None = None
) -> Checkpoint:
    """Give a model another image size or context length.

    Parameters
    ----------
    image_size : int, optional
        Side of the square input image, pixels.
    context_length : int, optional
        Tokens of a text, start and end included.

    Returns
    -------
    Checkpoint
        With another identity, and the change noted in its source; the same object if nothing changes.

    Raises
    ------
    InputError
        The image tower does not support the size, or the text tower not the length.

    Examples
    --------
    >>> from diptych.weights import load_checkpoint
    >>> larger = resize_checkpoint(load_checkpoint("default"), context_length=24)
    >>> larger.spec.tokenizer.context_length, larger.state["positional_embedding"].shape[0]
    (24, 24)
    """
    spec, old = checkpoint.spec, checkpoint.spec.architecture
    new = resized_architecture(old, image_size=image_size, context_length=context_length)
    if new == old:
        return checkpoint
    changes = [
        f"{quantity} {before} resized to {after}"
        for quantity, before, after in (
            ("image size", old.vision.image_size, new.vision.image_size),
            ("context length", old.text.context_length, new.text.context_length),
        )
        if before != after
    ]
    spec = dataclasses.replace(
        spec,
        architecture=new,
        preprocess=dataclasses.replace(spec.preprocess, size=new.vision.image_size),
        tokenizer=dataclasses.replace(spec.tokenizer, context_length=new.text.context_length),
        source=f"{spec.source}; {', '.join(changes)}".removeprefix("; "),
    )
    state = fit(new, resize_positions(checkpoint.state, old, new), source=spec.name)
    identity = identity_of(spec, state, checkpoint.folder)
    return Checkpoint(spec=spec, state=state, identity=identity, folder=checkpoint.folder)


def resized_architecture(
    config: CLIPConfig, *, image_size: int | None = None, context_length: int | None = None
) -> CLIPConfig:
    """Give an architecture another image size or context length.

    Raises
    ------
    InputError
        The towers do not support it.
    """
    if image_size is not None:
        if isinstance(config.vision, TimmConfig) and config.vision.image_size != image_size:
            _check_timm_size(config.vision, image_size)
        config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=image_size))
    if context_length is not None:
        config = dataclasses.replace(
            config, text=dataclasses.replace(config.text, context_length=context_length)
        )
    return config


def _check_timm_size(vision: TimmConfig, image_size: int) -> None:
    """Raise if timm's tower is not known to be purely convolutional, or the size is too small.

    ConvNeXt and FastViT have no positional embeddings: their weights are the same for every image size.
    """
    if not vision.model_name.startswith(_CONVOLUTIONAL):
        raise InputError(
            f"{vision.model_name} is built by timm for {vision.image_size} pixels, got {image_size}: of "
            "timm's towers only ConvNeXt and FastViT, which have no positional embeddings, take another size"
        )
    if image_size < _STRIDE:
        raise InputError(f"image size {image_size}: {vision.model_name} takes {_STRIDE} pixels or more")


def resize_positions(state: Mapping[str, Tensor], old: CLIPConfig, new: CLIPConfig) -> State:
    """Resize the positional embeddings of weights to another image size and context length.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights of `old`, under our names.
    old, new : CLIPConfig
        Only image size and context length may differ.

    Returns
    -------
    dict of str to Tensor
        Positional embeddings keep their type; all other weights are the same tensors.

    Raises
    ------
    InputError
        The positional embeddings are not the grid that `old` describes.
    """
    resized = dict(state)
    before, after = old.vision, new.vision
    if not isinstance(before, TimmConfig) and not isinstance(after, TimmConfig) and before.grid != after.grid:
        for name in _IMAGE_TABLES:
            if name in state:
                resized[name] = _resize_grid(state[name], before.grid, after.grid)
    length = new.text.context_length
    if isinstance(new.text, RobertaConfig):
        return resized  # the table has `positions` rows; RobertaConfig refuses longer texts
    if _TEXT_TABLE in state and len(state[_TEXT_TABLE]) != length:
        resized[_TEXT_TABLE] = _resize_text(state[_TEXT_TABLE], length)
    return resized


def _resize_grid(table: Tensor, old: int, new: int) -> Tensor:
    """(P + old * old, W) -> (P + new * new, W); the P = 0 or 1 rows before the grid stay as they are."""
    prefix = len(table) - old * old
    if prefix not in (0, 1):
        raise InputError(f"{len(table)} positional embeddings are not a grid of {old} x {old}")
    head, grid = table[:prefix], table[prefix:]
    grid = grid.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)  # (1, W, old, old)
    grid = interpolate(grid, (new, new), mode="bicubic", antialias=True, align_corners=False)
    grid = grid.permute(0, 2, 3, 1).reshape(new * new, -1)
    return torch.cat([head, grid.to(table.dtype)])


def _resize_text(table: Tensor, length: int) -> Tensor:
    """(L, W) -> (length, W): the first rows, or linear interpolation if `length` is larger."""
    if length <= len(table):
        return table[:length].clone()
    rows = table.float().T[None]  # (1, W, L)
    longer = interpolate(rows, length, mode="linear", align_corners=False)[0].T
    return longer.to(table.dtype).contiguous()
