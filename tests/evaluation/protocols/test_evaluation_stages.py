"""Progress of measurements: every long step opens its bar before it begins, and counts to its total."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych.datasets import ImageDataset, load_captioned, load_labelled
from diptych.evaluation import (
    FeatureStore,
    ZeroShotScorer,
    evaluate_few_shot,
    evaluate_linear_probe,
    evaluate_retrieval,
    evaluate_zero_shot,
)
from diptych.zeroshot import weights
from tests.probe_toys import FeatureToy
from tests.toys import picture_bytes, tar_bytes


class Recorder:
    """Record the opened stages, their counts, and the encoder's calls before each of them."""

    def __init__(self, encoder: FeatureToy) -> None:
        self.encoder = encoder
        self.totals: dict[str, int | None] = {}
        self.counts: dict[str, int] = {}
        self.calls_before: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def __call__(self, what: str, total: int | None) -> Iterator[object]:
        self.totals[what], self.counts[what] = total, 0
        self.calls_before[what] = [kind for kind, _ in self.encoder.calls]

        def advance(count: int) -> None:
            self.counts[what] += count

        yield advance


def packed(path: Path, light: int = 0) -> Path:
    """Four red and four blue pictures, all different."""
    shades = {"red": lambda n: (255, light + n, 0), "blue": lambda n: (0, light + n, 255)}
    files = {f"p/{name}/{n}.png": picture_bytes(shade(n)) for name, shade in shades.items() for n in range(4)}
    path.write_bytes(tar_bytes(files))
    return path


@pytest.fixture
def data(tmp_path: Path) -> ImageDataset:
    return load_labelled(packed(tmp_path / "p.tar"))


@pytest.fixture
def encoder() -> FeatureToy:
    return FeatureToy()


@pytest.fixture
def stage(encoder: FeatureToy) -> Recorder:
    return Recorder(encoder)


def test_prompts_are_a_stage_in_batches(
    data: ImageDataset, encoder: FeatureToy, stage: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PROMPTS", 3)
    result = evaluate_zero_shot(encoder, data, templates="imagenet7", stage=stage)
    assert stage.totals == {"p: prompts": 14}
    assert stage.counts == {"p: prompts": 14}
    assert stage.calls_before["p: prompts"] == []  # opened before the first prompt is encoded
    assert [count for kind, count in encoder.calls if kind == "texts"] == [3, 3, 3, 3, 2]
    whole = evaluate_zero_shot(FeatureToy(), data, templates="imagenet7")
    assert result.metrics == whole.metrics


def test_a_scorer_counts_its_prompts() -> None:
    counts: list[int] = []
    ZeroShotScorer(FeatureToy(), ["red", "blue"], templates="imagenet7", progress=counts.append)
    assert sum(counts) == 14


def test_reading_for_the_cache_is_a_stage(
    data: ImageDataset, encoder: FeatureToy, stage: Recorder, tmp_path: Path
) -> None:
    evaluate_zero_shot(encoder, data, stage=stage, store=FeatureStore(tmp_path / "kept"))
    assert stage.counts["p: reading"] == stage.totals["p: reading"] == 8
    assert "images" not in stage.calls_before["p: reading"]


def test_fits_are_stages(data: ImageDataset, encoder: FeatureToy, stage: Recorder, tmp_path: Path) -> None:
    train = load_labelled(packed(tmp_path / "t.tar", light=40))
    result = evaluate_linear_probe(encoder, train, data, stage=stage)
    assert stage.counts["p: strengths of L2"] == len(result.details["search"])
    assert "p: fit" in stage.totals
    evaluate_few_shot(encoder, train, data, shots=(1, 2), seeds=3, stage=stage)
    assert stage.counts["p: few-shot draws"] == stage.totals["p: few-shot draws"] == 6


def test_captions_are_a_stage(encoder: FeatureToy, stage: Recorder, tmp_path: Path) -> None:
    files = {
        "0.png": picture_bytes("red"),
        "0.txt": b"red\nreddish",
        "1.png": picture_bytes("blue"),
        "1.txt": b"blue",
    }
    (tmp_path / "c.tar").write_bytes(tar_bytes(files))
    evaluate_retrieval(encoder, load_captioned(tmp_path / "c.tar"), stage=stage)
    assert stage.counts == stage.totals == {"c: captions": 3}
