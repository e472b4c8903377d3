"""The fine-tuning recipe: disjoint packs for training and measuring, valid configs, readable tables."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from diptych.evaluation import Interpolation, InterpolationPoint, Result
from diptych.training.data import Part

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def recipe(shared: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DIPTYCH_SHARED", str(shared.root))
    monkeypatch.syspath_prepend(str(RECIPES))
    return runpy.run_path(str(RECIPES / "finetune.py"))


@pytest.mark.shared
def test_it_learns_from_some_packs_and_measures_on_others(recipe: dict[str, Any]) -> None:
    for task in recipe["tasks"]().values():
        data = task.data.description if isinstance(task.data, Part) else task.data
        assert "train" in Path(str(data.pattern)).name
        measures = [task.target, *recipe["retained_measures"]()]
        assert all("train" not in str(measure.dataset.entries[0].path.name) for measure in measures)
        source = task.data.open()
        labels = {source.label(index) for index in range(len(source))}
        assert labels == set(task.target.dataset.class_names)


@pytest.mark.shared
def test_every_way_is_a_run_that_can_be(recipe: dict[str, Any], tmp_path: Path) -> None:
    task = recipe["tasks"]()["flowers"]
    folders = set()
    for way in recipe["WAYS"]:
        assert recipe["config"](way, task, 1, tmp_path).start == "default"
        folders.add(recipe["folder_of"](way, 1))
    assert len(folders) == len(recipe["WAYS"])
    assert "low-rank-lora-8-1" in folders


@pytest.mark.shared
def test_the_table_tells_means_spread_and_what_is_kept(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def result(name: str, value: float) -> Result:
        message = {"task": "t", "chance": {}, "n": 1, "identity": "", "data_fingerprint": ""}
        return Result(dataset=name, metrics={"acc1": value}, **message)

    points = [
        InterpolationPoint(share, [result("new", share), *(result(str(n), 1 - share / 2) for n in range(4))])
        for share in recipe["FRACTIONS"]
    ]
    curve = Interpolation("a", "b", ["acc1"] * 5, points)
    table = recipe["rows"](
        {"plain": [[0.8, 0.5, 0.5, 0.5, 0.5], [0.9, 0.4, 0.4, 0.4, 0.4]]},
        {"plain": curve, "gentle": curve},
    )
    recipe["print_table"]("toys", table)
    printed = capsys.readouterr().out
    assert "| plain | 0.850 ±0.050 | 0.450 ±0.050 |" in printed
    assert "| WiSE-FT, half of plain | 0.500 | 0.750 |" in printed
    assert printed.count("| 45% |") == 1
    assert printed.count("| 100% |") == 1
