"""Real processes that talk by gloo, for tests: `run(2, "processes:losses", folder)`, and what they do."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from diptych.training.exchange import Alone, Exchange, Gathered, Ring
from diptych.training.loss import info_nce, sigmoid_loss


def start(count: int, work: str, *texts: object, **environment: str) -> list[subprocess.Popen[str]]:
    """Start `count` processes that each call `module:function` with these texts."""
    store = Path(str(texts[0])) / f"store-{count}-{work.replace(':', '-')}"
    store.unlink(missing_ok=True)
    paths = os.pathsep.join(path for path in sys.path if path)
    return [
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, f"{rank}/{count}", str(store), work, *map(str, texts)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]  # fmt: skip


def run(count: int, work: str, *texts: object) -> None:
    """Start processes, wait for all of them, and fail with what the first that failed has to say."""
    running = start(count, work, *texts)
    told = [process.communicate(timeout=240)[1] for process in running]
    failed = [text for process, text in zip(running, told, strict=True) if process.returncode]
    assert not failed, "\n".join(failed)


def features(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """24 pairs, some of them of one group, some of them alike."""
    noise = torch.Generator().manual_seed(5)
    a, b = (torch.randn(24, 10, generator=noise, dtype=torch.float64) for _ in range(2))
    b[::3] = a[::3]
    a, b = (torch.nn.functional.normalize(rows, dim=1).to(dtype) for rows in (a, b))
    return a, b, torch.randint(0, 9, (24,), generator=noise)


def exchanges() -> Iterator[tuple[str, Exchange]]:
    if not dist.is_initialized():
        yield "alone", Alone()
        return
    yield "gathered", Gathered()
    yield "ring", Ring()


def loss_gradients(exchange: Exchange, which: str, scale: float) -> dict[str, torch.Tensor]:
    """Loss and gradients of this process's share, those of scale and bias summed over the processes."""
    a, b, groups = features()
    mine = slice(exchange.rank * len(a) // exchange.size, (exchange.rank + 1) * len(a) // exchange.size)
    leaves = [a[mine], b[mine], torch.tensor(scale, dtype=a.dtype), torch.tensor(-3.0, dtype=a.dtype)]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    options: dict[str, Any] = {"groups": groups[mine] if "groups" in which else None, "tile": (3, 5)}
    options["exchange"] = exchange
    if which.startswith("infonce"):
        loss = info_nce(*leaves[:3], **options)
    else:
        loss = sigmoid_loss(*leaves, **options)
    (loss * 1.5).backward()
    found = {"loss": loss.detach(), "a": leaves[0].grad, "b": leaves[1].grad}
    for name, leaf in zip(("scale", "bias"), leaves[2:], strict=True):
        found[name] = exchange.total(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
    return {name: value for name, value in found.items() if value is not None}


CASES = [(w, s) for w in ("infonce", "infonce groups", "sigmoid", "sigmoid groups") for s in (7.0, 100.0)]


def losses(folder: str) -> None:
    """Write every case's loss and gradients, one file a process."""
    found = {
        f"{name} {which} {scale}": loss_gradients(exchange, which, scale)
        for name, exchange in exchanges()
        for which, scale in CASES
    }
    torch.save(found, Path(folder) / f"losses-{dist.get_world_size()}-{dist.get_rank()}.pt")


if __name__ == "__main__":
    own, world = map(int, sys.argv[1].split("/"))
    meeting, (module, name) = sys.argv[2], sys.argv[3].split(":")
    os.environ.update(RANK=str(own), WORLD_SIZE=str(world), LOCAL_RANK=str(own))
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=own, world_size=world)
    getattr(importlib.import_module(module), name)(*sys.argv[4:])
    dist.destroy_process_group()
