"""Helpers of the writers for other projects' formats: tokenizer files, and what those cannot express."""

from __future__ import annotations

import warnings
from pathlib import Path

from diptych.files.disk import saving, write_bytes
from diptych.inputs.config import CLIP_VOCAB_SIZE, TokenizerConfig
from diptych.model.config import ResNetConfig
from diptych.weights.spec import Checkpoint


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


def copy_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the tokenizer's file as `tokenizer.json`, if the model has one."""
    source = checkpoint.tokenizer_file
    target = folder / "tokenizer.json"
    if source is None or not source.is_file() or source.resolve() == target.resolve():
        return
    with saving(target):
        write_bytes(target, source.read_bytes())


def unsupported_resnet_feature(tower: ResNetConfig) -> str | None:
    """Name the feature of a ResNet that no other project has; None if there is none."""
    if not tower.stem_pool:
        return "a ResNet without the stem's pool"
    return "a ResNet with an average pool" if tower.pool == "average" else None
