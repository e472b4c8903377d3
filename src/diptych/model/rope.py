"""Rotary positions of a grid of patches (RoPE: Su et al. 2021, arXiv 2104.09864; on two axes: 2403.13298).

Pairs of channels of queries and keys are rotated by an angle proportional to the patch's column, or to its
row, so that attention depends on the distance of two patches. The layout is that of PE-Core's released
weights (arXiv 2504.13181): neighbouring channels form a pair, the first half of the pairs follows the column,
the second the row. Shapes: B batch, H heads, L length, K kept positions, D width of a head, G side of the
grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Cosine and sine of the angles, each (L, D), or (B, 1, K, D) where each image keeps patches of its own.
Rotation = tuple[Tensor, Tensor]
BASE = 10_000.0  # the slowest pair rotates by 1 / BASE^(1 - 4/D) radians per patch


def grid_rotation(grid: int, head_width: int, *, prefix: int, offset: int, device: torch.device) -> Rotation:
    """Compute cosines and sines for a square grid of patches.

    Parameters
    ----------
    grid : int
        Patches per side.
    head_width : int
        Width of an attention head, a multiple of 4.
    prefix : int
        Number of tokens before the patches, which are not rotated.
    offset : int
        Coordinate of the first row and of the first column.
    device : torch.device
        Where the tables are created.

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
    bands = head_width // 4  # D/2 pairs of channels, half of them for the column, half for the row
    frequencies = BASE ** -(torch.arange(bands, device=device, dtype=torch.float32) / bands)  # (D/4,)
    coordinates = torch.arange(grid, device=device, dtype=torch.float32) + offset  # (G,)
    angles = coordinates[:, None] * frequencies  # (G, D/4)
    # Element [y, x] of the grid: the angles of column x, and those of row y.
    columns = angles[None].expand(grid, -1, -1)  # (G, G, D/4)
    rows = angles[:, None].expand(-1, grid, -1)  # (G, G, D/4)
    angles = torch.cat([columns, rows], -1).flatten(0, 1)  # (G*G, D/2)
    angles = torch.cat([angles.new_zeros(prefix, angles.shape[1]), angles])  # an angle of 0: no rotation
    angles = angles.repeat_interleave(2, -1)  # (prefix + G*G, D), both channels of a pair alike
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate every pair of channels by its position's angle, (B, H, L, D) -> (B, H, L, D)."""
    cosine, sine = rotation
    # (a, b) -> (a cos - b sin, b cos + a sin) for each pair of neighbours.
    swapped = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return (x * cosine + swapped * sine).to(x.dtype)


def select_rotation(rotation: Rotation, positions: Tensor) -> Rotation:
    """Tables of the kept positions (B, K), each (B, 1, K, D)."""
    cosine, sine = rotation
    return cosine[positions][:, None], sine[positions][:, None]
