"""Immich's ONNX folders: the models that the photo server Immich fetches from `immich-app/NAME` on the hub.

    config.json                        open_clip's architecture: text length, tokenizer's cleaning
    visual/model.onnx                  picture (1, 3, S, S) float32 -> row
    visual/preprocess_cfg.json         open_clip's preprocessing
    textual/model.onnx                 ids (1, length) int32 -> row; an M-CLIP also takes attention_mask
    textual/tokenizer.json, tokenizer_config.json

Large graphs have their weights in additional files. Graphs for other hardware (`rknpu/`, `.armnn`) are
ignored. The meaning of the files is from Immich's reader and exporter (https://github.com/immich-app/immich,
machine-learning/immich_ml/models/clip and machine-learning/export). Texts are cleaned as in open_clip, whose
models these are: Immich's own cleaning does not repair broken characters.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from diptych.backends.exported import released
from diptych.backends.exported.graph_file import GraphFile, inside, read_graph
from diptych.errors import InputError, WeightsError
from diptych.inputs.config import Clean, TokenizerConfig
from diptych.inputs.vocabulary import FileVocabulary
from diptych.weights.foreign_configs import ConfigKeys, read_json
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
    """A model that Immich offers.

    Parameters
    ----------
    name : str
        Immich's name: architecture and tag of open_clip, `ViT-B-32__openai`.
    dim : int
        Width of the embeddings.
    image_size : int
        Side of the input image, pixels.
    languages : str
        Languages of the texts: "en", or "mul" for many.
    """

    name: str
    dim: int
    image_size: int
    languages: str

    @property
    def repository(self) -> str:
        """Repository on the hub."""
        return f"{ORGANISATION}/{self.name}"


@cache
def list_immich_models() -> tuple[ImmichModel, ...]:
    """List every model that Immich offers for its search.

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
    """Whether a folder has graphs in Immich's layout."""
    return any((folder / name).is_file() for name in GRAPHS)


def read_immich(
    folder: Path, *, name: str | None = None, licence: str = "unknown", source: str = ""
) -> released.ReleasedModel:
    """Read a model from a folder in Immich's layout.

    Parameters
    ----------
    name, licence, source : str, optional
        Description of the model.

    Raises
    ------
    WeightsError
        A file is missing, invalid, or outside the folder; the message names it.
    """
    for needed in (*SMALL_FILES, *GRAPHS):
        inside(folder / needed, folder)
    graphs = [read_graph(folder / graph, root=folder) for graph in GRAPHS]
    config = ConfigKeys(read_json(folder / CONFIG), str(folder / CONFIG))
    stated = read_json(folder / PREPROCESS)
    where = str(folder / PREPROCESS)
    try:
        preprocess = read_preprocess(ConfigKeys(stated, where), ConfigKeys(stated, where).integer("size"))
        vocabulary = released.open_vocabulary(folder, folder / TOKENIZER)
        tokenizer = _tokenizer(folder, vocabulary, ConfigKeys(config.take("text_cfg"), "text_cfg"), graphs[1])
    except InputError as error:
        raise WeightsError(f"{folder}: {error}") from error
    free_length = any(
        (port.shape or (1, 1))[1] is None for port in graphs[1].inputs if len(port.shape or ()) == 2
    )
    image = released.image_tower(graphs[0], preprocess.size, OUTPUTS)
    text = released.text_tower(graphs[1], tokenizer, preprocess.size, OUTPUTS, end_id=vocabulary.end_id)
    width = config.integer("embed_dim", image.dim)
    if width != image.dim:
        raise WeightsError(
            f"{folder / CONFIG}: embed_dim is {width}, embeddings of {GRAPHS[0]} have {image.dim} values"
        )
    spec = released.new_spec(
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
    return released.assemble(
        spec, image, text, folder=folder, tokenizer_file=folder / TOKENIZER, layout="Immich"
    )


def _tokenizer(
    folder: Path, vocabulary: FileVocabulary, text: ConfigKeys, graph: GraphFile
) -> TokenizerConfig:
    """Tokenizer of a model, with context length and cleaning from open_clip's config."""
    # Without a named tokenizer a model of open_clip has CLIP's, which puts texts in lower case. An M-CLIP has
    # its own, although its config.json is that of the model with the image encoder.
    named = text.take("hf_tokenizer_name", None) or any(
        port.name == "attention_mask" for port in graph.inputs
    )
    options: Any = text.take("tokenizer_kwargs", None) or {}
    kwargs = ConfigKeys(options, "text_cfg.tokenizer_kwargs")
    default: Clean = "whitespace" if named else "lower"
    clean = kwargs.choice("clean", default, ("canonicalize", "lower", "whitespace"))
    strip_sep_token = kwargs.flag("strip_sep_token", False)
    kwargs.finish()
    return TokenizerConfig(
        kind="file",
        file=TOKENIZER,
        vocab_size=vocabulary.size,
        context_length=text.integer("context_length", 77),
        pad_id=released.padding(vocabulary, folder / TOKENIZER_CONFIG),
        clean=clean,
        strip_sep_token=strip_sep_token,
    )
