"""Record features of the package `efficientnet_lite_pytorch`: `python -m tests.model.efficientnet_recording`.

The network gets weights from a seed, so that the recording needs no file of weights, and a test without the
package can set the same ones. The package is needed for recording only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

RECORDING = Path(__file__).with_suffix(".json")
SIDE = 75  # an odd number of pixels after the stem: both paddings of TensorFlow occur


def seeded(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights by name: each from a generator seeded by its name, so that their order does not matter."""
    state = {}
    for name, shape in shapes.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        values = generator.standard_normal(tuple(shape)).astype(np.float32)
        if name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
            values = 1 + 0.1 * np.abs(values)
        elif len(shape) > 1:
            values *= np.sqrt(2 / np.prod(shape[1:]))
        else:
            values *= 0.1
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    return state


def picture() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32))


def main() -> None:
    """Record the first 16 features of each variant."""
    from efficientnet_lite_pytorch import EfficientNet

    recorded = {}
    for number in range(5):
        # The package pads for a fixed size of pictures.
        network = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=SIDE).eval()
        shapes = {name: value.shape for name, value in network.state_dict().items()}
        network.load_state_dict(seeded(shapes))
        with torch.no_grad():
            features = network.extract_features(picture()).mean((2, 3))[0]
        recorded[f"lite{number}"] = [round(float(value), 6) for value in features[:16]]
    RECORDING.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
