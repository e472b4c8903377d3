"""Immich's ONNX folders: the models that the photo server Immich fetches from `immich-app/NAME` on the hub.

    config.json                        open_clip's architecture: text length, tokenizer's cleaning
    visual/model.onnx                  picture (1, 3, S, S) float32 -> row
    visual/preprocess_cfg.json         open_clip's preprocessing
    textual/model.onnx                 ids (1, length) int32 -> row; an M-CLIP also takes attention_mask
    textual/tokenizer.json, tokenizer_config.json

Large graphs keep their weights in further files. Graphs for other hardware beside these (`rknpu/`, `.armnn`)
are passed over. What the files mean was read in Immich's own reader and exporter
(https://github.com/immich-app/immich, machine-learning/immich_ml/models/clip and machine-learning/export).
Texts are cleaned as open_clip cleans them, since its models were exported: Immich's own cleaning leaves out
the mending of broken characters.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from diptych.backends.exported.graph_file import GraphFile, inside, read_graph
from diptych.backends.exported.released import (
    ReleasedModel,
    assemble,
    image_tower,
    new_spec,
    open_vocabulary,
    padding,
    text_tower,
)
from diptych.errors import InputError, WeightsError
from diptych.inputs.config import Clean, TokenizerConfig
from diptych.inputs.vocabulary import FileVocabulary
from diptych.weights.foreign import Keys, read_json
from diptych.weights.open_clip.read import read_preprocess

ORGANISATION = "immich-app"
CONFIG = "config.json"
GRAPHS = ("visual/model.onnx", "textual/model.onnx")
PREPROCESS = "visual/preprocess_cfg.json"
TOKENIZER = "textual/tokenizer.json"
TOKENIZER_CONFIG = "textual/tokenizer_config.json"
SMALL_FILES = (CONFIG, PREPROCESS, TOKENIZER, TOKENIZER_CONFIG)
OUTPUTS = ("embedding",)


@dataclass(frozen=True)
class ImmichModel:
    """One model that Immich offers.

    Parameters
    ----------
    name : str
        Immich's name, architecture and tag of open_clip in one: `ViT-B-32__openai`.
    dim : int
        Length of a row.
    image_size : int
        Side of a picture, pixels.
    languages : str
        Of the texts: "en", or "mul" for many.
    """

    name: str
    dim: int
    image_size: int
    languages: str

    @property
    def repository(self) -> str:
        """On the hub."""
        return f"{ORGANISATION}/{self.name}"


@cache
def list_immich_models() -> tuple[ImmichModel, ...]:
    """Every model that Immich offers for its search.

    Examples
    --------
    >>> [model.dim for model in list_immich_models() if model.name == "ViT-B-32__openai"]
    [512]
    """
    with (Path(__file__).parent / "immich.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        ImmichModel(row["name"], int(row["dim"]), int(row["image_size"]), row["languages"]) for row in rows
    )


def is_immich(folder: Path) -> bool:
    """Whether a folder holds graphs where Immich has them."""
    return any((folder / name).is_file() for name in GRAPHS)


def read_immich(
    folder: Path, *, name: str | None = None, licence: str = "unknown", source: str = ""
) -> ReleasedModel:
    """A model from a folder in Immich's layout.

    Parameters
    ----------
    folder : Path
    name, licence, source : str, optional
        For the description.

    Raises
    ------
    WeightsError
        A file is missing, is not what it should be, or lies outside the folder; the message names it.
    """
    for needed in (*SMALL_FILES, *GRAPHS):
        inside(folder / needed, folder)
    graphs = [read_graph(folder / graph, root=folder) for graph in GRAPHS]
    config = Keys(read_json(folder / CONFIG), str(folder / CONFIG))
    stated = read_json(folder / PREPROCESS)
    where = str(folder / PREPROCESS)
    try:
        preprocess = read_preprocess(Keys(stated, where), Keys(stated, where).whole("size"))
        vocabulary = open_vocabulary(folder, folder / TOKENIZER)
        tokenizer = _tokenizer(folder, vocabulary, Keys(config.take("text_cfg"), "text_cfg"), graphs[1])
    except InputError as error:
        raise WeightsError(f"{folder}: {error}") from error
    free_length = any(
        (port.shape or (1, 1))[1] is None for port in graphs[1].inputs if len(port.shape or ()) == 2
    )
    image = image_tower(graphs[0], preprocess.size, OUTPUTS)
    text = text_tower(graphs[1], tokenizer, preprocess.size, OUTPUTS, end_id=vocabulary.end_id)
    width = config.whole("embed_dim", image.dim)
    if width != image.dim:
        raise WeightsError(f"{folder / CONFIG}: embed_dim is {width}, {GRAPHS[0]} gives rows of {image.dim}")
    spec = new_spec(
        folder,
        name=name or folder.resolve().name,
        preprocess=preprocess,
        tokenizer=tokenizer,
        cut="padding" if text.signature.mask and free_length else "never",
        logit_bias=config.number("init_logit_bias", 0.0),
        architecture=read_json(folder / CONFIG),
        licence=licence,
        source=source or str(folder),
    )
    return assemble(spec, image, text, folder=folder, tokenizer_file=folder / TOKENIZER, layout="Immich")


def _tokenizer(folder: Path, vocabulary: FileVocabulary, text: Keys, graph: GraphFile) -> TokenizerConfig:
    """The tokenizer of a model: its length and cleaning stand in open_clip's config."""
    # Without a tokenizer of its own a model of open_clip reads CLIP's table, and lower case; an M-CLIP has
    # one, though its config.json is that of the model whose pictures it was joined to.
    own = text.take("hf_tokenizer_name", None) or any(port.name == "attention_mask" for port in graph.inputs)
    options: Any = text.take("tokenizer_kwargs", None) or {}
    kwargs = Keys(options, "text_cfg.tokenizer_kwargs")
    usual: Clean = "whitespace" if own else "lower"
    clean = kwargs.choice("clean", usual, ("canonicalize", "lower", "whitespace"))
    strip_sep_token = kwargs.flag("strip_sep_token", False)
    kwargs.finish()
    return TokenizerConfig(
        kind="file",
        file=TOKENIZER,
        vocab_size=vocabulary.size,
        context_length=text.whole("context_length", 77),
        pad_id=padding(vocabulary, folder / TOKENIZER_CONFIG),
        clean=clean,
        strip_sep_token=strip_sep_token,
    )
