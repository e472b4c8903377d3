"""Choose a device and a precision, and copy tensors to a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str, cuda: Any = torch.cuda) -> torch.device:
    """Look up a device by name; "auto" takes CUDA, else Apple's MPS, else the CPU.

    Parameters
    ----------
    name : str
        auto, cpu, cuda, cuda:1 or mps.
    cuda : module
        `torch.cuda`; tests pass a fake.

    Raises
    ------
    InputError
        The name is unknown, or CUDA is not available.
    """
    if name == "auto":
        if cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}: expected auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and not cuda.is_available():
        raise InputError(f"device {name!r} needs CUDA, which torch does not find here; use auto or cpu")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16; where it is emulated, it is slower than float32."""
    if device.type == "cuda":  # Ampere or later
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Look up a precision by name; "auto" takes bfloat16 where the hardware has it, else float32."""
    if precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if precision not in DTYPES:
        raise InputError(f"unknown precision {precision!r}: expected auto, {', '.join(DTYPES)}")
    return DTYPES[precision]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; from the CPU to CUDA through page-locked memory, asynchronously."""
    # Only a copy from page-locked memory can overlap with the host's work.
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor if tensor.is_pinned() else tensor.pin_memory()
        return tensor.to(device, non_blocking=True)
    return tensor.to(device)
