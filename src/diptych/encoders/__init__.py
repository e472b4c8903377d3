"""The contract of `diptych.encoder` fulfilled, with torch: `load` finds and opens a model by name."""

from __future__ import annotations

from diptych.encoders.harness import open_clip_triple
from diptych.encoders.torch import TorchEncoder, load

__all__ = ["load", "TorchEncoder", "open_clip_triple"]
