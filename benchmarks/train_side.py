"""One side of train.py: train a model some steps at a time, in the interpreter that runs this.

The first line of standard input says what to train, each further line starts the next round; each is answered
by a line of JSON. Only our side imports diptych, only the peer's open_clip. Ours is the product's
`TrainableModel`, the peer's is open_clip_train's own `train_one_epoch` on a loader that reads from memory.
Time in which a side waits for its turn does not count.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

Work = dict[str, Any]


def tensor(work: Work, name: str) -> Tensor:
    """One of the arrays that train.py prepared, on disk until it is touched."""
    return torch.from_numpy(numpy.load(Path(work["folder"]) / f"{name}.npy", mmap_mode="c"))


def slices(work: Work) -> Iterator[slice]:
    """Where in the arrays the pairs of each step lie."""
    size = work["batch_size"]
    yield from (slice(step * size, (step + 1) * size) for step in range(work["steps"]))


class Clock:
    """Measures the seconds of each round and collects the losses of its steps."""

    def __init__(self, work: Work) -> None:
        self.each, self.device = work["round"], work["device"]
        self.losses: list[Tensor] = []
        self.started, self.worked = 0.0, 0.0

    def turn(self, step: int) -> None:
        """Call before each step and after the last one: answer at the end of a round and wait."""
        if step % self.each:
            return
        if self.device == "cuda":
            torch.cuda.synchronize()
        if step:
            self.answer(
                {"seconds": time.perf_counter() - self.started, "cpu": time.process_time() - self.worked}
            )
        sys.stdin.readline()
        self.started, self.worked = time.perf_counter(), time.process_time()

    def answer(self, answer: Work) -> None:
        """Print losses, memory and the given figures as JSON."""
        answer["losses"] = [loss.item() for loss in self.losses]
        self.losses.clear()
        answer["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if self.device == "cuda":
            answer["bytes"] = torch.cuda.max_memory_allocated()
        print(json.dumps(answer), flush=True)


def ours(work: Work) -> None:
    """The product's step on the product's batches: crops of bytes, tokens padded to the context length."""
    from diptych.training import TrainConfig
    from diptych.training.data import Batch, Mixture
    from diptych.training.data.batch import DeferredTransform
    from diptych.training.distributed.accelerator import pick_accelerator
    from diptych.training.distributed.world import World
    from diptych.training.loop.optim import rate
    from diptych.training.loop.trainable_model import TrainableModel

    config = TrainConfig(
        data=Mixture(()),  # read and decoded by train.py
        model=work["model"],
        batch_size=work["batch_size"],
        same_caption="negative",  # the peer has no other way
        clip=0.0,  # the peer's default
        precision=work["precision"],
        device=work["device"],
        **work["optimizer"],
    ).override(work["set"])
    trainable = TrainableModel(config, pick_accelerator(config.device), World())
    crops, tokens, groups = (tensor(work, name) for name in ("crops", "tokens", "groups"))
    numbers = numpy.arange(len(crops), dtype=numpy.uint64)
    clock = Clock(work)
    clock.answer({})
    for step, part in enumerate(slices(work)):
        clock.turn(step)
        keys = [str(number) for number in numbers[part]]
        batch = Batch(
            crops=crops[part],
            numbers=numbers[part],
            transform=DeferredTransform(),
            tokens=tokens[part],
            groups=groups[part],
            captions=keys,
            keys=keys,
            epoch=0,
            positions={},
            wait_seconds=0.0,
            work_seconds=0.0,
        )
        lr = rate(step, work["steps"], max_rate=config.lr, warmup=config.warmup)
        clock.losses.append(trainable.step(batch, step, lr)[0])
    clock.turn(work["steps"])


class RecordedLoss:
    """A loss function that records its values."""

    def __init__(self, loss: Callable[..., dict[str, Tensor]], losses: list[Tensor]) -> None:
        self.loss, self.losses = loss, losses

    def __call__(self, **inputs: Any) -> dict[str, Tensor]:
        """Compute the loss and record it."""
        result = self.loss(**inputs)
        self.losses.append(result["contrastive_loss"].detach())
        return result


class FromMemory:
    """Data for `train_one_epoch`: batches of normalised images and padded ids from memory."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self.work, self.clock, self.dataloader = work, clock, self
        self.num_batches, self.num_samples = work["steps"], work["steps"] * work["batch_size"]
        self.pixels, self.tokens = tensor(work, "pixels"), tensor(work, "tokens")

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: there is one epoch."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for step, part in enumerate(slices(self.work)):
            self.clock.turn(step)
            yield self.pixels[part], self.tokens[part]


def open_clip(work: Work) -> None:
    """open_clip_train's loop, with the optimiser of its main.py."""
    import torchvision_cpu  # noqa: F401 - without it open_clip does not import beside torch's CPU build
    from open_clip import create_model
    from open_clip.loss import ClipLoss
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch
    from safetensors.torch import load_file

    precision = {"float32": "fp32", "bfloat16": "amp_bf16"}[work["precision"]]
    model = create_model(work["model"], precision=precision, device=work["device"], output_dict=True)
    model.load_state_dict(load_file(Path(work["folder"]) / "weights.safetensors"))
    settings = work["optimizer"]
    groups: dict[float, list[Tensor]] = {0.0: [], settings["weight_decay"]: []}
    for name, p in model.named_parameters():
        no_decay = p.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))
        groups[0.0 if no_decay else settings["weight_decay"]].append(p)
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()],
        lr=settings["lr"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["eps"],
    )
    args = Namespace(
        device=work["device"],
        precision=precision,
        batch_size=work["batch_size"],
        log_every_n_steps=math.inf,
        accum_freq=1,
        world_size=1,
        rank=0,
        grad_clip_norm=None,
        **dict.fromkeys(("distill", "skip_scheduler", "horovod", "distributed", "wandb"), False),
    )
    clock = Clock(work)
    loss = RecordedLoss(ClipLoss(), clock.losses)
    scheduler = cosine_lr(optimizer, settings["lr"], settings["warmup"], work["steps"])
    clock.answer({})
    data = {"train": FromMemory(work, clock)}
    train_one_epoch(model, data, loss, 0, optimizer, None, scheduler, None, args)
    clock.turn(work["steps"])


def main() -> None:
    """Run the side that the first line names."""
    work: Work = json.loads(sys.stdin.readline())
    torch.set_num_threads(work["threads"] or torch.get_num_threads())
    (ours if work["side"] == "ours" else open_clip)(work)


if __name__ == "__main__":
    main()
