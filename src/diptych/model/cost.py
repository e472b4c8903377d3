"""What a model costs, in operations for a picture and for a text, and what a machine can do of them.

A model that predicts has a decoder or a head in place of the text tower.

Counted by torch's own counter on tensors without memory, so every architecture is counted as it computes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from diptych.model.clip import CLIP, RobertaCLIP
from diptych.model.config import CLIPConfig
from diptych.model.initialise import build
from diptych.model.text.decoder import CaptionDecoder

# How what is said is read: by the text tower, by a decoder that looks at the picture, or by a linear head.
Reader = Literal["tower", "decoder", "head"]

# Dense operations a second as the makers state them: bfloat16 (float16 on V100, T4), float32 (or TF32).
GPUS: dict[str, tuple[float, float]] = {
    "B200": (2250e12, 1125e12),
    "H200": (989e12, 494e12),
    "H100": (989e12, 494e12),
    "A100": (312e12, 156e12),
    "L40S": (362e12, 183e12),
    "RTX 4090": (165e12, 83e12),
    "L4": (121e12, 60e12),
    "V100": (125e12, 15.7e12),
    "T4": (65e12, 8.1e12),
}

MEASURED = 0.3  # seconds of products on a processor, of which the quickest counts: others compute there, too


@dataclass(frozen=True)
class Cost:
    """Of one forward pass, in floating point operations.

    Attributes
    ----------
    picture : float
        Of one picture.
    text : float
        Of one text of `tokens` tokens; of the decoder with the picture's cells, or of the head, if they read.
    tokens : int
    """

    picture: float
    text: float
    tokens: int

    @property
    def pair(self) -> float:
        """Of one pair in training."""
        return self.training(1, 1)

    def training(self, pictures: float, texts: float) -> float:
        """Of so many pictures and texts in training: forward, and twice as much backward."""
        return 3 * (pictures * self.picture + texts * self.text)


@lru_cache(maxsize=64)
def cost(config: CLIPConfig, tokens: int, side: int = 0, reader: Reader = "tower", entries: int = 0) -> Cost:
    """Count a model's operations.

    Parameters
    ----------
    config : CLIPConfig
    tokens : int
        Length of the text, start and end included; up to the context length.
    side : int
        Of the pictures, where it is not the model's own.
    reader : {"tower", "decoder", "head"}
        What stands beside the picture tower.
    entries : int
        What the head tells apart.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> counted = cost(preset("ViT-B-32"), 77)
    >>> round(counted.picture / 1e9, 1), round(counted.text / 1e9, 1)
    (8.8, 6.0)
    """
    from torch.utils.flop_counter import FlopCounterMode

    tokens = min(tokens, config.text.context_length)
    model = build(config, device="meta").eval()
    side = side or config.vision.image_size
    picture = torch.empty(1, 3, side, side, device="meta")
    see = {"tower": model.visual, "decoder": model.visual.cells, "head": model.visual.features}[reader]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        seen = see(picture)
    of_picture = float(counter.get_total_flops())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _read(model, seen, tokens, reader, entries)
    return Cost(of_picture, float(counter.get_total_flops()), tokens)


def _read(model: CLIP, seen: torch.Tensor, tokens: int, reader: Reader, entries: int) -> None:
    """Compute what a text costs, given what the tower makes of a picture; all without memory."""
    text, width = model.config.text, seen.shape[-1]
    if reader == "head":
        torch.nn.functional.linear(seen, torch.empty(entries, width, device="meta"))
    elif reader == "decoder":
        with torch.device("meta"):
            decoder = CaptionDecoder(text, width, model.config.activation, seed=None)
            decoder.logits(decoder.read(seen, torch.empty(1, tokens - 1, dtype=torch.int64)))
    elif isinstance(model, RobertaCLIP):
        model.encode_ids(torch.zeros(1, tokens, dtype=torch.int64, device="meta"))
    else:
        # Past the embedding: where a text ends is a matter of its values, which these tensors do not have.
        model.transformer(torch.empty(1, tokens, text.width, device="meta"), causal=True)
        torch.empty(1, text.width, device="meta") @ torch.empty(text.width, seen.shape[-1], device="meta")


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second that the device can do at most: by its maker on a GPU, measured on a CPU.

    Returns
    -------
    float
        0 where it is not known.
    """
    if device.type == "cuda":
        name = str(torch.cuda.get_device_name(device))
        known = next((rates for gpu, rates in GPUS.items() if gpu in name), (0.0, 0.0))
        return known[1] if dtype == torch.float32 else known[0]
    return _measured(dtype) if device.type == "cpu" else 0.0


@lru_cache(maxsize=4)
def _measured(dtype: torch.dtype, size: int = 1024) -> float:
    a, out = torch.ones(size, size, dtype=dtype), torch.empty(size, size, dtype=dtype)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < MEASURED:
        start = time.perf_counter()
        torch.mm(a, a, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
