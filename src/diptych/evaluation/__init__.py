"""How well: data sets, metrics and protocols that turn an encoder into figures with chance beside them.

archives.py        files of a folder or a tar archive, one after another
datasets.py        labelled pictures and captioned pictures from these
metrics.py         pure functions of score matrices
report.py          a result: figures, chance, intervals, and what they were measured on
classification.py  zero-shot classification
retrieval.py       retrieval, both ways
"""

from __future__ import annotations

from diptych.evaluation.classification import evaluate_zero_shot
from diptych.evaluation.datasets import CaptionDataset, ImageDataset, load_captioned, load_labelled
from diptych.evaluation.report import Result
from diptych.evaluation.retrieval import evaluate_retrieval

__all__ = [
    "evaluate_zero_shot",
    "evaluate_retrieval",
    "Result",
    "ImageDataset",
    "CaptionDataset",
    "load_labelled",
    "load_captioned",
]
