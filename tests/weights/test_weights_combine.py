"""Interpolation between the weights of two models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diptych.errors import WeightsError
from diptych.model.initialise import build
from diptych.weights import Checkpoint, ModelSpec, combine
from tests.weights.tiny_models import TINY


def model(seed: int, name: str = "toy") -> Checkpoint:
    state = {key: tensor.detach() for key, tensor in build(TINY, seed=seed).state_dict().items()}
    spec = ModelSpec(name=name, architecture=TINY, training={"steps": seed})
    return Checkpoint(spec=spec, state=state, identity=f"sha256:{seed}")


def test_the_ends_are_the_models_and_the_middle_their_mean() -> None:
    start, end = model(1), model(2, "later")
    for share, expected in ((0.0, start), (1.0, end)):
        result = combine([start, end], [1 - share, share])
        assert all(torch.equal(result.state[name], expected.state[name]) for name in expected.state)
    middle = combine([start, end])
    for name, tensor in middle.state.items():
        torch.testing.assert_close(tensor, (start.state[name] + end.state[name]) / 2)
    assert middle.spec.name == "later"
    assert [part["identity"] for part in middle.spec.training["mean_of"]] == ["sha256:1", "sha256:2"]
    assert [part["share"] for part in middle.spec.training["mean_of"]] == [0.5, 0.5]


def test_counters_are_the_last_ones() -> None:
    single, other = (
        Checkpoint(ModelSpec(name="n", architecture=TINY), {"x": torch.tensor([value])}, "")
        for value in (3, 8)
    )
    assert combine([single, other]).state["x"].item() == 8


def test_what_does_not_fit_is_refused() -> None:
    single = model(1)
    other = replace(single, state={**single.state, "logit_scale": torch.zeros(2)})
    with pytest.raises(WeightsError, match="other names or shapes"):
        combine([single, other])
    for shares in ([0.5, 0.6], [1.0]):
        with pytest.raises(WeightsError, match="adding up to 1"):
            combine([single, single], shares)
