"""The plan of a run: steps, memory and time are estimated before the start, and no files are left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from diptych.errors import TrainingError
from diptych.model.initialise import build
from diptych.training import Run, train
from diptych.training.data import Mixture, TarStream
from diptych.training.loop.plan import plan
from tests.training.data.make_pairs import decode_in_threads
from tests.training.make_runs import TINY, TINY_VIT, config_of, write_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 100)


@pytest.mark.parametrize("changes", [{}, {"chunk": 4}, {"chunk": -1, "model": TINY_VIT}])
def test_a_plan_counts_what_the_run_will_do(pairs: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    config = config_of(pairs, tmp_path / "run", **changes)
    result = plan(Run(config))
    assert not (tmp_path / "run").exists()
    summary = train(Run(config))
    assert result.steps == summary.step == 18
    assert result.pairs == 18 * 16
    assert result.pairs_an_epoch == 96
    shape = changes.get("model", TINY)
    model = build(shape, seed=0)  # type: ignore[arg-type]
    assert sum(result.parameters[name] for name in ("picture encoder", "everything else")) == sum(
        p.numel() for p in model.parameters()
    )
    assert result.memory["weights"] == 8 * result.parameters["learning"]  # and the averaged copy
    assert result.chunk == {-1: 16, 0: 0, 4: 4}[config.chunk]
    assert result.fits
    assert 10 < result.tokens <= 16
    assert result.hours["this machine"] > result.hours["H100"] > result.hours["B200"] > 0
    assert result.decoded_per_second > 0


def test_what_is_locked_does_not_learn_in_the_plan_either(pairs: Path, tmp_path: Path) -> None:
    whole = plan(Run(config_of(pairs, tmp_path / "run")))
    locked = plan(Run(config_of(pairs, tmp_path / "run", lock="image")))
    assert locked.parameters["learning"] == whole.parameters["everything else"]
    assert locked.memory["gradients and moments"] < whole.memory["gradients and moments"]


def test_streams_are_planned_by_the_counts_of_their_shards(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode_in_threads(monkeypatch)
    data = Mixture(((TarStream(str(pairs), block=24), 1.0),))
    messages: list[int] = []
    config = config_of(pairs, tmp_path / "run", data=data)
    assert plan(Run(config), lambda total: lambda done: messages.append(total)).steps == 18
    assert messages == [1]
    assert plan(Run(dataclasses.replace(config, pairs_per_epoch=33))).steps == 6


def test_a_run_that_could_not_start_has_no_plan(pairs: Path, tmp_path: Path) -> None:
    config = config_of(pairs, tmp_path / "run")
    with pytest.raises(TrainingError, match="does not fill one batch of 1000 pairs"):
        plan(Run(dataclasses.replace(config, batch_size=1000)))
