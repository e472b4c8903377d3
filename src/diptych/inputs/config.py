"""Configuration of tokenizer and preprocessing: frozen dataclasses that can be stored as JSON.

They are part of a model: `diptych.weights` stores them with the architecture, and the identity of a model
includes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from diptych.errors import InputError

Kind = Literal["clip", "file"]
Clean = Literal["lower", "canonicalize", "whitespace", "none"]
Interpolation = Literal["bicubic", "bilinear"]
Resize = Literal["shortest", "squash", "longest"]

# Mean and standard deviation of CLIP's training images (https://github.com/openai/CLIP, clip/clip.py).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

BYTE_TOKENS = 512  # every byte, once inside a word and once at its end
CLIP_VOCAB_SIZE = 49408  # 512 byte tokens, 48,894 merges, start and end

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Token table of a model, and how texts are cleaned, truncated and padded.

    The values of `clean` are those of open_clip: "lower" (CLIP), "canonicalize" (SigLIP: lower case, no
    punctuation), "whitespace" (most other models); "none" leaves the text as it is.

    Examples
    --------
    >>> TokenizerConfig(vocab_size=8192).merges
    7678
    >>> TokenizerConfig.from_dict({"context_lenght": 77})
    Traceback (most recent call last):
        ...
    diptych.errors.InputError: unknown key 'context_lenght' for TokenizerConfig; known: clean, \
context_length, file, kind, language, pad_id, strip_sep_token, vocab_size
    """

    kind: Kind = "clip"  # "clip": CLIP's table, part of the package; "file": a tokenizer.json
    vocab_size: int = CLIP_VOCAB_SIZE  # "clip": a smaller value keeps the first merges of the table
    context_length: int = 77  # maximum number of tokens of a text, start and end included
    pad_id: int = 0  # fills the row after the end token
    file: str | None = None  # "file": its name in the model's folder; None: tokenizer.json
    clean: Clean = "lower"
    strip_sep_token: bool = False  # "file": drop the id that the file's template appends to a text (CLIPA)
    language: str | None = None  # "file": replaces the token before a text, such as NLLB's "deu_Latn"

    @property
    def merges(self) -> int:
        """Number of merges of the CLIP table that are used."""
        return self.vocab_size - BYTE_TOKENS - 2

    def __post_init__(self) -> None:
        _check_choice(self, "kind", Kind)
        _check_choice(self, "clean", Clean)
        for name, minimum in (("vocab_size", 1), ("context_length", 2), ("pad_id", 0)):
            _check_integer(self, name, minimum)
        if self.language is not None and (self.kind == "clip" or not isinstance(self.language, str)):
            raise InputError(f"language is {self.language!r}: expected a token of a tokenizer of kind 'file'")
        if self.file is not None and self.kind == "clip":
            raise InputError(f"a tokenizer of kind 'clip' has no file, got {self.file!r}: use kind='file'")
        if self.kind == "clip" and not BYTE_TOKENS + 2 <= self.vocab_size <= CLIP_VOCAB_SIZE:
            raise InputError(
                f"vocab_size {self.vocab_size} is outside {BYTE_TOKENS + 2} (bytes, start and end) "
                f"to {CLIP_VOCAB_SIZE} (all of CLIP's table)"
            )
        if self.strip_sep_token and self.kind == "clip":
            raise InputError("strip_sep_token needs kind='file': CLIP reads a text at its end token")
        if self.pad_id >= self.vocab_size:
            raise InputError(f"pad_id {self.pad_id} is not below vocab_size {self.vocab_size}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = dataclasses.asdict(self)
        if not self.strip_sep_token:  # omitted, so that older versions can read the file
            del values["strip_sep_token"]
        if self.language is None:  # omitted, so that older versions can read the file
            del values["language"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TokenizerConfig:
        """Inverse of `to_dict`; InputError names an unknown key or invalid value."""
        return _build(cls, values)


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """The evaluation transform: resize, centre crop, normalise.

    Examples
    --------
    >>> PreprocessConfig.from_dict(PreprocessConfig(size=64).to_dict()).size
    64
    """

    size: int = 224  # side of the model's square input in pixels
    mean: tuple[float, float, float] = CLIP_MEAN  # of red, green, blue, on a scale of 0 to 1
    std: tuple[float, float, float] = CLIP_STD
    interpolation: Interpolation = "bicubic"
    # "shortest": resize the shorter side to size, then crop; "squash": resize both sides to size; "longest":
    # resize the longer side to size, then pad.
    resize: Resize = "shortest"
    fill_color: int = 0  # "longest": value of the padding in all three channels, 0 to 255

    def __post_init__(self) -> None:
        _check_integer(self, "size", 1)
        _check_choice(self, "interpolation", Interpolation)
        _check_choice(self, "resize", Resize)
        # JSON has only lists; tuples keep the config hashable and equal to its copy.
        object.__setattr__(self, "mean", _three_floats(self, "mean"))
        object.__setattr__(self, "std", _three_floats(self, "std"))
        _check_integer(self, "fill_color", 0)
        if self.fill_color > 255:
            raise InputError(f"PreprocessConfig.fill_color must be at most 255, got {self.fill_color}")
        if min(self.std) <= 0:
            raise InputError(f"PreprocessConfig.std must be above 0, got {self.std}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        if not self.fill_color:  # omitted, so that older versions can read the file
            del values["fill_color"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessConfig:
        """Inverse of `to_dict`; InputError names an unknown key or invalid value."""
        return _build(cls, values)


def _build(kind: type[_T], values: Mapping[str, Any]) -> _T:
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - fields)
    if unknown:
        raise InputError(
            f"unknown key {unknown[0]!r} for {kind.__name__}; known: {', '.join(sorted(fields))}"
        )
    return kind(**values)


def _check_choice(config: Any, name: str, kind: Any) -> None:
    value, valid = getattr(config, name), get_args(kind)
    if value not in valid:
        raise InputError(f"{type(config).__name__}.{name} is {value!r}; expected one of: {', '.join(valid)}")


def _check_integer(config: Any, name: str, minimum: int) -> None:
    value = getattr(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        kind = type(config).__name__
        raise InputError(f"{kind}.{name} must be a whole number of at least {minimum}, got {value!r}")


def _three_floats(config: Any, name: str) -> tuple[float, ...]:
    value = getattr(config, name)
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3:
        raise InputError(f"{type(config).__name__}.{name} must be three numbers, got {value!r}")
    return numbers
