"""One side of loss.py: a loss once, forward and backward, in whichever interpreter runs this.

Reads its work as JSON on standard input, prints one JSON line. Only our side imports diptych, only the peer's
open_clip. loss.py decides what is run, and explains the figures.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

Loss = Callable[..., Tensor]


def loss_of(side: str, kind: str) -> Loss:
    """The loss as each project offers it."""
    if side == "ours":
        from diptych.training.losses.contrastive import info_nce, sigmoid_loss

        return info_nce if kind == "infonce" else sigmoid_loss
    import torchvision_cpu  # noqa: F401 - without it open_clip does not import beside torch's CPU build
    from open_clip.loss import ClipLoss, SigLipLoss

    peer: Loss = ClipLoss() if kind == "infonce" else SigLipLoss()
    return peer


def inputs(work: dict[str, Any], count: int) -> list[Tensor]:
    """Unit rows of pictures and texts, the scale, and for the sigmoid loss the bias: all want gradients."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(count, work["width"], generator=generator)
    b = torch.randn(count, work["width"], generator=generator).add_(a, alpha=0.2)  # a cosine of about 0.2
    for rows in (a, b):
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))
    numbers = [work["scale"]] if work["loss"] == "infonce" else [work["scale"], work["bias"]]
    leaves = [a, b, *map(torch.tensor, numbers)]
    return [leaf.to(work["device"]).requires_grad_() for leaf in leaves]


def run(loss: Loss, leaves: list[Tensor], device: str) -> dict[str, float]:
    """Seconds and bytes of a forward and a backward pass."""
    base = begin(device)
    cpu, wall = time.process_time(), time.perf_counter()
    value = loss(*leaves)
    wait(device)
    forward = time.perf_counter() - wall
    value.backward()  # type: ignore[no-untyped-call]
    wait(device)
    return {
        "forward": forward,
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "bytes": peak_bytes(device) - base,
        "loss": value.item(),
    }


def wait(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def begin(device: str) -> int:
    """Bytes in use now; `most` counts from here."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    # Return memory freed by the warm-up and the inputs, or it would hide a part of what the loss allocates.
    ctypes.CDLL(None).malloc_trim(0)
    # The current size, not the peak so far: a peak during imports would hide a part, too.
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_bytes(device: str) -> int:
    """The most bytes in use so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def product_rate(device: str, size: int = 4096, width: int = 512, repeat: int = 5) -> float:
    """Operations a second of one large product, the best of some."""
    a, out = torch.randn(size, width, device=device), torch.empty(size, size, device=device)
    taken = []
    for _ in range(repeat):
        wait(device)
        start = time.perf_counter()
        torch.mm(a, a.t(), out=out)
        wait(device)
        taken.append(time.perf_counter() - start)
    return 2 * size * size * width / min(taken)


def exact_gradients(kind: str, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the textbook formulas in float64."""
    a, b, scale, *bias = [leaf.detach().double().requires_grad_() for leaf in leaves]
    s, functions = scale * a @ b.t(), torch.nn.functional
    if kind == "infonce":
        own = torch.arange(len(a), device=a.device)
        value = (functions.cross_entropy(s, own) + functions.cross_entropy(s.t(), own)) / 2
    else:
        truth = 2 * torch.eye(len(a), dtype=a.dtype, device=a.device) - 1
        value = -functions.logsigmoid(truth * (s + bias[0])).sum() / len(a)
    return torch.autograd.grad(value, [a, b, scale, *bias])


def main() -> None:
    """Warm up on the small problem, run the large one, compare the small one with float64."""
    work = json.load(sys.stdin)
    torch.set_num_threads(work["threads"] or torch.get_num_threads())
    loss, device = loss_of(work["side"], work["loss"]), work["device"]
    small = inputs(work, work["small"])
    run(loss, small, device)
    result: dict[str, Any] = run(loss, inputs(work, work["pairs"]), device)
    result |= {"rate": product_rate(device), "threads": torch.get_num_threads(), "errors": {}}
    # Not before the run above: its float64 matrices would raise the peak.
    expected = exact_gradients(work["loss"], small)
    for name, leaf, exact in zip(("images", "texts", "scale", "bias"), small, expected, strict=False):
        assert leaf.grad is not None
        result["errors"][name] = ((leaf.grad - exact).abs().max() / exact.abs().max()).item()
        numpy.save(Path(work["folder"]) / f"{name}.npy", leaf.grad.cpu().numpy())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
