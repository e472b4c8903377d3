"""The default model, third leg: a short one on pictures of 96 pixels, which the first two never saw.

Command:  diptych train recipes/default_larger.py, after recipes/default.py and recipes/default_more.py
Data:     as recipes/default.py
Cost:     TODO
Result:   TODO
"""

from __future__ import annotations

from dataclasses import replace

import default
import default_more

from diptych.training import AugmentConfig, Run


def run() -> Run:
    """The run that made the model inside the package out of the second leg's."""
    config = default_more.run().config
    vision = replace(config.architecture.vision, image_size=96)
    return default.with_retrieval(
        replace(
            config,
            start="runs/default-more",
            out="runs/default-larger",
            model=replace(config.architecture, vision=vision),
            epochs=2,
            image_sizes=(),
            lr=2e-4,
            warmup=20,
            seed=2,
            augment=AugmentConfig(
                scale=(0.3, 1.0), flip=0.5, jitter=(0.5, 0.5, 0.5, 0.08), grayscale=0.15, erasing=0.35
            ),
        )
    )
