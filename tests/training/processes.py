"""Gloo processes for tests: `run(2, "tests.training.processes:losses", folder)`, and their functions."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.initialise import build
from diptych.model.sharding import full_tensor
from diptych.model.vit import VisionTransformer
from diptych.training import Run, train
from diptych.training.data import Batch, Mixture, TarStream
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.sharding import outside_parameters
from diptych.training.distributed.world import DistributedWorld, World
from diptych.training.loop.gradients import cached_gradients
from diptych.training.loop.trainable_model import TrainableModel
from diptych.training.losses.contrastive import info_nce, sigmoid_loss
from diptych.training.losses.distillation import similarity_distillation
from diptych.training.losses.feature_exchange import AllGatherExchange, Exchange, NoExchange, RingExchange
from diptych.training.losses.hard_negatives import hard_negative_loss
from diptych.training.losses.multi_positive import multi_positive_info_nce_term, multi_positive_sigmoid_term
from diptych.training.objectives.objective import Contrastive
from tests.forked import Forked
from tests.training.make_runs import TINY_VIT, config_of
from tests.waiting import HANG, pause


def start(count: int, work: str, *texts: object, **environment: str) -> list[Forked]:
    """Start `count` processes that each call `module:function` with these texts."""
    folder, name = Path(str(texts[0])), f"{count}-{work.replace(':', '-')}"
    store = folder / f"store-{name}"
    store.unlink(missing_ok=True)
    return [
        Forked(
            "tests.training.processes:member",
            *(f"{rank}/{count}", str(store), work, *map(str, texts)),
            errors=folder / f"errors-{name}-{rank}",
            **environment,
        )
        for rank in range(count)
    ]


def run(count: int, work: str, *texts: object) -> None:
    """Start processes, wait for all of them, and fail with the output of the failed ones."""
    running = start(count, work, *texts)
    failed = [process.errors() for process in running if process.wait(HANG)]
    assert not failed, "\n".join(failed)


def member(rank: str, meeting: str, work: str, *texts: str) -> None:
    """In each process: join the group, and call the function."""
    own, world = map(int, rank.split("/"))
    os.environ.update(RANK=str(own), WORLD_SIZE=str(world), LOCAL_RANK=str(own))
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=own, world_size=world)
    module, name = work.split(":")
    getattr(importlib.import_module(module), name)(*texts)
    if dist.is_initialized():  # the end of a run leaves the group by itself
        gc.collect()  # wrappers of a model hold the connections, as in `train`
        dist.destroy_process_group()


def features(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """24 pairs with groups; some rows are equal."""
    noise = torch.Generator().manual_seed(5)
    a, b = (torch.randn(24, 10, generator=noise, dtype=torch.float64) for _ in range(2))
    b[::3] = a[::3]
    a, b = (torch.nn.functional.normalize(rows, dim=1).to(dtype) for rows in (a, b))
    return a, b, torch.randint(0, 9, (24,), generator=noise)


def exchanges() -> Iterator[tuple[str, Exchange]]:
    if not dist.is_initialized():
        yield "alone", NoExchange()
        return
    yield "gathered", AllGatherExchange()
    yield "ring", RingExchange()


def loss_gradients(exchange: Exchange, which: str, scale: float) -> dict[str, torch.Tensor]:
    """Loss and gradients of this process's share; those of scale and bias are summed over the processes."""
    a, b, groups = features()
    mine = slice(exchange.rank * len(a) // exchange.size, (exchange.rank + 1) * len(a) // exchange.size)
    leaves = [a[mine], b[mine], torch.tensor(scale, dtype=a.dtype), torch.tensor(-3.0, dtype=a.dtype)]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    options: dict[str, Any] = {"groups": groups[mine] if "groups" in which else None, "tile": (3, 5)}
    if "kinds" in which:
        options["groups"] = torch.stack([groups, groups % 2], 1)[mine]
    options["exchange"] = exchange
    if which == "distillation":
        teacher = [9.0 * rows[mine].roll(3, 1) for rows in (a, b + 0.1 * a)]
        loss = similarity_distillation(*leaves[:3], *teacher, tile=(3, 5), exchange=exchange)
    elif "positive" in which or which == "hard negatives":
        loss = added(which, leaves, groups[mine], exchange)
    elif which.startswith("infonce"):
        loss = info_nce(*leaves[:3], **options)
    else:
        loss = sigmoid_loss(*leaves, **options)
    (loss * 1.5).backward()
    result = {"loss": loss.detach(), "a": leaves[0].grad, "b": leaves[1].grad}
    for name, leaf in zip(("scale", "bias"), leaves[2:], strict=True):
        result[name] = exchange.all_reduce_sum(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
    return {name: value for name, value in result.items() if value is not None}


def added(which: str, leaves: list[torch.Tensor], groups: torch.Tensor, exchange: Exchange) -> torch.Tensor:
    """The additional loss term for several positives, or for hard negatives (here the rotated texts)."""
    if which == "hard negatives":
        missed = torch.stack([leaves[1].roll(n, 1) for n in (1, 2)], 1)
        present = torch.stack([groups > 2, groups > 5], 1).to(missed.dtype)
        return hard_negative_loss(*leaves[:2], missed, present, leaves[2], None, exchange)
    if which.startswith("infonce"):
        return multi_positive_info_nce_term(*leaves[:3], groups, exchange)
    return multi_positive_sigmoid_term(*leaves, groups, exchange)


WHICH = (
    *("infonce", "infonce groups", "infonce positive", "sigmoid", "sigmoid groups", "sigmoid positive"),
    *("distillation", "hard negatives", "infonce kinds"),
)
CASES = [(which, scale) for which in WHICH for scale in (7.0, 100.0)]


def losses(folder: str) -> None:
    """Write loss and gradients of all cases, one file per process."""
    result = {
        f"{name} {which} {scale}": loss_gradients(exchange, which, scale)
        for name, exchange in exchanges()
        for which, scale in CASES
    }
    torch.save(result, Path(folder) / f"losses-{dist.get_world_size()}-{dist.get_rank()}.pt")


VIT = CLIPConfig(
    embed_dim=12,
    vision=ViTConfig(image_size=32, patch_size=8, width=16, layers=2, head_width=8, patch_dropout=0.5),
    text=TextConfig(context_length=8, vocab_size=40, width=16, heads=2, layers=2),
    init_logit_bias=-2.0,
)
RESNET = dataclasses.replace(
    VIT, vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=4, pool="average", stem_pool=False)
)
TOWERS = {"vit": VIT, "resnet": RESNET}


def objective(towers: str, loss: str) -> Contrastive:
    """Both towers in float64; transformers with dropout, batch norms with frozen statistics."""
    model = build(TOWERS[towers], seed=1).double().train()
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():  # initial gains of zero would hide the gradients behind them
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=noise, dtype=p.dtype), alpha=0.1 if p.ndim else 0.0)
    blocks = list(model.transformer.blocks)
    if isinstance(model.visual, VisionTransformer):
        blocks += model.visual.transformer.blocks
    else:
        model.visual.eval()
    for block in blocks:
        block.mlp.gelu = torch.nn.Sequential(block.mlp.gelu, torch.nn.Dropout(0.2))
    return Contrastive(model, loss=loss, share_text=towers == "resnet")  # type: ignore[arg-type]


