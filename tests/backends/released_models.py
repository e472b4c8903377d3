"""Unpack the toy models in released layouts that `make_released_onnx.py` created."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

MODELS = ("clip", "siglip", "m_clip", "jina", "xenova", "siglip_js")


def unpack(folder: Path) -> Path:
    """Unpack the archive: a folder that contains every model of `MODELS`."""
    with zipfile.ZipFile(Path(__file__).with_name("released_onnx.zip")) as archive:
        archive.extractall(folder)
    return folder


def add_language_tokens(folder: Path) -> Tokenizer:
    """Turn the tokenizer of a copy of "siglip" into one like NLLB's, with tokens for English and German."""
    file = folder / "textual/tokenizer.json"
    rust = Tokenizer.from_str(file.read_text().replace('"mat"', '"eng_Latn"').replace('"two"', '"deu_Latn"'))
    special = [(token, rust.token_to_id(token)) for token in ("eng_Latn", "</s>")]
    rust.post_processor = TemplateProcessing(single="eng_Latn $A </s>", special_tokens=special)
    file.write_text(rust.to_str())
    return rust
