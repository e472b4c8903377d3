"""The robustness recipe: small supervised networks, and a report with the line through them."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.toys import tar_bytes

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("robustness")


def pack(path: Path, each: int, seed: int) -> Path:
    """Two classes of textures: vertical and horizontal stripes with noise."""
    import io

    rng, files = np.random.default_rng(seed), {}
    for number in range(each):
        for name, axis in (("across", 0), ("down", 1)):
            stripes = (np.indices((32, 32))[axis] // 4 % 2 * 160.0)[..., None] + rng.normal(
                40, 25, (32, 32, 3)
            )
            buffer = io.BytesIO()
            Image.fromarray(np.clip(stripes, 0, 255).astype(np.uint8)).save(buffer, "PNG")
            files[f"pack/{name}/{number}.png"] = buffer.getvalue()
    path.write_bytes(tar_bytes(files))
    return path


def test_from_pictures_to_a_line(recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (recipe.BaselineSize(8, (1, 1, 1, 1), 1, 1.0), recipe.BaselineSize(8, (1, 1, 1, 1), 6, 1.0))
    monkeypatch.setitem(recipe.SIZES, "quick", sizes)
    plain = recipe.config  # enough steps for so few pictures
    monkeypatch.setattr(recipe, "config", lambda *a: dataclasses.replace(plain(*a), batch_size=16, warmup=2))
    few = functools.partial(recipe.corruptions_of, names=("brightness", "pixelate"))
    monkeypatch.setattr(recipe, "corruptions_of", few)
    train_data, test_data = pack(tmp_path / "train.tar", 70, 0), pack(tmp_path / "test.tar", 6, 1)
    args = argparse.Namespace(
        sizes="quick", limit=12, probe=40, severities=[5], model="default", c=1.0, out=tmp_path / "out"
    )
    files = recipe.study(args, train_data, test_data)
    assert {"index.html", "report.json", "line.svg", "corruptions-1.csv"} <= {path.name for path in files}
    result = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert [item["ordinary"] for item in result["models"]] == [False, False, True, True]
    assert "seen training pictures of CIFAR-10" in result["caveat"]
    assert result["lines"]["mean over all"]["n"] == 2


def test_ordinary_models_are_unlike(recipe: ModuleType) -> None:
    for sizes in recipe.SIZES.values():
        assert len({size.name for size in sizes}) == len(sizes) >= 2
