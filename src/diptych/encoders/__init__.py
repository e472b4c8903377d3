"""The contract of `diptych.encoder` fulfilled, with torch: `load` finds and opens a model by name."""

from __future__ import annotations

from diptych.encoders.harness import open_clip_triple
from diptych.encoders.supervised import SupervisedScorer, load_supervised, supervised_classes
from diptych.encoders.torch import TorchEncoder, load

__all__ = [
    "load",
    "TorchEncoder",
    "load_supervised",
    "supervised_classes",
    "SupervisedScorer",
    "open_clip_triple",
]
