"""Synthetic image and text rows in segments, and a brute-force search, for the tests of search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.vectors.segments import Segments

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


def unit(rows: NDArray[np.floating]) -> Floats:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def pictures_and_texts(rows: int, dim: int, texts: int, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Clustered rows around one mean, and texts around another, each slightly similar to some row."""
    draw = np.random.default_rng(seed)
    spread = 1 / np.sqrt(np.arange(1, dim + 1))
    means = unit(draw.normal(size=(2, dim)))
    centres = draw.normal(size=(max(rows // 40, 1), dim)) * spread
    near = centres[draw.integers(0, len(centres), rows)] + draw.normal(size=(rows, dim)) * spread
    own = unit(near)
    pictures = unit(means[0] + own)
    said = unit(0.4 * own[draw.integers(0, rows, texts)] + unit(draw.normal(size=(texts, dim)) * spread))
    return pictures, unit(means[1] + said)


def segments_of(folder: Path, rows: Floats, *, segment_rows: int = 65_536) -> Segments:
    segments = Segments(folder, rows.shape[1], 0, segment_rows=segment_rows)
    with np.errstate(over="ignore"):
        segments.append(rows)
    return segments


def by_hand(
    segments: Segments,
    queries: Floats,
    k: int,
    *,
    allowed: Numbers | None = None,
    dead: NDArray[np.bool_] | None = None,
) -> tuple[Numbers, Floats]:
    """The expected result of a search: all products, sorted."""
    rows = segments.gather(np.arange(segments.rows)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        cosines = np.array([rows @ query.astype(np.float64) for query in queries]).astype(np.float32)
    cosines = cosines.reshape(len(queries), len(rows))
    cosines[~np.isfinite(cosines)] = -np.inf
    if dead is not None:
        cosines[:, dead] = -np.inf
    if allowed is not None:
        cosines[:, np.setdiff1d(np.arange(len(rows)), allowed)] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(cosines, order, axis=1)
    numbers = np.full((len(queries), k), -1)
    result = np.full((len(queries), k), -np.inf, dtype=np.float32)
    numbers[:, : order.shape[1]] = np.where(near > -np.inf, order, -1)
    result[:, : order.shape[1]] = near
    return numbers, result


def recall(found: Numbers, true: Numbers) -> float:
    return float(np.mean([np.isin(want, got).mean() for got, want in zip(found, true, strict=True)]))
