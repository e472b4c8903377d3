"""The "none of these" answer: calibration of the cut-off, valid values, changes of the classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.zeroshot.scoring import confidence, confidence_range
from tests.toys import COLOURS, picture
from tests.zeroshot.toy_classifier import NAMES, fitted, shades


@pytest.mark.parametrize("method", ["mcm", "cosine"])
def test_none_of_these_by_quantile(method: str) -> None:
    classifier = fitted(none_method=method)
    inside = [item for name in NAMES for item in shades(COLOURS[name])]
    assert classifier.predict(inside).tolist().count(None) == 0
    classifier.calibrate(inside, quantile=0.1)
    assert classifier.predict(inside).tolist().count(None) == pytest.approx(12, abs=1)
    assert classifier.predict(picture((128, 128, 128))).tolist() == [None]


def test_none_of_these_from_examples_of_both_kinds() -> None:
    classifier = fitted()
    inside, outside = shades(COLOURS["red"]), shades((128, 128, 128))
    classifier.calibrate(inside + outside, ["red"] * 40 + [None] * 40)
    kept = [name is not None for name in classifier.predict(inside + outside)]
    assert sum(kept[:40]) >= 36
    assert sum(kept[40:]) <= 8
    with pytest.raises(InputError, match="1 labels for 2 pictures"):
        classifier.calibrate([picture("red")] * 2, ["red"])


def test_a_cutoff_does_not_outlive_the_classes_it_was_made_for() -> None:
    classifier = fitted().calibrate(shades(COLOURS["red"]))
    with pytest.warns(UserWarning, match="calibrate again"):
        classifier.add("white")
    assert classifier.none_cutoff_ is None
    by_cosine = fitted(none_method="cosine", none_cutoff=0.5).add("white")
    assert by_cosine.none_cutoff_ == 0.5
    with pytest.warns(UserWarning, match="one label"):
        single = fitted(["red"], none_cutoff=0.5)
    with pytest.warns(UserWarning, match="calibrate again"):
        single.add("blue")  # from the cosine of one class to the softmax of two


@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from(["mcm", "cosine"]))
def test_no_confidence_is_outside_its_range(classes: int, seed: int, method: str) -> None:
    cosines = np.random.default_rng(seed).uniform(-1, 1, (20, classes)).astype(np.float32)
    cosines[0] = 1
    cosines[1], cosines[1, 0] = -1, 1
    low, high = confidence_range(method, classes)
    sure = confidence(cosines, method)
    assert (sure >= low - 1e-6).all()
    assert (sure <= high + 1e-6).all()
    assert sure[1] == pytest.approx(high, abs=1e-6)
    if method == "mcm":
        assert sure[0] == pytest.approx(low, abs=1e-6)


@pytest.mark.parametrize("cutoff", [0.0, 0.33, 0.8, 50.0, float("nan")])
def test_a_cutoff_that_no_picture_or_every_picture_reaches_is_refused(cutoff: float) -> None:
    with pytest.raises(InputError, match=r"lies between 0\.333 and 0\.787"):
        fitted(none_cutoff=cutoff)
    with pytest.raises(InputError, match=r"lies between -1\.000 and 1\.000 \(a cosine\)"):
        fitted(none_method="cosine").refuse_below(1.5)


def test_a_cutoff_can_be_changed_and_taken_away() -> None:
    grey = picture((128, 128, 128))
    classifier = fitted()
    assert classifier.refuse_below(0.7).predict(grey).tolist() == [None]
    assert classifier.refuse_below(None).predict(grey).tolist() != [None]
    with pytest.raises(InputError, match="needs no cut-off"):
        fitted(multi_label=True).refuse_below(0.5)
