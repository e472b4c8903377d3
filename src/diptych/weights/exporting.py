"""What every writer of a foreign layout needs: tokenizer files, and towers that others cannot express."""

from __future__ import annotations

import warnings
from pathlib import Path

from diptych.files.disk import saving, write_bytes
from diptych.inputs.config import CLIP_VOCAB_SIZE, TokenizerConfig
from diptych.model.config import ResNetConfig
from diptych.weights.spec import Checkpoint


def warn_of_tokenizer(tokenizer: TokenizerConfig, theirs: str, *cleans: str) -> None:
    """Warn of what the other side's tokenizer cannot do; the vectors of its texts would be others."""
    lost = []
    if tokenizer.kind == "clip" and tokenizer.vocab_size != CLIP_VOCAB_SIZE:
        lost.append(
            f"the reduced vocabulary of {tokenizer.vocab_size} ids (its table has all {CLIP_VOCAB_SIZE})"
        )
    if tokenizer.clean not in cleans:
        lost.append(f"cleaning texts by {tokenizer.clean!r} (it has {' or '.join(map(repr, cleans))})")
    if lost:
        warnings.warn(
            f"{theirs} has no tokenizer for this model: lost is {' and '.join(lost)}. The weights are "
            "whole, but turn its texts into ids with diptych",
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


def beyond_the_paper(tower: ResNetConfig) -> str | None:
    """What a ResNet has that is ours and no other project's, if anything."""
    if not tower.stem_pool:
        return "a ResNet without the stem's pool"
    return "a ResNet with an average pool" if tower.pool == "average" else None
