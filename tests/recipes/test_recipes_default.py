"""The default recipe: it reads only the training packs, without the excluded classes."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from diptych.evaluation import Result
from diptych.inputs.nouns import plural
from diptych.training.data import LabelledTar
from diptych.zeroshot import folder_names

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def recipe(shared: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DIPTYCH_SHARED", str(shared.root))
    monkeypatch.syspath_prepend(str(RECIPES))
    sys.modules.pop("default_sources", None)  # it reads the variable when it is imported
    return runpy.run_path(str(RECIPES / "default.py"))


@pytest.mark.shared
def test_it_reads_packs_for_training_only(recipe: dict[str, Any]) -> None:
    for description, _ in recipe["data"]().parts:
        name = Path(str(description.pattern)).name
        assert "train" in name or name.startswith("openstax-pairs")
        assert not any(word in name for word in ("test", "val", "pacs", "imagenet"))


@pytest.mark.shared
def test_left_out_classes_never_appear(recipe: dict[str, Any]) -> None:
    held = json.loads((RECIPES / "held_out.json").read_text("utf-8"))
    assert (len(held["caltech101"]), len(held["open-train"])) == (20, 60)
    names = folder_names("caltech101")  # the pack's folders are renamed, "yin_yang" to "yin and yang symbol"
    left_out = {*(names[folder] for folder in held["caltech101"]), *held["open-train"], *held["also"]}
    seen: set[str] = set()
    for description, _ in recipe["data"]().parts:
        if isinstance(description, LabelledTar):
            source = description.open()
            assert len(source) > 0
            seen |= set(source.classes)
    assert len(seen) > 1000
    assert not seen & left_out


@pytest.mark.shared
def test_captions_of_labels_read_well(recipe: dict[str, Any]) -> None:
    part = recipe["data"]().parts[2][0].open()
    captions = {part.label(index): part.captions(index) for index in range(200)}
    assert all(label in text or plural(label) in text for label, texts in captions.items() for text in texts)
    assert any(f"a photo of {label}" not in text for label, texts in captions.items() for text in texts)
    assert all("{" not in text for texts in captions.values() for text in texts)


def test_a_line_of_the_table_fits_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    table = runpy.run_path(str(RECIPES / "measure_default.py"))
    result = Result(
        dataset="imagenet-sample-1000",
        task="zeroshot_classification",
        metrics={"acc1": 0.5, "acc5": 0.75, "mean_per_class_recall": 0.5},
        chance={"acc1": 0.001, "acc5": 0.005, "mean_per_class_recall": 0.001},
        n=1000,
        identity="",
        data_fingerprint="",
        details={"calibration": {"ece": 0.125}},
    )
    table["print_result"](result, mark=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["imagenet-sample-1000", "*", "acc1", "0.5000", "0.0010", "1,000", "0.125"],
        ["imagenet-sample-1000", "*", "acc5", "0.7500", "0.0050", "1,000"],
    ]
    assert max(map(len, lines)) <= 80
