"""Inputs of the two encoders: texts as token ids, images as normalised arrays. No torch.

`config` describes tokenizers and preprocessing, `vocabulary` holds the token tables, `tokenizer` cleans and
encodes texts. `long_texts` handles texts over the context length, `languages` (with `stop_words`) warns about
languages that a model does not know, `flores` maps language codes for NLLB's tokenizer, `nouns` makes
articles and plurals, and `preprocess` is the evaluation transform. Decoding is in `diptych.media`, training
augmentation in `diptych.training.data`.
"""

from __future__ import annotations

from diptych.inputs.config import CLIP_MEAN, CLIP_STD, PreprocessConfig, TokenizerConfig
from diptych.inputs.languages import first_language_mismatch, language_mismatch
from diptych.inputs.long_texts import LongTexts, LongTextWarning, OnLong, counted_long_texts
from diptych.inputs.preprocess import preprocess, preprocess_batch, processors
from diptych.inputs.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "Tokenizer", "TokenizerConfig", "load_tokenizer", "LongTextWarning", "LongTexts", "OnLong",
    "counted_long_texts", "language_mismatch", "first_language_mismatch", "PreprocessConfig", "preprocess",
    "preprocess_batch", "processors", "CLIP_MEAN", "CLIP_STD",
]  # fmt: skip
