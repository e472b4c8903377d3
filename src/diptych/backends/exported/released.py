"""ONNX models released by other projects: what all their folder layouts have in common.

A layout (`immich`, `transformers_js`) finds the files and reads its project's configs. Here its graphs are
validated before a runtime opens them, and described like those of our own exports, with the `Signature` of
each tower. No torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diptych.backends.exported.folder import ExportSpec
from diptych.backends.exported.graph_file import GraphFile, Port, inside
from diptych.backends.exported.towers import Signature
from diptych.errors import WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.inputs.vocabulary import FileVocabulary
from diptych.weights.download import sha256
from diptych.weights.foreign_configs import read_json

# Such folders have no logit scale. CLIP's training ends at 100, the maximum (paper, section 2.5).
LOGIT_SCALE = 100.0
IMAGE_DTYPES = ("float32", "float16")
ID_DTYPES = ("int32", "int64")
LARGEST_SIDE = 4096  # pixels
LONGEST_TEXT = 65_536  # ids
WIDEST = 65_536  # width of an embedding


@dataclass(frozen=True)
class TowerGraph:
    """One tower in a released folder.

    Attributes
    ----------
    dim : int
        Width of the embeddings.
    """

    graph: GraphFile
    signature: Signature
    dim: int


@dataclass(frozen=True)
class ReleasedModel:
    """A validated model in a released folder.

    Attributes
    ----------
    spec : ExportSpec
        Specification as of our own exports.
    layout : str
        Name of the layout, for display.
    precision : {"float32", "float16", "int8"}
        Precision of the graphs.
    """

    spec: ExportSpec
    image: TowerGraph
    text: TowerGraph
    folder: Path
    layout: str
    precision: str = "float32"

    def tower(self, name: str) -> TowerGraph:
        """Return a tower by name, "image" or "text"."""
        return self.image if name == "image" else self.text


def image_tower(graph: GraphFile, size: int, outputs: Sequence[str]) -> TowerGraph:
    """Describe the image tower: a graph, or a part of a graph of both towers.

    Parameters
    ----------
    size : int
        Side of the preprocessed images.
    outputs : sequence of str
        Names of the output with the embeddings, best first; any name is accepted for a single output.

    Raises
    ------
    WeightsError
        Its inputs or outputs are not those of an image tower; the message lists them.
    """
    pixels = [port for port in graph.inputs if port.dtype in IMAGE_DTYPES and len(port.shape or ()) == 4]
    others = [port for port in graph.inputs if port not in pixels]
    if len(pixels) != 1 or (others and not all(_is_ids(port) for port in others)):
        raise _unexpected(
            graph, f"expected one input of pictures (N, 3, {size}, {size}) in float32 or float16"
        )
    shape = pixels[0].shape or ()
    # None is a free axis.
    if any(axis not in (None, expected) for axis, expected in zip(shape[1:], (3, size, size), strict=True)):
        raise _unexpected(graph, f"its preprocessing makes pictures of 3 x {size} x {size}")
    rows, dim = _embedding_output(graph, outputs)
    constants = {port.name: (port.dtype, (_axis(port, 1) or 1,)) for port in others}
    signature = Signature(
        input=pixels[0].name,
        output=rows.name,
        dtype=pixels[0].dtype,
        fixed_batch=_batch_size(graph, pixels[0]),
        constants=constants,
        data_files=graph.data_files,
    )
    return TowerGraph(graph, signature, dim)


def text_tower(
    graph: GraphFile, tokenizer: TokenizerConfig, size: int, outputs: Sequence[str], *, end_id: int | None
) -> TowerGraph:
    """Describe the text tower: a graph, or a part of a graph of both towers.

    Parameters
    ----------
    tokenizer : TokenizerConfig
        Its context length has to be that of the graph, if that is fixed.
    size : int
        Side of the images, for a graph of both towers.
    outputs : sequence of str
        As for `image_tower`.
    end_id : int, optional
        End token of the tokenizer.

    Raises
    ------
    WeightsError
        Its inputs or outputs are not those of a text tower; the message lists them.
    """
    texts = [port for port in graph.inputs if _is_ids(port)]
    others = [port for port in graph.inputs if port not in texts]
    masks = [port for port in texts if port.name == "attention_mask"]
    ids = [port for port in texts if port not in masks]
    pictures = all(port.dtype in IMAGE_DTYPES and len(port.shape or ()) == 4 for port in others)
    if len(ids) != 1 or len(others) > 1 or not pictures:
        raise _unexpected(
            graph, "expected one input of ids (N, length) in int32 or int64, and at most attention_mask"
        )
    if _axis(ids[0], 1) not in (None, tokenizer.context_length):
        raise _unexpected(graph, f"its config says {tokenizer.context_length} tokens")
    if masks and masks[0].dtype != ids[0].dtype:
        raise _unexpected(graph, "expected ids and attention_mask of one type")
    rows, dim = _embedding_output(graph, outputs)
    signature = Signature(
        input=ids[0].name,
        output=rows.name,
        dtype=ids[0].dtype,
        mask=masks[0].name if masks else None,
        pad_id=tokenizer.pad_id,
        end_is_pad=tokenizer.pad_id == end_id,
        fixed_batch=_batch_size(graph, ids[0]),
        constants={port.name: (port.dtype, (3, size, size)) for port in others},
        data_files=graph.data_files,
    )
    return TowerGraph(graph, signature, dim)


def assemble(
    spec: ExportSpec,
    image: TowerGraph,
    text: TowerGraph,
    *,
    folder: Path,
    tokenizer_file: Path,
    layout: str,
    precision: str = "float32",
) -> ReleasedModel:
    """Combine two validated towers to a model, with its identity.

    Raises
    ------
    WeightsError
        The embeddings of the towers differ in width.
    """
    if image.dim != text.dim:
        raise WeightsError(
            f"{folder}: image embeddings have {image.dim} values, text embeddings {text.dim}: these are not "
            "the towers of one model"
        )
    identity = _identity(spec, image, text, tokenizer_file)
    spec = replace(spec, dim=image.dim, identity=identity)
    return ReleasedModel(spec, image, text, folder, layout, precision)


def open_vocabulary(folder: Path, tokenizer_file: Path) -> FileVocabulary:
    """Open the vocabulary of a released folder."""
    return FileVocabulary(inside(tokenizer_file, folder))


def padding(vocabulary: FileVocabulary, path: Path) -> int:
    """Id of the padding token that a `tokenizer_config.json` names."""
    stated = read_json(path).get("pad_token")
    token = stated.get("content") if isinstance(stated, Mapping) else stated
    pad_id = vocabulary.id_of(token) if isinstance(token, str) else None
    if pad_id is None:
        raise WeightsError(f"{path}: pad_token is {token!r}, expected a token of its tokenizer.json")
    return pad_id


def new_spec(
    folder: Path,
    *,
    name: str,
    preprocess: PreprocessConfig,
    tokenizer: TokenizerConfig,
    cut: str,
    logit_bias: float,
    architecture: Mapping[str, Any],
    licence: str,
    source: str,
) -> ExportSpec:
    """Specification of a released folder, without width and identity, which `assemble` fills in."""
    if preprocess.size > LARGEST_SIDE or tokenizer.context_length > LONGEST_TEXT:
        raise WeightsError(
            f"{folder}: images of {preprocess.size} pixels and texts of {tokenizer.context_length} tokens: "
            f"expected at most {LARGEST_SIDE} and {LONGEST_TEXT}"
        )
    return ExportSpec(
        name=name,
        identity="",
        dim=1,
        preprocess=preprocess,
        tokenizer=tokenizer,
        logit_scale=LOGIT_SCALE,
        logit_bias=logit_bias,
        cut=cut,
        cut_id=tokenizer.pad_id if cut == "padding" else None,
        licence=licence,
        source=source,
        architecture=architecture,
    )


def _is_ids(port: Port) -> bool:
    return port.dtype in ID_DTYPES and len(port.shape or ()) == 2


def _axis(port: Port, number: int) -> int | None:
    return port.shape[number] if port.shape else None


def _batch_size(graph: GraphFile, port: Port) -> int | None:
    """Batch size that the graph demands, or None; 1 with dynamic quantisation.

    Dynamic quantisation determines the range of activations over the whole batch, so the embedding of an
    image would depend on the others in its batch.
    """
    fixed = _axis(port, 0)
    if fixed is not None and not 0 < fixed <= 1024:
        raise _unexpected(graph, f"{port.name} has batch size {fixed}")
    return fixed or (1 if "DynamicQuantizeLinear" in graph.operators else None)


def _embedding_output(graph: GraphFile, outputs: Sequence[str]) -> tuple[Port, int]:
    """Output with the embeddings, and their width."""
    by_name = {port.name: port for port in graph.outputs}
    named = [by_name[name] for name in outputs if name in by_name]
    rows = named[0] if named else graph.outputs[0] if len(graph.outputs) == 1 else None
    dim = None if rows is None or len(rows.shape or ()) != 2 else _axis(rows, 1)
    if rows is None or dim is None or not 0 < dim <= WIDEST or rows.dtype not in IMAGE_DTYPES:
        raise _unexpected(
            graph, f"expected rows (N, width) in float32 or float16, named {' or '.join(outputs)}"
        )
    return rows, dim


def _unexpected(graph: GraphFile, expected: str) -> WeightsError:
    inputs, outputs = (", ".join(map(str, ports)) or "nothing" for ports in (graph.inputs, graph.outputs))
    return WeightsError(f"{graph.path} takes {inputs} and gives {outputs}: {expected}"[:600])


def _identity(spec: ExportSpec, image: TowerGraph, text: TowerGraph, tokenizer_file: Path) -> str:
    """Hash of everything that affects embeddings: the bytes of all graphs and weights, and the configs."""
    files = list(dict.fromkeys([*image.graph.files, *text.graph.files, tokenizer_file]))
    with ThreadPoolExecutor(4) as pool:
        hashes = dict(zip(files, pool.map(_sha256, files), strict=True))
    parts = {
        "image": [hashes[file] for file in image.graph.files],
        "text": [hashes[file] for file in text.graph.files],
        "outputs": [image.signature.output, text.signature.output],
        "tokenizer": [hashes[tokenizer_file], spec.tokenizer.to_dict()],
        "preprocess": spec.preprocess.to_dict(),
    }
    return "sha256:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
