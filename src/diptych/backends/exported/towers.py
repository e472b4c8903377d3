"""Towers on ONNX Runtime and OpenVINO: open a graph file as a function from batches to embeddings. No torch.

The runtimes are imported when a tower is opened, not when this module is. A `Signature` describes the inputs
of a graph besides the batch. `exported.encoder` checks the embeddings.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diptych.backends.exported.graph_pruning import pruned_model
from diptych.backends.exported.openvino_compat import import_intel_library, preserved_signal_stack
from diptych.errors import InputError, WeightsError
from diptych.extras import require
from diptych.files.disk import user_cache
from diptych.inputs import processors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

# Inputs per call of a stream. Larger batches do not fit the cache: with two cores and a ViT-B/32 in int8, 8
# gave 164 images/s and 32 gave 163, in bfloat16 98 and 100; several streams gain most with small batches.
CHUNK = 8
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
STREAMS = 8  # maximum; with more cores each stream gets several
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


@dataclass(frozen=True)
class Signature:
    """Inputs and output of a graph; by default those of our exports: one input, embeddings as first output.

    Parameters
    ----------
    input : str, optional
        Input for the batch of pixels or ids; by default the graph's first.
    output : str, optional
        Output with the embeddings; by default the graph's first.
    dtype : str, optional
        Type to which the batch is cast.
    mask : str, optional
        Input for the attention mask: 1 for tokens, 0 for padding, in the ids' type.
    pad_id : int
        Padding id.
    end_is_pad : bool
        Padding and end token have the same id, as in transformers' tokenizer of CLIP; the first one of each
        text is a token.
    fixed_batch : int, optional
        Batch size, if the graph has a fixed one.
    constants : mapping
        Inputs of the other tower, if both are one graph, as (type, shape of one item); they get zeros.
    data_files : tuple of Path
        Other files with weights of the graph.
    """

    input: str | None = None
    output: str | None = None
    dtype: str | None = None
    mask: str | None = None
    pad_id: int = 0
    end_is_pad: bool = False
    fixed_batch: int | None = None
    constants: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    data_files: tuple[Path, ...] = ()

    def feeds(self, batch: NDArray[Any], first_input: str) -> dict[str, NDArray[Any]]:
        """Values of all inputs by name, for a batch of pixels or ids.

        Examples
        --------
        >>> call = Signature("input_ids", dtype="int32", mask="attention_mask", pad_id=1)
        >>> {name: ids.tolist() for name, ids in call.feeds(np.array([[5, 2, 1]]), "").items()}
        {'input_ids': [[5, 2, 1]], 'attention_mask': [[1, 1, 0]]}
        """
        batch = np.ascontiguousarray(batch, self.dtype)
        feeds = {self.input or first_input: batch}
        if self.mask is not None:
            is_token = batch != self.pad_id  # (B, L)
            if self.end_is_pad:
                # The first padding id of a text is its end token: e.g. ids 5 2 9 9 9 with pad_id 9 have
                # is_token 1 1 0 0 0, cumulated ~is_token 0 0 1 2 3, so position 2 is added.
                is_token |= np.cumsum(~is_token, axis=1) == 1
            feeds[self.mask] = is_token.astype(batch.dtype)
        for name, (dtype, shape) in self.constants.items():
            feeds[name] = np.zeros((len(batch), *shape), dtype)
        return feeds


DEFAULT_SIGNATURE = Signature()


class Tower(Protocol):
    """Function from batches of pixels or ids to embeddings."""

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, 3, S, S) float32 or (B, L) int64 -> (B, dim) float32."""
        ...


def open_tower(
    path: Path,
    runtime: str,
    precision: str,
    *,
    threads: int | None = None,
    signature: Signature = DEFAULT_SIGNATURE,
) -> Tower:
    """Open a tower.

    Parameters
    ----------
    path : Path
        `.onnx`, or OpenVINO's `.xml` with the weights beside it.
    runtime : {"onnx", "openvino"}
    precision : {"float32", "bfloat16", "int8"}
        Precision of the computation; for "int8" the file has to be quantised.
    threads : int, optional
        By default one per processor available to this process.
    signature : Signature
        By default that of our exports.

    Raises
    ------
    InputError
        The runtime is unknown, or does not support that precision.
    MissingExtraError
        The runtime is not installed.
    WeightsError
        The runtime cannot read the file.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}")
    tower = RUNTIMES[runtime]
    if precision not in tower.precisions:
        raise InputError(
            f"{runtime} does not compute in {precision!r} here: expected {', '.join(tower.precisions)}"
        )
    return tower(path, precision, threads or processors(), signature)


class OnnxTower:
    """A tower on ONNX Runtime."""

    module = "onnxruntime"
    precisions: tuple[str, ...] = ("float32",)

    def __init__(
        self, path: Path, precision: str, threads: int, signature: Signature = DEFAULT_SIGNATURE
    ) -> None:
        onnxruntime = require("onnxruntime", extra="onnx", purpose="run exported models")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only: its warnings are about the graph's construction
        # Threads that spin while they wait would take the cores from those that decode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model: str | bytes = str(path)
        with _opening_errors(path), contextlib.ExitStack() as stack:
            if signature.constants and signature.output:
                model = pruned_model(path, signature.output)
                linked = stack.enter_context(_with_hard_links(path, signature.data_files))
                options.add_session_config_entry(_DATA_FOLDER, str(linked.parent))
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names = [port.name for port in self._session.get_inputs()]
        self._output = signature.output or self._session.get_outputs()[0].name
        self._path, self._signature = path, signature

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, ...) -> (B, dim) float32."""
        fixed = self._signature.fixed_batch
        rows = [
            self._compute(part)[:count]
            for part, count in _batches(batch, fixed or len(batch), fill=bool(fixed))
        ]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _compute(self, part: NDArray[Any]) -> FloatArray:
        feeds = self._signature.feeds(part, self._names[0])
        feeds = {name: value for name, value in feeds.items() if name in self._names}
        with _computation_errors(self._path):
            return np.asarray(self._session.run([self._output], feeds)[0], np.float32)


