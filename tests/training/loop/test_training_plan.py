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
    found = plan(Run(config))
    assert not (tmp_path / "run").exists()
    summary = train(Run(config))
    assert found.steps == summary.step == 18
    assert found.pairs == 18 * 16
    assert found.pairs_an_epoch == 96
    shape = changes.get("model", TINY)
    model = build(shape, seed=0)  # type: ignore[arg-type]
    assert sum(found.parameters[name] for name in ("picture encoder", "everything else")) == sum(
        p.numel() for p in model.parameters()
    )
    assert found.memory["weights"] == 8 * found.parameters["learning"]  # and the averaged copy
    assert found.chunk == {-1: 16, 0: 0, 4: 4}[config.chunk]
    assert found.fits
    assert 10 < found.tokens <= 16
    assert found.hours["this machine"] > found.hours["H100"] > found.hours["B200"] > 0
    assert found.decoded_per_second > 0


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
    told: list[int] = []
    config = config_of(pairs, tmp_path / "run", data=data)
    assert plan(Run(config), lambda total: lambda done: told.append(total)).steps == 18
    assert told == [1]
    assert plan(Run(dataclasses.replace(config, pairs_per_epoch=33))).steps == 6


def test_a_run_that_could_not_start_has_no_plan(pairs: Path, tmp_path: Path) -> None:
    config = config_of(pairs, tmp_path / "run")
    with pytest.raises(TrainingError, match="does not fill one batch of 1000 pairs"):
        plan(Run(dataclasses.replace(config, batch_size=1000)))
