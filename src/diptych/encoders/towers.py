"""One tower on one runtime: a file in, a function from batches to rows out. No torch.

ONNX Runtime and OpenVINO are imported when a tower is opened, neither when this module is. What a tower is
fed and whether its rows are right is `exported`'s business.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diptych.encoders.intel import intel, signals_kept
from diptych.errors import InputError, WeightsError
from diptych.extras import require
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
STREAMS = 8  # at most; with more cores each gets several
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class Tower(Protocol):
    """Batches of pixels or ids as unit rows."""

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, 3, S, S) float32 or (B, L) int64 -> (B, dim) float32."""
        ...


def open_tower(path: Path, runtime: str, precision: str, *, threads: int | None = None) -> Tower:
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
    return kind(path, precision, threads or processors())


class OnnxTower:
    """A tower on ONNX Runtime."""

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        onnxruntime = require("onnxruntime", extra="onnx", purpose="run exported models")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait would take the cores from those that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with _readable(path):
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, ...) -> (B, dim) float32."""
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float32)


class OpenVinoTower:
    """A tower on OpenVINO, with a stream of one thread for each of a few cores.

    A stream computes a chunk by itself, so cores neither wait for one another within a layer nor share what
    one layer hands the next: for many texts 1.2 to 1.5 times the rate of one stream on two cores. The price
    is that a single input gets one core: there a quarter longer for a text, half as long again for a picture.
    """

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        openvino = intel("openvino", "run exported models on OpenVINO")
        core = openvino.Core()
        with _readable(path), signals_kept():
            settings = {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": min(threads, STREAMS),
            }
            model = core.compile_model(core.read_model(path), "CPU", settings)
        self._requests = [model.create_infer_request() for _ in range(min(threads, STREAMS))]
        self._one = Lock()

    def __call__(self, batch: NDArray[Any]) -> FloatArray:
        """(B, ...) -> (B, dim) float32. Threads take turns: a request holds one thread's chunk and rows."""
        with self._one:
            return self._rows(batch)

    def _rows(self, batch: NDArray[Any]) -> FloatArray:
        size = min(CHUNK, -(-len(batch) // len(self._requests)))  # small batches are shared out too
        rows: list[FloatArray] = []
        starts = range(0, len(batch), size)
        for step in range(0, len(starts), len(self._requests)):
            busy = list(zip(self._requests, starts[step : step + len(self._requests)], strict=False))
            for request, start in busy:
                request.start_async({0: np.ascontiguousarray(batch[start : start + size])}, share_inputs=True)
            for request, _ in busy:
                request.wait()
                rows.append(np.array(request.get_output_tensor(0).data, np.float32))
        return np.concatenate(rows)


def is_installed(runtime: str) -> bool:
    """Whether a runtime is there, without importing it."""
    return importlib.util.find_spec(_MODULES[runtime]) is not None


def has_bfloat16() -> bool:
    """Whether OpenVINO computes bfloat16 on this machine's processor, by its own account."""
    openvino = intel("openvino", "run exported models on OpenVINO")
    with signals_kept():
        return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What a runtime says of a file it cannot read, as ours; both raise anything."""
    if not path.is_file():
        raise WeightsError(f"{path} is not there: the folder is not whole; export it again")
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise WeightsError(f"{path} cannot be opened: {reason[0][:300]}. Export the model again") from error
