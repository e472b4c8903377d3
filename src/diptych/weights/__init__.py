"""Weights: names, download and checksums, formats of other projects, our own format, identity.

The result is always a `Checkpoint`: tensors by name with their config. `diptych.backends` builds the model.
Attributes are imported at their first use, so that modules without tensors (`download`, `registry`,
`foreign_configs`) work without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.lazy import lazy_attributes

if TYPE_CHECKING:
    from diptych.weights.combining import combine
    from diptych.weights.fitting import fit
    from diptych.weights.identity import identity_of
    from diptych.weights.load import load_checkpoint, load_text_encoder
    from diptych.weights.native import save_checkpoint, to_diptych
    from diptych.weights.open_clip.write import to_open_clip
    from diptych.weights.registry import list_models, suggest
    from diptych.weights.spec import Checkpoint, ModelSpec
    from diptych.weights.transformers.m_clip import TextCheckpoint, join_text_encoder
    from diptych.weights.transformers.write import to_transformers

__all__ = [
    "load_checkpoint", "load_text_encoder", "join_text_encoder", "save_checkpoint", "to_diptych",
    "to_open_clip", "to_transformers", "identity_of", "fit", "combine", "list_models", "suggest",
    "Checkpoint", "TextCheckpoint", "ModelSpec",
]  # fmt: skip

_MODULES = {
    **dict.fromkeys(("load_checkpoint", "load_text_encoder"), "load"),
    **dict.fromkeys(("join_text_encoder", "TextCheckpoint"), "transformers.m_clip"),
    **dict.fromkeys(("save_checkpoint", "to_diptych"), "native"),
    "to_open_clip": "open_clip.write",
    "to_transformers": "transformers.write",
    "identity_of": "identity",
    "fit": "fitting",
    "combine": "combining",
    **dict.fromkeys(("list_models", "suggest"), "registry"),
    **dict.fromkeys(("Checkpoint", "ModelSpec"), "spec"),
}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    __getattr__ = lazy_attributes(__name__, _MODULES)
