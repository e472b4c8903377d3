"""Measure which runtime is fastest for a model on this machine (needs torch).

`runtime_records` stores the choice, and `load(..., runtime="auto")` uses it.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.backends.conversion.converting import variants
from diptych.backends.conversion.samples import synthetic_images
from diptych.backends.export_cache import LazyCheckpoint, cached_export
from diptych.backends.exported.encoder import ExportedEncoder
from diptych.backends.exported.folder import read_export
from diptych.backends.runtime_records import RuntimeChoice, measurable, read_choice, write_choice
from diptych.backends.torch import TorchEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.encoder import FloatArray
    from diptych.weights import Checkpoint

BATCH = 32  # images per call, as in `embed_images`
TURNS = 3  # measurements of each runtime, after one that warms up
SECONDS = 0.7  # minimum duration of a measurement
GAIN = 1.15  # a lower precision is chosen only if it is faster by this factor


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
