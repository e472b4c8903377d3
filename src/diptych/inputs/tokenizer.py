"""Tokenizer: texts to token ids, cleaned, encoded, truncated to the context length and padded.

The steps of cleaning (mojibake, HTML entities, case, punctuation, white space) and their order are those of
CLIP's released tokenizer (https://github.com/openai/CLIP, clip/simple_tokenizer.py) and of open_clip's
`clean` options; token ids depend on every one of them.

The ids equal those of OpenAI's and open_clip's tokenizers, with one intended difference: special tokens
written in a text, such as `<|endoftext|>`, are encoded as ordinary text and cannot end it early. A vocabulary
is loaded at first use (about 0.2 s) and cached.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from diptych.errors import InputError, TextError
from diptych.files.disk import file_inside
from diptych.inputs.config import Clean, TokenizerConfig
from diptych.inputs.flores import is_flores
from diptych.inputs.long_texts import OnLong, report_long
from diptych.inputs.vocabulary import ClipVocabulary, FileVocabulary, Vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# ftfy and html.unescape change an ASCII text only if it has an ampersand (entities) or a control character
# other than tab and line ends (ftfy unifies line ends, but they are white space before and after). All other
# repairs of ftfy need a character above 127.
_MAY_CHANGE = re.compile(r"[^\t\n\f\r -%'-~]").search
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def fix_text(text: str) -> str:
    """Apply `ftfy.fix_text` and unescape HTML entities twice; skipped if neither could change the text.

    Examples
    --------
    >>> fix_text("schÃ¶n &amp;amp; gut")
    'schön & gut'
    """
    if _MAY_CHANGE(text) is None:
        return text
    import ftfy  # imported on first use: most texts are ASCII

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def _lower(text: str) -> str:
    return " ".join(fix_text(text).split()).lower()


def _canonicalize(text: str) -> str:
    # An underscore becomes a space, other punctuation is deleted (big_vision, prompt_engineering.py).
    return " ".join(fix_text(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


def _whitespace(text: str) -> str:
    return " ".join(fix_text(text).split())


def _none(text: str) -> str:
    # A lone surrogate (half of a pair, from broken JSON) cannot be encoded as UTF-8.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


CLEANERS: dict[Clean, Callable[[str], str]] = {
    "lower": _lower,
    "canonicalize": _canonicalize,
    "whitespace": _whitespace,
    "none": _none,
}


class Tokenizer:
    """Encodes texts as token ids; created by `load_tokenizer`.

    Attributes
    ----------
    start_id, end_id : int or None
        Ids before and after every text; None if the vocabulary has none (SigLIP has no start token).

    Examples
    --------
    >>> tokenizer = load_tokenizer()
    >>> tokenizer.encode(["a photo of a cat"])
    [[49406, 320, 1125, 539, 320, 2368, 49407]]
    >>> tokenizer(["a dog", "two dogs"]).shape
    (2, 77)
    >>> tokenizer.decode([49406, 320, 2368, 49407])
    'a cat'
    """

    def __init__(self, config: TokenizerConfig, folder: Path | None = None) -> None:
        self.config = config
        self._folder = folder
        self._clean = CLEANERS[config.clean]
        self._vocabulary = _open_vocabulary(config, folder)
        self.start_id = self._vocabulary.start_id
        if config.language is not None:
            self.start_id = _language_id(self._vocabulary, config.language)
        self.end_id = self._vocabulary.end_id

    @property
    def takes_language(self) -> bool:
        """Whether every text begins with a language token, as in NLLB; `config.language` selects it."""
        return _has_language_tokens(self._vocabulary)

    def encode(self, texts: str | Sequence[str], *, on_long: OnLong = "cut") -> list[list[int]]:
        """Token ids of every text with start and end tokens, not padded.

        Parameters
        ----------
        texts : str or sequence of str
            A single text is treated as a list with one element.
        on_long : {"cut", "refuse"}
            Handling of texts over the context length: "cut" truncates them, keeps the end token and warns
            once with their number (for several calls see `counted_long_texts`); "refuse" raises.

        Returns
        -------
        list of list of int
            One list per text, at most `config.context_length` long.

        Raises
        ------
        TextError
            A text is not a string, or is too long and `on_long` is "refuse".
        """
        return self._encode(texts, on_long)

    def __call__(self, texts: str | Sequence[str], *, on_long: OnLong = "cut") -> NDArray[np.int64]:
        """Token ids of all texts as one array, padded with `config.pad_id`; see `encode`.

        Returns
        -------
        ndarray of int64, shape (N, context_length)
        """
        import numpy as np

        rows = self._encode(texts, on_long)
        table = np.full((len(rows), self.config.context_length), self.config.pad_id, dtype=np.int64)  # (N, L)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))  # (N,)
        filled = np.arange(self.config.context_length) < lengths[:, None]  # (N, L)
        table[filled] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        return table

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids up to the first end token into a text, words separated by spaces.

        Raises
        ------
        TextError
            An id is outside the vocabulary.
        """
        plain = [int(i) for i in ids]
        for i in plain:
            if not 0 <= i < self.config.vocab_size:
                raise TextError(f"token id {i} is outside the vocabulary of {self.config.vocab_size}")
        # Truncate at the end token first: the padding may be the id of an ordinary token ("!" in CLIP).
        if self.end_id in plain:
            plain = plain[: plain.index(self.end_id)]
        if plain and plain[0] == self.start_id:
            plain = plain[1:]
        return self._vocabulary.decode(plain)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as its configuration: a worker process builds the Rust tokenizer itself.
        return load_tokenizer, (self.config, self._folder)

    def __repr__(self) -> str:
        return f"Tokenizer({self.config!r})"

    def _encode(self, texts: str | Sequence[str], on_long: OnLong) -> list[list[int]]:
        if on_long not in ("cut", "refuse"):
            raise InputError(f"on_long is {on_long!r}; expected one of: cut, refuse")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TextError(f"text {i} is {text!r} ({type(text).__name__}); expected a string")
        rows = self._vocabulary.encode([self._clean(text) for text in texts])
        if self.config.language is not None and self.start_id is not None:
            rows = [[self.start_id, *ids[1:]] for ids in rows]
        limit = self.config.context_length
        kept_end = [] if self.end_id is None else [self.end_id]
        for i in report_long(texts, [len(ids) for ids in rows], limit, on_long):
            rows[i] = rows[i][: limit - len(kept_end)] + kept_end
        if self.config.strip_sep_token:  # after truncation: the dropped token counts towards the length
            rows = [row[: len(row) - len(kept_end)] for row in rows]
        return rows


