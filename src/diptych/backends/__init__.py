"""Implementations of the encoder contract (`diptych.encoder`); `load` opens a model by name.

A model runs on torch (`torch`), or without torch on ONNX Runtime or OpenVINO from a folder that `export`
wrote (`exported`). `loading` chooses between them, `runtime_choice` measures which is fastest on this
machine. Attributes are imported at their first use, so that an exported model is opened without torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diptych.lazy import lazy_attributes

# Newer wheels of ONNX Runtime send telemetry and store an id of the machine in the home folder, unless this
# is set before they are imported; `disable_telemetry_events` comes too late (observed with 1.32).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from diptych.backends.autotuning import AutotuningEncoder, autotune
    from diptych.backends.conversion.converting import export
    from diptych.backends.exported.encoder import ExportedEncoder
    from diptych.backends.harness import open_clip_triple
    from diptych.backends.loading import load
    from diptych.backends.runtime_choice import RuntimeChoice, choose_runtime
    from diptych.backends.supervised import SupervisedScorer, load_supervised, supervised_classes
    from diptych.backends.torch import TorchEncoder

__all__ = [
    "load", "TorchEncoder", "ExportedEncoder", "export", "choose_runtime", "RuntimeChoice", "autotune",
    "AutotuningEncoder", "load_supervised", "supervised_classes", "SupervisedScorer", "open_clip_triple",
]  # fmt: skip

_MODULES = {
    "load": "loading",
    "TorchEncoder": "torch",
    "ExportedEncoder": "exported.encoder",
    "export": "conversion.converting",
    **dict.fromkeys(("choose_runtime", "RuntimeChoice"), "runtime_choice"),
    **dict.fromkeys(("autotune", "AutotuningEncoder"), "autotuning"),
    **dict.fromkeys(("load_supervised", "supervised_classes", "SupervisedScorer"), "supervised"),
    "open_clip_triple": "harness",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    __getattr__ = lazy_attributes(__name__, _MODULES)
