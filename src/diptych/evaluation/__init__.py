"""How well: data sets, metrics and protocols that turn an encoder into figures with chance beside them.

Files of this room: `archives` (files of a folder or a tar archive, one after another), `captions` (captions
beside pictures in these), `datasets` (labelled and captioned pictures), `features` (their rows, kept from one
measurement to the next), `settings` (how a measurement is made), `metrics` (pure functions of score
matrices), `report` (a result: figures, chance, intervals, and what they were measured on), `classification`
and `retrieval` (the two protocols), `measures` (a data set with its protocol), `interpolation` (models on the
way from one to another), `comparison` (two results, picture by picture), `results_report` and `card` (results
as a page and as a model card).

Learning from labelled pictures: `transfer` (classes that match, rows, what answers say), `draws` (which
pictures teach and which choose), `logistic` and `peak` (fits, and the search for their strength), `probe`,
`few_shot`, `knn` (the protocols), `data_efficiency` (what zero-shot is worth in labelled pictures),
`probe_report` and `few_shot_report` (the same as reports).
"""

from __future__ import annotations

from diptych.evaluation.classification import evaluate_zero_shot
from diptych.evaluation.comparison import Comparison, Difference, compare
from diptych.evaluation.datasets import (
    CaptionDataset,
    ImageDataset,
    domains,
    load_captioned,
    load_labelled,
    load_labelled_shards,
)
from diptych.evaluation.features import FeatureStore
from diptych.evaluation.few_shot import evaluate_few_shot
from diptych.evaluation.interpolation import Interpolation, Point, interpolate
from diptych.evaluation.knn import evaluate_knn
from diptych.evaluation.measures import Measure, open_measure
from diptych.evaluation.probe import evaluate_linear_probe
from diptych.evaluation.report import Result, read_results
from diptych.evaluation.retrieval import evaluate_retrieval
from diptych.evaluation.settings import Settings

__all__ = [
    "evaluate_zero_shot",
    "evaluate_retrieval",
    "evaluate_linear_probe",
    "evaluate_few_shot",
    "evaluate_knn",
    "Measure",
    "open_measure",
    "interpolate",
    "Interpolation",
    "Point",
    "Result",
    "read_results",
    "compare",
    "Comparison",
    "Difference",
    "Settings",
    "FeatureStore",
    "ImageDataset",
    "CaptionDataset",
    "load_labelled",
    "load_labelled_shards",
    "domains",
    "load_captioned",
]
