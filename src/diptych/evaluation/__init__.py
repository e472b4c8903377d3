"""How well: data sets, metrics and protocols that turn an encoder into figures with chance beside them.

Files of this room: `archives` (files of a folder or a tar archive, one after another), `captions` (captions
beside pictures in these), `datasets` (labelled and captioned pictures), `features` (their rows, kept from one
measurement to the next), `settings` (how a measurement is made), `metrics` (pure functions of score
matrices), `report` (a result: figures, chance, intervals, and what they were measured on), `classification`
and `retrieval` (the two protocols), `measures` (a data set with its protocol), `interpolation` (models on the
way from one to another), `scorers` (any classifier as a callable from pictures to scores), `corruptions`,
`corruption_fields` and `corrupted_sets` (pictures made worse: the kinds, what they are made with, the data
set), `shifts` (a reference and its shifts, and what one model makes of them), `effective` (the line of
ordinary models, and what is beyond it), `robustness` (models side by side), `robustness_report` (as
statements, tables and plots).
"""

from __future__ import annotations

from diptych.evaluation.classification import evaluate_zero_shot
from diptych.evaluation.corrupted_sets import corrupted, corruptions_of, squares
from diptych.evaluation.corruptions import CORRUPTIONS, corrupt
from diptych.evaluation.datasets import (
    CaptionDataset,
    ImageDataset,
    domains,
    load_captioned,
    load_labelled,
    load_labelled_shards,
)
from diptych.evaluation.features import FeatureStore
from diptych.evaluation.interpolation import Interpolation, Point, interpolate
from diptych.evaluation.measures import Measure, open_measure
from diptych.evaluation.report import Result
from diptych.evaluation.retrieval import evaluate_retrieval
from diptych.evaluation.robustness import Comparison, Robustness, compare
from diptych.evaluation.robustness_report import robustness_report
from diptych.evaluation.scorers import LinearScorer, Scorer, ZeroShotScorer
from diptych.evaluation.settings import Settings
from diptych.evaluation.shifts import ShiftGroup, Standing, measure

__all__ = [
    "evaluate_zero_shot",
    "evaluate_retrieval",
    "Measure",
    "open_measure",
    "interpolate",
    "Interpolation",
    "Point",
    "Scorer",
    "ZeroShotScorer",
    "LinearScorer",
    "ShiftGroup",
    "Standing",
    "Robustness",
    "Comparison",
    "measure",
    "compare",
    "robustness_report",
    "corrupt",
    "corrupted",
    "corruptions_of",
    "squares",
    "CORRUPTIONS",
    "Result",
    "Settings",
    "FeatureStore",
    "ImageDataset",
    "CaptionDataset",
    "load_labelled",
    "load_labelled_shards",
    "domains",
    "load_captioned",
]
