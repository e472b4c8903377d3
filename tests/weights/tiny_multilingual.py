"""Tiny multilingual models for the tests of this folder: deterministic weights, and two small tokenizers.

`recorded_multilingual.json` holds the outputs of open_clip and transformers for the same weights and
tokenizers (versions in `made_with`): for every model names and shapes of its parameters, tokens, vectors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NORMS = ("LayerNorm", "layer_norm1", "layer_norm2", "final_layer_norm", "post_layernorm", "head.layernorm")
_NORMS += ("ln_1", "ln_2", "ln_pre", "ln_post")


@cache
def recorded() -> dict[str, Any]:
    """The outputs of the reference implementations."""
    path = Path(__file__).parent / "recorded_multilingual.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def drawn(shape: Sequence[int], name: str) -> NDArray[np.float32]:
    """Numbers generated from a name, the same on every machine and in every version."""
    stream = np.random.Generator(np.random.PCG64([ord(letter) for letter in name]))
    numbers = np.asarray(stream.integers(-1000, 1001, size=tuple(shape)) / 1000, np.float32)
    if name.endswith(tuple(f"{norm}.weight" for norm in _NORMS)):
        return np.asarray(1 + 0.3 * numbers, np.float32)
    return np.asarray(0.4 * numbers, np.float32)


def state_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights with these names and shapes."""
    return {
        name: torch.from_numpy(drawn(shape, name)).reshape(tuple(shape)) for name, shape in shapes.items()
    }


def pixels() -> Tensor:
    """Two normalised pictures of 32 pixels a side."""
    return torch.from_numpy(drawn((2, 3, 32, 32), "pixels"))


_XLM_R = (
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁ein",
    "▁Hund",
    "▁im",
    "▁Schnee",
    "▁chien",
    "▁犬",
    "▁un",
    "e",
    "n",
)
_GEMMA = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "▁",
    "a",
    "d",
    "o",
    "g",
    "do",
    "dog",
    "▁dog",
    "a▁",
    "犬",
    ".",
    "!",
)


def write_xlm_r_table(path: Path) -> int:
    """Write a tokenizer.json like XLM-R's (unigram, `<s>` and `</s>` around a text); return its size."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = [(piece, 0.0 if piece.startswith("<") else -float(i)) for i, piece in enumerate(_XLM_R)]
    rust = Tokenizer(models.Unigram(pieces, unk_id=3))
    rust.normalizer = normalizers.NFKC()
    rust.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    rust.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    rust.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    rust.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    rust.save(str(path))
    return len(_XLM_R)


def write_gemma_table(path: Path) -> int:
    """Write a tokenizer.json like Gemma's (byte-pair merges, `<eos>` after a text); return its size."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    merges = [("d", "o"), ("do", "g"), ("▁", "dog"), ("a", "▁")]
    vocabulary = {piece: i for i, piece in enumerate(_GEMMA)}
    rust = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True))
    rust.normalizer = normalizers.Replace(" ", "▁")
    rust.decoder = decoders.Replace("▁", " ")
    rust.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)]
    )
    rust.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    rust.save(str(path))
    return len(_GEMMA)
