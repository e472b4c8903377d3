"""What the two encoders read: texts as token ids, pictures as normalised arrays. No torch.

Files of this room: `config` (what a tokenizer and a preprocessing are, as data), `cleaning` (texts before
they are cut into tokens), `vocabulary` (the two token tables), `tokenizer` (the public face of the three),
`long_texts` (what is said of texts that do not fit), `languages` and `stop_words` (what is said of texts in a
language the model does not know), `flores` (language codes that NLLB's tokenizer reads) and `preprocess` (the
evaluation transform). Decoding pictures is left to `diptych.media`, training augmentation to
`diptych.training.data`.
"""

from __future__ import annotations

from diptych.inputs.config import CLIP_MEAN, CLIP_STD, PreprocessConfig, TokenizerConfig
from diptych.inputs.languages import first_not_understood, not_understood
from diptych.inputs.long_texts import LongTexts, LongTextWarning, OnLong, counted_long_texts
from diptych.inputs.preprocess import preprocess, preprocess_batch, processors
from diptych.inputs.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "Tokenizer",
    "TokenizerConfig",
    "load_tokenizer",
    "LongTextWarning",
    "LongTexts",
    "OnLong",
    "counted_long_texts",
    "not_understood",
    "first_not_understood",
    "PreprocessConfig",
    "preprocess",
    "preprocess_batch",
    "processors",
    "CLIP_MEAN",
    "CLIP_STD",
]
