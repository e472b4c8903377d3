"""Contrastive pretraining on one machine: pairs in, a model out.

Files of this room: `config` (what a run is), `trainer` (the loop), `loss` (InfoNCE and sigmoid in tiles),
`optim` (groups, schedule, averaged weights), `checkpoint` (state on disk), `loader` (batches), `order` (which
pair when), `augment` (crops and colours), `sources` and its kinds (`shards`, `folders`, `tables`, ...).
"""

from __future__ import annotations

from diptych.training.augment import AugmentConfig
from diptych.training.config import Evaluator, Run, TrainConfig
from diptych.training.loader import Batch, Mixture, PairLoader
from diptych.training.loss import info_nce, sigmoid_loss
from diptych.training.sources import (
    Folder,
    LabelledFolder,
    LabelledTar,
    Once,
    Part,
    Source,
    Table,
    TarPairs,
    describe,
    split,
)
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
    "Mixture",
    "TarPairs",
    "LabelledTar",
    "Table",
    "Folder",
    "LabelledFolder",
    "Once",
    "Part",
    "Source",
    "describe",
    "split",
    "AugmentConfig",
    "PairLoader",
    "Batch",
    "info_nce",
    "sigmoid_loss",
]
