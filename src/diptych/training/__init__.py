"""Contrastive pretraining: pairs in, a model out.

Begin with `config` (what a run is), `loop.trainer` (the loop), `loop.learner` (one step) and
`objectives.objective` (what is trained). `data` reads the pairs, `losses` holds the loss functions,
`distributed` runs several processes as one, `checkpoints` keeps and restores a run. Names are imported at
their first use: `data` and `losses` are read without the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.lazy import lazy_attributes

if TYPE_CHECKING:
    from diptych.training.checkpoints.keeping import refuse_used
    from diptych.training.config import Evaluator, Run, TrainConfig
    from diptych.training.loop.plan import Plan, plan
    from diptych.training.loop.trainer import train
    from diptych.training.loop.watching import Listener, StepReport, Summary, sample_file
    from diptych.training.objectives.tuning import gentle, inputs_of

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

_MODULES = {
    "Evaluator": "config",
    "Run": "config",
    "TrainConfig": "config",
    "refuse_used": "checkpoints.keeping",
    "Plan": "loop.plan",
    "plan": "loop.plan",
    "train": "loop.trainer",
    "gentle": "objectives.tuning",
    "inputs_of": "objectives.tuning",
    "Listener": "loop.watching",
    "StepReport": "loop.watching",
    "Summary": "loop.watching",
    "sample_file": "loop.watching",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    __getattr__ = lazy_attributes(__name__, _MODULES)
