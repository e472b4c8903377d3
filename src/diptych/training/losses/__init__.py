"""Contrastive losses computed in tiles: no N x N matrix in memory, on any number of processes.

Start with `contrastive` (InfoNCE and the sigmoid loss). `distillation` matches a teacher's similarities,
`multi_positive` handles several positives per image, `hard_negatives` handles nearly right captions. They
share `row_band`, `logit_tiles` and `tile_softmax`; `feature_exchange` moves text features between processes.
All functions take unit-length features; models, data and optimisers are unknown here.
"""

from __future__ import annotations

from diptych.training.losses.contrastive import info_nce, sigmoid_loss
from diptych.training.losses.distillation import similarity_distillation
from diptych.training.losses.feature_exchange import (
    AllGatherExchange,
    ColumnBlock,
    Exchange,
    NoExchange,
    RingExchange,
    global_mean,
)
from diptych.training.losses.hard_negatives import hard_negative_loss
from diptych.training.losses.multi_positive import multi_positive_info_nce_term, multi_positive_sigmoid_term

__all__ = [
    "info_nce", "sigmoid_loss", "similarity_distillation", "multi_positive_info_nce_term",
    "multi_positive_sigmoid_term", "hard_negative_loss", "Exchange", "NoExchange", "AllGatherExchange",
    "RingExchange", "ColumnBlock", "global_mean",
]  # fmt: skip