class OpenVinoTower:
    """A tower on OpenVINO, with up to 8 streams, by default of one thread each.

    A stream computes a chunk by itself, so cores do not wait for each other in every layer, and each keeps
    its activations in its own cache: for many texts 1.2 to 1.5 times the rate of one stream on two cores. A
    single input, however, gets one core only: a quarter slower for a text, half as fast again for an image.
    """

    module = "openvino"
    precisions: tuple[str, ...] = ("float32", "bfloat16", "int8")

    def __init__(
        self, path: Path, precision: str, threads: int, signature: Signature = DEFAULT_SIGNATURE
    ) -> None:
        openvino = import_intel_library("openvino", "run exported models on OpenVINO")
        core = openvino.Core()
        with (
            _opening_errors(path),
            preserved_signal_stack(),
            _with_hard_links(path, signature.data_files) as readable_path,
        ):
            settings = {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": min(threads, STREAMS),
            }
            model = core.read_model(readable_path)
            self._first_input = model.input(0).any_name
            if signature.constants:  # a graph of both towers: only the part that computes this output
                ports = [model.input(name) for name in (signature.input, signature.mask) if name is not None]
                parameters = [port.get_node() for port in ports]
                model = openvino.Model([model.output(signature.output)], parameters)
            compiled = core.compile_model(model, "CPU", settings)
        self._requests = [compiled.create_infer_request() for _ in range(min(threads, STREAMS))]
        # Not `Output.index`, which counts the outputs of a node.
        indices = [index for index, port in enumerate(compiled.outputs) if signature.output in port.names]
        self._output = indices[0] if indices else 0
        self._names = {name for port in compiled.inputs for name in port.names}  # a port may have several
        self._path, self._signature = path, signature
        self._lock = Lock()

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, ...) -> (B, dim) float32. One thread at a time: the requests hold its inputs and outputs."""
        with self._lock, _computation_errors(self._path):
            return self._compute(batch)

    def _compute(self, batch: NDArray[Any]) -> FloatArray:
        # Small batches are also split among the streams: e.g. 6 items on 4 streams in chunks of 2.
        fixed = self._signature.fixed_batch
        size = fixed or min(CHUNK, -(-len(batch) // len(self._requests)))
        rows: list[FloatArray] = []
        parts = list(_batches(batch, size, fill=bool(fixed)))
        for step in range(0, len(parts), len(self._requests)):
            busy = list(zip(self._requests, parts[step : step + len(self._requests)], strict=False))
            shared = []  # referenced until the requests are done, which read these arrays without a copy
            for request, (part, _) in busy:
                feeds = self._signature.feeds(part, self._first_input)
                shared.append({name: value for name, value in feeds.items() if name in self._names})
                request.start_async(shared[-1], share_inputs=True)
            for request, (_, count) in busy:
                request.wait()
                rows.append(np.array(request.get_output_tensor(self._output).data[:count], np.float32))
        return np.concatenate(rows)


# Every runtime of exported models; a new one begins here.
RUNTIMES: dict[str, type[OnnxTower | OpenVinoTower]] = {"onnx": OnnxTower, "openvino": OpenVinoTower}


def _batches(batch: NDArray[Any], size: int, *, fill: bool) -> Iterator[tuple[NDArray[Any], int]]:
    """Split into batches of `size` items, each with its count; `fill` repeats the last item up to `size`."""
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        count = len(part)
        if fill and count < size:
            part = np.concatenate([part, np.repeat(part[-1:], size - count, axis=0)])
        yield part, count


def is_installed(runtime: str) -> bool:
    """Whether a runtime is installed, without importing it."""
    return importlib.util.find_spec(RUNTIMES[runtime].module) is not None


def has_bfloat16() -> bool:
    """Whether OpenVINO reports support for bfloat16 on this processor."""
    openvino = import_intel_library("openvino", "run exported models on OpenVINO")
    with preserved_signal_stack():
        return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextlib.contextmanager
def _with_hard_links(path: Path, data_files: tuple[Path, ...]) -> Iterator[Path]:
    """Provide a path for a graph whose external data are symbolic links, as in the hub's cache.

    OpenVINO refuses symbolic links, as does ONNX Runtime for a graph from memory. So hard links to the files
    are made in a temporary folder while they are read; nothing is copied.
    """
    if not any(file.is_symlink() for file in data_files):
        yield path
        return
    cache = user_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="graph-") as folder:
        for file in (path, *data_files):
            name = Path(folder) / file.relative_to(path.parent)
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file.resolve(), name)
            except OSError as error:  # another file system
                raise WeightsError(
                    f"links of {path.parent} lead to another file system than {cache}: copy the folder, or "
                    "name a cache beside it (DIPTYCH_CACHE)"
                ) from error
        yield Path(folder) / path.name


@contextlib.contextmanager
def _computation_errors(path: Path) -> Iterator[None]:
    """Raise errors of a runtime's computation as WeightsError."""
    try:
        yield
    except Exception as error:
        raise WeightsError(f"{path} cannot be computed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Last line of a runtime's message; the others are positions in its source code."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:300]


@contextlib.contextmanager
def _opening_errors(path: Path) -> Iterator[None]:
    """Raise errors of a runtime that cannot open a file as WeightsError; both raise any kind of error."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing: the folder is incomplete; export it again")
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(
            f"{path} cannot be opened: {_reason(error)}. Export or fetch the model again"
        ) from error
