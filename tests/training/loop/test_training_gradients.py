"""Gradient caching: gradients from chunks and several processes equal those of one batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diptych.model.batch_norm import frozen_statistics, running_statistics
from diptych.model.initialise import build
from diptych.training.distributed.world import World
from diptych.training.loop.gradients import cached_gradients, chunk_seed
from diptych.training.losses.feature_exchange import NoExchange
from diptych.training.objectives.objective import Contrastive
from tests.training import processes
from tests.training.processes import RESNET, chunks, objective


def kept_graph(trained: Contrastive, parts, groups, seeds) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """The reference: the same chunks with the same random states in a single graph."""
    rows = []
    for part, seed in zip(parts, seeds, strict=True):
        torch.manual_seed(seed)
        rows.append(trained(*part()))
    loss = trained.loss([torch.cat(row) for row in zip(*rows, strict=True)], groups, NoExchange())
    loss.backward()
    return loss.detach()


def gradients(trained: Contrastive) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in trained.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("towers", ["vit", "resnet"])
@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_chunks_give_the_gradient_of_the_kept_graph(towers: str, loss: str) -> None:
    cached, kept = objective(towers, loss), objective(towers, loss)
    given = chunks(0, 1)
    single = cached_gradients(cached, given[0], given[1], seeds=given[2])
    torch.testing.assert_close(single, kept_graph(kept, *given), rtol=1e-12, atol=0)
    result, expected = gradients(cached), gradients(kept)
    names = {n for n, _ in kept.model.named_parameters() if loss == "sigmoid" or n != "logit_bias"}
    assert result.keys() == expected.keys() == names
    for name, value in expected.items():
        assert value.abs().max() > 0, name
        torch.testing.assert_close(result[name], value, rtol=1e-8, atol=1e-13, msg=name)


def test_dropout_would_show_if_it_were_not_replayed() -> None:
    single, other = objective("vit", "infonce"), objective("vit", "infonce")
    parts, groups, seeds = chunks(0, 1)
    cached_gradients(single, parts, groups, seeds=seeds)
    cached_gradients(other, parts, groups, seeds=[seed + 1 for seed in seeds])
    assert not torch.allclose(single.model.visual.conv1.weight.grad, other.model.visual.conv1.weight.grad)


def test_running_statistics_are_updated_once_a_chunk() -> None:
    def batch_norm() -> Contrastive:
        return Contrastive(build(RESNET, seed=1).double().train(), loss="sigmoid")

    cached, kept = batch_norm(), batch_norm()
    given = chunks(0, 1, chunk=12)
    cached_gradients(cached, given[0], given[1], seeds=given[2])
    kept_graph(kept, *given)
    for item, other in zip(running_statistics(cached), running_statistics(kept), strict=True):
        assert torch.equal(item, other)
    assert cached.model.visual.bn1.num_batches_tracked == 2
    for name, value in gradients(kept).items():  # the same chunks give the same gradient
        torch.testing.assert_close(gradients(cached)[name], value, rtol=1e-6, atol=1e-12, msg=name)


def test_frozen_statistics_come_back_after_an_error() -> None:
    layer = torch.nn.BatchNorm1d(2)
    with pytest.raises(ZeroDivisionError), frozen_statistics(layer):
        raise ZeroDivisionError
    layer(torch.randn(4, 2))
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("locked", ["visual", "transformer"])
def test_a_locked_tower_is_not_encoded_twice(locked: str) -> None:
    trained = objective("vit", "infonce")
    image = {id(p) for p in trained.model.visual.parameters()}
    late = {id(p) for p in trained.loss_parameters()}
    for parameter in trained.model.parameters():
        if (id(parameter) in image) == (locked == "visual") and id(parameter) not in late:
            parameter.requires_grad_(False)
    calls: list[tuple[bool, bool]] = []

    def forward(images, tokens):  # type: ignore[no-untyped-def]
        calls.append((images is not None, tokens is not None))
        return trained(images, tokens)

    parts, groups, seeds = chunks(0, 1, chunk=12)
    cached_gradients(trained, parts, groups, seeds=seeds, forward=forward)
    again = (False, True) if locked == "visual" else (True, False)
    assert calls == [(True, True)] * 2 + [again] * 2
    assert all((p.grad is not None) == p.requires_grad for p in trained.model.visual.parameters())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_gradients_of_many_processes_are_those_of_one(count: int, tmp_path: Path) -> None:
    processes.run(count, "tests.training.processes:gradients", tmp_path)
    result = torch.load(tmp_path / f"gradients-{count}.pt")
    for towers, loss, parallel, exchange in processes.WAYS:
        expected = processes.gradients_of(World(), towers, loss)
        theirs = result[f"{towers} {loss} {parallel} {exchange}"]
        assert theirs.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(
                theirs[name],
                value,
                rtol=1e-8,
                atol=1e-13,
                msg=f"{towers} {loss} {parallel} {exchange} {name}",
            )


def test_seeds_of_chunks_do_not_meet() -> None:
    seeds = {chunk_seed(run, step, chunk) for run in range(5) for step in range(50) for chunk in range(20)}
    assert len(seeds) == 5000
    assert max(seeds) < 2**63
