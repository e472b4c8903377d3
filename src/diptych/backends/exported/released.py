"""Both towers as ONNX graphs in a folder that another project released: what every such layout shares.

A layout (`immich`, `transformers_js`) finds the files and reads its project's configs. Here its graphs are
checked against what they have to be before a runtime opens them, and become a description like that of our
own exports, with the `Signature` of each tower. No torch.
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
from diptych.weights.foreign import read_json

# Such folders hold no scale. CLIP's training ends at 100, the most that it allows (paper, section 2.5).
LOGIT_SCALE = 100.0
IMAGE_DTYPES = ("float32", "float16")
ID_DTYPES = ("int32", "int64")
LARGEST_SIDE = 4096  # pixels
LONGEST_TEXT = 65_536  # ids
WIDEST = 65_536  # numbers in a row


@dataclass(frozen=True)
class TowerGraph:
    """One tower in a released folder.

    Attributes
    ----------
    graph : GraphFile
    signature : Signature
    dim : int
        Length of a row.
    """

    graph: GraphFile
    signature: Signature
    dim: int


@dataclass(frozen=True)
class ReleasedModel:
    """A released folder, checked.

    Attributes
    ----------
    spec : ExportSpec
        As of our own exports; `precisions` of a released folder are those of its files.
    image, text : TowerGraph
    folder : Path
    layout : str
        Whose files these are, for people.
    precision : {"float32", "float16", "int8"}
        Of the graphs.
    """

    spec: ExportSpec
    image: TowerGraph
    text: TowerGraph
    folder: Path
    layout: str
    precision: str = "float32"

    def tower(self, name: str) -> TowerGraph:
        """The tower of that name, "image" or "text"."""
        return self.image if name == "image" else self.text


def image_tower(graph: GraphFile, size: int, outputs: Sequence[str]) -> TowerGraph:
    """The graph of pictures, or that part of a graph of both.

    Parameters
    ----------
    graph : GraphFile
    size : int
        Side of the square that the preprocessing makes.
    outputs : sequence of str
        Names of the rows, the best first; any name will do where the graph has one output.

    Raises
    ------
    WeightsError
        Its inputs or outputs are not those of an image tower; the message lists them.
    """
    pixels = [port for port in graph.inputs if port.dtype in IMAGE_DTYPES and len(port.shape or ()) == 4]
    others = [port for port in graph.inputs if port not in pixels]
    if len(pixels) != 1 or (others and not all(_is_ids(port) for port in others)):
        raise _unfit(graph, f"expected one input of pictures (N, 3, {size}, {size}) in float32 or float16")
    shape = pixels[0].shape or ()
    if any(found not in (None, wanted) for found, wanted in zip(shape[1:], (3, size, size), strict=True)):
        raise _unfit(graph, f"its preprocessing makes pictures of 3 x {size} x {size}")
    rows, dim = _rows(graph, outputs)
    constants = {port.name: (port.dtype, (_axis(port, 1) or 1,)) for port in others}
    signature = Signature(
        input=pixels[0].name,
        output=rows.name,
        dtype=pixels[0].dtype,
        fixed_batch=_batch(graph, pixels[0]),
        constants=constants,
        data_files=graph.data_files,
    )
    return TowerGraph(graph, signature, dim)


def text_tower(
    graph: GraphFile, tokenizer: TokenizerConfig, size: int, outputs: Sequence[str], *, end_id: int | None
) -> TowerGraph:
    """The graph of texts, or that part of a graph of both.

    Parameters
    ----------
    graph : GraphFile
    tokenizer : TokenizerConfig
        Its length has to be that of the graph, where that is fixed.
    size : int
        Side of a picture, for a graph of both.
    outputs : sequence of str
        As for `image_tower`.
    end_id : int, optional
        What the tokenizer puts after every text.

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
        raise _unfit(
            graph, "expected one input of ids (N, length) in int32 or int64, and at most attention_mask"
        )
    if _axis(ids[0], 1) not in (None, tokenizer.context_length):
        raise _unfit(graph, f"its config says {tokenizer.context_length} tokens")
    if masks and masks[0].dtype != ids[0].dtype:
        raise _unfit(graph, "expected ids and attention_mask of one type")
    rows, dim = _rows(graph, outputs)
    signature = Signature(
        input=ids[0].name,
        output=rows.name,
        dtype=ids[0].dtype,
        mask=masks[0].name if masks else None,
        pad_id=tokenizer.pad_id,
        end_is_pad=tokenizer.pad_id == end_id,
        fixed_batch=_batch(graph, ids[0]),
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
    """Combine two checked towers to a model, with its identity.

    Raises
    ------
    WeightsError
        The towers give rows of different lengths.
    """
    if image.dim != text.dim:
        raise WeightsError(
            f"{folder}: pictures become rows of {image.dim} numbers, texts of {text.dim}: these are not the "
            "towers of one model"
        )
    identity = _identity(spec, image, text, tokenizer_file)
    spec = replace(spec, dim=image.dim, identity=identity)
    return ReleasedModel(spec, image, text, folder, layout, precision)


def open_vocabulary(folder: Path, tokenizer_file: Path) -> FileVocabulary:
    """The token table of a released folder."""
    return FileVocabulary(inside(tokenizer_file, folder))


def padding(vocabulary: FileVocabulary, path: Path) -> int:
    """The id of the padding token that a `tokenizer_config.json` names."""
    stated = read_json(path).get("pad_token")
    token = stated.get("content") if isinstance(stated, Mapping) else stated
    found = vocabulary.id_of(token) if isinstance(token, str) else None
    if found is None:
        raise WeightsError(f"{path}: pad_token is {token!r}, expected a token of its tokenizer.json")
    return found


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
    """The description of a released folder, its width and identity still open."""
    if preprocess.size > LARGEST_SIDE or tokenizer.context_length > LONGEST_TEXT:
        raise WeightsError(
            f"{folder}: pictures of {preprocess.size} pixels and texts of {tokenizer.context_length} tokens: "
            f"at most {LARGEST_SIDE} and {LONGEST_TEXT} are read"
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


def _batch(graph: GraphFile, port: Port) -> int | None:
    """How many items a call takes: what the graph says, and one where a batch would change its rows.

    A graph that finds the range of its activations while it runs (dynamic quantisation) takes it over the
    whole batch: a picture's vector would depend on its neighbours.
    """
    fixed = _axis(port, 0)
    if fixed is not None and not 0 < fixed <= 1024:
        raise _unfit(graph, f"{port.name} takes {fixed} items at a time")
    return fixed or (1 if "DynamicQuantizeLinear" in graph.operators else None)


def _rows(graph: GraphFile, outputs: Sequence[str]) -> tuple[Port, int]:
    """The output with the rows, and their length."""
    by_name = {port.name: port for port in graph.outputs}
    named = [by_name[name] for name in outputs if name in by_name]
    rows = named[0] if named else graph.outputs[0] if len(graph.outputs) == 1 else None
    dim = None if rows is None or len(rows.shape or ()) != 2 else _axis(rows, 1)
    if rows is None or dim is None or not 0 < dim <= WIDEST or rows.dtype not in IMAGE_DTYPES:
        raise _unfit(graph, f"expected rows (N, width) in float32 or float16, named {' or '.join(outputs)}")
    return rows, dim


def _unfit(graph: GraphFile, expected: str) -> WeightsError:
    taken, given = (", ".join(map(str, ports)) or "nothing" for ports in (graph.inputs, graph.outputs))
    return WeightsError(f"{graph.path} takes {taken} and gives {given}: {expected}"[:600])


def _identity(spec: ExportSpec, image: TowerGraph, text: TowerGraph, tokenizer_file: Path) -> str:
    """Hash of everything that a vector depends on: the bytes of all graphs and weights, and the configs."""
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
