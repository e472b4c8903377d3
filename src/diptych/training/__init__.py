"""Contrastive pretraining of a CLIP model on image-text pairs.

Start with `config` (the config of a run), `loop.trainer` (the loop), `loop.trainable_model` (a training step)
and `objectives.objective` (what is trained). `data` reads pairs, `losses` holds the loss functions,
`distributed` handles devices and processes, `checkpoints` saves and restores runs. Names are imported at
their first use, so that `data` and `losses` can be used without the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.lazy import lazy_attributes

if TYPE_CHECKING:
    from diptych.training.checkpoints.run_folder import refuse_used
    from diptych.training.config import Evaluator, Run, TrainConfig
    from diptych.training.loop.listener import Listener, RunSummary, StepReport, sample_file
    from diptych.training.loop.plan import RunPlan, plan
    from diptych.training.loop.trainer import train
    from diptych.training.objectives.tuning import fine_tuning_defaults, inputs_of

__all__ = [
    "train", "refuse_used", "plan", "RunPlan", "Run", "TrainConfig", "fine_tuning_defaults", "inputs_of",
    "Evaluator", "RunSummary", "Listener", "StepReport", "sample_file",
]  # fmt: skip

_MODULES = {
    **dict.fromkeys(("Evaluator", "Run", "TrainConfig"), "config"),
    **dict.fromkeys(("RunPlan", "plan"), "loop.plan"),
    **dict.fromkeys(("fine_tuning_defaults", "inputs_of"), "objectives.tuning"),
    **dict.fromkeys(("Listener", "StepReport", "RunSummary", "sample_file"), "loop.listener"),
    "refuse_used": "checkpoints.run_folder",
    "train": "loop.trainer",
}

if not TYPE_CHECKING:  # with it, a type checker would accept any name
    __getattr__ = lazy_attributes(__name__, _MODULES)
