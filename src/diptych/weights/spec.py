"""What a model is besides its weights, and the two together: the values the rest of this room passes around.

Hashing is `identity`'s work, files are `native`'s, and other projects' words are `open_clip`'s and
`transformers`'.
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
    """All that has to travel with weights, so that they give the same vectors elsewhere.

    Parameters
    ----------
    name : str
        What the model is called, for people.
    architecture : CLIPConfig
        The shape of both encoders, the activation among it.
    preprocess : PreprocessConfig, optional
        How a picture becomes the tensor the image encoder sees; by default CLIP's way, at the encoder's size.
    tokenizer : TokenizerConfig, optional
        How a text becomes ids; by default CLIP's table, at the encoder's length.
    licence : str
        As its makers state it.
    source : str
        Where the weights came from: an address, a repository, a recipe.
    training : mapping
        A summary of the training, plain JSON values.
    languages : tuple of str
        Of the texts it was trained on, as codes ("en", "de"); "mul" for many; empty where nobody says.

    Raises
    ------
    WeightsError
        Pictures or texts would come in a size the encoders do not take.

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
        for what, given, seen in (
            ("pictures of side", self.preprocess.size, size),
            ("texts of length", self.tokenizer.context_length, text.context_length),
        ):
            if given != seen:
                raise WeightsError(f"{self.name!r} is given {what} {given}, its encoder takes {seen}")
        if self.tokenizer.vocab_size > text.vocab_size:
            raise WeightsError(
                f"{self.name!r} has a tokenizer of {self.tokenizer.vocab_size} ids, its encoder knows "
                f"{text.vocab_size}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "architecture": self.architecture.to_dict(),
            "preprocess": self.preprocess.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
            "licence": self.licence,
            "source": self.source,
            "training": _plain(self.training),
            # Left out where nobody says, so that older versions read the file and its hashes hold.
            **({"languages": list(self.languages)} if self.languages else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Inverse of `to_dict`.

        Raises
        ------
        WeightsError
            A part is missing, unknown, or does not fit; the message names it.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise WeightsError(f"unknown key {unknown[0]!r} in a model's description; known: {sorted(known)}")
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
            raise WeightsError(f"a model's description does not hold together: {error}") from error


@dataclass(frozen=True)
class Checkpoint:
    """Weights under our names, with all that has to travel with them.

    Parameters
    ----------
    spec : ModelSpec
        Architecture, preprocessing, tokenizer and description.
    state : dict of str to Tensor
        Weights by name, as they were stored (half precision stays half).
    identity : str
        "sha256:..." over weights, architecture, preprocessing and tokenizer.
    folder : Path, optional
        Where a tokenizer's file lies, if it has one.
    checked : str
        The stated hash that the weights were checked against; empty where none is stated.
    """

    spec: ModelSpec
    state: State
    identity: str
    folder: Path | None = None
    checked: str = ""

    @property
    def tokenizer_file(self) -> Path | None:
        """The tokenizer's own file, if it has one."""
        name = tokenizer_file(self.spec.tokenizer)
        return None if name is None else (self.folder or Path()) / name

    @property
    def parameters(self) -> int:
        """Numbers in the weights, buffers of batch norms left out."""
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        return sum(t.numel() for name, t in self.state.items() if not name.endswith(buffers))


def tokenizer_file(config: TokenizerConfig) -> str | None:
    """Name of the tokenizer's file beside the weights; None for the table inside the package.

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
    """The languages as a tuple, whatever sequence JSON had."""
    if not isinstance(languages, list | tuple) or not all(isinstance(code, str) for code in languages):
        raise WeightsError(f"languages is {languages!r}: expected a list of codes such as 'en', or 'mul'")
    return tuple(languages)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON would give it back, so that what is hashed before saving is what is read after."""
    try:
        # NaN and infinity, which JSON lacks, become null: a diverged loss must not keep a run unsaved.
        return dict(json.loads(json.dumps(dict(values)), parse_constant=lambda _: None))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"the training summary must be plain JSON values: {error}") from error