def load_tokenizer(config: TokenizerConfig | None = None, folder: str | Path | None = None) -> Tokenizer:
    """Load the tokenizer of a config; cached, so that equal arguments return the same object.

    Parameters
    ----------
    config : TokenizerConfig, optional
        By default that of CLIP: 49,408 ids, 77 tokens.
    folder : str or Path, optional
        Folder of `config.file`, for kind "file".

    Raises
    ------
    WeightsError
        The file is missing or cannot be read.

    Examples
    --------
    >>> small = load_tokenizer(TokenizerConfig(vocab_size=1024, context_length=8))
    >>> small(["a cat"]).tolist()
    [[1022, 320, 66, 536, 1023, 0, 0, 0]]
    """
    return _cached(config or TokenizerConfig(), None if folder is None else Path(folder))


@lru_cache(maxsize=16)
def _cached(config: TokenizerConfig, folder: Path | None) -> Tokenizer:
    return Tokenizer(config, folder)


def _has_language_tokens(vocabulary: Vocabulary) -> TypeGuard[FileVocabulary]:
    return isinstance(vocabulary, FileVocabulary) and is_flores(vocabulary.token_of(vocabulary.start_id))


def _language_id(vocabulary: Vocabulary, language: str) -> int:
    """The id of a language token, for vocabularies with one before every text.

    Raises
    ------
    InputError
        The vocabulary has no such token, or no language tokens at all.
    """
    if not _has_language_tokens(vocabulary):
        raise InputError(f"this model's texts begin with no language token, so {language!r} cannot be one")
    token_id = vocabulary.id_of(language)
    if token_id is None or not is_flores(language):
        raise InputError(f"the tokenizer has no token of a language {language!r}")
    return token_id


def _open_vocabulary(config: TokenizerConfig, folder: Path | None) -> Vocabulary:
    if config.kind == "clip":
        return ClipVocabulary(config.merges)
    name = config.file or "tokenizer.json"
    # The config may come from a downloaded model, so the file must be inside its folder.
    path = Path(name) if folder is None else file_inside(folder, name)
    if path is None:
        raise InputError(f"tokenizer file {config.file!r} is outside the model's folder {folder}")
    return FileVocabulary(path)
