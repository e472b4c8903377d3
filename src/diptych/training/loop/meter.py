"""Knowing what goes on: figures of each interval, and what they mean when something is wrong.

Model FLOP utilisation (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) is the operations that the model
needs for the pairs seen, forward and backward, against what the machine could have done in that time. What a
run computes twice to save memory does not count, nor does padding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diptych.model.config import CLIPConfig
from diptych.model.cost import peak_rate
from diptych.training.config import TrainConfig
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.loop.watching import StepReport
from diptych.training.objectives.predicting import cost_of

SLOW_DATA = 0.3  # of the time waiting for data: worth a word
TIMES = 3  # intervals in a row before a word is said


class Meter:
    """Sums over an interval of steps.

    Parameters
    ----------
    config : TrainConfig
        Says the model's shape and what it is to learn.
    accelerator, dtype : Accelerator, torch.dtype
        What it computes on and in.
    processes : int
    """

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, dtype: torch.dtype, processes: int
    ) -> None:
        self.config, self.accelerator, self.processes = config, accelerator, processes
        self.peak = peak_rate(accelerator.device, dtype)
        self.restart()

    def restart(self) -> None:
        """Begin the next interval."""
        self.began, self.pairs, self.steps = time.monotonic(), 0, 0
        self.waited, self.worked = 0.0, 0.0  # seconds
        self.tokens, self.texts, self.side = 0.0, 0, 0
        self.loss, self.norm = torch.zeros(()), torch.zeros(())

    def add(self, result: tuple[Tensor, Tensor], batch: Batch) -> None:
        """Count a step: its loss and gradient, and this process's batch."""
        self.loss, self.norm = self.loss + result[0], result[1]  # on the device: nothing is waited for
        self.pairs, self.steps = self.pairs + len(batch), self.steps + 1
        self.waited += batch.wait_seconds
        self.worked += batch.work_seconds
        self.tokens += texts_of(batch.tokens, self.config.architecture) * len(batch)
        self.texts += batch.tokens.flatten(0, -2).shape[0]
        self.side = int(batch.crops.shape[-1])

    def report(
        self, *, step: int, steps: int, epoch: int, scale: float, lr: float, seconds: float
    ) -> StepReport:
        """The interval's figures."""
        took = max(time.monotonic() - self.began, 1e-9)
        each = cost_of(self.config, max(1, round(self.tokens / self.pairs)), self.side)
        needed = each.training(self.pairs, self.texts)  # near misses are texts, too
        return StepReport(
            step=step,
            steps=steps,
            epoch=epoch,
            loss=round(self.loss.item() / self.steps, 6),
            scale=round(scale, 4),
            lr=lr,
            gradient=round(self.norm.item(), 4),
            pairs_per_second=round(self.pairs * self.processes / took, 1),
            wait_share=round(min(1.0, self.waited / took), 4),
            seconds=round(seconds, 2),
            decoded_per_second=round(
                self.pairs * self.config.workers * self.processes / max(self.worked, 1e-9), 1
            ),
            utilisation=round(needed / took / self.peak, 4) if self.peak else 0.0,
            memory=round(self.accelerator.peak_bytes() / 2**30, 2),
        )


def texts_of(tokens: Tensor, config: CLIPConfig) -> float:
    """Tokens of a text that are computed, the mean over all of (..., L)."""
    if config.text.pool != "end" or not config.text.causal:
        return float(tokens.shape[-1])
    ends = tokens if config.text.end_id is None else (tokens == config.text.end_id).int()
    return float((ends.argmax(-1) + 1).float().mean())


class Diagnosis:
    """What the figures say is wrong, each thing once.

    Parameters
    ----------
    batch_size : int
        Chance is its logarithm.
    contrastive : bool
        Whether the loss is InfoNCE's, so that it has a level of chance.
    max_scale : float
    warmup : int
        Steps.
    """

    def __init__(self, batch_size: int, contrastive: bool, max_scale: float, warmup: int) -> None:
        self.chance = math.log(batch_size) if contrastive else math.inf
        self.max_scale, self.warmup = max_scale, warmup
        self._seen: dict[str, int] = {}

    def of(self, report: StepReport) -> Iterator[str]:
        """Say what is wrong since the last reports, if it was not said before."""
        late = report.step > max(3 * self.warmup, report.steps // 20)
        for name, wrong, text in (
            (
                "data",
                report.wait_share > SLOW_DATA,
                f"training waits for data {report.wait_share:.0%} of the time: give it more workers "
                "(--set workers=N), keep decoded pictures in memory (--set cache=yes), or store smaller ones",
            ),
            (
                "scale",
                late and report.scale >= 0.99 * self.max_scale,
                f"the scale is at its limit, {self.max_scale:g}: the model is sure of everything. Most often "
                "it knows the pairs by heart (more data, more augmentation), or the rate is too high",
            ),
            (
                "chance",
                late and report.loss > 0.98 * self.chance,
                f"the loss is {report.loss:.3f}, at the level of chance ({self.chance:.3f}): look whether "
                "captions belong to their pictures, then try another rate (--lr), 3 times lower or higher",
            ),
        ):
            times = self._seen.get(name, 0)
            if times >= 0:
                self._seen[name] = times + 1 if wrong else 0
                if self._seen[name] == TIMES:
                    self._seen[name] = -1
                    yield text


def first_bad_layer(module: nn.Module, images: Tensor, tokens: Tensor) -> str:
    """The first layer, in the order of computing, whose output is no number somewhere; "" if there is none.

    Parameters
    ----------
    module : nn.Module
        Called with pictures and tokens.
    """
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights of {name}"
    found: list[str] = []

    def look(name: str, output: object) -> None:
        tensors = output if isinstance(output, tuple | list) else [output]
        if not found and any(isinstance(t, Tensor) and not torch.isfinite(t).all() for t in tensors):
            found.append(f"the output of {name}")

    handles = [
        layer.register_forward_hook(lambda _, __, output, name=name: look(name, output))
        for name, layer in module.named_modules()
        if name and not list(layer.children())
    ]
    try:
        with torch.no_grad():
            module(images, tokens)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""
