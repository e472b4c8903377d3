"""An encoder for work of unknown length: it begins with torch, and settles on the fastest runtime in time.

Measuring (`choosing`) costs the better part of a minute, which a few hundred pictures would not give back. So
it is put off until as much time has gone into encoding: whatever is to come, that is never more than twice
what a prophet would have spent (the ski-rental rule: Karlin and others 1988, "Competitive snoopy caching").
Torch is not imported here, so that an exported model passes through without it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.backends.choices import Choice, measurable, record, recorded
from diptych.backends.exported.encoder import ExportedEncoder
from diptych.backends.loading import load
from diptych.errors import SaveError, WeightsError

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.backends.torch import TorchEncoder
    from diptych.encoder import Encoder, FloatArray
    from diptych.weights import Checkpoint

AFTER = 40.0  # seconds of encoding pictures: what measuring costs for a ViT-B/32 on two cores


def settle(
    encoder: TorchEncoder | ExportedEncoder,
    name: str | Path | Checkpoint,
    pretrained: str | Path | None = None,
    *,
    note: Callable[[str], None] = lambda message: None,
    **options: Any,
) -> TorchEncoder | ExportedEncoder | SettlingEncoder:
    """The encoder, ready to change to a faster runtime; as it is where there is nothing to choose.

    Parameters
    ----------
    encoder : TorchEncoder or ExportedEncoder
        As `load` gave it with `runtime="auto"`.
    name, pretrained
        What it was loaded by.
    note : callable
        Told when it measures, and what it settles on.
    **options
        Of `load`, for the encoder that takes its place.
    """
    if isinstance(encoder, ExportedEncoder) or not is_open(encoder):
        return encoder
    return SettlingEncoder(encoder, name, pretrained, note=note, **options)


def is_open(encoder: Encoder) -> bool:
    """Whether torch computes because nothing was measured yet, and not because it is the fastest."""
    device = getattr(encoder, "device", None)  # a TorchEncoder's; to ask its class would import torch
    if device is None or device.type != "cpu" or not measurable():
        return False
    return recorded(encoder.identity) is None  # else torch is the fastest, or its export was deleted


class SettlingEncoder:
    """Encodes with torch at first and measures after a while; `settle` makes one.

    Not for several threads at once, but for `prepare`.

    Attributes
    ----------
    encoder : TorchEncoder or ExportedEncoder
        What computes at present.
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
        """One decoded RGB picture as `encode_prepared` takes it; every runtime reads the same."""
        return self.encoder.prepare(image)

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """What `prepare` gave as unit rows, (N, dim) float32."""
        return self._timed(lambda: self.encoder.encode_prepared(prepared))

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as unit rows, (N, dim) float32."""
        return self._timed(lambda: self.encoder.encode_images(images))

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Texts as unit rows, (N, dim) float32."""
        return self.encoder.encode_texts(texts)

    def _timed(self, work: Callable[[], FloatArray]) -> FloatArray:
        start = time.monotonic()
        rows = work()
        if self._left > 0:
            self._left -= time.monotonic() - start
            if self._left <= 0:
                self._settle()
        return rows

    def _settle(self) -> None:
        from diptych.backends.choosing import choose_runtime

        self._note("measuring what encodes fastest on this machine, once for this model")
        try:
            choice = choose_runtime(self._name, self._pretrained)
            found = load(self._name, self._pretrained, runtime="auto", **self._options)
        except Exception as error:  # a full cache, whatever a runtime raises: no reason to stop
            if isinstance(error, WeightsError):  # it would end so each time
                with contextlib.suppress(SaveError):
                    record(self.identity, Choice("torch", self.encoder.precision))
            self._note(f"going on with torch: {error}")
            return
        if isinstance(found, ExportedEncoder):
            self.encoder = found
        rates = ", ".join(
            f"{way} {rate:,.0f}" for way, rate in sorted(choice.rates.items(), key=lambda item: -item[1])
        )
        self._note(f"going on with {choice.runtime} {choice.precision} (pictures/s: {rates})")
