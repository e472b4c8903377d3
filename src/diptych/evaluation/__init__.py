"""How well: metrics and protocols that turn an encoder and a data set into figures with chance beside them.

Figures: `features` (rows of pictures, kept from one measurement to the next), `settings` (how a measurement
is made), `metrics` and `rankings` (pure functions of score matrices), `intervals` and `significance` (what
a figure may be, and what may be said of it; for audits too), `report` (a result: figures, chance, intervals,
and what they were measured on), `classification`, `multilabel`, `retrieval` and `compositional` (the
protocols), `measures` (a data set with its protocol), `interpolation` (models on the way from one to
another), `comparison` (two results, picture by picture), `results_report` and `card` (results as a page and
as a model card).

Learning from labelled pictures: `transfer` (classes that match, rows, what answers say), `draws` (which
pictures teach and which choose), `logistic` and `peak` (fits, and the search for their strength), `probe`,
`few_shot`, `knn` (the protocols), `data_efficiency` (what zero-shot is worth in labelled pictures),
`probe_report` and `few_shot_report` (the same as reports).

Robustness: `scorers` (any classifier as a callable from pictures to scores), `corruptions`,
`corruption_fields` and `corrupted_sets` (pictures made worse: the kinds, what they are made with, the data
set), `shifts` (a reference and its shifts, and what one model makes of them), `effective` (the line of
ordinary models, and what is beyond it), `robustness` (models side by side), `robustness_report` (the same as
a report). `suite` runs all of it on a folder.
"""

from __future__ import annotations

from diptych.evaluation.probes.few_shot import evaluate_few_shot
from diptych.evaluation.probes.knn import evaluate_knn
from diptych.evaluation.probes.probe import evaluate_linear_probe
from diptych.evaluation.protocols.classification import evaluate_zero_shot
from diptych.evaluation.protocols.compositional import evaluate_compositional
from diptych.evaluation.protocols.features import FeatureStore
from diptych.evaluation.protocols.interpolation import Interpolation, Point, interpolate
from diptych.evaluation.protocols.measures import Measure, measure_known, open_measure
from diptych.evaluation.protocols.multilabel import evaluate_multi_label
from diptych.evaluation.protocols.retrieval import evaluate_retrieval
from diptych.evaluation.protocols.scorers import LinearScorer, Scorer, ZeroShotScorer
from diptych.evaluation.protocols.settings import Settings
from diptych.evaluation.results.comparison import Comparison, Difference, compare
from diptych.evaluation.results.result import Result, read_results
from diptych.evaluation.robustness.corrupted_sets import corrupted, corruptions_of, squares
from diptych.evaluation.robustness.corruptions import CORRUPTIONS, corrupt
from diptych.evaluation.robustness.robustness_report import robustness_report
from diptych.evaluation.robustness.shift_gaps import Robustness, RobustnessComparison, compare_robustness
from diptych.evaluation.robustness.shifts import ShiftGroup, Standing, measure

__all__ = [
    "evaluate_zero_shot",
    "evaluate_retrieval",
    "evaluate_multi_label",
    "evaluate_compositional",
    "evaluate_linear_probe",
    "evaluate_few_shot",
    "evaluate_knn",
    "Measure",
    "open_measure",
    "measure_known",
    "interpolate",
    "Interpolation",
    "Point",
    "Scorer",
    "ZeroShotScorer",
    "LinearScorer",
    "ShiftGroup",
    "Standing",
    "Robustness",
    "RobustnessComparison",
    "measure",
    "compare_robustness",
    "robustness_report",
    "corrupt",
    "corrupted",
    "corruptions_of",
    "squares",
    "CORRUPTIONS",
    "Result",
    "read_results",
    "compare",
    "Comparison",
    "Difference",
    "Settings",
    "FeatureStore",
]
