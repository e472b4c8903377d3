"""Several positives per picture, and hard negatives: compared with dense losses, and in whole runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diptych.errors import InputError
from diptych.training import Run, train
from diptych.training.losses.contrastive import info_nce, sigmoid_loss
from diptych.training.losses.feature_exchange import NoExchange
from diptych.training.losses.hard_negatives import hard_negative_loss
from diptych.training.losses.multi_positive import multi_positive_info_nce_term, multi_positive_sigmoid_term
from tests.training.make_runs import COLOURS, TINY_VIT, config_of, same, weights, write_pairs


def unit(*shape: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=draw, dtype=torch.float64), dim=-1)


def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


@settings(max_examples=40)
@given(count=st.integers(1, 20), kinds=st.integers(1, 20), seed=st.integers(0, 99), scale=st.floats(0.1, 100))
def test_several_right_answers_are_the_dense_loss_with_soft_targets(
    count: int, kinds: int, seed: int, scale: float
) -> None:
    groups = torch.randint(kinds, (count,), generator=torch.Generator().manual_seed(seed))
    leaves = [unit(count, 5, seed=seed), unit(count, 5, seed=seed + 1), torch.tensor(scale).double()]
    leaves = [leaf.requires_grad_() for leaf in (*leaves, torch.tensor(-2.0, dtype=torch.float64))]
    a, b, factor, bias = leaves
    same_group = (groups[:, None] == groups).double()
    target = same_group / same_group.sum(1, keepdim=True)
    s = factor * a @ b.T
    dense = (F.cross_entropy(s, target) + F.cross_entropy(s.T, target)) / 2
    result = info_nce(a, b, factor) + multi_positive_info_nce_term(a, b, factor, groups, NoExchange())
    for item, other in zip(gradients(result, leaves[:3]), gradients(dense, leaves[:3]), strict=True):
        torch.testing.assert_close(item, other, rtol=1e-9, atol=1e-9)

    z = 2 * same_group - 1
    dense = -F.logsigmoid(z * (factor * a @ b.T + bias)).sum() / count
    result = sigmoid_loss(a, b, factor, bias) + multi_positive_sigmoid_term(
        a, b, factor, bias, groups, NoExchange()
    )
    for item, other in zip(gradients(result, leaves), gradients(dense, leaves), strict=True):
        torch.testing.assert_close(item, other, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("scale", [5.0, 100.0])
def test_hard_negatives_are_a_cross_entropy_among_few(scale: float) -> None:
    a, b, missed = unit(6, 4, seed=0), unit(6, 4, seed=1), unit(6, 3, 4, seed=2)
    missed[0, 0], b[0] = a[0], -a[0]  # the worst case: only the hard negative matches
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]]).double()
    leaves = [x.clone().requires_grad_() for x in (a, b, missed, torch.tensor(scale).double())]
    a, b, missed, factor = leaves
    logits = factor * torch.cat([(a * b).sum(1, keepdim=True), torch.einsum("nd,nkd->nk", a, missed)], 1)
    there = torch.cat([torch.ones(6, 1), present], 1) > 0
    dense = F.cross_entropy(logits.masked_fill(~there, -torch.inf), torch.zeros(6, dtype=torch.long))
    result = hard_negative_loss(a, b, missed, present, factor, None, NoExchange())
    for item, other in zip(gradients(result, leaves), gradients(dense, leaves), strict=True):
        assert torch.isfinite(item).all()
        torch.testing.assert_close(item, other)
    bias = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    x = factor * torch.einsum("nd,nkd->nk", a, missed) + bias
    dense = -(F.logsigmoid(-x) * present).sum() / 6
    result = hard_negative_loss(a, b, missed, present, factor, bias, NoExchange())
    wanted = [leaves[0], leaves[2], factor, bias]
    for item, other in zip(gradients(result, wanted), gradients(dense, wanted), strict=True):
        torch.testing.assert_close(item, other)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


def write_negatives(path: Path) -> Path:
    """Each caption with the other colours as negatives; some captions have none."""
    lines = []
    for number in range(0, 64, 2):
        name = list(COLOURS)[number % 4]
        others = [f"a {other} square, number {number}" for other in COLOURS if other != name]
        lines.append(json.dumps({"caption": f"a {name} square, number {number}", "negatives": others}))
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_a_run_with_hard_negatives_and_several_right_answers_goes_on_exactly(
    pairs: Path, tmp_path: Path, loss: str
) -> None:
    options = {
        "negatives": str(write_negatives(tmp_path / "negatives.jsonl")),
        "negatives_each": 2,
        "same_caption": "positive",
        "loss": loss,
        "model": dataclasses.replace(TINY_VIT, init_logit_bias=-5.0),
        "chunk": 4,
    }
    train(Run(config_of(pairs, tmp_path / "whole", **options)))
    config = config_of(pairs, tmp_path / "legs", **options)
    train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    train(Run(config), resume=True)
    assert same(tmp_path / "whole", tmp_path / "legs")
    plain = config_of(pairs, tmp_path / "plain", **{**options, "negatives": ""})
    train(Run(plain))
    assert not same(tmp_path / "whole", tmp_path / "plain")


def test_hard_negatives_are_told_apart(pairs: Path, tmp_path: Path) -> None:
    # All pairs of a caption's group are excluded as negatives: only hard negatives separate the colours.
    file = write_negatives(tmp_path / "negatives.jsonl")
    config = config_of(pairs, tmp_path / "run", negatives=str(file), negatives_each=3, lr=3e-3, epochs=6)
    losses = []
    for weight in (0.0, 4.0):
        out = str(tmp_path / f"run{weight:g}")
        train(Run(dataclasses.replace(config, negatives_weight=weight, out=out, ema=0.0)))
        lines = (tmp_path / f"run{weight:g}/log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines if '"loss"' in line])
    assert losses[1][0] > losses[0][0] + 2  # 4 times about log 4, for half of the pairs
    assert losses[1][-1] < losses[1][0] - 1
    assert weights(tmp_path / "run4").keys() == weights(tmp_path / "run0").keys()


@pytest.mark.parametrize(
    "changes", [{"objective": "words"}, {"augment": {"drop_words": 0.1}}, {"negatives_each": 0}]
)
def test_hard_negatives_where_they_have_no_meaning_are_refused(
    pairs: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    config = config_of(pairs, tmp_path / "run")
    if "augment" in changes:
        changes = {"augment": dataclasses.replace(config.augment, drop_words=0.1)}
    with pytest.raises(InputError, match="negatives"):
        dataclasses.replace(config, negatives="near.jsonl", **changes)  # type: ignore[arg-type]
