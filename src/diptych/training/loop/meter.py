"""Figures of each logging interval, and hints about what is wrong with a run.

Model FLOP utilisation (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) is the operations that the model
needs for the pairs of the interval, forward and backward, divided by what the machine could compute in that
time. What a run computes twice to save memory does not count, nor does padding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from diptych.model.config import CLIPConfig
from diptych.model.cost import peak_rate
from diptych.training.config import TrainConfig
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.loop.listener import StepReport
from diptych.training.objectives.predicting import cost_of

SLOW_DATA = 0.3  # share of the time spent waiting for data from which a hint is given
INTERVALS = 3  # intervals in a row with a symptom before its hint is given


class Meter:
    """Sums over an interval of steps.

    Parameters
    ----------
    config : TrainConfig
        Of the run: architecture and objective decide the operations per pair.
    accelerator, dtype : Accelerator, torch.dtype
        Device and precision, for the highest possible rate.
    """

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, dtype: torch.dtype, processes: int
    ) -> None:
        self.config, self.accelerator, self.processes = config, accelerator, processes
        self.peak_flops = peak_rate(accelerator.device, dtype)
        self.restart()

    def restart(self) -> None:
        """Start the next interval."""
        self.began, self.pairs, self.steps = time.monotonic(), 0, 0
        self.waited, self.worked = 0.0, 0.0  # seconds of this process, and of its workers
        self.tokens, self.texts, self.side = 0.0, 0, 0
        self.loss, self.norm = torch.zeros(()), torch.zeros(())

    def add(self, result: tuple[Tensor, Tensor], batch: Batch) -> None:
        """Count a step: its loss and gradient, and this process's batch."""
        self.loss, self.norm = self.loss + result[0], result[1]  # on the device, without waiting for it
        self.pairs, self.steps = self.pairs + len(batch), self.steps + 1
        self.waited += batch.wait_seconds
        self.worked += batch.work_seconds
        self.tokens += mean_text_length(batch.tokens, self.config.architecture) * len(batch)
        self.texts += batch.tokens.flatten(0, -2).shape[0]
        self.side = 0 if self.config.cache_features else int(batch.crops.shape[-1])

    def report(
        self, *, step: int, steps: int, epoch: int, scale: float, lr: float, seconds: float
    ) -> StepReport:
        """The figures of the interval."""
        took = max(time.monotonic() - self.began, 1e-9)  # seconds
        cost = cost_of(self.config, max(1, round(self.tokens / self.pairs)), self.side)
        if self.config.cache_features:  # the image tower ran before the first step
            cost = replace(cost, picture=0.0)
        needed = cost.training(self.pairs, self.texts)  # hard negatives are texts, too
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
            # Pairs per second of worker time, times the number of workers.
            decoded_per_second=round(
                self.pairs * self.config.workers * self.processes / max(self.worked, 1e-9), 1
            ),
            utilisation=round(needed / took / self.peak_flops, 4) if self.peak_flops else 0.0,
            memory=round(self.accelerator.peak_bytes() / 2**30, 2),
        )


def mean_text_length(tokens: Tensor, config: CLIPConfig) -> float:
    """Mean number of tokens that are computed per text, of ids (..., L); causal towers cut the padding."""
    if config.text.pool != "end" or not config.text.causal:
        return float(tokens.shape[-1])
    ends = tokens if config.text.end_id is None else (tokens == config.text.end_id).int()
    return float((ends.argmax(-1) + 1).float().mean())


class Diagnosis:
    """Hints about what is wrong with a run, each given once.

    Parameters
    ----------
    batch_size : int
        InfoNCE of a random model is its logarithm.
    contrastive : bool
        Whether the loss is InfoNCE, of which that level is known.
    warmup : int
        Steps.
    """

    def __init__(self, batch_size: int, contrastive: bool, max_scale: float, warmup: int) -> None:
        self.chance = math.log(batch_size) if contrastive else math.inf
        self.max_scale, self.warmup = max_scale, warmup
        self._intervals: dict[str, int] = {}  # in a row, by symptom; -1: its hint was given

    def of(self, report: StepReport) -> Iterator[str]:
        """New hints after a report."""
        # At the start the loss is at chance anyway, and the scale may overshoot.
        past_start = report.step > max(3 * self.warmup, report.steps // 20)
        for name, symptom, text in (
            (
                "data",
                report.wait_share > SLOW_DATA,
                f"training waits for data {report.wait_share:.0%} of the time: give it more workers "
                "(--set workers=N), keep decoded pictures in memory (--set cache=yes), or store smaller ones",
            ),
            (
                "scale",
                past_start and report.scale >= 0.99 * self.max_scale,
                f"the scale is at its limit, {self.max_scale:g}: the model is overconfident. Most often it "
                "has memorised the pairs (use more data, more augmentation), or the rate is too high",
            ),
            (
                "chance",
                past_start and report.loss > 0.98 * self.chance,
                f"the loss is {report.loss:.3f}, at the level of chance ({self.chance:.3f}): check that "
                "captions belong to their pictures, then try another rate (--lr), 3 times lower or higher",
            ),
        ):
            count = self._intervals.get(name, 0)
            if count >= 0:
                self._intervals[name] = count + 1 if symptom else 0
                if self._intervals[name] == INTERVALS:
                    self._intervals[name] = -1
                    yield text


def first_bad_layer(module: nn.Module, *inputs: Tensor | None) -> str:
    """The first layer, in the order of computation, with a NaN or an infinity in its output; "" for none.

    Parameters
    ----------
    module : nn.Module
        Called with the inputs: images, tokens and possibly samples.
    """
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights of {name}"
    bad_layers: list[str] = []

    def check(name: str, output: object) -> None:
        tensors = output if isinstance(output, tuple | list) else [output]
        if not bad_layers and any(isinstance(t, Tensor) and not torch.isfinite(t).all() for t in tensors):
            bad_layers.append(f"the output of {name}")

    handles = [
        layer.register_forward_hook(lambda _, __, output, name=name: check(name, output))
        for name, layer in module.named_modules()
        if name and not list(layer.children())  # leaves only: a container has the output of its last layer
    ]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return bad_layers[0] if bad_layers else ""
