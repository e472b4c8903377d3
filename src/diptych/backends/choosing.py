"""Which runtime is fastest for a model on this machine, by measuring each (torch).

What is chosen is kept by `choices`, and `load(..., runtime="auto")` keeps to it.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.backends.choices import Choice, measurable, record, recorded
from diptych.backends.conversion.converting import variants
from diptych.backends.conversion.samples import drawn_pictures
from diptych.backends.exported.encoder import ExportedEncoder
from diptych.backends.exported.folder import read_export
from diptych.backends.kept import Weights, kept_export
from diptych.backends.torch import TorchEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.encoder import FloatArray
    from diptych.weights import Checkpoint

BATCH = 32  # pictures at a time, as `embed_images` hands them over
TURNS = 3
SECONDS = 0.7  # a turn takes at least so long
GAIN = 1.15  # how much faster a lower precision has to be


def choose_runtime(
    name: str | Path | Checkpoint = "default",
    pretrained: str | Path | None = None,
    *,
    pictures: Sequence[Image] | None = None,
    pictures_from: str = "pictures handed in",
    again: bool = False,
    note: Callable[[str], None] = lambda message: None,
    cache_dir: str | Path | None = None,
) -> Choice:
    """Measure what computes a model fastest here, and keep the answer; at once where it is known.

    Every runtime that is installed is converted for, judged against float32 and timed, torch beside it in
    the precision it would take by itself. 8 bits are considered only with pictures to fit them to.

    Parameters
    ----------
    name, pretrained, cache_dir
        As for `load`.
    pictures, pictures_from
        Decoded RGB pictures like those to come, 10 or more, and where they are from.
    again : bool
        Measure even where an answer is kept.
    note : callable
        Told what is being done.

    Returns
    -------
    Choice

    Raises
    ------
    ModelError
        No such model, or it cannot be converted; or a runtime is too far from float32.
    SaveError
        The cache cannot be written.
    """
    weights = Weights(name, pretrained, cache_dir)
    known = None if again else recorded(weights.identity)
    # Without rates it stands for a failure (`settling`): whoever asks again is told why.
    if known and known.rates and (pictures is None or any(one.endswith("int8") for one in known.rates)):
        return known
    encoder = TorchEncoder.from_checkpoint(weights.checkpoint)
    candidates: dict[tuple[str, str], TorchEncoder | ExportedEncoder]
    candidates = {("torch", encoder.precision): encoder}
    if encoder.device.type == "cpu" and measurable():
        int8 = pictures is not None and bool(importlib.util.find_spec("nncf"))
        folder = kept_export(weights, int8=int8, pictures=pictures, pictures_from=pictures_from, note=note)
        candidates |= {
            (runtime, precision): ExportedEncoder(folder, runtime=runtime, precision=precision)
            for runtime, precision in variants(int8=int8)
            if not read_export(folder).refusal(runtime, precision)
        }
    note(f"timing {len(candidates)} ways to compute")
    rates = _rates(candidates, drawn_pictures(BATCH, side=encoder.input_size))
    choice = Choice(
        *pick(rates), {f"{runtime} {precision}": rate for (runtime, precision), rate in rates.items()}
    )
    record(weights.identity, choice)
    return choice


def pick(rates: dict[tuple[str, str], float]) -> tuple[str, str]:
    """The fastest; of a lower precision only where that gains enough.

    Examples
    --------
    >>> pick({("torch", "float32"): 100, ("openvino", "float32"): 120, ("openvino", "bfloat16"): 130})
    ('openvino', 'float32')
    >>> pick({("torch", "float32"): 100, ("openvino", "bfloat16"): 130})
    ('openvino', 'bfloat16')
    """
    best: tuple[str, str] | None = None
    for tier in (("float32",), ("bfloat16", "float16"), ("int8",)):
        among = {way: rate for way, rate in rates.items() if way[1] in tier}
        if not among:
            continue
        fastest = max(among, key=among.__getitem__)
        if best is None or among[fastest] > GAIN * rates[best]:
            best = fastest
    assert best is not None
    return best


def _rates(
    ways: dict[tuple[str, str], TorchEncoder | ExportedEncoder], pictures: Sequence[Image]
) -> dict[tuple[str, str], float]:
    """Pictures per second of each: medians of turns taken one after another, so that load falls on all."""
    seen: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for turn in range(TURNS + 1):
        for way, encoder in ways.items():
            rate = _rate(lambda encoder=encoder: encoder.encode_images(pictures), len(pictures))  # type: ignore[misc]
            if turn:  # the first warms up
                seen[way].append(rate)
    return {way: round(statistics.median(rates), 1) for way, rates in seen.items()}


def _rate(work: Callable[[], FloatArray], count: int) -> float:
    start, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < SECONDS:
        work()
        done += count
    return done / taken
