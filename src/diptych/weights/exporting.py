"""Helpers of the writers for other projects' formats: their folders, and what those cannot express."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.files.disk import saving, write_bytes
from diptych.inputs.config import CLIP_VOCAB_SIZE, TokenizerConfig
from diptych.model.config import ResNetConfig
from diptych.weights.native import save_safetensors
from diptych.weights.spec import Checkpoint, State


def warn_of_tokenizer(tokenizer: TokenizerConfig, project: str, *cleans: str) -> None:
    """Warn if another project's tokenizer gives other ids, and so other text embeddings.

    Parameters
    ----------
    tokenizer : TokenizerConfig
        The model's tokenizer.
    project : str
        Name of the other project, for the message.
    *cleans : str
        Ways of cleaning a text that its tokenizer has.
    """
    missing = []
    if tokenizer.kind == "clip" and tokenizer.vocab_size != CLIP_VOCAB_SIZE:
        missing.append(
            f"the reduced vocabulary of {tokenizer.vocab_size} ids (its own has {CLIP_VOCAB_SIZE})"
        )
    if tokenizer.clean not in cleans:
        missing.append(f"cleaning texts by {tokenizer.clean!r} (it has {' or '.join(map(repr, cleans))})")
    if missing:
        warnings.warn(
            f"{project} has no tokenizer for this model; it lacks {' and '.join(missing)}. The weights are "
            "complete, but tokenize texts with diptych",
            UserWarning,
            stacklevel=3,
        )


def write_model_folder(
    checkpoint: Checkpoint, folder: Path, weights: tuple[str, State], configs: Mapping[str, Any]
) -> None:
    """Write the weights, the tokenizer's file if the model has one, and the configs.

    Parameters
    ----------
    weights : (str, mapping of str to Tensor)
        File name, and the weights under the other project's names.
    configs : mapping of str to JSON values
        By file name; the one that makes the folder a model comes last.
    """
    save_safetensors(folder / weights[0], weights[1])
    source, target = checkpoint.tokenizer_file, folder / "tokenizer.json"
    if source is not None and source.is_file() and source.resolve() != target.resolve():
        with saving(target):
            write_bytes(target, source.read_bytes())
    for name, config in configs.items():
        write_bytes(folder / name, json.dumps(config, indent=2).encode())


def unsupported_resnet_feature(tower: ResNetConfig) -> str | None:
    """Name the feature of a ResNet that no other project has; None if there is none."""
    if not tower.stem_pool:
        return "a ResNet without the stem's pool"
    return "a ResNet with an average pool" if tower.pool == "average" else None
