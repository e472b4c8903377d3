"""The default model, second leg: the upper stages of the picture tower learn too, on augmented pictures.

Command:  diptych train recipes/default_unlocked.py, after recipes/default.py
Data:     as recipes/default.py
Cost:     to be measured
Result:   runs/default-unlocked/model
"""

from __future__ import annotations

from dataclasses import replace

import default

from diptych.training import Run, TrainConfig
from diptych.training.data import AugmentConfig


def run() -> Run:
    """Run that starts from the weights of the first leg."""
    return default.with_retrieval(config())


def config() -> TrainConfig:
    """Configuration of the second leg."""
    first = default.config()
    assert first.text_pairs is not None
    return replace(
        first,
        out="runs/default-unlocked",
        start="runs/default",
        start_image="",
        preprocess=first.spec.preprocess,
        cache_features=3,
        lock_image_unlocked_groups=4,
        layer_decay=0.7,
        still_norms=True,
        text_pairs=replace(first.text_pairs, epochs_alone=0),
        batch_size=256,
        epochs=4,
        lr=2e-4,
        warmup=50,
        seed=17,
        augment=AugmentConfig(
            scale=(0.4, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.05), grayscale=0.1, erasing=0.2
        ),
        evaluate_every=1,
    )
