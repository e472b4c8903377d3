"""The default model, third leg: a short one on pictures of 96 pixels, which the first two never saw.

Command:  diptych train recipes/default_larger.py, after recipes/default.py and recipes/default_more.py
Data:     as recipes/default.py
Cost:     14 minutes on two cores, 3 GB
Result:   runs/default-larger/model, Flickr8k-val recall@10 0.237 / 0.270; its mean with the second leg, by
          recipes/default_average.py, is the model that ships
"""

from __future__ import annotations

from dataclasses import replace

import default
import default_more

from diptych.pairs import AugmentConfig
from diptych.training import Run


def run() -> Run:
    """The run that made the model inside the package out of the second leg's."""
    config = default_more.config()
    vision = replace(config.architecture.vision, image_size=96)
    return default.with_retrieval(
        replace(
            config,
            start="runs/default-more",
            out="runs/default-larger",
            model=replace(config.architecture, vision=vision),
            epochs=1,
            image_sizes=(),
            lr=2e-4,
            warmup=20,
            seed=2,
            augment=AugmentConfig(
                scale=(0.3, 1.0), flip=0.5, jitter=(0.5, 0.5, 0.5, 0.08), grayscale=0.15, erasing=0.35
            ),
        )
    )
