"""The largest chunk that fits into memory: estimated, determined once, and constant for the whole run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError, TrainingError
from diptych.training import Run, train
from diptych.training.checkpoints.checkpoint import FILE
from diptych.training.distributed import accelerator
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.footprint import Footprint, kept_bytes
from diptych.training.distributed.world import World
from diptych.training.loop.loading import open_loader
from diptych.training.loop.trainable_model import TrainableModel
from tests.training.distributed.test_training_processes import close, run
from tests.training.make_runs import TINY_VIT, config_of, same, write_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 96)


@given(st.integers(1, 5000), st.integers(1, 2**31), st.integers(0, 2**31), st.integers(10, 2**36))
def test_chunks_fit_and_are_as_few_and_equal_as_can_be(most: int, pair: int, fixed: int, free: int) -> None:
    print_ = Footprint(float(pair), float(fixed))
    try:
        chunk = print_.largest(free, most, each=8)
    except TrainingError:
        assert print_.bytes(1) + 8 * most > 0.99 * free
        return
    assert print_.bytes(chunk) + 8 * most <= free * (1 + 1e-9)
    count = -(-most // chunk)
    assert chunk * (count - 1) < most
    if count > 1:  # one chunk fewer would not fit
        assert print_.bytes(-(-most // (count - 1))) + 8 * most > free * (1 - 1e-9)


def test_what_is_kept_grows_by_the_pair() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(100, 300), torch.nn.GELU(), torch.nn.Linear(300, 10))
    parameters = list(layer.parameters())
    kept = [kept_bytes(lambda n=n: layer(torch.ones(n, 100)), parameters) for n in (8, 16)]
    assert kept[1] == 2 * kept[0] == 2 * 8 * 4 * (100 + 300 + 300)


def chunk_of(out: Path) -> int:
    result: int = torch.load(out / FILE, weights_only=True)["state"]["chunk"]
    return result


def test_a_run_finds_its_chunk_and_keeps_it(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"model": TINY_VIT, "batch_size": 48, "epochs": 2}
    train(Run(config_of(pairs, tmp_path / "plenty", chunk=-1, **options)))
    assert chunk_of(tmp_path / "plenty") == 48
    monkeypatch.setattr(Accelerator, "free_bytes", lambda self: 4e6)
    train(Run(config_of(pairs, tmp_path / "little", chunk=-1, **options)))
    chunk = chunk_of(tmp_path / "little")
    assert 2 <= chunk <= 24
    train(Run(config_of(pairs, tmp_path / "told", chunk=chunk, **options)))
    assert same(tmp_path / "told", tmp_path / "little")
    config = config_of(pairs, tmp_path / "legs", chunk=-1, **options)
    train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    monkeypatch.setattr(Accelerator, "free_bytes", lambda self: 40e9)  # plenty of memory from now on
    train(Run(config), resume=True)
    assert chunk_of(tmp_path / "legs") == chunk
    assert same(tmp_path / "told", tmp_path / "legs")


def test_no_memory_at_all_is_said(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "free_bytes", lambda self: 1e5)
    with pytest.raises(TrainingError, match="not even a chunk of one pair"):
        train(Run(config_of(pairs, tmp_path / "run", chunk=-1, batch_size=48)))
    monkeypatch.undo()
    monkeypatch.setattr(accelerator, "free_memory", lambda: 0)
    with pytest.raises(TrainingError, match="choose a chunk"):
        Accelerator(torch.device("cpu")).free_bytes()
    with pytest.raises(InputError, match="chunk is -2"):
        config_of(pairs, tmp_path / "run", chunk=-2)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_find_one_chunk(pairs: Path, tmp_path: Path, parallel: str) -> None:
    options = {"batch_size": 48, "epochs": 1, "lanes": 2}
    run(2, pairs, tmp_path / "found" / "run", **options, parallel=parallel, chunk=-1)
    assert chunk_of(tmp_path / "found" / "run") == 24
    run(2, pairs, tmp_path / "told" / "run", **options, parallel=parallel, chunk=24)
    close(tmp_path / "found" / "run", tmp_path / "told" / "run")


def test_the_chunk_is_that_of_the_largest_pictures(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "free_bytes", lambda self: 12e6)
    results = []
    for name, sizes in (("small", ()), ("grows", ((0.5, 32), (0.5, 64)))):
        config = config_of(pairs, tmp_path / name, chunk=-1, batch_size=48, epochs=2, image_sizes=sizes)
        train(Run(config))
        results.append(chunk_of(tmp_path / name))
    assert results[1] <= results[0] / 2


def test_what_is_computed_again_is_counted_for_one_block(pairs: Path, tmp_path: Path) -> None:
    shape = dataclasses.replace(TINY_VIT, vision=dataclasses.replace(TINY_VIT.vision, layers=4))
    config = config_of(pairs, tmp_path / "run", model=shape, ema=0.0, share_text=False)
    batch = next(open_loader(config, World(), 1).batches(0))
    plain, again = (
        TrainableModel(
            dataclasses.replace(config, grad_checkpointing=on), Accelerator(torch.device("cpu")), World()
        )
        .memory()
        .footprint(batch)
        for on in (False, True)
    )
    assert plain.pair < again.pair  # with one text block, checkpointing recomputes all of it at once
    assert again.pair < 2 * plain.pair
