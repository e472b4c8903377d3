"""Names and checksums, download, reading foreign checkpoints, identity.

Building a model and filling it is `diptych.encoders`' work; what stands here ends with tensors by name.
"""

from __future__ import annotations

from diptych.weights.combine import combine
from diptych.weights.fitting import fit
from diptych.weights.identity import identity_of
from diptych.weights.load import load_checkpoint, load_texts
from diptych.weights.m_clip import TextCheckpoint, with_texts_of
from diptych.weights.native import save_checkpoint, to_diptych
from diptych.weights.registry import list_models, suggest
from diptych.weights.spec import Checkpoint, ModelSpec
from diptych.weights.write_open_clip import to_open_clip
from diptych.weights.write_transformers import to_transformers

__all__ = [
    "load_checkpoint",
    "load_texts",
    "with_texts_of",
    "save_checkpoint",
    "to_diptych",
    "to_open_clip",
    "to_transformers",
    "identity_of",
    "fit",
    "combine",
    "list_models",
    "suggest",
    "Checkpoint",
    "TextCheckpoint",
    "ModelSpec",
]
