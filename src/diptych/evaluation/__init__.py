"""Evaluation of encoders on data sets: protocols, probes, robustness, and results with chance and intervals.

- `protocols`: zero-shot classification, multi-label classification, retrieval, compositional benchmarks;
  `measures` (a data set with its protocol), `settings` (common keywords), `features` (cache of embeddings),
  `scorers` (any classifier as a callable), `interpolation` (models between two models).
- `probes`: linear probe, few-shot curves, k-nearest neighbours, data efficiency, and their reports;
  `logistic`, `lbfgs` and `regularisation_search` (fits), `splits` (training and validation samples).
- `robustness`: `corruptions` and `corrupted_sets`, `shifts` (accuracy under distribution shift), `effective`
  and `shift_gaps` (effective and relative robustness).
- `results`: `result`, `comparison` of two results, `averages` over data sets, reports and model cards.

`suite` runs everything on a folder of data sets. Statistics are in `diptych.stats`.
"""

from __future__ import annotations

from diptych.evaluation.probes.few_shot import evaluate_few_shot
from diptych.evaluation.probes.knn import evaluate_knn
from diptych.evaluation.probes.probe import evaluate_linear_probe
from diptych.evaluation.protocols.classification import evaluate_zero_shot
from diptych.evaluation.protocols.compositional import evaluate_compositional
from diptych.evaluation.protocols.features import FeatureStore
from diptych.evaluation.protocols.interpolation import Interpolation, InterpolationPoint, interpolate
from diptych.evaluation.protocols.measures import Measure, measure_known, open_measure
from diptych.evaluation.protocols.multilabel import evaluate_multi_label
from diptych.evaluation.protocols.retrieval import evaluate_retrieval
from diptych.evaluation.protocols.scorers import LinearScorer, Scorer, ZeroShotScorer
from diptych.evaluation.protocols.settings import Settings
from diptych.evaluation.results.comparison import Difference, ResultComparison, compare
from diptych.evaluation.results.result import Result, read_results
from diptych.evaluation.robustness.corrupted_sets import corrupted, corruptions_of, squares
from diptych.evaluation.robustness.corruptions import CORRUPTIONS, corrupt
from diptych.evaluation.robustness.robustness_report import robustness_report
from diptych.evaluation.robustness.shift_gaps import Robustness, RobustnessComparison, compare_robustness
from diptych.evaluation.robustness.shifts import ShiftGroup, ShiftResults, measure_shifts

__all__ = [
    "evaluate_zero_shot", "evaluate_retrieval", "evaluate_multi_label", "evaluate_compositional",
    "evaluate_linear_probe", "evaluate_few_shot", "evaluate_knn", "Measure", "open_measure", "measure_known",
    "interpolate", "Interpolation", "InterpolationPoint", "Scorer", "ZeroShotScorer", "LinearScorer",
    "ShiftGroup", "ShiftResults", "Robustness", "RobustnessComparison", "measure_shifts",
    "compare_robustness", "robustness_report", "corrupt", "corrupted", "corruptions_of", "squares",
    "CORRUPTIONS", "Result", "read_results", "compare", "ResultComparison", "Difference", "Settings",
    "FeatureStore",
]  # fmt: skip
