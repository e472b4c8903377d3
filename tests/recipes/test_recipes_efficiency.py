"""The data efficiency study: equal data for all objectives, scores of each kind of model, curves by hand."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from diptych.model.initialise import build
from diptych.training.data import Once, TarPairs
from diptych.training.data.order import hash_keys
from diptych.training.objectives.predicting import BagPrediction, CaptionPrediction, Classification
from tests.training.make_runs import TINY, config_of, write_pairs

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("efficiency_study")


@pytest.fixture
def measures(study: ModuleType) -> ModuleType:
    return importlib.import_module("efficiency_measures")


@pytest.fixture
def curves(study: ModuleType) -> ModuleType:
    return importlib.import_module("efficiency_curves")


def leg(objective: str, seed: int, rows: list[tuple[int, float]], tower: str = "ResNet") -> dict[str, Any]:
    """A run with the points (pairs, accuracy)."""
    points = [{"pairs": pairs, "seen": right, "unseen": right, "epoch": 1} for pairs, right in rows]
    facts = {"objective": objective, "tower": tower, "seed": seed, "lr": 1e-3, "operations": 10.0}
    return {**facts, "points": points}


@pytest.mark.shared
def test_all_objectives_see_the_same_and_five_classes_never(
    shared: Any, study: ModuleType, tmp_path: Path
) -> None:
    packs = study.data()
    configs = {item: study.config(item, packs, tmp_path) for item in study.grid() if item.seed == 0}
    mixed = [config for item, config in configs.items() if item.objective != "classes"]
    assert len({id(config.data) for config in mixed}) == 1
    same = ("objective", "model", "lr", "out", "name", "classes", "data")
    assert len({repr([getattr(c, n) for n in vars(c) if n not in same]) for c in configs.values()}) == 1
    cifar = next(part for part, _ in packs[0].parts if "cifar10" in str(part.description.pattern))
    assert set(cifar.open().classes) == set(study.SEEN_CLASSES)
    labelled = next(config for item, config in configs.items() if item.objective == "classes")
    assert set(study.SEEN_CLASSES) < set(labelled.classes)
    assert len(packs[0].parts) == len(packs[1].parts) + 1  # Flickr8k has no labels
    for mixture in packs:
        visits = sum(len(part.open()) * repeat for part, repeat in mixture.parts)
        assert visits // study.BATCH == study.STEPS
    assert 8 < study.tokens_of(packs[0], mixed[0]) < 14


def test_pictures_are_scored_by_whatever_was_trained(measures: ModuleType, tmp_path: Path) -> None:
    names = ("cat", "dog", "ship")
    tokens = torch.tensor([[1022, 5, 1023], [1022, 6, 1023], [1022, 7, 1023]])
    labels = np.array([2, 0, 1, 0])
    sheet = measures.TestSet(torch.randn(4, 3, 32, 32), labels, tokens, names, {"seen": ("ship", "cat")})
    part = sheet.of(("ship", "cat"))
    assert part.labels.tolist() == [0, 1, 1]
    assert torch.equal(part.tokens, tokens[[2, 0]])
    config = config_of(tmp_path, tmp_path)
    model = build(TINY, seed=0).eval()
    for trained in (model, BagPrediction(model), CaptionPrediction(model)):
        assert measures.score(trained.eval(), sheet).shape == (4, 3)
    numbers = torch.from_numpy(hash_keys(names).view(np.int64).copy()).sort().values
    result = Classification(model, numbers).eval()
    with torch.no_grad():  # predicts a dog for every picture
        result.head.weight.zero_()
        result.head.bias.copy_((numbers == int(hash_keys(["dog"]).view(np.int64)[0])).float())
    assert measures.score(result, sheet, names).argmax(1).tolist() == [1, 1, 1, 1]
    config = dataclasses.replace(config, objective="classes", classes=names)
    assert measures.measure(result, config, {"a": sheet})["seen"] == pytest.approx(0.5)
    assert measures.measure(result, dataclasses.replace(config, classes=("dog", "cat")), {"a": sheet}) == {}


def test_what_is_common_to_all_pictures_is_taken_off(measures: ModuleType) -> None:
    scores = np.log([[0.2, 0.04], [0.6, 0.02]])  # the first text is likelier for both pictures
    assert scores.argmax(1).tolist() == [0, 0]
    assert measures.even(scores).argmax(1).tolist() == [1, 0]
    assert np.exp(measures.even(scores)).mean(0) == pytest.approx([1.0, 1.0])
    pairs = measures.TestSet(torch.zeros(2, 3, 1, 1), np.arange(2), torch.zeros(2, 1))
    result = measures._retrieval(np.array([[1.0, 0.0], [0.0, 1.0]]), pairs)
    assert set(result.values()) == {1.0}


def test_pairs_needed_are_read_between_points(curves: ModuleType) -> None:
    run = [(100.0, 0.2), (400.0, 0.4), (1600.0, 0.3)]
    assert curves.pairs_needed(run, 0.3) == pytest.approx(200)
    assert curves.pairs_needed(run, 0.1) == 100
    assert curves.pairs_needed(run, 0.5) == float("inf")
    fast = [leg("contrastive", seed, [(100, 0.2), (200, 0.4), (400, 0.6)]) for seed in (0, 1)]
    slow = [leg("words", 0, [(100, 0.1), (200, 0.2), (400, 0.4)])]
    kinds = (("contrastive", "ResNet"), ("words", "ResNet"))
    assert curves.ratios([*fast, *slow], *kinds, "seen", "pairs") == [(2.0, False)]  # seed 1 has no partner
    assert curves.ratios([*fast, *slow], kinds[1], kinds[0], "seen", "operations") == [(0.5, False)]
    late = [leg("words", 0, [(100, 0.1), (400, 0.3)])]
    early = [leg("contrastive", 0, [(100, 0.5)])]
    assert curves.ratios([*early, *late], *kinds, "seen", "pairs") == [(4.0, True)]
    near_chance = [leg("words", 0, [(100, 0.2)])]
    assert curves.ratios([*early, *near_chance], *kinds, "seen", "pairs") == []
    band = curves.curve([*fast, leg("contrastive", 2, [(100, 0.5)] * 3)], "contrastive", "seen", "operations")
    assert (band.x[0], band.y[0], band.low[0], band.high[0]) == (1000, pytest.approx(0.3), 0.2, 0.5)


def test_plots_and_a_table_come_of_points(curves: ModuleType, tmp_path: Path) -> None:
    rows = [(100, 0.2), (200, 0.4)]
    legs = [leg(name, 0, rows, tower) for name in ("contrastive", "words") for tower in ("ResNet", "ViT")]
    curves.draw(legs, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".svg", ".png"}
    lines = curves.table(legs).splitlines()
    assert max(map(len, lines)) <= 100
    assert "contrastive ResNet, contrastive ViT: seen, operations" in "\n".join(lines)


def test_what_is_done_is_not_done_again(
    study: ModuleType, measures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "STEPS", 2)
    monkeypatch.setattr(study, "BATCH", 16)
    packs = study.scaled([(Once(TarPairs(str(write_pairs(tmp_path / "pairs.tar", 64)))), 1.0)])
    names = {"seen": ("red", "green")}
    tokens = torch.tensor([[8190, 5, 8191], [8190, 6, 8191]])
    images = torch.randn(4, 3, 32, 32)
    sheet = measures.TestSet(images, np.array([0, 1, 0, 1]), tokens, ("red", "green"), names)
    single = study.Leg("words", "ResNet", 0, 1e-3, (1, 2))
    (tmp_path / "runs").mkdir()
    result = study.points(single, (packs, packs), {"colours": sheet}, tmp_path)
    assert [(point["epoch"], point["pairs"]) for point in result["points"]] == [(1, 32), (2, 64)]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [f"{single.name}.json"]
    monkeypatch.delattr(study, "train")
    assert study.points(single, (packs, packs), {"colours": sheet}, tmp_path) == result
    assert json.loads((tmp_path / "runs" / f"{single.name}.json").read_text())["operations"] > 1e6
