"""Contrastive pretraining: pairs in, a model out.

Begin with `config` (what a run is), `trainer` (the loop), `learner` (a step), `objective` (what is trained)
and `loss` (InfoNCE and sigmoid in tiles). The pairs themselves are `diptych.pairs`'.
"""

from __future__ import annotations

from diptych.training.config import Evaluator, Run, TrainConfig
from diptych.training.loss import info_nce, sigmoid_loss
from diptych.training.plan import Plan, plan
from diptych.training.trainer import train
from diptych.training.watching import Listener, StepReport, Summary, sample_file

__all__ = [
    "train",
    "plan",
    "Plan",
    "Run",
    "TrainConfig",
    "Evaluator",
    "Summary",
    "Listener",
    "StepReport",
    "sample_file",
    "info_nce",
    "sigmoid_loss",
]
