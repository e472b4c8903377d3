"""One tower on one runtime: a file in, a function from batches to rows out. No torch.

ONNX Runtime and OpenVINO are imported when a tower is opened, neither when this module is. Which inputs a
graph has beside the batch is said by its `Signature`; whether its rows are right is `exported`'s business.
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
from diptych.backends.exported.intel import intel, signals_kept
from diptych.errors import InputError, WeightsError
from diptych.extras import require
from diptych.files.disk import user_cache
from diptych.inputs import processors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

RUNTIMES = ("onnx", "openvino")
_MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
PRECISIONS = {"onnx": ("float32",), "openvino": ("float32", "bfloat16", "int8")}
# Inputs per call of a stream. Larger ones leave the cache: with two cores and a ViT-B/32 in int8, 8 gave 164
# pictures/s and 32 gave 163, in bfloat16 98 and 100; more streams than one gain most with small batches.
CHUNK = 8
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
STREAMS = 8  # at most; with more cores each gets several
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


@dataclass(frozen=True)
class Signature:
    """How a graph is called; by default as our own are: one input, and the rows as its first output.

    Parameters
    ----------
    input : str, optional
        Of the batch: pixels or ids; by default the graph's first.
    output : str, optional
        With the rows; by default the graph's first.
    dtype : str, optional
        The batch is cast to it.
    mask : str, optional
        An input that is 1 where an id is seen and 0 where it is padding, in the ids' type.
    pad_id : int
        What is padding.
    end_is_pad : bool
        The padding is the end token, as in transformers' tokenizer of CLIP: the first in a row is seen.
    fixed_batch : int, optional
        The graph takes exactly so many items at a time.
    constants : mapping
        Inputs of the other tower, where both are one graph, as (type, shape of one item): fed with zeros.
    data_files : tuple of Path
        Other files that the graph's weights lie in.
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
        """Every input by its name, for a batch of pixels or ids.

        Examples
        --------
        >>> call = Signature("input_ids", dtype="int32", mask="attention_mask", pad_id=1)
        >>> {name: ids.tolist() for name, ids in call.feeds(np.array([[5, 2, 1]]), "").items()}
        {'input_ids': [[5, 2, 1]], 'attention_mask': [[1, 1, 0]]}
        """
        batch = np.ascontiguousarray(batch, self.dtype)
        feeds = {self.input or first_input: batch}
        if self.mask is not None:
            seen = batch != self.pad_id  # (B, L)
            if self.end_is_pad:
                seen |= (
                    np.cumsum(~seen, axis=1) == 1
                )  # the end itself is the first place that looks like padding
            feeds[self.mask] = seen.astype(batch.dtype)
        for name, (dtype, shape) in self.constants.items():
            feeds[name] = np.zeros((len(batch), *shape), dtype)
        return feeds


OWN = Signature()


class Tower(Protocol):
    """Batches of pixels or ids as unit rows."""

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, 3, S, S) float32 or (B, L) int64 -> (B, dim) float32."""
        ...


def open_tower(
    path: Path,
    runtime: str,
    precision: str,
    *,
    threads: int | None = None,
    signature: Signature = OWN,
) -> Tower:
    """A tower from its file.

    Parameters
    ----------
    path : Path
        `.onnx`, or OpenVINO's `.xml` with the weights beside it.
    runtime : {"onnx", "openvino"}
    precision : {"float32", "bfloat16", "int8"}
        What to compute in; "int8" is in the file itself.
    threads : int, optional
        By default one per processor this process may use.
    signature : Signature
        By default that of our own exports.

    Raises
    ------
    InputError
        No such runtime, or it does not compute in that precision.
    MissingExtraError
        The runtime is not installed.
    WeightsError
        The file cannot be read by it.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS[runtime]:
        raise InputError(
            f"{runtime} does not compute in {precision!r} here: expected {', '.join(PRECISIONS[runtime])}"
        )
    kind = OnnxTower if runtime == "onnx" else OpenVinoTower
    return kind(path, precision, threads or processors(), signature)


