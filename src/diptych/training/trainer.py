"""The loop: batches in, a model out; it can be stopped at any step and goes on as if it had not been.

What happens at a step depends on the config, the data and the step alone, so a run that was killed and
resumed makes the weights of one that was not. Evaluation is handed in as callables; the loop knows nothing of
what they measure, and draws nothing on a screen: it tells a listener.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from diptych.errors import TrainingError
from diptych.model.clip import CLIP
from diptych.model.machine import pick_device
from diptych.pairs import Batch, Loader, Negatives, Share, open_pairs
from diptych.training import checkpoint
from diptych.training.build import refuse_other_inputs
from diptych.training.config import Run, TrainConfig
from diptych.training.learner import Learner
from diptych.training.meter import Diagnosis, Meter
from diptych.training.optim import rate
from diptych.training.tuning import fitted_start
from diptych.training.watching import Listener, Summary
from diptych.training.world import World, join
from diptych.weights import load_checkpoint, save_checkpoint

OFF_PLAN = 0.03  # by which part of the planned steps the real ones may be off before it is said


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
    trainer = Trainer(run, listener or Listener(), resume=resume)
    world = trainer.world
    try:
        return trainer.run()
    except Exception as error:
        if not world.lost_peer(error):
            raise
        raise TrainingError(
            f"process {world.rank} of {world.size} lost another one at step "
            f"{trainer.state.step} ({error}). What was saved is whole: the same command with --resume goes on"
        ) from error
    finally:
        # What wraps the model holds the connections. Their threads have to end before the interpreter does:
        # one that lets go of a tensor in its last moments aborts the process.
        del trainer
        world.close()


class Trainer:
    """One run; see `train`."""

    def __init__(self, run: Run, listener: Listener, *, resume: bool = False) -> None:
        self.config, self.evaluators, self.listener = run.config, run.evaluators, listener
        self.resume = resume
        config = run.config
        self.folder = Path(config.out)
        refuse_used(self.folder, resume=resume)
        self.device = pick_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.world = join(self.device, config.exchange)
        self.spec = config.spec
        self.learner = Learner(config, self.device, self.world)
        self.state = checkpoint.State(lanes=config.lanes or self.world.size)
        self.metrics: dict[str, float] = {}
        self.planned: list[int] = []  # steps of each epoch; known to the first process
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
        if self.world.first:
            self.planned = [self.loader.steps(epoch) for epoch in range(self.config.epochs)]
            state.total = state.total or sum(self.planned)
        state.total = self.world.broadcast(state.total)
        if not state.total:
            raise no_batch(self.config, self.loader)
        self.warmup = min(self.config.warmup, max(1, state.total // 5))
        if self.warmup < self.config.warmup:
            self.listener.note(
                f"the run has {state.total} steps, so the warmup is {self.warmup} of them, not "
                f"{self.config.warmup}"
            )
        started = time.monotonic() - state.seconds
        log_file = self.folder / checkpoint.LOG if self.world.first else Path(os.devnull)
        with log_file.open("a", encoding="utf-8") as log, _stop_asked() as stop:
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
        self.state, before = checkpoint.load(self.folder, self.config)
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
            tensors = checkpoint.read_pieces(self.folder, self.state, self.learner.tensors())
        self.learner.restore(tensors)
        self._rewind(self.state.step)
        self.listener.note(f"going on at step {self.state.step}")

    def _rewind(self, step: int) -> None:
        if self.world.first:
            checkpoint.rewind_log(self.folder, step)

    def _conditions(self) -> dict[str, str]:
        return checkpoint.machine(self.config, self.device, self.learner.dtype, self.world)

    def _epochs(self, log: TextIO, started: float, stop: threading.Event) -> str:
        """Epoch by epoch; the reason why it ended."""
        state, config, limit = self.state, self.config, self.config.max_minutes * 60
        leg, begun = time.monotonic(), state.step
        meter = Meter(config, self.device, self.learner.dtype, self.world.size)
        diagnosis = Diagnosis(config.batch_size, self._has_chance, config.max_scale, self.warmup)
        while state.epoch < config.epochs:
            if config.patience and state.stale >= config.patience:
                return "no better for a while"
            self.loader.image_size = config.side(state.epoch)
            batches = self.loader.batches(state.epoch, state.positions)
            while True:
                self.world.note(f"reads the data of step {state.step + 1}")
                batch = next(batches, None)
                self.world.note(f"meets the others before step {state.step + 1}")
                late = bool(limit) and state.step > begun and time.monotonic() - leg > limit
                # Asked together, so that all processes stop at the same step.
                over, interrupted, late = self.world.any_rank(batch is None, stop.is_set(), late)
                if over or batch is None:
                    break
                if interrupted:
                    return "interrupted"
                if late:
                    return f"time is up ({config.max_minutes:g} minutes)"
                self.world.note(f"computes step {state.step + 1}")
                meter.add(self._step(batch), batch)
                state.step, state.positions = state.step + 1, {**state.positions, **batch.positions}
                state.seconds = time.monotonic() - started
                if state.step % config.log_every == 0:
                    self._tell(log, meter, diagnosis)
                if state.step % config.checkpoint_every == 0:
                    self._save()
            self._end_epoch(log)
        return "done"

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
        if due:
            self._save()

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        step, config = self.state.step, self.config
        if config.chunk < 0:
            self._choose_chunk(batch)
        total = self.state.total if config.schedule == "cosine" else None
        lr = rate(step, total, peak=config.lr, warmup=self.warmup)
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
        trained = self.learner.evaluated().eval()
        self.metrics = {
            f"{name}/{key}": float(value)
            for name, evaluator in self.evaluators.items()
            for key, value in evaluator(trained.product, self.state.step).items()
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
            self._keep(trained.model)
        else:
            state.stale += 1

    def _keep(self, model: CLIP) -> None:
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
        if self.world.first:
            extra = [Path(self.config.tokenizer_file)] if self.config.tokenizer_file else []
            self.state.identity = save_checkpoint(
                self.folder / "model", spec, checkpoint.to_cpu(model.state_dict()), extra_files=extra
            )
        self.state.identity = self.world.broadcast(self.state.identity)

    def _save(self) -> None:
        self.world.note("saves a checkpoint")
        # A process knows where the lanes stand that it reads itself.
        known = self.state.positions.items()
        mine = {lane: position for lane, position in known if lane in self.loader.batcher.lanes}
        for positions in self.world.all_gather(mine):
            self.state.positions.update(positions)
        more = (self.config, self._conditions())
        if self.learner.is_sharded:
            checkpoint.save_pieces(self.folder, self.state, self.learner.tensors(), *more, world=self.world)
        elif self.world.first:
            tensors = checkpoint.to_cpu(self.learner.tensors())
            checkpoint.save(self.folder, self.state, tensors, *more)

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


def refuse_used(folder: Path, *, resume: bool) -> None:
    """Raise TrainingError where a run would begin in a folder that holds one."""
    if not resume and (folder / checkpoint.FILE).exists():
        raise TrainingError(
            f"{folder} holds a run already: add --resume to go on with it, or choose another folder"
        )


def no_batch(config: TrainConfig, loader: Loader) -> TrainingError:
    """What to say of data that fills no batch."""
    return TrainingError(
        f"the data gives no batch of {config.batch_size} pairs ({loader.report}); take a smaller batch_size "
        "or more data"
    )


def open_loader(config: TrainConfig, world: World, lanes: int) -> Loader:
    """A process's part of the pairs of a run."""
    spec = config.spec
    return open_pairs(
        config.data,
        config.load_tokenizer(),
        batch_size=config.batch_size,
        image_size=config.largest_side,
        augment=config.augment,
        seed=config.seed,
        mean=spec.preprocess.mean,
        std=spec.preprocess.std,
        workers=config.workers,
        pairs_per_epoch=config.pairs_per_epoch,
        cache="auto" if config.cache == "auto" else config.cache == "yes",
        negatives=Negatives(config.negatives, config.negatives_each) if config.negatives else None,
        share=Share(world.rank, world.size, lanes),
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
