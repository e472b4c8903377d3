"""What is lost on a batch of pairs, and its gradient: in tiles, never as a matrix of N x N, on any processes.

Begin with `contrastive` (InfoNCE and the sigmoid loss). Beside them stand `distillation` (a teacher's view in
place of the one right answer), `positives` (several right answers) and `negatives` (near misses). They share
`tiles`, `bands` and `softmaxes`; `exchange` lets the texts of all processes meet the pictures of each.
Features come in as unit rows: models, data and steps are not known here.
"""

from __future__ import annotations

from diptych.training.losses.contrastive import info_nce, sigmoid_loss
from diptych.training.losses.distillation import similarity_distillation
from diptych.training.losses.exchange import Alone, Block, Exchange, Gathered, Ring, mean_of
from diptych.training.losses.negatives import near_misses
from diptych.training.losses.positives import all_yes, equal_shares

__all__ = [
    "info_nce",
    "sigmoid_loss",
    "similarity_distillation",
    "equal_shares",
    "all_yes",
    "near_misses",
    "Exchange",
    "Alone",
    "Gathered",
    "Ring",
    "Block",
    "mean_of",
]
