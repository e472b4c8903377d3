"""The loop: batches in, a model out; it can be stopped at any step and goes on as if it had not been.

What happens at a step depends on the config, the data and the step alone, so a run that was killed and
resumed makes the weights of one that was not. Evaluation is handed in as callables; the loop knows nothing of
what they measure, and draws nothing on a screen: it tells a listener.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from diptych.errors import TrainingError
from diptych.model.devices import pick_dtype
from diptych.training.checkpoints import checkpoint, keeping
from diptych.training.config import Run
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator, pick_accelerator
from diptych.training.distributed.joining import join
from diptych.training.distributed.world import World
from diptych.training.loop.feed import feed
from diptych.training.loop.learner import Learner
from diptych.training.loop.loading import no_batch, open_loader
from diptych.training.loop.meter import Diagnosis, Meter
from diptych.training.loop.optim import scheduled_rate
from diptych.training.loop.signals import STATUS, StopRequest, stop_requests
from diptych.training.loop.watching import Listener, Summary
from diptych.training.objectives.build import refuse_other_inputs
from diptych.training.objectives.objective import Objective
from diptych.training.objectives.tuning import fitted_start
from diptych.weights import load_checkpoint

OFF_PLAN = 0.03  # by which part of the planned steps the real ones may be off before it is said


def train(
    run: Run, *, resume: bool = False, resume_from: str | Path = "", listener: Listener | None = None
) -> Summary:
    """Train a model from pairs.

    Parameters
    ----------
    run : Run
        Config and evaluators.
    resume : bool
        Go on from the run's checkpoint, if it has one.
    resume_from : path, optional
        A run's folder or a numbered checkpoint in it: a new run, in another folder, goes on from there. With
        `resume`, from its own checkpoint once it has one.
    listener : Listener, optional
        Told how it goes.

    Returns
    -------
    Summary
        The model lies in `out/model`; `diptych.load(out)` loads it.

    Raises
    ------
    TrainingError
        The run cannot start, the loss became NaN, the checkpoint does not belong to it, or another process
        of the run failed.
    """
    accelerator = pick_accelerator(run.config.device)
    world = join(accelerator, run.config.exchange)
    trainer, failed = None, True
    try:
        with accelerator.fast_products(pick_dtype(run.config.precision, accelerator.device)):
            trainer = Trainer(
                run, listener or Listener(), accelerator, world, resume=resume, resume_from=resume_from
            )
            summary = trainer.run()
        failed = False
        return summary
    except BaseException as error:
        other = world.fail(error, trainer.state.step if trainer else 0)
        if other is None:
            raise
        raise other from error
    finally:
        # What wraps the model holds the connections. Their threads have to end before the interpreter does:
        # one that lets go of a tensor in its last moments aborts the process.
        del trainer
        world.close(failed=failed)


class Trainer:
    """One run; see `train`."""

    def __init__(
        self,
        run: Run,
        listener: Listener,
        accelerator: Accelerator,
        world: World,
        *,
        resume: bool = False,
        resume_from: str | Path = "",
    ) -> None:
        self.config, self.evaluators, self.listener = run.config, run.evaluators, listener
        self.accelerator, self.world = accelerator, world
        config = run.config
        self.folder = Path(config.out)
        # Decided by the first process: a shared disk may show the others an older state.
        started = world.broadcast((self.folder / checkpoint.FILE).exists())
        keeping.refuse_used(self.folder, resume=resume or not started)
        self.source = self.folder if started or not resume_from else Path(resume_from)
        if resume_from:
            keeping.refuse_source(self.folder, self.source, Path(resume_from))
        self.resume, self.resumes = resume, (resume and started) or bool(resume_from)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.spec = config.spec
        self.learner = Learner(config, accelerator, world)
        self.state = checkpoint.State(lanes=config.lanes or self.world.size)
        self.metrics: dict[str, float] = {}
        self.planned: list[int] = []  # steps of each epoch
        known = config.monitor.split("/")[0]
        if config.monitor and known not in self.evaluators:
            raise TrainingError(
                f"monitor {config.monitor!r} names no evaluator of this run: expected "
                f"{' or '.join(f'{name}/METRIC' for name in self.evaluators) or 'none, for there is none'}"
            )

    def run(self) -> Summary:
        """Train to the end, or to the next stop."""
        self._start()
        self.loader = open_loader(self.config, self.world, self.state.lanes)
        with closing(self.loader):
            self.loader.prepare(self.listener.scanning)
            return self._run()

    def _run(self) -> Summary:
        state = self.state
        # Counted once and kept: what is found out about bad records later must not bend the schedule.
        self.planned = self.world.run_on_first(self._count_steps)
        if not state.total:
            state.total = sum(self.planned)
            state.cooldown = sum(self.planned[self.config.epochs - self.config.epochs_cooldown :])
        if not state.total:
            raise no_batch(self.config, self.loader)
        if not state.warmup:
            state.warmup = min(self.config.warmup, max(1, state.total // 5))
            if state.warmup < self.config.warmup:
                self.listener.note(
                    f"the run has {state.total} steps, so the warmup is {state.warmup} of them, not "
                    f"{self.config.warmup}"
                )
        started = time.monotonic() - state.seconds
        log_file = self.folder / checkpoint.LOG if self.world.first else Path(os.devnull)
        with log_file.open("a", encoding="utf-8") as log, stop_requests() as stop:
            reason = self._epochs(log, started, stop)
        if self.loader.report.skipped:
            self.listener.note(str(self.loader.report))
        finished = reason in ("done", "no better for a while")
        self._save()
        return Summary(
            finished, reason, state.step, state.seconds, state.metrics, state.identity, self.folder
        )

    def _count_steps(self) -> list[int]:
        return [self.loader.steps(epoch) for epoch in range(self.config.epochs)]

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.resumes:
            self._restore()
        else:
            self._rewind(0)
            if self.resume:
                self.listener.note(f"{self.folder} holds no checkpoint yet: starting from the beginning")
            if self.config.start:
                self._begin_with(self.config.start)

    def _begin_with(self, name: str) -> None:
        """Take over the weights of another model of the same shape, the same ids and the same colours."""
        before = load_checkpoint(name)
        refuse_other_inputs(self.config, before.spec, name)
        state, note = fitted_start(self.config.architecture, before, name)
        if note:
            self.listener.note(note)
        self.learner.begin(state)
        self.state.start = before.identity

    def _restore(self) -> None:
        self.state, before = checkpoint.load(self.source, self.config)
        now = self._conditions()
        changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]
        if changed:
            warnings.warn(
                f"the run goes on under other conditions ({'; '.join(changed)}): sums are added in another "
                "order or precision, so the weights will not be those of a run that never stopped",
                stacklevel=2,
            )
        tensors, self.state.tensors = self.state.tensors, {}
        if self.state.pieces:
            tensors = checkpoint.read_pieces(self.source, self.state, self.learner.tensors())
        self.learner.restore(tensors)
        if self.world.first and self.source != self.folder:
            keeping.branch(self.source, self.folder)
        self._rewind(self.state.step)
        self.listener.note(f"going on at step {self.state.step} of {self.source}")

    def _rewind(self, step: int) -> None:
        if self.world.first:
            checkpoint.rewind_log(self.folder, step)

    def _conditions(self) -> dict[str, str]:
        return checkpoint.machine(self.config, self.accelerator.device, self.learner.dtype, self.world)

    def _epochs(self, log: TextIO, started: float, stop: StopRequest) -> str:
        """Epoch by epoch; the reason why it ended."""
        state, config, limit = self.state, self.config, self.config.max_minutes * 60
        leg, begun = time.monotonic(), state.step
        meter = Meter(config, self.accelerator, self.learner.dtype, self.world.size)
        diagnosis = Diagnosis(config.batch_size, self._has_chance, config.max_scale, state.warmup)
        while state.epoch < config.epochs:
            if config.patience and state.stale >= config.patience:
                return "no better for a while"
            self.loader.image_size = config.side(state.epoch)
            batches = self.loader.batches(state.epoch, state.positions)
            with closing(feed(batches, self.accelerator)) as feeding:
                while True:
                    self.world.note(f"reads the data of step {state.step + 1}")
                    batch = next(feeding, None)
                    self.world.note(f"meets the others before step {state.step + 1}")
                    late = bool(limit) and state.step > begun and time.monotonic() - leg > limit
                    # Agreed on, so that all processes stop at the same step.
                    over, late, *stops = self.world.any_rank(
                        batch is None, late, *(stop.reason == reason for reason in STATUS)
                    )
                    if over or batch is None:
                        break
                    if any(stops):
                        return next(reason for reason, asked in zip(STATUS, stops, strict=True) if asked)
                    if late:
                        return f"time is up ({config.max_minutes:g} minutes)"
                    self.world.note(f"computes step {state.step + 1}")
                    meter.add(self._step(batch), batch)
                    self._after_step(log, batch, started, meter, diagnosis)
            self._end_epoch(log)
        return "done"

    def _after_step(
        self, log: TextIO, batch: Batch, started: float, meter: Meter, diagnosis: Diagnosis
    ) -> None:
        state = self.state
        state.step, state.positions = state.step + 1, {**state.positions, **batch.positions}
        state.seconds = time.monotonic() - started
        if state.step % self.config.log_every == 0:
            self._tell(log, meter, diagnosis)
        if state.step % self.config.checkpoint_every == 0:
            self._save()

    def _end_epoch(self, log: TextIO) -> None:
        state, config = self.state, self.config
        if self.planned:
            planned = round(state.total * sum(self.planned[: state.epoch + 1]) / max(1, sum(self.planned)))
            if abs(state.step - planned) > OFF_PLAN * planned:
                self.listener.note(
                    f"epoch {state.epoch + 1} ended after step {state.step}, which was planned for step "
                    f"{planned} ({self.loader.report}): the learning rate still ends at step {state.total}"
                )
        due = (state.epoch + 1) % config.evaluate_every == 0 or state.epoch + 1 == config.epochs
        if due:
            # An evaluator may fail; what was trained must not be lost with it. Resumed here, the epoch has no
            # batch left and is evaluated again.
            self._save()
            self._evaluate(log)
        state.epoch, state.positions = state.epoch + 1, {}
        numbered = config.save_frequency and state.epoch % config.save_frequency == 0
        if numbered:  # before the run's own checkpoint: a run that is killed in between does it again
            self._number(self.metrics if due else {})
        if due or numbered:
            self._save()

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        state, config, step = self.state, self.config, self.state.step
        if config.chunk < 0:
            self._choose_chunk(batch)
        lr = scheduled_rate(config, step, state.total, warmup=state.warmup, cooldown=state.cooldown)
        return self.learner.step(batch, step, lr)

    def _choose_chunk(self, batch: Batch) -> None:
        """Once a run: with batch norms or dropout, the size of a chunk decides what is learned."""
        if not self.state.chunk:
            self.state.chunk = self.learner.memory().largest_chunk(batch, len(batch))
            self.listener.note(f"chunks of {self.state.chunk} pairs fit into memory")
        self.learner.chunk = self.state.chunk

    def _evaluate(self, log: TextIO) -> None:
        """Call the evaluators, and keep the model if it is the best so far."""
        self.world.note("evaluates")
        # Measured once. Sums in another order differ in the last bit, and a process that finds its own value
        # better than the best would wait for the others where they do not come.
        self.metrics = self.learner.evaluate(self._measure)
        _write(log, {"step": self.state.step, "epoch": self.state.epoch + 1, **self.metrics})
        self.listener.evaluated(self.state.step, self.metrics)
        monitor, state = self.config.monitor, self.state
        if monitor and monitor not in self.metrics:
            raise TrainingError(
                f"monitor {monitor!r} is no metric of this run; its metrics: "
                f"{', '.join(self.metrics) or 'none'}"
            )
        value = keeping.monitored(monitor, self.metrics)
        if value is None or state.best is None or value > state.best:
            state.best, state.best_epoch, state.stale = value, state.epoch + 1, 0
            state.metrics = self.metrics
            state.identity = self._write_model(self.folder, self.metrics, state.epoch + 1)
        else:
            state.stale += 1

    def _write_model(self, folder: Path, metrics: Mapping[str, float], epochs: int) -> str:
        """Write the model into the folder of a run or of a numbered checkpoint; its identity."""
        model = folder / keeping.MODEL
        more = (self.config, self.spec, self.state, metrics, epochs)
        weights = self.learner.weights()
        return self.world.run_on_first(lambda: keeping.write_model(model, *more, weights))

    def _number(self, metrics: dict[str, float]) -> None:
        """Keep the epoch that has ended as a numbered checkpoint: a run of its own, as if it ended here."""
        epoch, config = self.state.epoch, self.config
        part = keeping.hidden(self.folder, epoch)
        self.world.run_on_first(lambda: keeping.begin(part))
        identity = self._write_model(part, metrics, epoch)
        best = keeping.monitored(config.monitor, metrics)
        self._save(part, identity=identity, metrics=metrics, best=best, best_epoch=epoch, stale=0)
        keep, best_epoch = config.keep_checkpoints, self.state.best_epoch
        self.world.run_on_first(lambda: keeping.publish(self.folder, epoch, keep=keep, best=best_epoch))

    def _measure(self, trained: Objective) -> dict[str, float]:
        """What the evaluators find; on the first process."""
        return {
            f"{name}/{key}": float(value)
            for name, evaluator in self.evaluators.items()
            for key, value in evaluator(trained.product, self.state.step).items()
        }

    def _save(self, folder: Path | None = None, **own: Any) -> None:
        """Write a checkpoint, the run's or, with values of its own, another."""
        self.learner.check()  # a step that went astray is not to be saved
        self.world.note("saves a checkpoint")
        # A process knows where the lanes stand that it reads itself.
        known = self.state.positions.items()
        mine = {lane: position for lane, position in known if lane in self.loader.batcher.lanes}
        for positions in self.world.all_gather(mine):
            self.state.positions.update(positions)
        folder, state = folder or self.folder, replace(self.state, **own)
        more = (self.config, self._conditions())
        if self.learner.is_sharded:
            checkpoint.save_pieces(folder, state, self.learner.tensors(), *more, world=self.world)
        elif self.world.first:
            checkpoint.save(folder, state, checkpoint.to_cpu(self.learner.tensors()), *more)

    def _tell(self, log: TextIO, meter: Meter, diagnosis: Diagnosis) -> None:
        state, model = self.state, self.learner.model
        report = meter.report(
            step=state.step,
            steps=state.total,
            epoch=state.epoch,
            scale=model.logit_scale.exp().item(),
            lr=max(group["lr"] for group in self.learner.optimizer.param_groups),
            seconds=state.seconds,
        )
        meter.restart()
        _write(log, asdict(report))
        self.listener.step(report)
        for text in diagnosis.of(report):
            self.listener.note(text)

    @property
    def _has_chance(self) -> bool:
        config = self.config
        plain = (config.objective, config.loss, config.teachers, config.negatives)
        return plain == ("contrastive", "infonce", (), "")


def _write(log: TextIO, values: Mapping[str, Any]) -> None:
    log.write(json.dumps(values) + "\n")
    log.flush()
