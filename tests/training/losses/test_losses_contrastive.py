"""Tiled contrastive losses: equal to dense and recorded ones, without an N x N matrix in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diptych.errors import InputError
from diptych.training.losses import contrastive as loss_module
from diptych.training.losses.contrastive import info_nce, sigmoid_loss

NAMES = ["infonce7", "infonce64", "infonce300", "infonce-opposed", "sigmoid7", "sigmoid64", "sigmoid300"]


def unit(count: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random rows of unit length."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def absent(groups: Tensor | None, count: int) -> Tensor:
    """(N, N): combinations that are excluded as negatives."""
    if groups is None:
        return torch.zeros(count, count, dtype=torch.bool)
    if groups.ndim == 2:  # group and kind
        same, kind = groups[:, None] == groups, groups[:, None, 1] == groups[:, 1]
        return (same[..., 0] | ~kind).logical_and(~torch.eye(count, dtype=torch.bool))
    return (groups[:, None] == groups).logical_and(~torch.eye(count, dtype=torch.bool))


def dense_info_nce(a: Tensor, b: Tensor, scale: Tensor, groups: Tensor | None = None) -> Tensor:
    """Figure 3 of the CLIP paper, with the whole matrix."""
    s = (scale * a @ b.t()).masked_fill(absent(groups, len(a)), -torch.inf)
    own = torch.arange(len(a))
    return (F.cross_entropy(s, own) + F.cross_entropy(s.t(), own)) / 2


def dense_sigmoid(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, groups: Tensor | None = None) -> Tensor:
    """Equation 1 of the SigLIP paper, with the whole matrix."""
    z = 2 * torch.eye(len(a), dtype=a.dtype) - 1
    x = z * (scale * a @ b.t() + bias)
    return -F.logsigmoid(x).masked_fill(absent(groups, len(a)), 0).sum() / len(a)


def with_gradients(function: Any, *inputs: Tensor, **options: Any) -> tuple[Tensor, ...]:
    """The loss and its gradients with respect to all inputs."""
    leaves = [given.detach().clone().requires_grad_() for given in inputs]
    loss = function(*leaves, **options)
    return loss.detach(), *torch.autograd.grad(loss, leaves)


def distance(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference relative to the norm of the expected value."""
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> None:
    """Loss and gradients agree; close to zero an absolute tolerance applies."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours.double() - theirs).abs().max() <= tolerance * max(0.1, float(theirs.abs().max()))


@pytest.mark.shared
@pytest.mark.parametrize("tile", [None, (50, 77)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", NAMES)
def test_recorded(
    shared: Any, name: str, dtype: torch.dtype, tolerance: float, tile: tuple[int, int] | None
) -> None:
    with np.load(shared / "parity/losses.npz") as archive:
        recorded = {key: torch.from_numpy(archive[key]) for key in archive.files}
    rows = name.replace("sigmoid", "infonce")  # both losses on the same a and b
    inputs = [recorded[f"{rows}/a"], recorded[f"{rows}/b"], recorded[f"{name}/scale"]]
    keys = ["loss", "grad_a", "grad_b", "grad_scale"]
    if "sigmoid" in name:
        inputs.append(recorded[f"{name}/bias"])
        keys.append("grad_bias")
    function = sigmoid_loss if "sigmoid" in name else info_nce
    result = with_gradients(function, *(given.to(dtype) for given in inputs), tile=tile)
    for key, value in zip(keys, result, strict=True):
        assert value.dtype == dtype
        assert distance(value, recorded[f"{name}/{key}"]) <= tolerance, key


cuts = st.integers(0, 5)
shapes = st.tuples(st.integers(1, 70), st.integers(1, 9), cuts, cuts)


@settings(max_examples=80)
@given(
    shape=shapes,
    seed=st.integers(0, 999),
    scale=st.floats(0, 100),
    captions=st.none() | st.integers(1, 70),
    kinds=st.sampled_from([None, 1, 2, 3]),
    aligned=st.sampled_from([-1, 0, 1]),
)
def test_equals_dense(
    shape: tuple[int, int, int, int],
    seed: int,
    scale: float,
    captions: int | None,
    kinds: int | None,
    aligned: int,
) -> None:
    count, width, *pieces = shape
    a, b = unit(count, width, seed), unit(count, width, seed + 1000)
    if aligned:  # perfectly trained, or perfectly wrong
        b = F.normalize(0.1 * b + aligned * a, dim=1)
    generator = torch.Generator().manual_seed(seed)
    groups = None if captions is None else torch.randint(captions, (count,), generator=generator)
    if groups is not None and kinds is not None:
        groups = torch.stack([groups, torch.randint(kinds, (count,), generator=generator)], dim=1)
    inputs = (a, b, torch.tensor(scale, dtype=torch.float64))
    expected = with_gradients(dense_info_nce, *inputs, groups=groups)
    height, breadth = (count // piece + 1 if piece else 99 for piece in pieces)
    tile = (height, breadth)
    assert_same(with_gradients(info_nce, *inputs, groups=groups, tile=tile), expected, 1e-10)
    single = with_gradients(info_nce, *(given.float() for given in inputs), groups=groups, tile=tile)
    assert_same(single, expected, 1e-3)

    inputs = (*inputs, torch.tensor(-scale / 2, dtype=torch.float64))
    expected = with_gradients(dense_sigmoid, *inputs, groups=groups)
    assert_same(with_gradients(sigmoid_loss, *inputs, groups=groups, tile=tile), expected, 1e-10)


@pytest.mark.parametrize(
    "groups",
    [
        None,
        torch.tensor([0, 1, 0, 2, 3, 1, 1]),
        torch.tensor([[0, 0], [1, 0], [0, 0], [2, 1], [3, 1], [1, 0], [1, 1]]),
    ],
)
def test_gradcheck(groups: Tensor | None) -> None:
    a, b = unit(7, 3, 0).requires_grad_(), unit(7, 3, 1).requires_grad_()
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (9.0, -3.0))
    assert torch.autograd.gradcheck(lambda *x: info_nce(*x, groups=groups, tile=(3, 4)), (a, b, scale))
    assert torch.autograd.gradcheck(
        lambda *x: sigmoid_loss(*x, groups=groups, tile=(3, 4)), (a, b, scale, bias)
    )


def far_apart(count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """One matching pair, all others opposed: the largest entries of two rows differ by more than 100."""
    a = unit(count, 8, 3)
    a[1:] = F.normalize(a[1:] * 0.05 - a[0], dim=1)
    b = -a.roll(1, 0)
    b[0] = a[0]
    b[1:] = F.normalize(0.05 * unit(count, 8, 4)[1:] + a[0], dim=1)
    return a, b, torch.tensor(100.0, dtype=torch.float64)


@pytest.mark.parametrize("tile", [(40, 40), (7, 11), (1, 1), (40, 3)])
def test_rows_too_far_apart_for_one_shift(tile: tuple[int, int]) -> None:
    inputs = far_apart()
    s = inputs[2] * inputs[0] @ inputs[1].t()
    assert s.max() - s.amax(1).min() > 150  # otherwise the test is void
    expected = with_gradients(dense_info_nce, *inputs)
    result = with_gradients(info_nce, *(given.float() for given in inputs), tile=tile)
    for value, target in zip(result, expected, strict=True):
        assert distance(value, target) <= 1e-5


def test_one_exponential_is_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordinary features never take the slow path (shift None); opposed features do."""
    seen: list[float | None] = []
    plain = loss_module.sum_of_softmaxes

    def spy(s: Tensor, work: Tensor, row: Tensor, column: Tensor, shift: float | None) -> Tensor:
        seen.append(shift)
        return plain(s, work, row, column, shift)

    monkeypatch.setattr(loss_module, "sum_of_softmaxes", spy)
    with_gradients(info_nce, unit(60, 64, 0), unit(60, 64, 1), torch.tensor(100.0), tile=(16, 32))
    assert len(seen) == 8
    assert None not in seen
    seen.clear()
    with_gradients(info_nce, *far_apart(), tile=(16, 32))
    assert None in seen


