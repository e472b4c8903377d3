"""Weighted means of the weights of several models.

The mean of several checkpoints of a run is often better than each ("model soups", Wortsman et al. 2022, arXiv
2203.05482). Interpolation between a pretrained model and its fine-tuned version keeps more of the pretrained
model's robustness (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from diptych.errors import WeightsError
from diptych.weights.identity import identity_of
from diptych.weights.spec import Checkpoint, ModelSpec


def combine(checkpoints: Sequence[Checkpoint], fractions: Sequence[float] | None = None) -> Checkpoint:
    """Weighted mean of every weight and running statistic; integer counters are those of the last model.

    Parameters
    ----------
    checkpoints : sequence of Checkpoint
        Models of one architecture. Preprocessing and tokenizer are those of the last.
    fractions : sequence of float, optional
        One coefficient per model; they add up to 1. Equal by default.

    Returns
    -------
    Checkpoint
        In the precision of the last model; its training summary lists the models.

    Raises
    ------
    WeightsError
        The models do not fit each other, or the coefficients do not add up to 1.
    """
    fractions = [1 / len(checkpoints)] * len(checkpoints) if fractions is None else list(fractions)
    if not checkpoints or len(fractions) != len(checkpoints) or abs(sum(fractions) - 1) > 1e-6:
        raise WeightsError(
            f"{len(checkpoints)} models and shares {fractions}: expected one share per model, adding up to 1"
        )
    last = checkpoints[-1]
    for checkpoint in checkpoints:
        shapes = {name: tensor.shape for name, tensor in checkpoint.state.items()}
        if shapes != {name: tensor.shape for name, tensor in last.state.items()}:
            raise WeightsError(
                f"{checkpoint.spec.name} and {last.spec.name} have weights of other names or shapes"
            )
        _check_same_meaning(checkpoint.spec, last.spec)
    state = {
        # In float64, so that the order of the models does not matter after rounding.
        name: sum(
            (
                fraction * checkpoint.state[name].double()
                for checkpoint, fraction in zip(checkpoints, fractions, strict=True)
            ),
            torch.zeros((), dtype=torch.float64),
        ).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.state.items()
    }
    parts = [
        {"identity": checkpoint.identity, "share": fraction, **checkpoint.spec.training}
        for checkpoint, fraction in zip(checkpoints, fractions, strict=True)
    ]
    spec = replace(last.spec, training={"mean_of": parts})
    return replace(last, spec=spec, state=state, identity=identity_of(spec, state, last.folder), checked="")


def _check_same_meaning(spec: ModelSpec, last: ModelSpec) -> None:
    """Raise if weights of equal shapes are used differently: another tokenizer or activation."""
    # The image size may differ: where it matters, the position tables have other shapes.
    for title, expected, actual in (
        ("tokenizer", last.tokenizer, spec.tokenizer),
        ("activation", last.architecture.activation, spec.architecture.activation),
    ):
        if expected != actual:
            raise WeightsError(f"{spec.name} has another {title} than {last.name}: {actual}, not {expected}")
