"""float16 loss scaling: an overflowing step is skipped, and repeated overflows end the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from diptych.errors import TrainingError
from diptych.training import Run, train
from diptych.training.distributed.world import World
from diptych.training.loop import trainable_model
from diptych.training.loop.optimizer_step import GROW_AFTER, INITIAL, LossScaler, apply_gradients
from diptych.training.loop.trainable_model import TrainableModel
from tests.training.make_runs import TINY_VIT, config_of, weights, write_pairs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


@pytest.mark.parametrize("chunk", [0, 4])
def test_float16_learns_what_float32_learns(pairs: Path, tmp_path: Path, chunk: int) -> None:
    for precision in ("float32", "float16"):
        config = config_of(pairs, tmp_path / precision, model=TINY_VIT, chunk=chunk, precision=precision)
        assert train(Run(config)).finished
    single, other = weights(tmp_path / "float32"), weights(tmp_path / "float16")
    for name in single:
        torch.testing.assert_close(single[name], other[name], rtol=0.05, atol=0.01, msg=name)
    assert not all(torch.equal(single[name], other[name]) for name in single)


def test_a_resumed_run_keeps_its_scale(pairs: Path, tmp_path: Path) -> None:
    config = config_of(pairs, tmp_path / "run", model=TINY_VIT, precision="float16")
    train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    assert 1 <= content["tensors"]["scaler"]["scale"] <= INITIAL
    content["tensors"]["scaler"]["scale"] = torch.tensor(64.0)
    torch.save(content, path)
    train(Run(config), resume=True)
    assert torch.load(path, weights_only=True)["tensors"]["scaler"]["scale"] == 64.0


def one_weight(gradient: float) -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.full((3,), gradient)
    return weight, torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=True)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_an_overflow_moves_nothing_and_halves_the_scale(bad: float) -> None:
    weight, optimizer = one_weight(bad)
    scaler = LossScaler(CPU, enabled=True)
    apply_gradients(optimizer, scaler, torch.tensor(1.0), 1.0, World())
    assert torch.equal(weight, torch.ones(3))
    assert (scaler.scale, scaler.skipped, scaler.good_steps) == (INITIAL / 2, 1, 0)
    weight.grad = torch.full((3,), 2.0 * scaler.scale.item())
    norm = apply_gradients(optimizer, scaler, torch.tensor(1.0), 1.0, World())
    torch.testing.assert_close(norm, torch.tensor(12.0).sqrt())  # unscaled before clipping
    torch.testing.assert_close(weight.grad, torch.full((3,), 3**-0.5))  # unscaled once, and clipped
    assert not torch.equal(weight, torch.ones(3))
    assert (scaler.skipped, scaler.good_steps) == (0, 1)
    assert optimizer.state[weight]["step"] == 1  # the skipped step does not count


def test_a_loss_that_is_no_number_moves_nothing_in_any_precision() -> None:
    weight, optimizer = one_weight(1.0)
    apply_gradients(optimizer, LossScaler(CPU, enabled=False), torch.tensor(torch.nan), 0.0, World())
    assert torch.equal(weight, torch.ones(3))


def test_the_scale_grows_after_many_good_steps() -> None:
    scaler = LossScaler(CPU, enabled=True)
    scaler.good_steps.fill_(GROW_AFTER - 1)
    scaler.update(torch.tensor(False))
    assert (scaler.scale, scaler.good_steps) == (2 * INITIAL, 0)


def test_a_gradient_that_stays_infinite_ends_the_run(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainable_model, "MAX_SKIPPED", 5)
    gradients = TrainableModel._gradients

    def infinite(self: TrainableModel, batch: object, number: int) -> torch.Tensor:
        loss = gradients(self, batch, number)  # type: ignore[arg-type]
        if number >= 2:
            self.model.visual.proj.grad[0, 0] = torch.inf  # type: ignore[union-attr,index]
        return loss

    monkeypatch.setattr(TrainableModel, "_gradients", infinite)
    config = config_of(pairs, tmp_path / "run", model=TINY_VIT, precision="float16")
    with pytest.raises(
        TrainingError, match=r"overflowed float16 in 5 steps in a row, up to step \d+.*bfloat16"
    ):
        train(Run(config))
