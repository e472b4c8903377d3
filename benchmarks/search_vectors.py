"""Synthetic vectors for search.py: images in clusters, and texts apart from them, as in CLIP.

Real vectors of a large model need the model and a million images, so these are generated, with the first two
moments of open_clip's ViT-B-32. The cosine of two images is 0.5 ± 0.1, of two texts about 0.55, of an image
and a text 0.17 ± 0.04, of a text and its image 0.31: the modality gap (Liang et al. 2022, arXiv 2203.02053).

An image vector is the sum of the mean of all images (half of its squared length), of its cluster (a quarter;
20,000 clusters of very different size, in 200 topics) and of a part of its own (a quarter). Variances fall
with the rank of the direction. A text vector is the mean of texts, plus three tenths of the difference of its
image from the mean, plus a part of its own. That is harder than real data: among 28,800 images in 1,024 lists
a text has to scan 0.37 of them to find 99 % of its ten nearest, while captions of Flickr8k among photographs,
embedded by the default model, scan 0.04.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.vectors.segments import Segments

Floats = NDArray[np.float32]

TOPICS, CLUSTERS = 200, 20_000
MEAN = 0.5  # share of the mean in the squared length of a picture
TEXT_MEAN = 0.55
GAP = 0.32  # cosine of the two means
SHARED = 0.3  # cosine of what is particular to a text and to its picture
_CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class VectorWorld:
    """Means, cluster centres and principal directions."""

    means: Floats  # (2, D): pictures, texts
    clusters: Floats  # (C, D)
    turns: Floats  # (2, D, D): axes of what varies among pictures, and among texts
    spread: Floats  # (D,) along them
    draw: np.random.Generator

    @classmethod
    def of(cls, dim: int, seed: int) -> VectorWorld:
        """Generate means, clusters and directions from a seed."""
        rng = np.random.default_rng(seed)
        spread = 1 / np.sqrt(np.arange(1, dim + 1))
        spread /= np.linalg.norm(spread)
        turns = np.stack([np.linalg.qr(rng.normal(size=(dim, dim)))[0] for _ in range(2)])
        means = unit(rng.normal(size=(2, dim)))
        means[1] = unit(
            GAP * means[0] + np.sqrt(1 - GAP**2) * unit(means[1] - means[1] @ means[0] * means[0])
        )
        world = cls(means, means, turns.astype(np.float32), spread.astype(np.float32), rng)
        topics = world.particular(TOPICS)[rng.integers(0, TOPICS, CLUSTERS)]
        clusters = (topics + world.particular(CLUSTERS)) / np.float32(np.sqrt(2))
        return cls(means, clusters, world.turns, world.spread, rng)

    def particular(self, count: int, *, text: bool = False) -> Floats:
        """Random deviations, (count, D), of mean length one."""
        size = (count, len(self.spread))
        drawn: Floats = (
            self.draw.standard_normal(size, dtype=np.float32) * self.spread @ self.turns[int(text)]
        )
        return drawn

    def pictures(self, count: int) -> Floats:
        """Random images, (count, D)."""
        weight = np.arange(1, CLUSTERS + 1) ** -0.7
        cluster = self.clusters[self.draw.choice(CLUSTERS, count, p=weight / weight.sum())]
        own = (cluster + self.particular(count)) / np.float32(np.sqrt(2))
        return unit(np.sqrt(MEAN) * self.means[0] + np.sqrt(1 - MEAN) * own)

    def texts(self, pictures: Floats) -> Floats:
        """One text for each image."""
        own = unit(pictures / (pictures @ self.means[0])[:, None] - self.means[0])
        own_part = SHARED * own + np.sqrt(1 - SHARED**2) * self.particular(len(pictures), text=True)
        return unit(np.sqrt(TEXT_MEAN) * self.means[1] + np.sqrt(1 - TEXT_MEAN) * own_part)


def unit(rows: NDArray[np.floating]) -> Floats:
    """Normalise rows to length one."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def make(folder: Path, rows: int, dim: int, texts: int, *, seed: int = 0) -> tuple[Segments, Floats]:
    """Generate images in segments under `folder`, and text vectors.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     segments, texts = make(Path(folder), 300, 64, 5)
    >>> segments.rows, texts.shape
    (300, (5, 64))
    """
    world = VectorWorld.of(dim, seed)
    segments = Segments(folder, dim, 0)
    for start in range(0, rows, _CHUNK):
        segments.append(world.pictures(min(_CHUNK, rows - start)))
    picked = np.sort(world.draw.choice(rows, texts, replace=texts > rows))
    return segments, world.texts(segments.gather(picked).astype(np.float32))


def describe(segments: Segments, texts: Floats) -> str:
    """Describe the cosines in one line."""
    sample = segments.gather(np.linspace(0, segments.rows - 1, min(4000, segments.rows)).astype(np.int64))
    rows = sample.astype(np.float32)
    pairs, mixed, text_pairs = rows[::2] @ rows[1::2].T, texts @ rows.T, texts[::2] @ texts[1::2].T
    return (
        f"cosines of two pictures {pairs.mean():.2f} ± {pairs.std():.2f}, of two texts "
        f"{text_pairs.mean():.2f}, of a picture and a text {mixed.mean():.2f} ± {mixed.std():.3f}"
    )
