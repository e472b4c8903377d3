"""The contract of `diptych.encoder` fulfilled: `load` finds and opens a model by name.

Three ways to compute one model: torch (`torch`), and without it ONNX Runtime and OpenVINO from a folder
that `export` wrote (`exported`). `loading` is the seam, `choosing` measures which is fastest on a machine.
Names are imported at their first use, so that an exported model is opened without torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diptych.lazy import lazy_attributes

# ONNX Runtime's newer wheels report to their makers, and keep an id of the machine in the home folder, unless
# this is set before they are imported; `disable_telemetry_events` comes too late (seen with 1.32).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from diptych.backends.choices import Choice
    from diptych.backends.choosing import choose_runtime
    from diptych.backends.conversion.converting import export
    from diptych.backends.exported.encoder import ExportedEncoder
    from diptych.backends.harness import open_clip_triple
    from diptych.backends.loading import load
    from diptych.backends.settling import SettlingEncoder, settle
    from diptych.backends.supervised import SupervisedScorer, load_supervised, supervised_classes
    from diptych.backends.torch import TorchEncoder

__all__ = [
    "load",
    "TorchEncoder",
    "ExportedEncoder",
    "export",
    "choose_runtime",
    "Choice",
    "settle",
    "SettlingEncoder",
    "load_supervised",
    "supervised_classes",
    "SupervisedScorer",
    "open_clip_triple",
]

_MODULES = {
    "load": "loading",
    "TorchEncoder": "torch",
    "ExportedEncoder": "exported.encoder",
    "export": "conversion.converting",
    "choose_runtime": "choosing",
    "Choice": "choices",
    "settle": "settling",
    "SettlingEncoder": "settling",
    "load_supervised": "supervised",
    "supervised_classes": "supervised",
    "SupervisedScorer": "supervised",
    "open_clip_triple": "harness",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    __getattr__ = lazy_attributes(__name__, _MODULES)
