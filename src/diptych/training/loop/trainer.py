"""The training loop, which can be stopped at any step and resumed with the same result.

A step depends only on config, data and step number, so a run that was killed and resumed makes the same
weights as one that was not. Evaluators are callables of the recipe; progress is reported to a listener.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from itertools import compress
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from diptych.errors import TrainingError, counted
from diptych.model.devices import pick_dtype
from diptych.training.checkpoints import checkpoint, run_folder
from diptych.training.config import Run, TrainConfig
from diptych.training.data import Batch
from diptych.training.distributed.accelerator import Accelerator, pick_accelerator
from diptych.training.distributed.joining import join
from diptych.training.distributed.world import World
from diptych.training.loop.listener import Listener, RunSummary
from diptych.training.loop.loading import no_batch_error, open_loader, prefetch_pinned
from diptych.training.loop.meter import Diagnosis, Meter
from diptych.training.loop.optim import scheduled_rate
from diptych.training.loop.signals import STATUS, StopRequest, stop_requests
from diptych.training.loop.starting import load_start
from diptych.training.loop.trainable_model import TrainableModel
from diptych.training.objectives.objective import Objective

OFF_PLAN = 0.03  # share by which steps may differ from the planned ones without a note


def train(
    run: Run | TrainConfig,
    *,
    resume: bool = False,
    resume_from: str | Path = "",
    listener: Listener | None = None,
) -> RunSummary:
    """Train a model on image-text pairs.

    Parameters
    ----------
    run : Run or TrainConfig
        Config and evaluators, or a config alone.
    resume : bool
        Resume from the run's checkpoint, if it has one.
    resume_from : path, optional
        A run's folder or a numbered checkpoint in it, from which a new run in another folder continues. With
        `resume`, the new run's own checkpoint is preferred once it exists.
    listener : Listener, optional
        Receives the events of the run.

    Returns
    -------
    RunSummary
        The model is in `out/model`; `diptych.load(out)` loads it.

    Raises
    ------
    TrainingError
        The run cannot start or be resumed, the loss became NaN, or another process of the run failed.
    """
    run = Run(run) if isinstance(run, TrainConfig) else run
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
        reported = world.fail(error, trainer.state.step if trainer else 0)
        if reported is None:
            raise
        raise reported from error
    finally:
        # The wrapper of the model holds the connections. Their threads must end before the interpreter does:
        # a thread that frees a tensor during shutdown aborts the process.
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
        # Decided by the first process: others may see an older state of a shared disk.
        started = world.broadcast((self.folder / checkpoint.FILE).exists())
        run_folder.refuse_used(self.folder, resume=resume or not started)
        self.source = self.folder if started or not resume_from else Path(resume_from)
        if resume_from:
            run_folder.refuse_source(self.folder, self.source, Path(resume_from))
        self.resume, self.has_checkpoint = resume, (resume and started) or bool(resume_from)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.spec = config.spec
        self.trainable = TrainableModel(config, accelerator, world)
        self.state = checkpoint.State(lanes=config.lanes or self.world.size)
        self.metrics: dict[str, float] = {}
        self.planned: list[int] = []  # steps of each epoch
        evaluator = config.monitor.split("/")[0]
        if config.monitor and evaluator not in self.evaluators:
            raise TrainingError(
                f"monitor {config.monitor!r} names no evaluator of this run: expected "
                f"{' or '.join(f'{name}/METRIC' for name in self.evaluators) or 'none'}"
            )

    def run(self) -> RunSummary:
        """Train to the end of the run, or until it is stopped."""
        self._start()
        locked = self.trainable.locked_encoder() if self.config.cache_features else None
        self.loader = open_loader(self.config, self.world, self.state.lanes, locked)
        with closing(self.loader):
            if locked is not None:  # one process writes the file that all read
                self.world.run_on_first(lambda: self.loader.prepare(self.listener.scanning))
            self.loader.prepare(self.listener.scanning)
            return self._run()

    def _run(self) -> RunSummary:
        state = self.state
        # Counted once per run: bad records that are discovered later must not change the schedule.
        epochs = range(self.config.epochs)
        self.planned = self.world.run_on_first(lambda: [self.loader.steps(epoch) for epoch in epochs])
        if not state.total:
            state.total = sum(self.planned)
            state.cooldown = sum(self.planned[self.config.epochs - self.config.epochs_cooldown :])
        if not state.total:
            raise no_batch_error(self.config, self.loader)
        if not state.warmup:
            state.warmup = min(self.config.warmup, max(1, state.total // 5))
            if state.warmup < self.config.warmup:
                self.listener.note(
                    f"the run has {counted(state.total, 'step')}, so the warmup has {state.warmup} and not "
                    f"{self.config.warmup}"
                )
        started = time.monotonic() - state.seconds  # as if the run had never been interrupted
        log_file = self.folder / checkpoint.LOG if self.world.first else Path(os.devnull)
        with log_file.open("a", encoding="utf-8") as log, stop_requests() as stop:
            reason = self._epochs(log, started, stop)
        if self.loader.report.skipped:
            self.listener.note(str(self.loader.report))
        finished = reason in ("done", "no better for a while")
        self._save()
        return RunSummary(
            finished, reason, state.step, state.seconds, state.metrics, state.identity, self.folder
        )

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.has_checkpoint:
            self._restore()
        else:
            self._truncate_log(0)
            if self.resume:
                self.listener.note(f"{self.folder} holds no checkpoint yet: starting from the beginning")
            self.state.start = load_start(self.config, self.trainable, self.listener.note)

    def _restore(self) -> None:
        """Load the checkpoint; warns if bitwise equal results are not to be expected."""
        self.state, before = checkpoint.load(self.source, self.config)
        now = self._conditions()
        changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]
        if changed:
            warnings.warn(
                f"the run is resumed under other conditions ({'; '.join(changed)}): sums are added in "
                "another order or precision, so the weights will differ from those of an uninterrupted run",
                stacklevel=2,
            )
        # Taken out of the state, so that they are freed after loading.
        tensors, self.state.tensors = self.state.tensors, {}
        if self.state.pieces:
            tensors = checkpoint.load_sharded(self.source, self.state, self.trainable.tensors())
        self.trainable.restore(tensors)
        if self.world.first and self.source != self.folder:
            run_folder.branch(self.source, self.folder)
        self._truncate_log(self.state.step)
        self.listener.note(f"resumed at step {self.state.step} of {self.source}")

    def _truncate_log(self, step: int) -> None:
        if self.world.first:
            checkpoint.truncate_log(self.folder, step)

    def _conditions(self) -> dict[str, str]:
        return checkpoint.machine(self.config, self.accelerator.device, self.trainable.dtype, self.world)

    def _epochs(self, log: TextIO, started: float, stop: StopRequest) -> str:
        """Train epoch by epoch; returns the reason why it ended."""
        state, config, limit = self.state, self.config, self.config.max_minutes * 60
        resumed_at, first_step = time.monotonic(), state.step
        meter = Meter(config, self.accelerator, self.trainable.dtype, self.world.size)
        diagnosis = Diagnosis(config.batch_size, self._is_plain_info_nce, config.max_scale, state.warmup)
        while state.epoch < config.epochs:
            if config.patience and state.stale >= config.patience:
                return "no better for a while"
            self.loader.image_size = config.side(state.epoch)  # of image_sizes, or always the same
            batches = self.loader.batches(state.epoch, state.positions)
            with closing(prefetch_pinned(batches, self.accelerator)) as prefetched:
                while True:
                    self.world.note(f"reads the data of step {state.step + 1}")
                    batch = next(prefetched, None)
                    self.world.note(f"waits for the others before step {state.step + 1}")
                    # At least one step, so that a run with a very short limit makes progress.
                    seconds = time.monotonic() - resumed_at
                    overtime = bool(limit) and state.step > first_step and seconds > limit
                    # Reduced over processes, so that all stop at the same step.
                    at_end, overtime, *stops = self.world.any_rank(
                        batch is None, overtime, *(stop.reason == reason for reason in STATUS)
                    )
                    if at_end or batch is None:
                        break
                    if any(stops):
                        return next(compress(STATUS, stops))
                    if overtime:
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
        # A batch has the positions of the lanes that this process reads; others are merged in `_save`.
        state.step, state.positions = state.step + 1, {**state.positions, **batch.positions}
        state.seconds = time.monotonic() - started
        if state.step % self.config.log_every == 0:
            self._report(log, meter, diagnosis)
        if state.step % self.config.checkpoint_every == 0:
            self._save()

    def _end_epoch(self, log: TextIO) -> None:
        state, config = self.state, self.config
        if self.planned:
            planned = round(state.total * sum(self.planned[: state.epoch + 1]) / max(1, sum(self.planned)))
            if abs(state.step - planned) > OFF_PLAN * planned:
                self.listener.note(
                    f"epoch {state.epoch + 1} ended after step {state.step}, which was planned for step "
                    f"{planned} ({self.loader.report}): the schedule still ends at step {state.total}"
                )
        due = (state.epoch + 1) % config.evaluate_every == 0 or state.epoch + 1 == config.epochs
        if due:
            # Saved first, because an evaluator may fail. Resumed from here, the epoch has no batch left and
            # is evaluated again.
            self._save()
            self._evaluate(log)
        state.epoch, state.positions = state.epoch + 1, {}
        numbered = config.save_frequency and state.epoch % config.save_frequency == 0
        if numbered:  # before the run's own checkpoint: if it is killed in between, it is done again
            self._save_numbered(self.metrics if due else {})
        if due or numbered:
            self._save()

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        state, config, step = self.state, self.config, self.state.step
        if config.chunk < 0:
            self._choose_chunk(batch)
        lr = scheduled_rate(config, step, state.total, warmup=state.warmup, cooldown=state.cooldown)
        return self.trainable.step(batch, step, lr)

    def _choose_chunk(self, batch: Batch) -> None:
        """Once per run: with batch norms or dropout, the result depends on the chunk size."""
        if not self.state.chunk:
            self.state.chunk = self.trainable.memory().largest_chunk(batch, len(batch))
            self.listener.note(f"chunks of {counted(self.state.chunk, 'pair')} fit into memory")
        self.trainable.chunk = self.state.chunk

    def _evaluate(self, log: TextIO) -> None:
        """Call the evaluators, and save the model if it is the best so far."""
        self.world.note("evaluates")
        # Measured on the first process alone: values of several processes may differ in the last bit, and one
        # that took its own for the best would enter the collectives of `_write_model` alone.
        self.metrics = self.trainable.evaluate(self._measure)
        _write(log, {"step": self.state.step, "epoch": self.state.epoch + 1, **self.metrics})
        self.listener.evaluated(self.state.step, self.metrics)
        monitor, state = self.config.monitor, self.state
        if monitor and monitor not in self.metrics:
            raise TrainingError(
                f"monitor {monitor!r} is not a metric of this run: expected one of "
                f"{', '.join(self.metrics) or 'none'}"
            )
        value = run_folder.monitored(monitor, self.metrics)
        if value is None or state.best is None or value > state.best:
            state.best, state.best_epoch, state.stale = value, state.epoch + 1, 0
            state.metrics = self.metrics
            state.identity = self._write_model(self.folder, self.metrics, state.epoch + 1)
        else:
            state.stale += 1

    def _write_model(self, folder: Path, metrics: Mapping[str, float], epochs: int) -> str:
        """Write the model into the folder of a run or of a numbered checkpoint; returns its identity."""
        model = folder / run_folder.MODEL
        more = (self.config, self.spec, self.state, metrics, epochs)
        weights = self.trainable.weights()  # gathered by all processes, so outside of `run_on_first`
        return self.world.run_on_first(lambda: run_folder.write_model(model, *more, weights))

    def _save_numbered(self, metrics: dict[str, float]) -> None:
        """Save the epoch that has ended as a numbered checkpoint: a run folder, as if the run ended here."""
        epoch, config = self.state.epoch, self.config
        part = run_folder.hidden(self.folder, epoch)
        self.world.run_on_first(lambda: run_folder.begin(part))
        identity = self._write_model(part, metrics, epoch)
        best = run_folder.monitored(config.monitor, metrics)
        self._save(part, identity=identity, metrics=metrics, best=best, best_epoch=epoch, stale=0)
        keep, best_epoch = config.keep_checkpoints, self.state.best_epoch
        self.world.run_on_first(lambda: run_folder.publish(self.folder, epoch, keep=keep, best=best_epoch))

    def _measure(self, objective: Objective) -> dict[str, float]:
        """Metrics of all evaluators; on the first process."""
        return {
            f"{name}/{key}": float(value)
            for name, evaluator in self.evaluators.items()
            for key, value in evaluator(objective.product, self.state.step).items()
        }

    def _save(self, folder: Path | None = None, **own: Any) -> None:
        """Write the run's checkpoint; or into `folder`, with other values of some fields of the state."""
        self.trainable.check()  # a step that diverged must not be saved
        self.world.note("saves a checkpoint")
        # A process knows the positions of the lanes that it reads; those of the others are older.
        positions_here = {
            lane: position
            for lane, position in self.state.positions.items()
            if lane in self.loader.batcher.lanes
        }
        for positions in self.world.all_gather(positions_here):
            self.state.positions.update(positions)
        folder, state = folder or self.folder, replace(self.state, **own)
        more = (self.config, self._conditions())
        if self.trainable.is_sharded:
            checkpoint.save_sharded(folder, state, self.trainable.tensors(), *more, world=self.world)
        elif self.world.first:
            checkpoint.save(folder, state, checkpoint.to_cpu(self.trainable.tensors()), *more)

    def _report(self, log: TextIO, meter: Meter, diagnosis: Diagnosis) -> None:
        state, model = self.state, self.trainable.model
        report = meter.report(
            step=state.step,
            steps=state.total,
            epoch=state.epoch,
            scale=model.logit_scale.exp().item(),
            lr=max(group["lr"] for group in self.trainable.optimizer.param_groups),
            seconds=state.seconds,
        )
        meter.restart()
        _write(log, asdict(report))
        self.listener.step(report)
        for text in diagnosis.of(report):
            self.listener.note(text)

    @property
    def _is_plain_info_nce(self) -> bool:
        """Whether the loss is InfoNCE alone, of which the level of chance is known."""
        config = self.config
        plain = (config.objective, config.loss, config.teachers, config.negatives, config.negatives_from)
        companions = (config.text_pairs, config.label_tree, config.caption_words)
        return plain == ("contrastive", "infonce", (), "", "all") and companions == (None, None, None)


def _write(log: TextIO, values: Mapping[str, Any]) -> None:
    log.write(json.dumps(values) + "\n")
    log.flush()