class Largest(TorchDispatchMode):
    """Record the size of the largest tensor that any operation returns."""

    entries = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.entries = max(self.entries, *sizes, 0)
        return result


@pytest.mark.parametrize("groups", [None, torch.arange(500) // 2])
def test_no_square_matrix(groups: Tensor | None) -> None:
    a, b = unit(500, 16, 0, torch.float32), unit(500, 16, 1, torch.float32)
    scale, bias = torch.tensor(50.0), torch.tensor(-5.0)
    for function, inputs in ((info_nce, (a, b, scale)), (sigmoid_loss, (a, b, scale, bias))):
        leaves = [given.clone().requires_grad_() for given in inputs]
        with Largest() as largest:
            function(*leaves, groups=groups, tile=(64, 100)).backward()
        assert 0 < largest.entries <= max(2 * 64 * 100, 500 * 16)  # both buffers at once, or one gradient
    with Largest() as largest:  # the recorder itself must detect a matrix
        dense_info_nce(a, b, scale)
    assert largest.entries == 500 * 500


def test_one_pair_has_nothing_to_learn() -> None:
    a, b = unit(1, 8, 0, torch.float32), unit(1, 8, 1, torch.float32)
    loss, *gradients = with_gradients(info_nce, a, b, torch.tensor(100.0))
    assert loss == 0
    assert all(gradient.abs().max() <= 1e-5 for gradient in gradients)


def test_all_in_one_group_has_nothing_to_learn() -> None:
    a, b = unit(9, 8, 0, torch.float32), unit(9, 8, 1, torch.float32)
    groups = torch.zeros(9, dtype=torch.long)
    loss, *gradients = with_gradients(info_nce, a, b, torch.tensor(100.0), groups=groups, tile=(2, 2))
    assert abs(loss) <= 1e-6
    assert all(gradient.abs().max() <= 1e-5 for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(dtype: torch.dtype) -> None:
    a, b, scale = unit(200, 32, 0, dtype), unit(200, 32, 1, dtype), torch.tensor(100.0)
    expected = with_gradients(dense_info_nce, a.double(), b.double(), scale.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = with_gradients(info_nce, a, b, scale, tile=(64, 64))
    assert [value.dtype for value in result] == [torch.float32, dtype, dtype, torch.float32]
    assert distance(result[0], expected[0]) < 1e-5
    assert distance(result[3], expected[3]) < 1e-4
    for value, target in zip(
        result[1:3], expected[1:3], strict=True
    ):  # the gradients are rounded only once, at the end
        assert distance(value, target) < torch.finfo(dtype).eps


def test_autocast_leaves_single_precision_alone() -> None:
    a, b, scale = unit(90, 16, 0, torch.float32), unit(90, 16, 1, torch.float32), torch.tensor(100.0)
    expected = with_gradients(info_nce, a, b, scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = with_gradients(info_nce, a, b, scale)
    assert all(torch.equal(x, y) for x, y in zip(result, expected, strict=True))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_only_what_is_asked_for(wanted: tuple[int, ...]) -> None:
    inputs = [unit(30, 6, 0), unit(30, 6, 1), torch.tensor(20.0, dtype=torch.float64)]
    expected = with_gradients(dense_info_nce, *inputs)
    for index in wanted:
        inputs[index].requires_grad_()
    info_nce(*inputs, tile=(8, 9)).backward()
    for index, leaf in enumerate(inputs):
        assert (leaf.grad is not None) == (index in wanted)
        if leaf.grad is not None:
            torch.testing.assert_close(leaf.grad, expected[index + 1], rtol=1e-10, atol=1e-12)


def test_upstream_factor_strides_and_repetition() -> None:
    wide = unit(60, 40, 0, torch.float32)
    a, b, scale = (
        wide[::2, ::2].requires_grad_(),
        wide.t()[:30, :20].clone().requires_grad_(),
        torch.tensor(30.0),
    )
    first = torch.autograd.grad(3 * info_nce(a, b, scale, tile=(7, 8)), (a, b))
    again = torch.autograd.grad(3 * info_nce(a, b, scale, tile=(7, 8)), (a, b))
    dense = torch.autograd.grad(3 * dense_info_nce(a, b, scale), (a, b))
    for x, y, z in zip(first, again, dense, strict=True):
        assert torch.equal(x, y)  # bit for bit
        torch.testing.assert_close(x, z, rtol=1e-4, atol=1e-6)


def test_shifts_are_not_rounded() -> None:
    """With equal scores the gradient is zero. A shift like 32 + log 3 differs from its float32 by 1e-6."""
    rows = torch.ones(3, 1)
    for scale in range(20, 100):
        gradient = with_gradients(info_nce, rows, rows, torch.tensor(float(scale)), tile=(2, 2))[1]
        assert gradient.abs().max() <= 3e-7 * scale


def test_a_confident_pair_is_not_lost_to_rounding() -> None:
    """Sigmoid: log(1 + exp(-10)) is computed directly, not as (10 + log(1 + exp(-10))) - 10."""
    eye = torch.eye(4)
    loss = sigmoid_loss(eye, eye, torch.tensor(20.0), torch.tensor(-10.0))
    assert math.isclose(loss.item(), 4 * math.log1p(math.exp(-10)), rel_tol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_features": torch.eye(3)}, r"\(3, 3\) and \(4, 4\)"),
        ({"image_features": torch.zeros(0, 4), "text_features": torch.zeros(0, 4)}, "N > 0"),
        ({"scale": torch.ones(2)}, "one number"),
        ({"groups": torch.zeros(3, dtype=torch.long)}, "expected 4 integers"),
        ({"groups": torch.zeros(4)}, "expected 4 integers"),
        ({"groups": torch.zeros(4, 3, dtype=torch.long)}, "expected 4 integers"),
        ({"tile": (0, 5)}, "two positive numbers"),
    ],
)
def test_misfits_are_refused(change: dict[str, Any], message: str) -> None:
    good = {"image_features": torch.eye(4), "text_features": torch.eye(4), "scale": torch.tensor(1.0)}
    with pytest.raises(InputError, match=message):
        info_nce(**(good | change))
