"""Names and checksums, download, reading foreign checkpoints, identity.

Building a model and filling it is `diptych.backends`' work; what stands here ends with tensors by name. Names
are imported at their first use: files that hold no tensors (`download`, `registry`, `foreign`) are read
without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.lazy import lazy_attributes

if TYPE_CHECKING:
    from diptych.weights.combining import combine
    from diptych.weights.fitting import fit
    from diptych.weights.identity import identity_of
    from diptych.weights.load import load_checkpoint, load_texts
    from diptych.weights.native import save_checkpoint, to_diptych
    from diptych.weights.open_clip.write import to_open_clip
    from diptych.weights.registry import list_models, suggest
    from diptych.weights.spec import Checkpoint, ModelSpec
    from diptych.weights.transformers.m_clip import TextCheckpoint, with_texts_of
    from diptych.weights.transformers.write import to_transformers

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

_MODULES = {
    "load_checkpoint": "load",
    "load_texts": "load",
    "with_texts_of": "transformers.m_clip",
    "save_checkpoint": "native",
    "to_diptych": "native",
    "to_open_clip": "open_clip.write",
    "to_transformers": "transformers.write",
    "identity_of": "identity",
    "fit": "fitting",
    "combine": "combining",
    "list_models": "registry",
    "suggest": "registry",
    "Checkpoint": "spec",
    "TextCheckpoint": "transformers.m_clip",
    "ModelSpec": "spec",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    __getattr__ = lazy_attributes(__name__, _MODULES)
