"""Contrastive pretraining: pairs in, a model out.

Begin with `config` (what a run is), `trainer` (the loop), `learner` (a step) and `objective` (what is
trained). The pairs are `diptych.pairs`', the losses `diptych.losses`'.
"""

from __future__ import annotations

from diptych.training.config import Evaluator, Run, TrainConfig
from diptych.training.keeping import refuse_used
from diptych.training.plan import Plan, plan
from diptych.training.trainer import train
from diptych.training.tuning import gentle, inputs_of
from diptych.training.watching import Listener, StepReport, Summary, sample_file

__all__ = [
    "train",
    "refuse_used",
    "plan",
    "Plan",
    "Run",
    "TrainConfig",
    "gentle",
    "inputs_of",
    "Evaluator",
    "Summary",
    "Listener",
    "StepReport",
    "sample_file",
]
