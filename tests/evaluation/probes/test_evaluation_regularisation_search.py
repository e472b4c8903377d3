"""Search of the regularisation strength, splits, and data efficiency: pure functions, checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.evaluation.probes.data_efficiency import EquivalentShots, equal_shots
from diptych.evaluation.probes.regularisation_search import COARSE, GRID, search_grid
from diptych.evaluation.probes.splits import draw_shots, split_validation

# ---------------------------------------------------------------------------------------------- search


def test_the_grid_is_the_papers() -> None:
    assert len(GRID) == 97
    assert (GRID[0], GRID[48], GRID[-1]) == (1e-6, 1.0, 1e6)
    assert [GRID[place] for place in range(0, 97, COARSE)] == pytest.approx(
        [1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6]
    )
    assert np.diff(np.log10(GRID)) == pytest.approx(1 / 8)


@given(
    best=st.integers(0, 96),
    rises=st.lists(st.floats(0.01, 10), min_size=96, max_size=96),
)
def test_the_peak_of_any_curve_with_one_is_found_in_fifteen_fits(best: int, rises: list[float]) -> None:
    climbs = [rise if place < best else -rise for place, rise in enumerate(rises)]
    heights = np.concatenate([[0.0], np.cumsum(climbs)])
    requests: list[int] = []

    def score(place: int) -> float:
        requests.append(place)
        return float(heights[place])

    result = search_grid(score)
    assert result.position == best
    assert len(requests) == len(set(requests)) <= 15
    assert all(0 <= place <= 96 for place in requests)
    assert requests[:7] == [0, 16, 32, 48, 64, 80, 96]  # in this order a fit can start from the last solution
    assert list(result.scores) == sorted(requests)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=97, max_size=97))
def test_no_curve_leads_off_the_grid_and_no_neighbour_is_better(heights: list[float]) -> None:
    result = search_grid(heights.__getitem__)
    best = heights[result.position]
    assert best == max(result.scores.values())
    assert result.position == max(place for place, score in result.scores.items() if score == best)
    assert all(
        heights[place] <= best for place in (result.position - 1, result.position + 1) if 0 <= place <= 96
    )


def test_of_equally_good_ones_the_weakest_regularisation_counts() -> None:
    assert search_grid(lambda place: 0.5).position == 96
    assert search_grid(lambda place: float(place <= 48)).position == 48


@pytest.mark.parametrize(("size", "coarse"), [(97, 12), (97, 64), (0, 16), (97, 0)])
def test_steps_that_do_not_fit(size: int, coarse: int) -> None:
    with pytest.raises(InputError, match="power of two"):
        search_grid(lambda place: 0.0, size, coarse)


# --------------------------------------------------------------------------- splits and few-shot draws

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(labels=LABELS, share=st.floats(0.05, 0.95), seed=st.integers(0, 5))
def test_a_split_is_whole_and_leaves_every_class_a_teacher(
    labels: np.ndarray, share: float, seed: int
) -> None:
    teach, choose = split_validation(labels, share, seed)
    assert sorted([*teach, *choose]) == list(range(len(labels)))
    for label in np.unique(labels):
        of_class, chosen = (labels == label).sum(), (labels[choose] == label).sum()
        assert chosen < of_class
        assert chosen >= (of_class > 1)
        assert abs(chosen - share * of_class) <= 1 or of_class < 3
    assert np.array_equal(split_validation(labels, share, seed)[0], teach)


def test_another_seed_is_another_split() -> None:
    labels = np.repeat([0, 1], 50)
    assert not np.array_equal(split_validation(labels, 0.2, 0)[1], split_validation(labels, 0.2, 1)[1])
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="share"):
            split_validation(labels, share, 0)


@given(labels=LABELS, k=st.integers(1, 20), seed=st.integers(0, 5))
def test_shots_are_balanced_disjoint_and_told_where_short(labels: np.ndarray, k: int, seed: int) -> None:
    result = draw_shots(labels, k, seed)
    assert not set(result.shots) & set(result.validation)
    for label in np.unique(labels):
        of_class = int((labels == label).sum())
        assert (labels[result.shots] == label).sum() == min(k, of_class)
        assert (labels[result.validation] == label).sum() == min(k, 4, max(of_class - k, 0))
        assert (label in result.short) == (of_class < k)
        assert (label in result.unchecked) == (of_class - k < min(k, 4))
    again = draw_shots(labels, k, seed)
    assert np.array_equal(again.shots, result.shots)
    assert np.array_equal(again.validation, result.validation)
    assert set(result.shots) <= set(draw_shots(labels, k + 1, seed).shots)


def test_draws_of_seeds_differ_and_of_classes_do_not_depend_on_others() -> None:
    labels = np.repeat([0, 1, 2], 30)
    assert not np.array_equal(draw_shots(labels, 4, 0).shots, draw_shots(labels, 4, 1).shots)
    fewer = labels[:60]
    assert np.array_equal(draw_shots(labels, 4, 0).shots[:8], draw_shots(fewer, 4, 0).shots)


def test_a_validation_part_of_its_own() -> None:
    result = draw_shots(np.array([0, 0, 1, 1]), 2, 0, others=np.array([1, 1, 1, 0, 2]))
    assert result.shots.tolist() == [0, 1, 2, 3]
    assert sorted(np.array([1, 1, 1, 0, 2])[result.validation]) == [0, 1, 1]
    assert result.unchecked.tolist() == [0]
    with pytest.raises(InputError, match="0 shots"):
        draw_shots(np.array([0]), 0, 0)


# ------------------------------------------------------------------------------------- data efficiency


def test_between_points_by_hand() -> None:
    shots, curve = [1, 2, 4, 8, 16], [0.20, 0.30, 0.40, 0.50, 0.60]
    assert equal_shots(shots, curve, 0.35).shots == pytest.approx(2 * math.sqrt(2))
    assert equal_shots(shots, curve, 0.40) == EquivalentShots(4.0)
    assert equal_shots(shots, curve, 0.525).shots == pytest.approx(8 * 2**0.25)
    assert equal_shots(shots, curve, 0.20) == EquivalentShots(1)
    assert equal_shots(shots, curve, 0.60).shots == pytest.approx(16)
    assert equal_shots([1, 16], [0.2, 0.6], 0.4).shots == pytest.approx(4)


def test_means_taken_in_another_order_are_equal() -> None:
    assert equal_shots([1, 2], [0.9 - 1e-16, 0.8], 0.9) == EquivalentShots(1)
    assert equal_shots([1, 2], [0.8, 0.9 - 1e-16], 0.9) == EquivalentShots(2)


def test_outside_nothing_is_guessed() -> None:
    shots, curve = [1, 2, 4, 8, 16], [0.20, 0.30, 0.40, 0.50, 0.60]
    assert equal_shots(shots, curve, 0.199) == EquivalentShots(1, "<")
    assert equal_shots(shots, curve, 0.601) == EquivalentShots(16, ">")
    assert str(equal_shots(shots, curve, 0.9)) == "> 16"


def test_a_curve_that_falls_counts_where_it_first_reaches_the_level() -> None:
    assert equal_shots([1, 2, 4, 8], [0.2, 0.4, 0.3, 0.5], 0.4) == EquivalentShots(2.0)
    assert equal_shots([1, 2, 4, 8], [0.2, 0.4, 0.3, 0.5], 0.45).shots == pytest.approx(4 * 2**0.75)


@pytest.mark.parametrize(("shots", "curve"), [([], []), ([1, 2], [0.1]), ([2, 1], [0.1, 0.2]), ([0], [0.1])])
def test_no_curve(shots: list[float], curve: list[float]) -> None:
    with pytest.raises(InputError, match="shots"):
        equal_shots(shots, curve, 0.5)
