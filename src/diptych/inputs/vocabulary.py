"""The two token tables: CLIP's byte-pair vocabulary, which the package carries, and a model's tokenizer.json.

Both turn cleaned texts into lists of ids with the special ids in place, neither cut nor padded, and back. The
byte-pair work is done by Hugging Face `tokenizers` (Rust), imported on first use.
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
# CLIP's pattern, apart from its special tokens: what is spelled like one is ordinary text here. The original
# ignores case, which after lower-casing still matters twice: the long s counts as an s, and the combining
# iota U+0345, a mark that folds to a letter, belongs to no class and vanishes.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
LARGEST_FILE = 256 << 20  # bytes; that of XLM-V, with a million pieces, is the largest known, about 70 MB
_MAX_CACHED = 100_000  # chunks; about 20 MB
_LONGEST_CACHED = 32  # characters; scripts without spaces make a chunk of every sentence


class Vocabulary(Protocol):
    """What `Tokenizer` asks of a table."""

    start_id: int | None
    end_id: int | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of cleaned texts with the special ids, of any length."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without the special ones."""
        ...


class ClipVocabulary:
    """CLIP's byte-pair vocabulary, whole or its first merges.

    A chunk between white space always gives the same ids, whatever stands around it, so each chunk is
    remembered: captions repeat a few thousand of them, and looking one up costs a fraction of splitting it
    again. Chunks met for the first time are encoded together, on all cores.

    Parameters
    ----------
    merges : int
        How many merges of the table to use, up to 48,894.
    """

    def __init__(self, merges: int) -> None:
        self.merges = merges
        self._start, self._end = BYTE_TOKENS + merges, BYTE_TOKENS + merges + 1
        self.start_id: int | None = self._start
        self.end_id: int | None = self._end
        self._known: dict[str, tuple[int, ...]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of cleaned texts, start to end."""
        chunks = [text.split() for text in texts]
        look_up = self._learn(set(chain.from_iterable(chunks))).__getitem__
        start, end = self._start, self._end
        return [[start, *chain.from_iterable(map(look_up, row)), end] for row in chunks]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no UTF-8 become the replacement character."""
        words = "".join(self._pieces[i] for i in ids if i < len(self._pieces)).replace(_WORD_END, " ")
        return bytes(self._bytes[c] for c in words).decode("utf-8", "replace").strip()

    def _learn(self, chunks: set[str]) -> Mapping[str, tuple[int, ...]]:
        """A table that knows these chunks; only short ones are kept for later calls."""
        known = self._known
        if len(known) > _MAX_CACHED:
            # A new table, not the old one emptied: another thread may be reading that one.
            known = self._known = {}
        new = [chunk for chunk in chunks if chunk not in known]
        if not new:
            return known
        encodings = self._rust.encode_batch_fast(new, add_special_tokens=False)
        long: dict[str, tuple[int, ...]] = {}
        for chunk, encoding in zip(new, encodings, strict=True):
            table = known if len(chunk) <= _LONGEST_CACHED else long
            table[chunk] = tuple(encoding.ids)
        return ChainMap(long, known) if long else known

    @cached_property
    def _pieces(self) -> list[str]:
        characters = [chr(code) for code in _byte_characters().values()]
        joined = (a + b for a, b in _read_merges(self.merges))
        return [*characters, *(c + _WORD_END for c in characters), *joined]

    @cached_property
    def _bytes(self) -> dict[str, int]:
        return {chr(code): byte for byte, code in _byte_characters().items()} | {" ": 32}

    @cached_property
    def _rust(self) -> RustTokenizer:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers

        vocab = {piece: i for i, piece in enumerate(self._pieces)}
        table = models.BPE(vocab=vocab, merges=_read_merges(self.merges), end_of_word_suffix=_WORD_END)
        rust = Tokenizer(table)
        split = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        rust.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
        return rust


class FileVocabulary:
    """A `tokenizer.json` as Hugging Face writes it: SigLIP's, or any other model's.

    Its own normaliser, truncation and padding: the first is kept, the other two are left to `Tokenizer`.

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
        """How many ids there are, special ones included."""
        return int(self._rust.get_vocab_size(with_added_tokens=True))

    def id_of(self, token: str) -> int | None:
        """The id of a token as it stands in the file; None where it has no such token."""
        found: int | None = self._rust.token_to_id(token)
        return found

    def token_of(self, number: int | None) -> str | None:
        """The token of an id; None where there is none."""
        found: str | None = None if number is None else self._rust.id_to_token(number)
        return found

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of cleaned texts, with what the file's own template puts around them."""
        return [encoding.ids for encoding in self._rust.encode_batch_fast(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without special tokens."""
        return str(self._rust.decode(list(ids), skip_special_tokens=True))


def whole_words(count: int) -> list[str]:
    """Words that CLIP's vocabulary has as one token, the commonest in captions first.

    Parameters
    ----------
    count : int
        At most so many.

    Examples
    --------
    >>> "bicycle" in whole_words(20_000), "bycicle" in whole_words(20_000)
    (True, False)
    """
    merged = (left + right for left, right in _read_merges(48_894))
    words = [text.removesuffix(_WORD_END) for text in merged if text.endswith(_WORD_END)]
    return words[:count]


def _byte_characters() -> dict[int, int]:
    """A visible character for every byte, in CLIP's order of ids: printable ones first, as themselves."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: byte for byte in visible} | {byte: 256 + i for i, byte in enumerate(hidden)}


def _read_merges(count: int) -> list[tuple[str, str]]:
    """The first merges of the table; its first line is a header."""
    data = (files("diptych.inputs") / "data" / _TABLE).read_bytes()
    lines = gzip.decompress(data).decode("utf-8").split("\n", count + 1)[1 : count + 1]
    return [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
