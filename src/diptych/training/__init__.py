"""Contrastive pretraining: pairs in, a model out.

Files of this room: `config` (what a run is), `trainer` (the loop), `loss` (InfoNCE and sigmoid in tiles),
`optim` (groups, schedule, averaged weights), `checkpoint` (state on disk). The pairs themselves are
`diptych.pairs`'.
"""

from __future__ import annotations

from diptych.training.config import Evaluator, Run, TrainConfig
from diptych.training.loss import info_nce, sigmoid_loss
from diptych.training.trainer import train
from diptych.training.watching import Listener, StepReport, Summary

__all__ = [
    "train",
    "Run",
    "TrainConfig",
    "Evaluator",
    "Summary",
    "Listener",
    "StepReport",
    "info_nce",
    "sigmoid_loss",
]
