"""Rotary positions of a grid of patches (RoPE: Su et al. 2021, arXiv 2104.09864; on two axes: 2403.13298).

Pairs of channels of queries and keys are turned by an angle that grows with the patch's column, or with its
row, so that attention depends on how far apart two patches lie. The layout is that of PE-Core's released
weights (arXiv 2504.13181): neighbouring channels form a pair, the first half of the pairs follows the column,
the second the row. Shapes: B batch, H heads, L length, D width of a head, G side of the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Cosine and sine of every position's angles, each (L, D), or (B, 1, L, D) where pictures keep other patches.
Rotation = tuple[Tensor, Tensor]
BASE = 10_000.0  # the slowest pair turns by 1 / BASE^(1 - 4/D) a patch


def grid_rotation(grid: int, head_width: int, *, prefix: int, offset: int, device: torch.device) -> Rotation:
    """Cosines and sines for a square grid of patches.

    Parameters
    ----------
    grid : int
        Patches a side.
    head_width : int
        Width of an attention head, a multiple of 4.
    prefix : int
        Tokens before the patches, which are not turned.
    offset : int
        Coordinate of the first row and of the first column.
    device : torch.device
        Where the tables are made.

    Returns
    -------
    tuple of Tensor
        Two tables (prefix + G * G, D), float32.

    Examples
    --------
    >>> cosine, sine = grid_rotation(2, 4, prefix=1, offset=0, device=torch.device("cpu"))
    >>> (sine[:, 0] * 100).int().tolist()  # the class token, then two patches of each row
    [0, 0, 84, 0, 84]
    """
    bands = head_width // 4
    frequencies = BASE ** -(torch.arange(bands, device=device, dtype=torch.float32) / bands)  # (D/4,)
    places = torch.arange(grid, device=device, dtype=torch.float32) + offset  # (G,)
    angles = places[:, None] * frequencies  # (G, D/4)
    columns = angles[None].expand(grid, -1, -1)  # (G, G, D/4)
    rows = angles[:, None].expand(-1, grid, -1)  # (G, G, D/4)
    turned = torch.cat([columns, rows], -1).flatten(0, 1)  # (G*G, D/2)
    turned = torch.cat([turned.new_zeros(prefix, turned.shape[1]), turned])  # an angle of 0 changes nothing
    turned = turned.repeat_interleave(2, -1)  # (prefix + G*G, D)
    return turned.cos(), turned.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn every pair of channels by its position's angle, (B, H, L, D) -> (B, H, L, D)."""
    cosine, sine = rotation
    # (a, b) -> (a cos - b sin, b cos + a sin) for each pair of neighbours.
    swapped = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return (x * cosine + swapped * sine).to(x.dtype)


def select_rotation(rotation: Rotation, kept: Tensor) -> Rotation:
    """The rows of the kept positions (B, K), each as (B, 1, K, D)."""
    cosine, sine = rotation
    return cosine[kept][:, None], sine[kept][:, None]
