"""Released models by open_clip's names and tags: their repositories, activation and preprocessing.

The list is data, `releases.csv`, with licences as the makers state them. Activation and preprocessing depend
on the tag, not on the architecture, so that no user has to know which weights need QuickGELU. Architectures
by name are in `diptych.model.presets.table`.
"""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from diptych.errors import UnknownModelError
from diptych.inputs.config import CLIP_MEAN, CLIP_STD, PreprocessConfig, TokenizerConfig
from diptych.model.config import Activation, CLIPConfig, RobertaConfig, ViTConfig
from diptych.model.presets.table import OPENAI_NAMES, PRESETS, QUICK, nearest_names, preset
from diptych.weights.spec import ModelSpec
from diptych.weights.transformers.read import GEMMA_VOCABULARY
from diptych.weights.transformers.roberta import roberta_tokenizer

_Channels = tuple[float, float, float]
_HALF = (0.5, 0.5, 0.5)
# Mean and standard deviation per channel, by the word in releases.csv.
_NORMALISATION: dict[str, tuple[_Channels, _Channels]] = {
    "clip": (CLIP_MEAN, CLIP_STD),
    "half": (_HALF, _HALF),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "siglip": (_HALF, _HALF),
}

MT5_VOCABULARY = 250_100

# SHA-256 of OpenAI's archives, as stated in their URLs (https://github.com/openai/CLIP, clip/clip.py).
OPENAI_ARCHIVES = {
    "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762": "RN50",
    "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599": "RN101",
    "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd": "RN50x4",
    "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa": "RN50x16",
    "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c": "RN50x64",
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B-32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B-16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L-14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L-14-336",
}


@dataclass(frozen=True)
class Release:
    """Released weights of an architecture.

    Parameters
    ----------
    architecture, tag : str
        open_clip's names.
    activation : str
        Activation that the weights were trained with.
    preprocess : str
        Mean and standard deviation ("clip"; "half": 0.5; "imagenet"; "unit": 0 and 1), then "squash" if
        images are resized to a square without a crop, then "bilinear" if not bicubic. "siglip": as
        `half-squash`, in transformers' format; "m-clip": that of the model with the image encoder.
    licence : str
        Licence as stated by the makers.
    repository : str
        Repository on the Hugging Face hub, with the file's name if that is not one of open_clip's.
    parameters : int
        Number of parameters.
    """

    architecture: str
    tag: str
    activation: Activation
    preprocess: Literal[
        "clip",
        "clip-squash",
        "clip-bilinear",
        "half",
        "half-squash",
        "half-squash-bilinear",
        "imagenet-squash-bilinear",
        "unit-bilinear",
        "siglip",
        "m-clip",
    ]
    licence: str
    repository: str
    parameters: int

    @property
    def name(self) -> str:
        """Architecture and tag, as in `diptych.load("ViT-B-32", "openai")`."""
        return f"{self.architecture} {self.tag}"

    @property
    def hub_repository(self) -> str:
        """`ORG/REPO`, without a file's name."""
        return "/".join(self.repository.split("/")[:2])

    @property
    def file(self) -> str:
        """File of the weights; empty if it has one of open_clip's names."""
        return "/".join(self.repository.split("/")[2:])

    @property
    def layout(self) -> Literal["open_clip", "transformers", "m-clip"]:
        """Format of the repository."""
        if self.preprocess == "m-clip":
            return "m-clip"
        return "transformers" if self.preprocess == "siglip" else "open_clip"

    def spec(self) -> ModelSpec:
        """Specification of a release in open_clip's format."""
        config = dataclasses.replace(preset(self.architecture), activation=self.activation)
        normalisation, *words = self.preprocess.split("-")
        mean, std = _NORMALISATION[normalisation]
        return ModelSpec(
            name=self.name,
            architecture=config,
            preprocess=PreprocessConfig(
                size=config.vision.image_size,
                mean=mean,
                std=std,
                interpolation="bilinear" if "bilinear" in words else "bicubic",
                resize="squash" if "squash" in words or normalisation == "siglip" else "shortest",
            ),
            tokenizer=tokenizer_for(config),
            licence=self.licence,
            source=f"https://huggingface.co/{self.hub_repository}",
        )