class OnnxTower:
    """A tower on ONNX Runtime."""

    def __init__(self, path: Path, precision: str, threads: int, signature: Signature = OWN) -> None:
        onnxruntime = require("onnxruntime", extra="onnx", purpose="run exported models")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # its warnings are for whoever exported the graph
        # Threads that spin while they wait would take the cores from those that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model: str | bytes = str(path)
        with _readable(path), contextlib.ExitStack() as stack:
            if signature.constants and signature.output:
                model = pruned_model(path, signature.output)
                linked = stack.enter_context(_linked(path, signature.data_files))
                options.add_session_config_entry(_DATA_FOLDER, str(linked.parent))
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names = [port.name for port in self._session.get_inputs()]
        self._output = signature.output or self._session.get_outputs()[0].name
        self._path, self._signature = path, signature

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, ...) -> (B, dim) float32."""
        fixed = self._signature.fixed_batch
        rows = [
            self._rows(part)[:count] for part, count in _parts(batch, fixed or len(batch), fill=bool(fixed))
        ]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _rows(self, part: NDArray[Any]) -> FloatArray:
        feeds = self._signature.feeds(part, self._names[0])
        feeds = {name: value for name, value in feeds.items() if name in self._names}
        with _runs(self._path):
            return np.asarray(self._session.run([self._output], feeds)[0], np.float32)


class OpenVinoTower:
    """A tower on OpenVINO, with a stream of one thread for each of a few cores.

    A stream computes a chunk by itself, so cores neither wait for one another within a layer nor share what
    one layer hands the next: for many texts 1.2 to 1.5 times the rate of one stream on two cores. The price
    is that a single input gets one core: there a quarter longer for a text, half as long again for a picture.
    """

    def __init__(self, path: Path, precision: str, threads: int, signature: Signature = OWN) -> None:
        openvino = intel("openvino", "run exported models on OpenVINO")
        core = openvino.Core()
        with _readable(path), signals_kept(), _linked(path, signature.data_files) as readable_path:
            settings = {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": min(threads, STREAMS),
            }
            model = core.read_model(readable_path)
            self._first_input = model.input(0).any_name
            if signature.constants:  # the part of a graph of both towers that makes these rows
                wanted = [model.input(name) for name in (signature.input, signature.mask) if name is not None]
                parameters = [port.get_node() for port in wanted]
                model = openvino.Model([model.output(signature.output)], parameters)
            compiled = core.compile_model(model, "CPU", settings)
        self._requests = [compiled.create_infer_request() for _ in range(min(threads, STREAMS))]
        # Not `Output.index`, which counts within its node.
        places = [place for place, port in enumerate(compiled.outputs) if signature.output in port.names]
        self._output = places[0] if places else 0
        self._names = {name for port in compiled.inputs for name in port.names}  # a port may have several
        self._path, self._signature = path, signature
        self._one = Lock()

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, ...) -> (B, dim) float32. Threads take turns: a request holds one thread's chunk and rows."""
        with self._one, _runs(self._path):
            return self._rows(batch)

    def _rows(self, batch: NDArray[Any]) -> FloatArray:
        # Small batches are shared out too.
        fixed = self._signature.fixed_batch
        size = fixed or min(CHUNK, -(-len(batch) // len(self._requests)))
        rows: list[FloatArray] = []
        parts = list(_parts(batch, size, fill=bool(fixed)))
        for step in range(0, len(parts), len(self._requests)):
            busy = list(zip(self._requests, parts[step : step + len(self._requests)], strict=False))
            shared = []  # kept until the requests are done: they read these arrays where they lie
            for request, (part, _) in busy:
                feeds = self._signature.feeds(part, self._first_input)
                shared.append({name: value for name, value in feeds.items() if name in self._names})
                request.start_async(shared[-1], share_inputs=True)
            for request, (_, count) in busy:
                request.wait()
                rows.append(np.array(request.get_output_tensor(self._output).data[:count], np.float32))
        return np.concatenate(rows)


def _parts(batch: NDArray[Any], size: int, *, fill: bool) -> Iterator[tuple[NDArray[Any], int]]:
    """Pieces of `size` items with their number; with `fill` the last repeats its last item up to `size`."""
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        count = len(part)
        if fill and count < size:
            part = np.concatenate([part, np.repeat(part[-1:], size - count, axis=0)])
        yield part, count


def is_installed(runtime: str) -> bool:
    """Whether a runtime is there, without importing it."""
    return importlib.util.find_spec(_MODULES[runtime]) is not None


def has_bfloat16() -> bool:
    """Whether OpenVINO computes bfloat16 on this machine's processor, by its own account."""
    openvino = intel("openvino", "run exported models on OpenVINO")
    with signals_kept():
        return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextlib.contextmanager
def _linked(path: Path, data_files: tuple[Path, ...]) -> Iterator[Path]:
    """Where a graph may be read whose external data are links, as in the hub's cache.

    OpenVINO refuses such links, and ONNX Runtime does for a graph from memory. So the files get names in a
    folder of their own while they are read; nothing is copied.
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
def _runs(path: Path) -> Iterator[None]:
    """What a runtime raises while it computes, as ours."""
    try:
        yield
    except Exception as error:
        raise WeightsError(f"{path} cannot be computed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The last line of what a runtime says: the others are its own source files."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:300]


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What a runtime says of a file it cannot read, as ours; both raise anything."""
    if not path.is_file():
        raise WeightsError(f"{path} is not there: the folder is not whole; export it again")
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(
            f"{path} cannot be opened: {_reason(error)}. Export or fetch the model again"
        ) from error
