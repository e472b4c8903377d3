"""Optional dependencies: installed ones are imported, missing ones are named with their extra."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from diptych.errors import MissingExtraError
from diptych.extras import require

ROOT = Path(__file__).resolve().parents[1]


def test_what_is_there_is_imported() -> None:
    assert require("json", extra="training", purpose="read tables") is json


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_what_is_missing_is_named_with_its_extra(module: str) -> None:
    with pytest.raises(MissingExtraError) as raised:
        require(module, extra="training", purpose="read Parquet tables")
    assert str(raised.value) == (
        "no_such_package is needed to read Parquet tables and is not installed. "
        "Install it with: pip install 'diptych[training]'"
    )
    assert isinstance(raised.value, ImportError)


def test_a_broken_package_is_no_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("import a_part_that_is_gone\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_gone"):
        require("broken_package", extra="training", purpose="break")


def test_every_extra_asked_for_exists() -> None:
    """Every `extra="..."` in the source names an extra of pyproject.toml."""
    import re

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    query = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"extra=\"(\w+)\"", path.read_text(encoding="utf-8"))
    }
    assert query <= known.keys()
