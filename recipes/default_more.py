"""The default model, second leg: the first leg's weights, larger pictures and stronger augmentation.

Command:  diptych train recipes/default.py && diptych train recipes/default_more.py
Data:     as recipes/default.py
Cost:     87 minutes on two cores that did other work as well, 3 GB; the epoch that is kept is done after 68
Result:   runs/default-more/model, Flickr8k-val recall@10 0.236 / 0.276
"""

from __future__ import annotations

from dataclasses import replace

import default

from diptych.pairs import AugmentConfig
from diptych.training import Run, TrainConfig


def run() -> Run:
    """The run that made the model inside the package out of the first leg's."""
    return default.with_retrieval(config())


def config() -> TrainConfig:
    """The second leg."""
    return replace(
        default.config(),
        start="runs/default",
        out="runs/default-more",
        data=default.data(captioned=4.0, cifar=0.3),
        epochs=16,
        image_sizes=((0.5, 48), (0.5, 64)),
        lr=8e-4,
        warmup=100,
        seed=1,
        augment=AugmentConfig(
            scale=(0.4, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.05), grayscale=0.1, erasing=0.25
        ),
        evaluate_every=1,
        monitor="flickr8k-val/text_retrieval_recall@10",
    )