def chunks(
    rank: int, size: int, count: int = 24, chunk: int = 3
) -> tuple[list[Any], torch.Tensor, list[int]]:
    """The chunks of one process of the same 24 pairs, their groups, and their seeds."""
    noise = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, 32, 32, generator=noise, dtype=torch.float64)
    tokens = torch.randint(1, 38, (count, 8), generator=noise)
    tokens[torch.arange(count), torch.randint(2, 8, (count,), generator=noise)] = 39  # the end token
    groups = torch.randint(0, 15, (count,), generator=noise)
    mine = slice(rank * count // size, (rank + 1) * count // size)
    starts = range(mine.start, mine.stop, chunk)
    parts = [lambda n=n: (images[n : n + chunk], tokens[n : n + chunk]) for n in starts]
    return parts, groups[mine], [1000 + n for n in starts]


def gradients_of(world: World, towers: str, loss: str, parallel: Any = "ddp") -> dict[str, torch.Tensor]:
    """Loss and full gradients of all parameters, computed with gradient caching by all processes."""
    trained = objective(towers, loss)
    wrapped = world.wrap(trained, parallel, torch.float64)
    parts, groups, seeds = chunks(world.rank, world.size)
    result = cached_gradients(
        trained,
        parts,
        groups,
        seeds=seeds,
        exchange=world.exchange,
        forward=wrapped,
        backward=lambda last: world.backward(wrapped, last),
        factor=world.size,
    )
    outside = outside_parameters(trained, parallel)
    world.all_reduce_mean([p.grad for p in outside if p.grad is not None])
    gradients = {
        name: full_tensor(p.grad) for name, p in trained.model.named_parameters() if p.grad is not None
    }
    return {"loss": result, **gradients}


WAYS = [
    (towers, loss, parallel, exchange)
    for towers in TOWERS
    for loss in ("infonce", "sigmoid")
    for parallel, exchange in (("ddp", "gathered"), ("ddp", "ring"), ("fsdp", "gathered"), ("fsdp", "ring"))
]


def gradients(folder: str) -> None:
    """Write the gradients of all combinations, as the first process gets them."""
    mapping = {}
    for towers, loss, parallel, exchange in WAYS:
        world = DistributedWorld(Accelerator(torch.device("cpu")), exchange)  # type: ignore[arg-type]
        mapping[f"{towers} {loss} {parallel} {exchange}"] = gradients_of(world, towers, loss, parallel)
        world.watchdog.stop()  # its thread would abort the interpreter's shutdown while it uses the store
    if world.first:
        torch.save(mapping, Path(folder) / f"gradients-{world.size}.pt")


def training(folder: str, pairs: str, out: str, changes: str = "{}") -> None:
    """Start or resume a run as one of several processes; without batch norm, which depends on the chunks."""
    warnings.filterwarnings("ignore", "the run is resumed under other conditions")
    config = config_of(Path(pairs), Path(out), model=TINY_VIT, **json.loads(changes))
    train(Run(config), resume=True)


def streaming(folder: str, pattern: str, out: str, changes: str = "{}") -> None:
    """Start or resume a run over streamed shards; each process records the pairs of its steps in a file.

    With HANG_AFTER in the environment the second process waits to be killed after that number of steps.
    """
    data = Mixture(((TarStream(pattern, block=24, wait=0.0), 1.0),))
    config = config_of(Path("x"), Path(out), model=TINY_VIT, data=data, **json.loads(changes))
    step = TrainableModel.step

    def noted(self: TrainableModel, batch: Batch, number: int, lr: float) -> Any:
        with (Path(folder) / f"seen-{self.world.rank}.jsonl").open("a") as file:
            file.write(json.dumps([number, batch.keys]) + "\n")
        if self.world.rank == 1 and number == int(os.environ.get("HANG_AFTER", -1)):
            (Path(folder) / "hangs").touch()
            pause(HANG)
        return step(self, batch, number, lr)

    TrainableModel.step = noted  # type: ignore[method-assign]
    train(Run(config), resume=True)
