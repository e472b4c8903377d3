"""Tables of released models compared with open_clip's recorded ones: releases, architectures, exceptions.

`recorded_open_clip.csv` has one row for each name and tag of open_clip 3.3's `open_clip.pretrained` and
model configs, and one for each name without released weights.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diptych.cli.models.models import app
from diptych.errors import UnknownModelError
from diptych.model.config import TimmConfig
from diptych.model.initialise import build
from diptych.model.presets.table import PRESETS, is_architecture, preset
from diptych.weights import list_models, load_checkpoint
from diptych.weights.open_clip.names import open_clip_names
from diptych.weights.registry import Release, find_release, preprocess_for, tokenizer_for

TABLE = (Path(__file__).parent / "recorded_open_clip.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(TABLE.splitlines()))
RECORDED = {(row["name"], row["tag"]): row for row in ROWS}
ARCHITECTURES = json.loads((Path(__file__).parent / "recorded_architectures.json").read_text())["models"]
RELEASED = [release for release in list_models() if release.layout != "m-clip"]
# open_clip's table sends both tags to the repository of e31.
CORRECTED = {
    ("ViT-B-16-plus-240", "laion400m_e32"): "timm/vit_base_patch16_plus_clip_240.laion400m_e32",
}
# Google's own config gives 384; both have 27 patches a side. ViTamin's tower uses the size in its name.
OTHER_SIDE = {"ViT-SO400M-14-SigLIP2-378": "378", "ViTamin-XL-384": "256"}


def _said(release: Release) -> dict[str, str]:
    """A release in the form of the recorded table."""
    config = preset(release.architecture)
    spec = release.spec()
    pre, tok = (spec.preprocess, spec.tokenizer)
    if release.layout == "transformers":
        pre, tok = preprocess_for(config), tokenizer_for(config)
    return {
        "mean": " ".join(map(str, pre.mean)),
        "std": " ".join(map(str, pre.std)),
        "interpolation": pre.interpolation,
        "resize_mode": pre.resize,
        "quick_gelu": str(release.activation == "quick_gelu").lower(),
        "image_size": OTHER_SIDE.get(release.architecture, str(pre.size)),
        "context_length": str(tok.context_length),
    }


@pytest.mark.parametrize("release", RELEASED, ids=lambda release: release.name)
def test_every_release_is_open_clips(release: Release) -> None:
    row = RECORDED[release.architecture, release.tag]
    said = _said(release)
    assert said == {key: row[key] for key in said}
    if release.layout == "open_clip":
        expected = CORRECTED.get((release.architecture, release.tag), row["repository"])
        assert release.repository == expected
        assert release.spec().architecture.activation == release.activation


def test_no_two_releases_share_a_repository() -> None:
    repositories = [release.repository for release in list_models()]
    assert len(set(repositories)) == len(repositories)


@pytest.mark.parametrize("name", sorted({release.architecture for release in list_models()}))
def test_parameters_are_those_of_the_architecture(name: str) -> None:
    config = preset(name)
    if isinstance(config.vision, TimmConfig):  # open_clip's count: building needs timm, and seconds
        count = ARCHITECTURES[name][1]
    else:
        count = sum(p.numel() for p in build(config, device="meta").parameters())
    assert {r.parameters for r in list_models() if r.architecture == name} == {count}


def test_every_name_of_open_clips_has_a_row_that_is_true() -> None:
    listed = {row.name: row for row in open_clip_names()}
    assert set(listed) == {name for name, _ in RECORDED}
    for name, row in listed.items():
        assert set(row.tags) == {tag for recorded, tag in RECORDED if recorded == name and tag}
        assert bool(row.reason) != is_architecture(name), name
        assert bool(row.tags) == bool(row.licence), name
        if row.reason:
            with pytest.raises(UnknownModelError, match="not loaded here"):
                load_checkpoint(name)
        for tag in row.tags if not row.reason else ():
            assert find_release(name, tag).tag == tag
    assert {release.architecture for release in list_models()} <= set(PRESETS)


def test_models_list_shows_which_names_load_and_why_others_do_not() -> None:
    run = CliRunner().invoke(app, ["list", "--open-clip", "--json"])
    rows = {row["name"]: row for row in json.loads(run.stdout)}
    assert len(rows) == len({name for name, _ in RECORDED})
    assert rows["ViT-B-32"]["loads"]
    assert rows["ViT-B-32"]["licence"] == "mit, cc-by-nc-4.0"
    assert not rows["coca_ViT-B-32"]["loads"]
    assert rows["coca_ViT-B-32"]["reason"].startswith("CoCa")
    table = CliRunner().invoke(app, ["list", "coca", "--open-clip"], env={"COLUMNS": "200"})
    assert "no: coca_ViT-B-32, coca_ViT-L-14, coca_base, coca_roberta-ViT-B-32: CoCa: a cap" in table.stdout
    assert "ViT-L-14-336" not in table.stdout


def test_models_list_keeps_names_and_tags_whole_at_80_columns() -> None:
    run = CliRunner().invoke(app, ["list", "--open-clip"], env={"COLUMNS": "80"})
    shown = {line.split("  ")[0]: line for line in run.stdout.splitlines()}
    assert set(shown) >= {row.name for row in open_clip_names()}
    for name, loads in (("ViT-B-32", " yes "), ("EVA02-B-16", " with timm "), ("ViT-S-16", " own file")):
        assert loads in shown[name]
    assert "pip install 'diptych[timm]'" in run.stderr
    run = CliRunner().invoke(app, ["list"], env={"COLUMNS": "80"})
    first = {line.strip().split("  ")[0] for line in run.stdout.splitlines()}
    assert first >= {name for row in list_models() for name in (row.architecture, row.tag)}
    assert max(map(len, run.stdout.splitlines())) <= 80
