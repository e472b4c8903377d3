"""Distillation loss: the tiled version equals the direct one, with one teacher or several."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import kl_div, log_softmax, normalize

from diptych.errors import InputError
from diptych.training.losses.distillation import similarity_distillation


def plain(a, b, scale, ta, tb) -> torch.Tensor:  # type: ignore[no-untyped-def]
    s, t = scale * a @ b.T, ta @ tb.T
    both = [
        kl_div(log_softmax(x, 1), log_softmax(y, 1), reduction="batchmean", log_target=True)
        for x, y in ((s, t), (s.T, t.T))
    ]
    return sum(both) / 2  # type: ignore[return-value]


def rows(count: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    noise = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, width, generator=noise, dtype=dtype), dim=1)


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 9), st.sampled_from([1.0, 30.0, 100.0]))
def test_tiles_give_the_textbooks_loss_and_gradients(
    count: int, height: int, width: int, sharp: float
) -> None:
    result, expected = [], []
    for function, into in ((similarity_distillation, result), (plain, expected)):
        leaves = [rows(count, 6, 1), rows(count, 6, 2), torch.tensor(20.0, dtype=torch.float64)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        options = {"tile": (height, width)} if function is similarity_distillation else {}
        loss = function(*leaves, sharp * rows(count, 4, 3), rows(count, 4, 4), **options)  # type: ignore[operator]
        (2 * loss).backward()
        into += [loss.detach(), *(leaf.grad for leaf in leaves)]
    for item, other in zip(result, expected, strict=True):
        torch.testing.assert_close(item, other, rtol=1e-8, atol=1e-11)


def test_teachers_together_are_their_rows_side_by_side() -> None:
    a, b, scale = rows(9, 6, 1), rows(9, 6, 2), torch.tensor(5.0, dtype=torch.float64)
    first, second = (9 * rows(9, 4, 3), rows(9, 4, 4)), (4 * rows(9, 5, 5), rows(9, 5, 6))
    together = [torch.cat(pair, 1) for pair in zip(first, second, strict=True)]
    result = similarity_distillation(a, b, scale, *together)
    s, t = scale * a @ b.T, first[0] @ first[1].T + second[0] @ second[1].T
    torch.testing.assert_close(result, plain(a, b, scale, t, torch.eye(9, dtype=t.dtype)))
    assert s.shape == t.shape


def test_single_precision_is_near_double() -> None:
    inputs = (
        rows(40, 6, 1),
        rows(40, 6, 2),
        torch.tensor(100.0).double(),
        100 * rows(40, 4, 3),
        rows(40, 4, 4),
    )
    single = similarity_distillation(*(x.float() for x in inputs))
    torch.testing.assert_close(single.double(), plain(*inputs), rtol=1e-5, atol=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="twice for the student"):
        similarity_distillation(rows(3, 4, 1), rows(3, 4, 1), torch.tensor(1.0), rows(2, 4, 1), rows(2, 4, 1))
