"""Autotuning encoder: starts with torch, and switches to the fastest runtime when that pays off.

Measuring (`runtime_choice`) takes most of a minute, which a few hundred images cannot make up for. How many
will come is not known. So it is postponed until as much time has been spent on encoding as measuring takes:
the total is then at most twice that of an optimal offline choice, however much work follows (the ski-rental
rule: Karlin and others 1988, "Competitive snoopy caching").

Torch is not imported here, so that an exported model is used without it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.backends.exported.encoder import ExportedEncoder
from diptych.backends.loading import load
from diptych.backends.runtime_choice import (
    RuntimeChoice,
    choose_runtime,
    measurable,
    read_choice,
    write_choice,
)
from diptych.errors import SaveError, WeightsError

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.backends.torch import TorchEncoder
    from diptych.encoder import Encoder, FloatArray
    from diptych.weights import Checkpoint

AFTER = 40.0  # seconds of encoding images: measuring takes about as long for a ViT-B/32 on two cores


def autotune(
    encoder: TorchEncoder | ExportedEncoder,
    name: str | Path | Checkpoint,
    pretrained: str | Path | None = None,
    *,
    note: Callable[[str], None] = lambda message: None,
    **options: Any,
) -> TorchEncoder | ExportedEncoder | AutotuningEncoder:
    """Wrap an encoder so that it switches to a faster runtime; return it as it is if there is no choice.

    Parameters
    ----------
    encoder : TorchEncoder or ExportedEncoder
        Result of `load` with `runtime="auto"`.
    name, pretrained
        Arguments of that `load`.
    note : callable
        Called with a message before measuring and with the result.
    **options
        Options of `load` for the encoder that replaces it.
    """
    if isinstance(encoder, ExportedEncoder) or not needs_measurement(encoder):
        return encoder
    return AutotuningEncoder(encoder, name, pretrained, note=note, **options)


def needs_measurement(encoder: Encoder) -> bool:
    """Whether an encoder uses torch because nothing was measured yet, not because torch is the fastest."""
    device = getattr(encoder, "device", None)  # only a TorchEncoder has one; isinstance would import torch
    if device is None or device.type != "cpu" or not measurable():
        return False
    return read_choice(encoder.identity) is None  # otherwise torch is fastest, or the export was deleted


class AutotuningEncoder:
    """Encoder that starts with torch and measures all runtimes after `AFTER` seconds; see `autotune`.

    Not thread-safe, except for `prepare`.

    Attributes
    ----------
    encoder : TorchEncoder or ExportedEncoder
        The encoder in use.
    """

    def __init__(
        self,
        encoder: TorchEncoder,
        name: str | Path | Checkpoint,
        pretrained: str | Path | None,
        *,
        note: Callable[[str], None],
        **options: Any,
    ) -> None:
        self.encoder: TorchEncoder | ExportedEncoder = encoder
        self.identity, self.dim, self.input_size = encoder.identity, encoder.dim, encoder.input_size
        self.logit_scale, self.logit_bias = encoder.logit_scale, encoder.logit_bias
        self._name, self._pretrained, self._options = name, pretrained, options
        self._left, self._note = AFTER, note

    def prepare(self, image: Image) -> FloatArray:
        """Preprocess a decoded RGB image for `encode_prepared`; the same for every runtime."""
        return self.encoder.prepare(image)

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """Embed preprocessed images, (N, dim) float32, normalised."""
        return self._timed(lambda: self.encoder.encode_prepared(prepared))

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Embed decoded RGB images, (N, dim) float32, normalised."""
        return self._timed(lambda: self.encoder.encode_images(images))

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts, (N, dim) float32, normalised; they do not count as time spent."""
        return self.encoder.encode_texts(texts)

    def _timed(self, work: Callable[[], FloatArray]) -> FloatArray:
        """Run a call, and measure the runtimes once the time budget is used up."""
        start = time.monotonic()
        embeddings = work()
        if self._left > 0:
            self._left -= time.monotonic() - start
            if self._left <= 0:
                self._measure()
        return embeddings

    def _measure(self) -> None:
        """Measure the runtimes and switch to the fastest; continue with torch after any error."""
        self._note("measuring what encodes fastest on this machine, once for this model")
        try:
            choice = choose_runtime(self._name, self._pretrained)
            fastest = load(self._name, self._pretrained, runtime="auto", **self._options)
        except Exception as error:  # a full cache, or any error of a runtime: encoding can go on
            if isinstance(error, WeightsError):  # the model cannot be converted: recorded, not tried again
                with contextlib.suppress(SaveError):
                    write_choice(self.identity, RuntimeChoice("torch", self.encoder.precision))
            self._note(f"going on with torch: {error}")
            return
        if isinstance(fastest, ExportedEncoder):
            self.encoder = fastest
        rates = ", ".join(
            f"{way} {rate:,.0f}" for way, rate in sorted(choice.rates.items(), key=lambda item: -item[1])
        )
        self._note(f"going on with {choice.runtime} {choice.precision} (pictures/s: {rates})")
