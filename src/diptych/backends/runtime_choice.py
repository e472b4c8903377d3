"""The fastest runtime of a model on this machine: measured once, recorded in the user's cache.

`load(..., runtime="auto")` follows the records, for which no torch is loaded; measuring needs it.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.backends.conversion.samples import synthetic_images
from diptych.backends.export_cache import LazyCheckpoint, cached_export
from diptych.backends.exported.encoder import ExportedEncoder
from diptych.backends.exported.folder import read_export
from diptych.files.disk import user_cache, write_bytes
from diptych.inputs import processors

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.backends.torch import TorchEncoder
    from diptych.encoder import FloatArray
    from diptych.weights import Checkpoint

BATCH = 32  # images per call, as in `embed_images`
TURNS = 3  # measurements of each runtime, after one that warms up
SECONDS = 0.7  # minimum duration of a measurement
GAIN = 1.15  # a lower precision is chosen only if it is faster by this factor

_NEEDED = ("onnx", "onnxscript", "onnxruntime")  # to convert and to compare
_LIBRARIES = ("diptych", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class RuntimeChoice:
    """The fastest runtime and precision, and all measured rates.

    Attributes
    ----------
    rates : mapping
        Images per second by "runtime precision". Empty if the model cannot be converted.
    """

    runtime: str
    precision: str
    rates: Mapping[str, float] = field(default_factory=dict)


def machine() -> dict[str, str]:
    """Describe the machine for which a measurement is valid: processor, cores, GPU, versions.

    Examples
    --------
    >>> sorted(machine())[:3]
    ['cores', 'cpu', 'diptych']
    """
    gpu = Path("/proc/driver/nvidia").exists() or Path("/dev/kfd").exists()
    versions = {name: _version(name) for name in _LIBRARIES}
    return {"cpu": _processor(), "cores": str(processors()), "gpu": "yes" if gpu else "no", **versions}


def measurable() -> bool:
    """Whether another runtime than torch is installed that could be chosen."""
    return all(importlib.util.find_spec(module) for module in _NEEDED)


def read_choice(identity: str) -> RuntimeChoice | None:
    """Read the choice for a model on a machine like this; None if there is none."""
    for entry in _entries(identity):
        if entry.get("machine") == machine():
            try:
                return RuntimeChoice(str(entry["runtime"]), str(entry["precision"]), dict(entry["rates"]))
            except (KeyError, TypeError, ValueError):
                return None
    return None


def write_choice(identity: str, choice: RuntimeChoice) -> None:
    """Store a choice; it replaces an earlier one for the same machine.

    Raises
    ------
    SaveError
        The cache cannot be written.
    """
    here = machine()
    others = [entry for entry in _entries(identity) if entry.get("machine") != here]
    text = json.dumps([*others, {"machine": here, **asdict(choice)}], indent=2)
    write_bytes(_file(identity), text.encode())


def _file(identity: str) -> Path:
    return user_cache() / "runtimes" / f"{identity.removeprefix('sha256:')[:24]}.json"


def _entries(identity: str) -> list[dict[str, Any]]:
    """All records of a model: none if the file cannot be read, as they can be measured again."""
    try:
        entries = json.loads(_file(identity).read_bytes())
    except (OSError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes 20 ms, needed for "auto" only

    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Name of the processor, from Linux or Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def choose_runtime(
    name: str | Path | Checkpoint = "default",
    pretrained: str | Path | None = None,
    *,
    pictures: Sequence[Image] | None = None,
    pictures_from: str = "pictures handed in",
    again: bool = False,
    note: Callable[[str], None] = lambda message: None,
    cache_dir: str | Path | None = None,
) -> RuntimeChoice:
    """Find the fastest runtime of a model and store the choice; return a stored one at once.

    The model is converted for every installed runtime, compared with float32, and timed, as is torch in its
    default precision. 8 bits are considered only with pictures for calibration.

    Parameters
    ----------
    name, pretrained, cache_dir
        As for `load`.
    pictures, pictures_from
        Decoded RGB images like those to be encoded, 10 or more, and their origin.
    again : bool
        Measure even if a choice is stored.
    note : callable
        Called with messages about the progress.

    Raises
    ------
    ModelError
        The model is unknown or cannot be converted, or a runtime is too far from float32.
    SaveError
        The cache cannot be written.
    """
    from diptych.backends.conversion.converting import variants
    from diptych.backends.torch import TorchEncoder

    weights = LazyCheckpoint(name, pretrained, cache_dir)
    known = None if again else read_choice(weights.identity)
    # A record without rates stands for a failed conversion (`autotuning`): it is tried again here, so that
    # the caller gets the error.
    if known and known.rates and (pictures is None or any(way.endswith("int8") for way in known.rates)):
        return known
    encoder = TorchEncoder.from_checkpoint(weights.checkpoint)
    candidates: dict[tuple[str, str], TorchEncoder | ExportedEncoder]
    candidates = {("torch", encoder.precision): encoder}
    if encoder.device.type == "cpu" and measurable():
        int8 = pictures is not None and bool(importlib.util.find_spec("nncf"))
        folder = cached_export(weights, int8=int8, pictures=pictures, pictures_from=pictures_from, note=note)
        candidates |= {
            (runtime, precision): ExportedEncoder(folder, runtime=runtime, precision=precision)
            for runtime, precision in variants(int8=int8)
            if not read_export(folder).refusal(runtime, precision)
        }
    note(f"timing {len(candidates)} {'runtime' if len(candidates) == 1 else 'runtimes and precisions'}")
    rates = _rates(candidates, synthetic_images(BATCH, side=encoder.input_size))
    choice = RuntimeChoice(
        *pick(rates), {f"{runtime} {precision}": rate for (runtime, precision), rate in rates.items()}
    )
    write_choice(weights.identity, choice)
    return choice


def pick(rates: dict[tuple[str, str], float]) -> tuple[str, str]:
    """The fastest runtime and precision; a lower precision only if it is faster by `GAIN`.

    Examples
    --------
    >>> pick({("torch", "float32"): 100, ("openvino", "float32"): 120, ("openvino", "bfloat16"): 130})
    ('openvino', 'float32')
    >>> pick({("torch", "float32"): 100, ("openvino", "bfloat16"): 130})
    ('openvino', 'bfloat16')
    """
    best: tuple[str, str] | None = None
    # From the highest precision to the lowest.
    for tier in (("float32",), ("bfloat16", "float16"), ("int8",)):
        tier_rates = {way: rate for way, rate in rates.items() if way[1] in tier}
        if not tier_rates:
            continue
        fastest = max(tier_rates, key=tier_rates.__getitem__)
        if best is None or tier_rates[fastest] > GAIN * rates[best]:
            best = fastest
    assert best is not None
    return best


def _rates(
    ways: dict[tuple[str, str], TorchEncoder | ExportedEncoder], pictures: Sequence[Image]
) -> dict[tuple[str, str], float]:
    """Images per second of each: medians over turns in rotation, so that other load affects all alike."""
    measured: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for turn in range(TURNS + 1):
        for way, encoder in ways.items():
            rate = _rate(lambda encoder=encoder: encoder.encode_images(pictures), len(pictures))  # type: ignore[misc]
            if turn:  # the first one warms up
                measured[way].append(rate)
    return {way: round(statistics.median(rates), 1) for way, rates in measured.items()}


def _rate(work: Callable[[], FloatArray], count: int) -> float:
    start, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < SECONDS:
        work()
        done += count
    return done / taken
