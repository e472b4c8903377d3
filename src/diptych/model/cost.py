"""Floating point operations of a model per image and per text, and the peak rate of a device.

A model trained by prediction has a decoder or a linear head instead of the text tower. Operations are counted
by torch's `FlopCounterMode` on tensors of the meta device, so each architecture is counted as it computes.
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

# The module beside the image tower: a text tower, a caption decoder, or a linear head.
TextModule = Literal["tower", "decoder", "head"]

# Dense operations per second as stated by the makers: bfloat16 (float16 on V100, T4), float32 (or TF32).
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

MEASURED = 0.3  # seconds of matrix products on a CPU; the fastest counts, as other programs may disturb some


@dataclass(frozen=True)
class Cost:
    """Floating point operations of one forward pass.

    Attributes
    ----------
    picture : float
        Operations for one image.
    text : float
        Operations for one text of `tokens` tokens: of the text tower, of the decoder with the image's patch
        tokens, or of the head.
    """

    picture: float
    text: float
    tokens: int

    @property
    def pair(self) -> float:
        """Operations for one pair in training."""
        return self.training(1, 1)

    def training(self, pictures: float, texts: float) -> float:
        """Operations for that many images and texts in training."""
        # The backward pass needs twice the forward pass: gradients of the inputs and of the weights.
        return 3 * (pictures * self.picture + texts * self.text)


@lru_cache(maxsize=64)
def cost(
    config: CLIPConfig, tokens: int, side: int = 0, text_module: TextModule = "tower", entries: int = 0
) -> Cost:
    """Count a model's operations.

    Parameters
    ----------
    tokens : int
        Length of the text, start and end included; up to the context length.
    side : int
        Side of the images in pixels; 0 for the model's image size.
    text_module : {"tower", "decoder", "head"}
        The module beside the image tower.
    entries : int
        Number of outputs of the head.

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
    image = torch.empty(1, 3, side, side, device="meta")
    encode_image = {
        "tower": model.visual,
        "decoder": model.visual.patch_tokens,
        "head": model.visual.features,
    }[text_module]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        image_features = encode_image(image)  # (1, E), (1, P, C) or (1, C)
    image_operations = float(counter.get_total_flops())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _compute_text(model, image_features, tokens, text_module, entries)
    return Cost(image_operations, float(counter.get_total_flops()), tokens)


def _compute_text(
    model: CLIP, image_features: torch.Tensor, tokens: int, text_module: TextModule, entries: int
) -> None:
    """Run the text module for one text on the meta device."""
    text, width = model.config.text, image_features.shape[-1]
    if text_module == "head":
        torch.nn.functional.linear(image_features, torch.empty(entries, width, device="meta"))
    elif text_module == "decoder":
        with torch.device("meta"):
            decoder = CaptionDecoder(text, width, model.config.activation, seed=None)
            # The last token is only a target, so the decoder reads one token less.
            ids = torch.empty(1, tokens - 1, dtype=torch.int64)
            decoder.logits(decoder.hidden_states(image_features, ids))
    elif isinstance(model, RobertaCLIP):
        model.encode_ids(torch.zeros(1, tokens, dtype=torch.int64, device="meta"))
    else:
        # Without `encode_text`, which finds the end token in the ids: meta tensors have no values.
        model.transformer(torch.empty(1, tokens, text.width, device="meta"), causal=True)
        torch.empty(1, text.width, device="meta") @ torch.empty(text.width, width, device="meta")


def peak_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Peak operations per second of a device: as stated by the maker for a GPU, measured on a CPU.

    Returns
    -------
    float
        0 if unknown.
    """
    if device.type == "cuda":
        name = str(torch.cuda.get_device_name(device))
        peak_rates = next((rates for gpu, rates in GPUS.items() if gpu in name), (0.0, 0.0))
        return peak_rates[1] if dtype == torch.float32 else peak_rates[0]
    return _measured_rate(dtype) if device.type == "cpu" else 0.0


@lru_cache(maxsize=4)
def _measured_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Operations per second of a square matrix product."""
    a, out = torch.ones(size, size, dtype=dtype), torch.empty(size, size, dtype=dtype)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < MEASURED:
        start = time.perf_counter()
        torch.mm(a, a, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best  # a multiplication and an addition for each of size^3 terms
