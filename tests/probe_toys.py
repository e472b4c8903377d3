"""Labelled pictures of noisy colours, and a toy encoder with features before its projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.datasets import ImageDataset, load_labelled
from tests.toys import COLOURS, ToyEncoder, picture_bytes, tar_bytes


class FeatureToy(ToyEncoder):
    """Features are means of the three colours and their products, all positive as those of a real tower."""

    def image_features(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        self.calls.append(("features", len(images)))
        colours = np.array([np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0) for image in images])
        x = colours / 255
        return np.concatenate([x, x * x, x * x[:, [1, 2, 0]]], axis=1).astype(np.float32)


def noisy(
    folder: Path, name: str, counts: Mapping[str, int], *, seed: int, noise: float = 90.0
) -> ImageDataset:
    """Pictures of each colour, with Gaussian noise on the colour."""
    rng = np.random.default_rng(seed)
    files = {}
    for colour, count in counts.items():
        for number in range(count):
            shade = np.clip(np.array(COLOURS[colour]) + rng.normal(0, noise, 3), 0, 255).astype(int)
            # Bytes after the end of the PNG make all files different, although colours may repeat by chance.
            data = picture_bytes(tuple(shade.tolist()), (4, 4)) + f"{name} {colour} {number}".encode()
            files[f"{name}/{colour}/{number:03}.png"] = data
    path = folder / f"{name}.tar"
    path.write_bytes(tar_bytes(files))
    return load_labelled(path)
