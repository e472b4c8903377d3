"""The public API: its names exist, are imported lazily, are documented, and are visible to type checkers."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import diptych


@pytest.mark.parametrize("name", diptych.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(diptych, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert len((value.__doc__ or "").split()) > 3, f"{name} says nothing about itself"


def test_dir_lists_the_public_names_only() -> None:
    assert dir(diptych) == sorted(diptych.__all__)


def test_names_stay_few_and_come_once() -> None:
    """The names that most programs start with: load, classify, embed, measure, search, train."""
    assert len(diptych.__all__) == len(set(diptych.__all__)) <= 16


@pytest.mark.parametrize(
    "package", ["diptych", "diptych.weights", "diptych.backends", "diptych.embedding", "diptych.training"]
)
def test_lazy_names_type_checking_and_all_agree(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    checked = {
        alias.name: node.module.removeprefix(f"{package}.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert checked == module._MODULES
    assert {*checked, *({"__version__"} & {*module.__all__})} == set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(AttributeError, match="diptych has no 'lod'; it has load, list_models"):
        diptych.lod  # type: ignore[attr-defined]  # noqa: B018


def test_a_type_checker_sees_no_getattr() -> None:
    tree = ast.parse(Path(diptych.__file__).read_text(encoding="utf-8"))
    seen = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "__dir__" in seen
    assert "__getattr__" not in seen, "with it, a misspelt diptych.laod passes every type checker"


def test_version_is_the_installed_one() -> None:
    assert diptych.__version__.count(".") == 2


def test_the_story_of_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (Path(diptych.__file__).parent / "weights" / "default" / "diptych.json").is_file():
        pytest.skip("the default model is not in this checkout")
    from PIL import Image

    story = textwrap.dedent((diptych.__doc__ or "").partition("::\n")[2].partition("\nNames")[0])
    assert "diptych.load()" in story
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(story, names)
    answer = names["classifier"].predict("photo.jpg")  # type: ignore[attr-defined]
    assert answer[0] in {"dog", "cat", "beaver"}


def test_a_star_import_brings_the_names() -> None:
    code = "from diptych import *; assert load_image and DiptychError and Encoder"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_heavy_before_it_is_asked_for() -> None:
    code = (
        "import sys, diptych; diptych.DiptychError, diptych.Encoder, diptych.__version__; "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
