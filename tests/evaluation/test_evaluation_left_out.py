"""Every protocol reports pictures that the data set left out, beside those that could not be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diptych.datasets import ImageDataset, load_labelled
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation import (
    FeatureStore,
    ShiftGroup,
    ZeroShotScorer,
    corruptions_of,
    evaluate_few_shot,
    evaluate_knn,
    evaluate_linear_probe,
    evaluate_zero_shot,
    measure_shifts,
)
from tests.probe_toys import FeatureToy
from tests.toys import picture_bytes, tar_bytes

KEY, REASON = "x/9.png", "it has no label"
Protocol = Callable[[Encoder, ImageDataset, dict[str, Any]], Any]


def shifts(encoder: Encoder, data: ImageDataset, settings: dict[str, Any]) -> Any:
    group = ShiftGroup(*corruptions_of(data, severities=[1], seed=0, side=8))
    return measure_shifts(ZeroShotScorer(encoder, list(data.class_names)), group, **settings).shifts[0]


PROTOCOLS: dict[str, Protocol] = {
    "zero-shot": lambda encoder, data, settings: evaluate_zero_shot(encoder, data, **settings),
    "probe": lambda encoder, data, settings: evaluate_linear_probe(encoder, data, data, c=1.0, **settings),
    "knn": lambda encoder, data, settings: evaluate_knn(encoder, data, data, **settings),
    "few-shot": lambda encoder, data, settings: evaluate_few_shot(
        encoder, data, data, shots=[1], seeds=1, **settings
    ),
    "robustness": shifts,
}


@pytest.mark.filterwarnings("ignore:6 pictures of")
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_names_it(name: str, tmp_path: Path) -> None:
    files = {f"p/{colour}/{n}.png": picture_bytes(colour) for colour in ("red", "blue") for n in range(3)}
    (tmp_path / "p.tar").write_bytes(tar_bytes(files))
    data = replace(load_labelled(tmp_path / "p.tar"), skipped=((KEY, REASON),))
    settings = {"store": FeatureStore(tmp_path / "cache"), "allow_overlap": True}
    for _ in range(2):  # computed, then read from the cache
        result = PROTOCOLS[name](FeatureToy(), data, settings)
        assert (KEY, REASON) in {(item.key, item.reason) for item in result.failures}


def other_shift(encoder: Encoder, data: ImageDataset, settings: dict[str, Any]) -> Any:
    group = ShiftGroup(data, [replace(data, name="copy")])
    return measure_shifts(ZeroShotScorer(encoder, list(data.class_names)), group, **settings)


@pytest.mark.parametrize("name", ["probe", "knn", "few-shot", "shift"])
def test_every_protocol_refuses_shared_pictures(name: str, tmp_path: Path) -> None:
    files = {f"p/{colour}/{n}.png": picture_bytes(colour) for colour in ("red", "blue") for n in range(3)}
    (tmp_path / "p.tar").write_bytes(tar_bytes(files))
    protocol = (PROTOCOLS | {"shift": other_shift})[name]
    with pytest.raises(DataError, match=r"6 pictures of .* too \(100% of one of them\)"):
        protocol(FeatureToy(), load_labelled(tmp_path / "p.tar"), {})
