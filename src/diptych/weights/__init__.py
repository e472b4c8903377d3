"""Names and checksums, download, reading foreign checkpoints, identity.

Building a model and filling it is `diptych.encoders`' work; what stands here ends with tensors by name.
"""

from __future__ import annotations

from diptych.weights.fitting import fit
from diptych.weights.identity import identity_of
from diptych.weights.load import load_checkpoint
from diptych.weights.native import save_checkpoint
from diptych.weights.spec import Checkpoint, ModelSpec

__all__ = ["load_checkpoint", "save_checkpoint", "identity_of", "fit", "Checkpoint", "ModelSpec"]
