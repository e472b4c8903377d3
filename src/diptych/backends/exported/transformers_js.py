"""Read ONNX folders in transformers.js' layout: jina-clip, and conversions by Xenova and onnx-community.

    config.json, preprocessor_config.json, tokenizer.json, tokenizer_config.json
    onnx/text_model.onnx, onnx/vision_model.onnx        one graph for each tower, or
    onnx/model.onnx                                     one graph of both (jina-clip-v2)

A graph may exist in several precisions, with suffixes such as `_fp16` and `_quantized`. The layout is
described at https://huggingface.co/docs/transformers.js. No code of a repository is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.backends.exported import released
from diptych.backends.exported.graph_file import inside, read_graph
from diptych.errors import InputError, WeightsError
from diptych.inputs.config import Clean, PreprocessConfig, TokenizerConfig
from diptych.inputs.vocabulary import FileVocabulary
from diptych.weights.foreign_configs import ConfigKeys, read_json
from diptych.weights.open_clip.read import read_preprocess as read_open_clip_preprocess
from diptych.weights.transformers.read import CONFIG_FILE, TOKENIZER_CONFIG, read_preprocess

FOLDER = "onnx"
TOKENIZER = "tokenizer.json"
PREPROCESS = "preprocessor_config.json"
SMALL_FILES = (CONFIG_FILE, PREPROCESS, TOKENIZER, TOKENIZER_CONFIG)
# Suffixes of file names by precision, best first.
SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "float32": ("",),
    "float16": ("_fp16",),
    "int8": ("_quantized", "_int8", "_uint8"),
}
FAMILIES = ("jina_clip", "clip", "siglip")
# `pooler_output` is the embedding only in SigLIP, which has no projection after it.
TEXT_OUTPUTS = ("text_embeddings", "text_embeds", "l2norm_text_embeddings")
IMAGE_OUTPUTS = ("image_embeddings", "image_embeds", "l2norm_image_embeddings")
LENGTHS = {"clip": 77, "siglip": 64, "jina_clip": 512}  # defaults if the tokenizer's config has none


def is_transformers_js(folder: Path) -> bool:
    """Whether a folder has graphs in transformers.js' layout."""
    return bool(precisions(folder))


def precisions(folder: Path) -> tuple[str, ...]:
    """Precisions in which a folder has both towers, best first."""
    return tuple(precision for precision in SUFFIXES if _find_graphs(folder, precision) is not None)


def read_transformers_js(
    folder: Path,
    *,
    precision: str | None = None,
    name: str | None = None,
    licence: str = "unknown",
    source: str = "",
) -> released.ReleasedModel:
    """Read a model from a folder in transformers.js' layout.

    Parameters
    ----------
    precision : {"float32", "float16", "int8"}, optional
        Precision of the graphs; by default the best available.
    name, licence, source : str, optional
        Description of the model.

    Raises
    ------
    InputError
        The folder lacks that precision; the message lists those it has.
    WeightsError
        A file is missing, invalid, or outside the folder; the message names it.
    """
    for needed in SMALL_FILES:
        inside(folder / needed, folder)
    config = read_json(folder / CONFIG_FILE)
    if (family := config.get("model_type")) not in FAMILIES:
        raise WeightsError(
            f"{folder / CONFIG_FILE}: model_type is {family!r}, expected {', '.join(FAMILIES)}"
        )
    available = precisions(folder)
    precision = precision or (available[0] if available else "float32")
    files = _find_graphs(folder, precision)
    if files is None:
        raise InputError(
            f"{folder} holds no graphs in {precision}; it holds {', '.join(available) or 'none at all'}"
        )
    graphs = {path: read_graph(path, root=folder) for path in dict.fromkeys(files)}
    siglip = family == "siglip"
    extra = ("pooler_output",) if siglip else ()
    preprocess = _preprocess(folder, config, siglip=siglip)
    vocabulary = released.open_vocabulary(folder, folder / TOKENIZER)
    tokenizer = _tokenizer(folder, vocabulary, str(family))
    outputs = (*TEXT_OUTPUTS, *extra)
    text = released.text_tower(
        graphs[files[0]], tokenizer, preprocess.size, outputs, end_id=vocabulary.end_id
    )
    image = released.image_tower(graphs[files[1]], preprocess.size, (*IMAGE_OUTPUTS, *extra))
    spec = released.new_spec(
        folder,
        name=name or folder.resolve().name,
        preprocess=preprocess,
        tokenizer=tokenizer,
        # SigLIP reads the last position of the padded text; jina-clip masks padding by its id.
        cut={"siglip": "never", "jina_clip": "padding", "clip": "end"}[family],
        logit_bias=-10.0 if siglip else 0.0,
        architecture=config,
        licence=licence,
        source=source or str(folder),
    )
    return released.assemble(
        spec,
        image,
        text,
        folder=folder,
        tokenizer_file=folder / TOKENIZER,
        layout="transformers.js",
        precision=precision,
    )


def graph_names(precision: str) -> list[tuple[str, ...]]:
    """Possible names of the graphs of a precision: one per tower, text first, or one for both."""
    return [
        names
        for suffix in SUFFIXES[precision]
        for names in (
            (f"{FOLDER}/text_model{suffix}.onnx", f"{FOLDER}/vision_model{suffix}.onnx"),
            (f"{FOLDER}/model{suffix}.onnx",),
        )
    ]


def _find_graphs(folder: Path, precision: str) -> tuple[Path, Path] | None:
    """Paths of the graphs of texts and images, which may be the same file."""
    for names in graph_names(precision) if precision in SUFFIXES else ():
        if all((folder / name).is_file() for name in names):
            return folder / names[0], folder / names[-1]
    return None


def _preprocess(folder: Path, config: Mapping[str, Any], *, siglip: bool) -> PreprocessConfig:
    """Image preprocessing, from jina-clip's or transformers' config."""
    stated = read_json(folder / PREPROCESS)
    where = str(folder / PREPROCESS)
    try:
        if "resize_mode" in stated:  # jina-clip's config has open_clip's keys
            names = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")
            keys = ConfigKeys({key: stated[key] for key in names if key in stated}, where)
            return read_open_clip_preprocess(keys, ConfigKeys(stated, where).integer("size"))
        vision = config.get("vision_config")
        size = ConfigKeys(vision if isinstance(vision, Mapping) else {}, "vision_config").integer(
            "image_size", 224
        )
        return read_preprocess(stated, size, siglip=siglip)
    except InputError as error:
        raise WeightsError(f"{where}: {error}") from error


def _tokenizer(folder: Path, vocabulary: FileVocabulary, family: str) -> TokenizerConfig:
    config = read_json(folder / TOKENIZER_CONFIG)
    context_length = config.get("model_max_length")
    # A tokenizer without a limit states 10^30.
    if not isinstance(context_length, int) or not 1 < context_length < 1_000_000:
        context_length = LENGTHS[family]
    clean: Clean = "none"
    if family == "siglip":
        clean = "lower" if "Gemma" in str(config.get("tokenizer_class")) else "canonicalize"
    try:
        return TokenizerConfig(
            kind="file",
            file=TOKENIZER,
            vocab_size=vocabulary.size,
            context_length=context_length,
            pad_id=released.padding(vocabulary, folder / TOKENIZER_CONFIG),
            clean=clean,
        )
    except InputError as error:
        raise WeightsError(f"{folder / TOKENIZER_CONFIG}: {error}") from error
