"""Weights between weights: means of several models, and the way from one model to another.

Models that came from one another by training lie in one valley, and between them there are often better ones
than at either end: the mean of a run's late weights ("model soups", Wortsman et al. 2022, arXiv 2203.05482),
or a model part of the way from its pretrained start to its fine-tuned end, which keeps more of what the start
could do (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from diptych.errors import WeightsError
from diptych.weights.identity import identity_of
from diptych.weights.spec import Checkpoint, ModelSpec


def combine(checkpoints: Sequence[Checkpoint], shares: Sequence[float] | None = None) -> Checkpoint:
    """The weighted mean of every weight, running statistics too; counters are the last one's.

    Parameters
    ----------
    checkpoints : sequence of Checkpoint
        Of one architecture. The last one says how the result reads pictures and texts.
    shares : sequence of float, optional
        One for each, adding up to 1; equal ones if not given.

    Returns
    -------
    Checkpoint
        In the last one's precision; its training summary names what it was made of.

    Raises
    ------
    WeightsError
        The models do not fit each other, or the shares do not add up to 1.
    """
    shares = [1 / len(checkpoints)] * len(checkpoints) if shares is None else list(shares)
    if not checkpoints or len(shares) != len(checkpoints) or abs(sum(shares) - 1) > 1e-6:
        raise WeightsError(
            f"{len(checkpoints)} models and shares {shares}: expected one each, adding up to 1"
        )
    last = checkpoints[-1]
    for one in checkpoints:
        shapes = {name: tensor.shape for name, tensor in one.state.items()}
        if shapes != {name: tensor.shape for name, tensor in last.state.items()}:
            raise WeightsError(f"{one.spec.name} and {last.spec.name} have weights of other names or shapes")
        _refuse_other_readings(one.spec, last.spec)
    state = {
        name: sum(
            (share * one.state[name].double() for one, share in zip(checkpoints, shares, strict=True)),
            torch.zeros((), dtype=torch.float64),
        ).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.state.items()
    }
    parts = [
        {"identity": one.identity, "share": share, **one.spec.training}
        for one, share in zip(checkpoints, shares, strict=True)
    ]
    spec = replace(last.spec, training={"mean_of": parts})
    return replace(last, spec=spec, state=state, identity=identity_of(spec, state, last.folder), checked="")


def _refuse_other_readings(one: ModelSpec, last: ModelSpec) -> None:
    """Raise where weights of equal shapes mean other things: ids of another table, another activation."""
    # The side of pictures may differ: an average pool reads any, and what does not fit has other shapes.
    for what, mine, theirs in (
        ("tokenizer", last.tokenizer, one.tokenizer),
        ("activation", last.architecture.activation, one.architecture.activation),
    ):
        if mine != theirs:
            raise WeightsError(f"{one.name} has another {what} than {last.name}: {theirs}, not {mine}")
