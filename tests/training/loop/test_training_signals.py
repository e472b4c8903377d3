"""SIGTERM and SIGINT: the current step is finished, the run is saved, and the same command resumes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.training import Listener, Run, train
from diptych.training.loop.signals import ECHO, REASONS, StopRequest
from tests.training.make_runs import config_of, same, write_pairs
from tests.waiting import HANG


@pytest.mark.parametrize(("number", "reason"), REASONS.items())
def test_either_signal_saves_and_the_run_goes_on(tmp_path: Path, number: int, reason: str) -> None:
    pairs = write_pairs(tmp_path / "pairs.tar", 64)

    class Stop(Listener):
        def step(self, report) -> None:  # type: ignore[no-untyped-def]
            if report.step == 2:
                signal.raise_signal(number)
                signal.raise_signal(number)  # as torchrun forwards it again

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    config = config_of(pairs, tmp_path / "run", epochs=1)
    summary = train(Run(config), listener=Stop())
    assert (summary.finished, summary.reason, summary.step) == (False, reason, 2)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert train(Run(config), resume=True).finished
    train(Run(config_of(pairs, tmp_path / "whole", epochs=1)))
    assert same(tmp_path / "run", tmp_path / "whole")


def test_a_second_ctrl_c_that_is_no_echo_ends_at_once() -> None:
    now = [100.0]
    request = StopRequest(clock=lambda: now[0])
    request.handle(signal.SIGINT, None)
    now[0] += ECHO / 2
    request.handle(signal.SIGINT, None)
    now[0] += ECHO
    with pytest.raises(KeyboardInterrupt):
        request.handle(signal.SIGINT, None)
    request.handle(signal.SIGTERM, None)  # it is already ending
    assert request.reason == "interrupted"


SCRIPT = """
import signal, sys
sys.argv[0] = "diptych"
from diptych.training.loop import listener
step = listener.Listener.step
from diptych.cli.train import progress_display as shown
import diptych.training.loop.trainer as trainer
tell = trainer.Trainer._after_step
def stop(self, *args):
    tell(self, *args)
    if self.state.step == 1:
        signal.raise_signal(signal.SIGTERM)
trainer.Trainer._after_step = stop
from diptych.cli.main import main
main()
"""


def test_the_command_says_so_and_its_status_is_143(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.tar", 64)
    changes = ["model.vision.layers=(1,1,1,1)", "model.vision.width=8", "model.text.layers=1"]
    command = [sys.executable, "-c", SCRIPT, "train", "--pairs", str(pairs), "--hold-out", "0.1"]
    command += ["--out", str(tmp_path / "run"), "--batch-size", "16", "--epochs", "2"]
    command += [part for change in changes for part in ("--set", change)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=HANG
    )
    assert done.returncode == 143, done.stderr
    assert "terminated: saved at step 1. To continue, run the same command with --resume." in done.stderr
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
