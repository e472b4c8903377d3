"""The loop: batches in, a model out; it can be stopped at any step and goes on as if it had not been.

What happens at a step depends on the config, the data and the step alone, so a run that was killed and
resumed makes the weights of one that was not. Evaluation is handed in as callables; the loop knows nothing of
what they measure, and draws nothing on a screen: it tells a listener.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from diptych.errors import TrainingError
from diptych.inputs import load_tokenizer
from diptych.model.clip import CLIP
from diptych.model.initialise import build
from diptych.model.machine import pick_device, pick_dtype
from diptych.model.tree import can_share, encode_shared
from diptych.pairs.loader import Batch, PairLoader
from diptych.training import checkpoint
from diptych.training.config import Run
from diptych.training.loss import info_nce, sigmoid_loss
from diptych.training.optim import Average, optimizer, rate
from diptych.training.watching import Listener, StepReport, Summary
from diptych.weights import fit, load_checkpoint, save_checkpoint

TREE_NODES = 128  # of one tree of texts: small towers want smaller masks than `model.tree.NODES`


def train(run: Run, *, resume: bool = False, listener: Listener | None = None) -> Summary:
    """Train a model from pairs.

    Parameters
    ----------
    run : Run
        Config and evaluators.
    resume : bool
        Go on from the run's checkpoint, if it has one.
    listener : Listener, optional
        Told how it goes.

    Returns
    -------
    Summary
        The model lies in `out/model`; `diptych.load(out)` loads it.

    Raises
    ------
    TrainingError
        The run cannot start, the loss is no number any more, or the checkpoint does not belong to it.
    """
    return Trainer(run, listener or Listener(), resume=resume).run()


class Trainer:
    """One run; see `train`."""

    def __init__(self, run: Run, listener: Listener, *, resume: bool = False) -> None:
        self.config, self.evaluators, self.listener = run.config, run.evaluators, listener
        self.resume = resume
        config = run.config
        self.folder = Path(config.out)
        if not resume and (self.folder / checkpoint.FILE).exists():
            raise TrainingError(
                f"{self.folder} holds a run already: add --resume to go on with it, or choose another folder"
            )
        self.device = pick_device(config.device)
        self.dtype = pick_dtype(config.precision, self.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.spec = config.spec
        self.model = build(config.architecture, seed=config.seed).to(self.device)
        self.model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        self.average = Average(self.model, config.ema) if config.ema else None
        self.optimizer = optimizer(self.model, config)
        self.loader = self._loader()
        self.state = checkpoint.State()
        self.metrics: dict[str, float] = {}
        known = config.monitor.split("/")[0]
        if config.monitor and known not in self.evaluators:
            raise TrainingError(
                f"monitor {config.monitor!r} names no evaluator of this run: expected "
                f"{' or '.join(f'{name}/METRIC' for name in self.evaluators) or 'none, for there is none'}"
            )
        self._encode_image = (
            torch.compile(self.model.encode_image) if config.compile else self.model.encode_image
        )

    def run(self) -> Summary:
        """Train to the end, or to the next stop."""
        self._start()
        state = self.state
        # Counted once and kept: what is found out about bad records later must not bend the schedule.
        state.total = state.total or sum(self.loader.steps(epoch) for epoch in range(self.config.epochs))
        if not state.total:
            raise TrainingError(
                f"the data gives no batch of {self.config.batch_size} pairs ({self.loader.report}); "
                "take a smaller batch_size or more data"
            )
        self.warmup = min(self.config.warmup, max(1, state.total // 5))
        if self.warmup < self.config.warmup:
            self.listener.note(
                f"the run has {state.total} steps, so the warmup is {self.warmup} of them, not "
                f"{self.config.warmup}"
            )
        started = time.monotonic() - state.seconds
        with (self.folder / checkpoint.LOG).open("a", encoding="utf-8") as log, _stop_asked() as stop:
            reason = self._epochs(log, started, stop)
        if self.loader.report.skipped:
            self.listener.note(str(self.loader.report))
        finished = reason in ("done", "no better for a while")
        self._save()
        return Summary(
            finished, reason, state.step, state.seconds, state.metrics, state.identity, self.folder
        )

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.resume and (self.folder / checkpoint.FILE).exists():
            self._restore()
        else:
            checkpoint.rewind_log(self.folder, 0)
            if self.resume:
                self.listener.note(f"{self.folder} holds no checkpoint yet: starting from the beginning")
            if self.config.start:
                self._begin_with(self.config.start)
        if self.loader.cached:
            self.loader.scan(self.listener.scanning(sum(map(len, self.loader.sources))))

    def _begin_with(self, name: str) -> None:
        """Take over the weights of another model of the same shape, the same ids and the same colours."""
        before = load_checkpoint(name)
        # The side alone may be another: an average pool reads any, and what does not fit is refused below.
        sized = replace(before.spec.preprocess, size=self.spec.preprocess.size)
        for what, theirs in (("tokenizer", before.spec.tokenizer), ("preprocess", sized)):
            ours = getattr(self.spec, what)
            if theirs != ours:
                raise TrainingError(f"{name} has another {what}: {theirs}, this run has {ours}")
        state = fit(self.config.architecture, before.state, source=name)
        self.model.load_state_dict(state)
        if self.average is not None:
            self.average.model.load_state_dict(state)
        self.state.start = before.identity

    def _restore(self) -> None:
        self.state, before = checkpoint.load(self.folder, self.config)
        now = checkpoint.machine(self.device, self.dtype)
        changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]
        if changed:
            warnings.warn(
                f"the run goes on under other conditions ({'; '.join(changed)}): sums are added in another "
                "order or precision, so the weights will not be those of a run that never stopped",
                stacklevel=2,
            )
        tensors, self.state.tensors = self.state.tensors, {}
        self.model.load_state_dict(tensors["model"])
        self.optimizer.load_state_dict(tensors["optimizer"])
        if self.average is not None:
            self.average.model.load_state_dict(tensors["average"])
        checkpoint.rewind_log(self.folder, self.state.step)
        self.listener.note(f"going on at step {self.state.step}")

    def _epochs(self, log: TextIO, started: float, stop: threading.Event) -> str:
        """Epoch by epoch; the reason why it ended."""
        state, limit = self.state, self.config.max_minutes * 60
        leg, meter = time.monotonic(), _Meter()
        while state.epoch < self.config.epochs:
            if self.config.patience and state.stale >= self.config.patience:
                return "no better for a while"
            self.loader.image_size = self.config.side(state.epoch)
            for batch in self.loader.batches(state.epoch, state.position):
                meter.add(self._step(batch), batch)
                state.step, state.position = state.step + 1, batch.position
                state.seconds = time.monotonic() - started
                if state.step % self.config.log_every == 0:
                    self._tell(log, meter.report(self))
                    meter = _Meter()
                if state.step % self.config.checkpoint_every == 0:
                    self._save()
                if stop.is_set():
                    return "interrupted"
                if limit and time.monotonic() - leg > limit:
                    return f"time is up ({self.config.max_minutes:g} minutes)"
            self._end_epoch(log)
        return "done"

    def _end_epoch(self, log: TextIO) -> None:
        state, config = self.state, self.config
        due = (state.epoch + 1) % config.evaluate_every == 0 or state.epoch + 1 == config.epochs
        if due:
            # An evaluator may fail; what was trained must not be lost with it. Resumed here, the epoch has no
            # batch left and is evaluated again.
            self._save()
            self._evaluate(log)
        state.epoch, state.position = state.epoch + 1, 0
        if due:
            self._save()

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step: loss and norm of the gradient."""
        config, step = self.config, self.state.step
        # Dropout draws from torch's generator: seeded by the step, it needs no place in a checkpoint.
        torch.manual_seed((config.seed << 32) + step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(step, self.state.total, peak=config.lr, warmup=self.warmup)
        self.model.train()
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or math.inf)
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            raise TrainingError(
                f"the loss is {loss.item()} and the gradient {norm.item()} at step {step}: the run went "
                f"astray. Start again in another folder with a lower lr (now {config.lr:g}), a longer warmup "
                "or float32"
            )
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(config.max_scale))
        if self.average is not None:
            self.average.update(self.model, step)
        return loss.detach(), norm

    def _loss(self, batch: Batch) -> Tensor:
        config, model = self.config, self.model
        groups = batch.groups.to(self.device) if config.same_caption == "ignore" else None
        low = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=low):
            image = self._encode_image(batch.images.to(self.device), normalize=True)
            if config.share_text and can_share(model.text_config):
                text = encode_shared(model, batch.tokens, nodes=TREE_NODES)
            else:
                text = model.encode_text(batch.tokens.to(self.device), normalize=True)
        scale = model.logit_scale.exp()
        if config.loss == "infonce":
            return info_nce(image, text, scale, groups=groups)
        if model.logit_bias is None:
            raise TrainingError(
                "the sigmoid loss needs a model with a bias: set init_logit_bias (SigLIP: -10)"
            )
        return sigmoid_loss(image, text, scale, model.logit_bias, groups=groups)

    def _evaluate(self, log: TextIO) -> None:
        """Call the evaluators, and keep the model if it is the best so far."""
        model = self._evaluated_model()
        model.eval()
        self.metrics = {
            f"{name}/{key}": float(value)
            for name, evaluator in self.evaluators.items()
            for key, value in evaluator(model, self.state.step).items()
        }
        _write(log, {"step": self.state.step, "epoch": self.state.epoch + 1, **self.metrics})
        self.listener.evaluated(self.state.step, self.metrics)
        monitor, state = self.config.monitor, self.state
        if monitor and monitor not in self.metrics:
            raise TrainingError(
                f"monitor {monitor!r} is no metric of this run; its metrics: "
                f"{', '.join(self.metrics) or 'none'}"
            )
        value = self.metrics.get(monitor, 0.0) * (-1 if monitor.endswith("loss") else 1)
        value = -math.inf if math.isnan(value) else value
        if not monitor or state.best is None or value > state.best:
            state.best, state.stale = (value if monitor else None), 0
            self._keep()
        else:
            state.stale += 1

    def _keep(self) -> None:
        """Write the model in our format, with a summary of how it came about."""
        summary = {
            "steps": self.state.step,
            "epochs": self.state.epoch + 1,
            "batch_size": self.config.batch_size,
            "pairs_seen": self.state.step * self.config.batch_size,
            "seconds": round(self.state.seconds, 1),
            "seed": self.config.seed,
            **({"start": self.state.start} if self.state.start else {}),
            "torch": str(torch.__version__),
            "metrics": {name: round(value, 6) for name, value in self.metrics.items()},
        }
        self.state.metrics = self.metrics
        spec = replace(self.spec, training=summary)
        self.state.identity = save_checkpoint(
            self.folder / "model", spec, checkpoint.to_cpu(self._evaluated_model().state_dict())
        )

    def _save(self) -> None:
        tensors: dict[str, Any] = {
            "model": checkpoint.to_cpu(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.average is not None:
            tensors["average"] = checkpoint.to_cpu(self.average.model.state_dict())
        conditions = checkpoint.machine(self.device, self.dtype)
        checkpoint.save(self.folder, self.state, tensors, self.config, conditions)

    def _evaluated_model(self) -> CLIP:
        """The averaged model, where there is one."""
        return self.model if self.average is None else self.average.model  # type: ignore[return-value]

    def _tell(self, log: TextIO, report: StepReport) -> None:
        _write(log, asdict(report))
        self.listener.step(report)

    def _loader(self) -> PairLoader:
        config, spec = self.config, self.spec
        sides = [side for _, side in config.image_sizes] or [spec.preprocess.size]
        return PairLoader(
            config.data,
            load_tokenizer(spec.tokenizer),
            batch_size=config.batch_size,
            image_size=max(sides),
            augment=config.augment,
            seed=config.seed,
            mean=spec.preprocess.mean,
            std=spec.preprocess.std,
            workers=config.workers,
            cache="auto" if config.cache == "auto" else config.cache == "yes",
        )


class _Meter:
    """Sums between two reports."""

    def __init__(self) -> None:
        self.began, self.pairs, self.steps, self.waited = time.monotonic(), 0, 0, 0.0
        self.loss, self.norm = torch.zeros(()), torch.zeros(())

    def add(self, result: tuple[Tensor, Tensor], batch: Batch) -> None:
        self.loss, self.norm = self.loss + result[0].cpu(), result[1]
        self.pairs, self.steps, self.waited = (
            self.pairs + len(batch.keys),
            self.steps + 1,
            self.waited + batch.wait_seconds,
        )

    def report(self, trainer: Trainer) -> StepReport:
        seconds = max(time.monotonic() - self.began, 1e-9)
        return StepReport(
            step=trainer.state.step,
            steps=trainer.state.total,
            epoch=trainer.state.epoch,
            loss=round(self.loss.item() / self.steps, 6),
            scale=round(trainer.model.logit_scale.exp().item(), 4),
            lr=trainer.optimizer.param_groups[0]["lr"],
            gradient=round(self.norm.item(), 4),
            pairs_per_second=round(self.pairs / seconds, 1),
            wait_share=round(min(1.0, self.waited / seconds), 4),
            seconds=round(trainer.state.seconds, 2),
        )


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _write(log: TextIO, values: Mapping[str, Any]) -> None:
    log.write(json.dumps(values) + "\n")
    log.flush()