@cache
def list_models() -> tuple[Release, ...]:
    """List every released model that can be loaded by name and tag.

    Examples
    --------
    >>> [row.licence for row in list_models() if row.name == "ViT-B-32 openai"]
    ['mit']
    """
    with (Path(__file__).parent / "releases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(Release(**{**row, "parameters": int(row["parameters"])}) for row in rows)  # type: ignore[arg-type]


def tokenizer_for(config: CLIPConfig) -> TokenizerConfig:
    """Default tokenizer of an architecture: CLIP's vocabulary, or a tokenizer.json."""
    text = config.text
    if isinstance(text, RobertaConfig):
        return roberta_tokenizer(text)
    if text.pool == "end" and text.end_id is None:
        return TokenizerConfig(vocab_size=text.vocab_size, context_length=text.context_length)
    # The families are told apart by their text towers. CLIPA reads texts at the last position as SigLIP does,
    # but its projection has no bias; MetaCLIP 2 names its end token and has the vocabulary of XLM-V or mT5.
    clipa = text.pool == "last" and not text.projection_bias and text.projection
    xlm_v = text.pool == "end" and text.vocab_size != MT5_VOCABULARY
    lower = "lower" if text.vocab_size == GEMMA_VOCABULARY else "canonicalize"
    return TokenizerConfig(
        kind="file",
        vocab_size=text.vocab_size,
        context_length=text.context_length,
        pad_id=text.pad_id,
        clean="whitespace" if clipa or xlm_v else lower,  # type: ignore[arg-type]
        strip_sep_token=clipa,
    )


def preprocess_for(config: CLIPConfig) -> PreprocessConfig:
    """Default evaluation preprocessing of an architecture: CLIP's, or SigLIP's with attention pooling."""
    size, vision = config.vision.image_size, config.vision
    if isinstance(vision, ViTConfig) and vision.pool == "attention":
        return PreprocessConfig(size=size, mean=_HALF, std=_HALF, resize="squash")
    return PreprocessConfig(size=size)


def find_release(name: str, tag: str | None) -> Release:
    """Look up released weights by name and tag.

    Parameters
    ----------
    name : str
        open_clip's name (`ViT-B-32`, `ViT-B-32-quickgelu`) or OpenAI's (`ViT-B/32`, which implies the tag).
    tag : str, optional
        open_clip's tag, in lower or upper case, with `-` or `_`.

    Raises
    ------
    UnknownModelError
        The name or tag is unknown; the message lists similar ones.

    Examples
    --------
    >>> find_release("ViT-L/14@336px", None).name
    'ViT-L-14-336 openai'
    >>> find_release("ViT-B-32", "laion2b-s34b-b79k").activation
    'gelu'
    """
    if name in OPENAI_NAMES and ("/" in name or tag is None):
        name, tag = OPENAI_NAMES[name], tag or "openai"
    base = name.removesuffix(QUICK)
    releases = [release for release in list_models() if release.architecture == base]
    if base != name:
        releases = [release for release in releases if release.activation == "quick_gelu"]
    tags = [release.tag for release in releases]
    if not releases:
        if base in PRESETS:
            raise UnknownModelError(
                f"no weights are released for {name!r}: give a file of your own, as in --pretrained FILE or "
                f"load({name!r}, 'FILE')"
            )
        raise UnknownModelError(f"unknown model {name!r}. {suggest(name)}")
    if tag is None:
        raise UnknownModelError(
            f"{name!r} is an architecture: also name weights (--pretrained TAG), one of: {', '.join(tags)}"
        )
    cleaned = tag.lower().replace("-", "_")
    for release in releases:
        if release.tag == cleaned:
            return release
    raise UnknownModelError(
        f"{name!r} has no weights tagged {tag!r}, and there is no file of that name. "
        f"{nearest_names(cleaned, tags)}"
    )


def suggest(name: str) -> str:
    """Sentence that suggests the models most similar to a wrong name.

    Examples
    --------
    >>> suggest("ViT-B32")
    'Did you mean ViT-B/32, ViT-B-32 or ViT-S-32? `diptych models list` shows all'
    """
    names = ["default", *OPENAI_NAMES, *PRESETS]
    return f"{nearest_names(name, names)} `diptych models list` shows all"
