"""Vocabularies: CLIP's byte-pair vocabulary, part of the package, and a model's tokenizer.json.

Both encode cleaned texts as lists of ids with special tokens, neither truncated nor padded, and decode them.
Byte-pair encoding is done by Hugging Face `tokenizers` (Rust), imported at first use.
"""

from __future__ import annotations

import gzip
from collections import ChainMap
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diptych.errors import WeightsError
from diptych.inputs.config import BYTE_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RustTokenizer

_TABLE = "bpe_simple_vocab_16e6.txt.gz"
_WORD_END = "</w>"
# CLIP's pattern without its special tokens, which are ordinary text here. The original pattern ignores case,
# which matters in two cases even for lower-cased text: the long s matches s, and the combining iota U+0345, a
# mark that folds to a letter, matches no class and is dropped.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
LARGEST_FILE = 256 << 20  # bytes; the largest known is that of XLM-V, with a million tokens, about 70 MB
_MAX_CACHED = 100_000  # chunks; about 20 MB
_LONGEST_CACHED = 32  # characters; in scripts without spaces a chunk is a whole sentence


class Vocabulary(Protocol):
    """Interface that `Tokenizer` needs."""

    start_id: int | None
    end_id: int | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of cleaned texts with special tokens, of any length."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids without special tokens."""
        ...


class ClipVocabulary:
    """CLIP's byte-pair vocabulary, or its first merges.

    The ids of a chunk between white space do not depend on its context, so they are cached: captions repeat a
    few thousand chunks, and a lookup is much faster than encoding. New chunks of all texts are encoded
    together, on all cores.

    Parameters
    ----------
    merges : int
        Number of merges of the table to use, up to 48,894.
    """

    def __init__(self, merges: int) -> None:
        self.merges = merges
        self._start, self._end = BYTE_TOKENS + merges, BYTE_TOKENS + merges + 1
        self.start_id: int | None = self._start
        self.end_id: int | None = self._end
        self._cache: dict[str, tuple[int, ...]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of cleaned texts, with start and end tokens."""
        chunks = [text.split() for text in texts]
        look_up = self._encode_chunks(set(chain.from_iterable(chunks))).__getitem__
        start, end = self._start, self._end
        return [[start, *chain.from_iterable(map(look_up, row)), end] for row in chunks]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; invalid UTF-8 bytes become the replacement character."""
        words = "".join(self._tokens[i] for i in ids if i < len(self._tokens)).replace(_WORD_END, " ")
        return bytes(self._bytes[c] for c in words).decode("utf-8", "replace").strip()

    def _encode_chunks(self, chunks: set[str]) -> Mapping[str, tuple[int, ...]]:
        """Mapping of chunks to ids; only short chunks are cached for later calls."""
        cache = self._cache
        if len(cache) > _MAX_CACHED:
            # Replaced, not cleared: another thread may be reading the old dictionary.
            cache = self._cache = {}
        new = [chunk for chunk in chunks if chunk not in cache]
        if not new:
            return cache
        encodings = self._rust.encode_batch_fast(new, add_special_tokens=False)
        long: dict[str, tuple[int, ...]] = {}
        for chunk, encoding in zip(new, encodings, strict=True):
            table = cache if len(chunk) <= _LONGEST_CACHED else long
            table[chunk] = tuple(encoding.ids)
        return ChainMap(long, cache) if long else cache

    @cached_property
    def _tokens(self) -> list[str]:
        characters = [chr(code) for code in _byte_characters().values()]
        joined = (a + b for a, b in _read_merges(self.merges))
        return [*characters, *(c + _WORD_END for c in characters), *joined]

    @cached_property
    def _bytes(self) -> dict[str, int]:
        return {chr(code): byte for byte, code in _byte_characters().items()} | {" ": 32}

    @cached_property
    def _rust(self) -> RustTokenizer:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers

        vocab = {token: i for i, token in enumerate(self._tokens)}
        table = models.BPE(vocab=vocab, merges=_read_merges(self.merges), end_of_word_suffix=_WORD_END)
        rust = Tokenizer(table)
        split = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        rust.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
        return rust


class FileVocabulary:
    """A `tokenizer.json` in Hugging Face's format, such as that of SigLIP.

    Its normaliser is used; its truncation and padding are switched off, since `Tokenizer` does both.

    Raises
    ------
    WeightsError
        The file is missing or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        if not path.is_file():
            raise WeightsError(f"{path} is not there: a tokenizer of kind 'file' needs its tokenizer.json")
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise WeightsError(
                f"{path} has {size:,} bytes: a tokenizer.json has at most {LARGEST_FILE:,} here"
            )
        try:
            self._rust = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the Rust side raises plain Exception
            raise WeightsError(f"{path} cannot be read as a tokenizer.json: {error}") from error
        self._rust.no_truncation()
        self._rust.no_padding()
        self._rust.encode_special_tokens = True  # "</s>" written in a text stays text
        added = self._rust.encode("").ids
        self.start_id: int | None = added[0] if len(added) > 1 else None
        self.end_id: int | None = added[-1] if added else None

    @property
    def size(self) -> int:
        """Number of ids, special tokens included."""
        return int(self._rust.get_vocab_size(with_added_tokens=True))

    def id_of(self, token: str) -> int | None:
        """Id of a token; None if the vocabulary does not have it."""
        token_id: int | None = self._rust.token_to_id(token)
        return token_id

    def token_of(self, number: int | None) -> str | None:
        """Token of an id; None if there is none."""
        token: str | None = None if number is None else self._rust.id_to_token(number)
        return token

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of cleaned texts, with the special tokens of the file's template."""
        return [encoding.ids for encoding in self._rust.encode_batch_fast(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids without special tokens."""
        return str(self._rust.decode(list(ids), skip_special_tokens=True))


def whole_words(count: int) -> list[str]:
    """Words that are single tokens of CLIP's vocabulary, the most common in captions first.

    Parameters
    ----------
    count : int
        Maximum number of words.

    Examples
    --------
    >>> "bicycle" in whole_words(20_000), "bycicle" in whole_words(20_000)
    (True, False)
    """
    merged = (left + right for left, right in _read_merges(48_894))
    words = [text.removesuffix(_WORD_END) for text in merged if text.endswith(_WORD_END)]
    return words[:count]


def _byte_characters() -> dict[int, int]:
    """A visible character for every byte, in the order of CLIP's ids: printable bytes first, unchanged."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: byte for byte in visible} | {byte: 256 + i for i, byte in enumerate(hidden)}


def _read_merges(count: int) -> list[tuple[str, str]]:
    """Read the first `count` merges of the table, whose first line is a header."""
    data = (files("diptych.inputs") / "data" / _TABLE).read_bytes()
    lines = gzip.decompress(data).decode("utf-8").split("\n", count + 1)[1 : count + 1]
    return [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
