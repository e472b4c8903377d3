"""Sample order: a pure function of seed, epoch and key; shuffling, repeats, uniform random numbers."""

import numpy as np
import pytest

from diptych.errors import DataError
from diptych.training.data.order import Order, hash_keys, uniforms

KEYS = [f"key {n}" for n in range(300)]


def test_an_epoch_visits_every_record_in_a_new_order():
    order = Order([hash_keys(KEYS)], [1.0], seed=5)
    first, again, second = order.epoch(0), Order([hash_keys(KEYS)], [1.0], 5).epoch(0), order.epoch(1)
    assert sorted(first.index) == list(range(300))
    assert np.array_equal(first.index, again.index)
    assert np.array_equal(first.number, again.number)
    assert not np.array_equal(first.index, second.index)
    assert not np.array_equal(first.index, Order([hash_keys(KEYS)], [1.0], 6).epoch(0).index)
    # A shuffled order is uncorrelated with the original one.
    assert abs(np.corrcoef(np.arange(300), first.index)[0, 1]) < 0.2


def test_hashes_are_the_same_on_every_machine():
    # Recorded values: a change here changes the data order of every resumed run.
    assert hash_keys(["a", "\udcff"]).tolist() == [3405396810240292928, 10502126616487800487]
    assert Order([hash_keys("abcdef")], [1.0], 0).epoch(2).index.tolist() == [2, 1, 5, 0, 3, 4]


def test_records_that_come_move_no_other():
    few = Order([hash_keys(KEYS[::2])], [1.7], seed=1)
    many = Order([hash_keys(KEYS)], [1.7], seed=1)
    for epoch in range(3):
        a, b = few.epoch(epoch), many.epoch(epoch)
        old = b.index % 2 == 0
        assert np.array_equal(a.index * 2, b.index[old])
        assert np.array_equal(a.number, b.number[old])


@pytest.mark.parametrize("repeat", [0.1, 0.5, 1, 2.5, 3])
def test_repeats_hold_over_epochs_for_each_record(repeat):
    order = Order([hash_keys(KEYS), hash_keys(KEYS)], [1.0, repeat], seed=2)
    counts = np.stack([order.counts(1, epoch) for epoch in range(20)])
    assert set(np.unique(counts)) <= {int(np.floor(repeat)), int(np.ceil(repeat))}
    assert np.abs(counts.sum(0) - 20 * repeat).max() < 1.001
    # Not all records repeat in the same epochs.
    assert abs(counts[0].mean() - repeat) < 0.12
    visits = order.epoch(4)
    assert np.array_equal(np.bincount(visits.index[visits.part == 1], minlength=300), counts[4])


def test_visits_of_one_record_are_spread():
    visits = Order([hash_keys(KEYS)], [4.0], seed=0).epoch(0)
    for record in range(0, 300, 10):
        at = np.flatnonzero(visits.index == record) / len(visits)
        assert np.array_equal(np.floor(at * 4), [0, 1, 2, 3]) or np.diff(at).min() > 0
        assert np.abs(at * 4 - np.arange(4) - 0.5).max() < 0.75


def test_two_sources_with_the_same_keys_are_not_in_step():
    visits = Order([hash_keys(KEYS), hash_keys(KEYS)], [1.0, 1.0], seed=0).epoch(0)
    a, b = (visits.index[visits.part == part] for part in (0, 1))
    assert (a == b).mean() < 0.1


def test_uniforms_are_uniform_and_hang_on_the_visit_alone():
    numbers = Order([hash_keys(KEYS * 20)], [1.0], 0).epoch(0).number
    samples = uniforms(np.unique(hash_keys(map(str, range(6000)))), 10)
    assert samples.min() >= 0
    assert samples.max() < 1
    assert np.abs(samples.mean(0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(samples.T) - np.eye(10)).max() < 0.06
    assert np.array_equal(uniforms(numbers[7:8], 10)[0], uniforms(numbers, 10)[7])


@pytest.mark.parametrize("repeat", [0, -1, float("inf"), float("nan")])
def test_senseless_repeats_are_refused(repeat):
    with pytest.raises(DataError, match="repeat"):
        Order([hash_keys("ab")], [repeat], 0)
