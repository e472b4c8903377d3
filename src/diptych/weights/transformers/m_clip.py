"""M-CLIP: text encoders taught to say in many languages what a CLIP says in English, joined to its pictures.

Such a checkpoint holds texts only (Carlsson et al. 2022, https://github.com/FreddeFrallan/Multilingual-CLIP):
a model of transformers, the mean over its tokens, and a `LinearTransformation` into the space of a CLIP that
its config does not name. Which one that is stands here for the released ones; for any other the caller says.
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
from diptych.weights.foreign import Keys
from diptych.weights.identity import identity_of
from diptych.weights.spec import Checkpoint, ModelSpec, State
from diptych.weights.transformers.read import BOOKKEEPING, CONFIG_FILE
from diptych.weights.transformers.roberta import base_config, read_tower, tokenizer_of, without_counters

MODEL_TYPE = "M-CLIP"
# The pictures each released text encoder was taught to fit (its makers' larger_mclip.md).
PICTURES_OF = {
    "M-CLIP/XLM-Roberta-Large-Vit-B-32": "ViT-B-32 openai",
    "M-CLIP/XLM-Roberta-Large-Vit-L-14": "ViT-L-14 openai",
    "M-CLIP/XLM-Roberta-Large-Vit-B-16Plus": "ViT-B-16-plus-240 laion400m_e32",
}
_LINEAR = "LinearTransformation."
_POOLER = "transformer.pooler."  # in their files, and used by nobody


@dataclass(frozen=True)
class TextCheckpoint:
    """A text tower alone, with all that has to travel with it.

    Parameters
    ----------
    name : str
        For people.
    architecture : RobertaConfig
        The tower.
    embed_dim : int
        Width of the space it was taught to fit.
    tokenizer : TokenizerConfig
        How a text becomes ids.
    state : dict of str to Tensor
        Weights by name, under `text.`.
    folder : Path, optional
        Where the tokenizer's file lies.
    licence, source : str
        As of a model.
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
    """Tower and width of the space from an M-CLIP's `config.json`.

    Raises
    ------
    UnknownModelError
        The model it is built on is none that is built here.
    WeightsError
        A key or value that is not understood; the message names it.

    Examples
    --------
    >>> tower, dim = read_config({"model_type": "M-CLIP", "modelBase": "xlm-roberta-large", "numDims": 512})
    >>> tower.layers, tower.head, dim
    (24, 'affine', 512)
    """
    keys = Keys(config, CONFIG_FILE)
    keys.only("model_type", MODEL_TYPE)
    keys.skip(*BOOKKEEPING, "imageDimSize", "transformerDimSize")
    base = base_config(keys.take("modelBase"), folder)
    tower = read_tower(base, pooler="mean", head="affine")
    width, dim = keys.whole("transformerDimensions", tower.width), keys.whole("numDims")
    if width != tower.width:
        raise WeightsError(
            f"{CONFIG_FILE}: transformerDimensions is {width}, the tower is {tower.width} wide"
        )
    keys.finish()
    return tower, dim


def read_names(state: State) -> State:
    """An M-CLIP's weights under the names of our model."""
    found: State = {}
    for name, tensor in state.items():
        if name.startswith(_LINEAR):
            found[f"text.proj.{name.removeprefix(_LINEAR)}"] = tensor
        elif not name.startswith(_POOLER):
            found[f"text.{name}"] = tensor
    return without_counters(found)


def text_checkpoint(
    config: Mapping[str, Any], state: State, *, name: str, folder: Path, licence: str, source: str
) -> TextCheckpoint:
    """A text tower from its config and weights; `with_texts_of` sees whether they fit each other."""
    tower, dim = read_config(config, folder)
    return TextCheckpoint(
        name, tower, dim, tokenizer_of(tower), read_names(state), folder, licence=licence, source=source
    )


def with_texts_of(pictures: Checkpoint, texts: TextCheckpoint) -> Checkpoint:
    """One model from the picture encoder of one and the text encoder of another.

    The two must have been taught one space; that the widths agree is all that can be checked.

    Parameters
    ----------
    pictures : Checkpoint
        Gives the picture encoder, its preprocessing and the scale.
    texts : TextCheckpoint
        Gives the text encoder and its tokenizer.

    Returns
    -------
    Checkpoint
        Save it with `save_checkpoint` or `to_diptych` to have both in one folder.

    Raises
    ------
    WeightsError
        The widths of their spaces differ, or the weights are not those of the tower; the message names them.
    """
    spec = pictures.spec
    if spec.architecture.embed_dim != texts.embed_dim:
        raise WeightsError(
            f"the texts of {texts.name!r} are {texts.embed_dim} wide, the pictures of {spec.name!r} "
            f"{spec.architecture.embed_dim}: they are of different spaces. Name the model whose pictures "
            "these texts were taught to fit"
        )
    architecture: CLIPConfig = dataclasses.replace(spec.architecture, text=texts.architecture)
    kept = {k: v for k, v in pictures.state.items() if k.startswith(("visual.", "logit_"))}
    state = fit(architecture, {**texts.state, **kept}, source=texts.name)
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
