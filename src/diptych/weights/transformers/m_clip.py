"""M-CLIP: multilingual text encoders trained on a CLIP's text embeddings, joined to its image encoder.

Such a checkpoint has a text encoder only (Carlsson et al. 2022,
https://github.com/FreddeFrallan/Multilingual-CLIP): a model of transformers, the mean over its tokens, and a
`LinearTransformation` into the space of a CLIP that its config does not name. For the released ones it is
listed here; for any other the caller names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.inputs.config import TokenizerConfig
from diptych.model.config import CLIPConfig, RobertaConfig
from diptych.weights.fitting import fit
from diptych.weights.foreign_configs import ConfigKeys
from diptych.weights.identity import identity_of
from diptych.weights.spec import Checkpoint, ModelSpec, State
from diptych.weights.transformers.read import BOOKKEEPING, CONFIG_FILE
from diptych.weights.transformers.roberta import base_config, drop_position_ids, read_tower, roberta_tokenizer

MODEL_TYPE = "M-CLIP"
# The model whose text embeddings each released encoder reproduces (larger_mclip.md of its repository).
IMAGE_MODELS = {
    "M-CLIP/XLM-Roberta-Large-Vit-B-32": "ViT-B-32 openai",
    "M-CLIP/XLM-Roberta-Large-Vit-L-14": "ViT-L-14 openai",
    "M-CLIP/XLM-Roberta-Large-Vit-B-16Plus": "ViT-B-16-plus-240 laion400m_e32",
}
_LINEAR = "LinearTransformation."
_POOLER = "transformer.pooler."  # in the files, but not used


@dataclass(frozen=True)
class TextCheckpoint:
    """A text tower without an image tower, and its specification.

    Parameters
    ----------
    name : str
        Name for display.
    architecture : RobertaConfig
        Architecture of the tower.
    embed_dim : int
        Width of the shared space.
    tokenizer : TokenizerConfig
        Its tokenizer.
    state : dict of str to Tensor
        Weights by name, with the prefix `text.`.
    folder : Path, optional
        Folder of the tokenizer's file.
    licence, source : str
        As of `ModelSpec`.
    """

    name: str
    architecture: RobertaConfig
    embed_dim: int
    tokenizer: TokenizerConfig
    state: State
    folder: Path | None = None
    licence: str = "unknown"
    source: str = ""


def read_config(config: Mapping[str, Any], folder: Path | None = None) -> tuple[RobertaConfig, int]:
    """Architecture and width of the shared space from an M-CLIP's `config.json`.

    Raises
    ------
    UnknownModelError
        The base model is not supported.
    WeightsError
        A key or value is not supported; the message names it.

    Examples
    --------
    >>> tower, dim = read_config({"model_type": "M-CLIP", "modelBase": "xlm-roberta-large", "numDims": 512})
    >>> tower.layers, tower.head, dim
    (24, 'affine', 512)
    """
    keys = ConfigKeys(config, CONFIG_FILE)
    keys.only("model_type", MODEL_TYPE)
    keys.skip(*BOOKKEEPING, "imageDimSize", "transformerDimSize")
    base = base_config(keys.take("modelBase"), folder)
    tower = read_tower(base, pooler="mean", head="affine")
    width, dim = keys.integer("transformerDimensions", tower.width), keys.integer("numDims")
    if width != tower.width:
        raise WeightsError(
            f"{CONFIG_FILE}: transformerDimensions is {width}, the tower has width {tower.width}"
        )
    keys.finish()
    return tower, dim


def from_m_clip(state: State) -> State:
    """Weights of an M-CLIP under our names."""
    converted: State = {}
    for name, tensor in state.items():
        if name.startswith(_LINEAR):
            converted[f"text.proj.{name.removeprefix(_LINEAR)}"] = tensor
        elif not name.startswith(_POOLER):
            converted[f"text.{name}"] = tensor
    return drop_position_ids(converted)


def build_text_checkpoint(
    config: Mapping[str, Any], state: State, *, name: str, folder: Path, licence: str, source: str
) -> TextCheckpoint:
    """Text tower from config and weights; `join_text_encoder` checks that they fit each other."""
    tower, dim = read_config(config, folder)
    return TextCheckpoint(
        name, tower, dim, roberta_tokenizer(tower), from_m_clip(state), folder, licence=licence, source=source
    )


def join_text_encoder(image_model: Checkpoint, texts: TextCheckpoint) -> Checkpoint:
    """Join the image encoder of a model with another text encoder.

    Both must have been trained for the same space. Only the equality of the widths is checked.

    Parameters
    ----------
    image_model : Checkpoint
        Provides image encoder, preprocessing and logit scale.
    texts : TextCheckpoint
        Provides text encoder and tokenizer.

    Returns
    -------
    Checkpoint
        The joined model; `save_checkpoint` or `to_diptych` write it to one folder.

    Raises
    ------
    WeightsError
        The widths of the spaces differ, or the weights do not fit the text tower; the message names them.
    """
    spec = image_model.spec
    if spec.architecture.embed_dim != texts.embed_dim:
        raise WeightsError(
            f"text embeddings of {texts.name!r} have {texts.embed_dim} values, image embeddings of "
            f"{spec.name!r} {spec.architecture.embed_dim}: they are of different spaces. Name the model that "
            "this text encoder was trained for"
        )
    architecture: CLIPConfig = dataclasses.replace(spec.architecture, text=texts.architecture)
    image_state = {k: v for k, v in image_model.state.items() if k.startswith(("visual.", "logit_"))}
    state = fit(architecture, {**texts.state, **image_state}, source=texts.name)
    licences = dict.fromkeys((texts.licence, spec.licence))
    joined = ModelSpec(
        name=f"{texts.name} with the pictures of {spec.name}",
        architecture=architecture,
        preprocess=spec.preprocess,
        tokenizer=texts.tokenizer,
        licence=" and ".join(licences),
        source=f"texts: {texts.source}; pictures: {spec.source}",
        training={"pictures": dict(spec.training)} if spec.training else {},
        languages=("mul",),
    )
    identity = identity_of(joined, state, texts.folder)
    return Checkpoint(spec=joined, state=state, identity=identity, folder=texts.folder)
