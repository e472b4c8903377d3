"""Specification of a model, and checkpoints: a specification with its weights.

`identity` hashes them, `native` stores them, `open_clip` and `transformers` convert other projects' formats.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from diptych.errors import InputError, WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import CLIPConfig

if TYPE_CHECKING:
    from torch import Tensor

State: TypeAlias = "dict[str, Tensor]"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything that weights need to give the same embeddings elsewhere, and their description.

    Parameters
    ----------
    name : str
        Name of the model for display.
    architecture : CLIPConfig
        Architecture of both encoders, with the activation.
    preprocess : PreprocessConfig, optional
        Evaluation preprocessing of images; by default CLIP's, at the encoder's image size.
    tokenizer : TokenizerConfig, optional
        Tokenizer; by default CLIP's, at the encoder's context length.
    licence : str
        Licence as stated by the makers.
    source : str
        Origin of the weights: a URL, a repository, a recipe.
    training : mapping
        Summary of the training, as JSON values.
    languages : tuple of str
        Languages of the training texts as codes ("en", "de"); "mul" for many; empty if unknown.

    Raises
    ------
    WeightsError
        Preprocessing or tokenizer give sizes that the encoders do not accept.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> spec = ModelSpec(name="mine", architecture=preset("diptych-tiny"))
    >>> ModelSpec.from_dict(spec.to_dict()) == spec
    True
    """

    name: str
    architecture: CLIPConfig
    preprocess: PreprocessConfig = None  # type: ignore[assignment] # filled in below
    tokenizer: TokenizerConfig = None  # type: ignore[assignment]
    licence: str = "unknown"
    source: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", _codes(self.languages))
        text, size = self.architecture.text, self.architecture.vision.image_size
        preprocess: Any = self.preprocess
        tokenizer: Any = self.tokenizer
        if preprocess is None:
            object.__setattr__(self, "preprocess", PreprocessConfig(size=size))
        if tokenizer is None:
            tokenizer = TokenizerConfig(vocab_size=text.vocab_size, context_length=text.context_length)
            object.__setattr__(self, "tokenizer", tokenizer)
        for quantity, given, expected in (
            ("image size", self.preprocess.size, size),
            ("context length", self.tokenizer.context_length, text.context_length),
        ):
            if given != expected:
                source = "preprocessing" if quantity == "image size" else "tokenizer"
                raise WeightsError(
                    f"{self.name!r} has {quantity} {given} in its {source}, its encoder takes {expected}"
                )
        # A smaller vocabulary is fine: some released tables have unused rows at the end.
        if self.tokenizer.vocab_size > text.vocab_size:
            raise WeightsError(
                f"{self.name!r} has a tokenizer with {self.tokenizer.vocab_size} ids, its encoder has "
                f"embeddings for {text.vocab_size}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "name": self.name,
            "architecture": self.architecture.to_dict(),
            "preprocess": self.preprocess.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
            "licence": self.licence,
            "source": self.source,
            "training": _plain(self.training),
            # Omitted if unknown, so that older versions read the file and its hashes stay the same.
            **({"languages": list(self.languages)} if self.languages else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Inverse of `to_dict`.

        Raises
        ------
        WeightsError
            A key is missing, unknown, or has an invalid value; the message names it.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise WeightsError(
                f"unknown key {unknown[0]!r} in a model's description; known: {', '.join(sorted(known))}"
            )
        for key, kind in (("name", str), ("licence", str), ("source", str), ("training", Mapping)):
            if not isinstance(values.get(key, "" if kind is str else {}), kind):
                raise WeightsError(f"{key!r} in a model's description must be a {kind.__name__}")
        try:
            return cls(
                name=values.get("name", ""),
                architecture=CLIPConfig.from_dict(values["architecture"]),
                preprocess=PreprocessConfig.from_dict(values["preprocess"]),
                tokenizer=TokenizerConfig.from_dict(values["tokenizer"]),
                licence=values.get("licence", "unknown"),
                source=values.get("source", ""),
                training=dict(values.get("training", {})),
                languages=values.get("languages", ()),
            )
        except KeyError as error:
            raise WeightsError(f"a model's description lacks {error}") from error
        except (InputError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise WeightsError(f"a model's description is invalid: {error}") from error


@dataclass(frozen=True)
class Checkpoint:
    """Weights under our names, with their specification.

    Parameters
    ----------
    spec : ModelSpec
        Architecture, preprocessing, tokenizer and description.
    state : dict of str to Tensor
        Weights by name, in the precision they are stored in.
    identity : str
        "sha256:..." over weights, architecture, preprocessing and tokenizer.
    folder : Path, optional
        Folder of the tokenizer's file, if it has one.
    checked : str
        Which published hash the weights were verified against; empty if there is none.
    """

    spec: ModelSpec
    state: State
    identity: str
    folder: Path | None = None
    checked: str = ""

    @property
    def tokenizer_file(self) -> Path | None:
        """Path of the tokenizer's file; None for CLIP's vocabulary, which is in this package."""
        name = tokenizer_file(self.spec.tokenizer)
        return None if name is None else (self.folder or Path()) / name

    @property
    def parameters(self) -> int:
        """Number of parameters, without the buffers of batch norms."""
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        return sum(t.numel() for name, t in self.state.items() if not name.endswith(buffers))


def tokenizer_file(config: TokenizerConfig) -> str | None:
    """Name of the tokenizer's file beside the weights; None for CLIP's vocabulary, which is in this package.

    Raises
    ------
    WeightsError
        The name is not that of a file beside the weights.
    """
    if config.kind != "file":
        return None
    name = "tokenizer.json" if config.file is None else config.file
    if not isinstance(name, str) or Path(name).name != name or "\\" in name or "\0" in name:
        raise WeightsError(
            f"the tokenizer's file is {name!r}: expected the name of a file beside the weights"
        )
    return name


def _codes(languages: Any) -> tuple[str, ...]:
    """Check language codes; return them as a tuple."""
    if not isinstance(languages, list | tuple) or not all(isinstance(code, str) for code in languages):
        raise WeightsError(f"languages is {languages!r}: expected a list of codes such as 'en', or 'mul'")
    return tuple(languages)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values after a round trip through JSON, so that the hash before saving is the hash after reading."""
    try:
        # NaN and infinity, which JSON lacks, become null: a run with a diverged loss must be savable.
        return dict(json.loads(json.dumps(dict(values)), parse_constant=lambda _: None))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"the training summary must be plain JSON values: {error}") from error
