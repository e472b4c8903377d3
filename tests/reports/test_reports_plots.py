"""Plots of curves: SVG and PNG files, reproducible and labelled."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from diptych.errors import MissingExtraError
from diptych.reports import Curve, Curves, save_plot

CURVES = {
    "contrastive": Curve([1, 10, 100], [0.1, 0.3, 0.5], low=[0.05, 0.2, 0.4], high=[0.2, 0.4, 0.6]),
    "captions": Curve([1, 10, 100], [0.1, 0.15, 0.2], labels=["a", "b", "c"], dashed=True),
}


def draw(folder: Path) -> list[Path]:
    shown = Curves(curves=CURVES, x="pairs", y="accuracy", title="T", log_x=True, levels={"chance": 0.1})
    return save_plot(folder / "curves", shown)


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    svg, png = draw(tmp_path)
    words = "".join(ElementTree.parse(svg).getroot().itertext())
    for word in ("contrastive", "captions", "chance", "pairs", "accuracy", "T"):
        assert word in words
    with Image.open(png) as picture:
        picture.load()
        assert picture.size == (1080, 675)
        assert len(picture.convert("RGB").getcolors(2**24)) > 20


def test_the_same_curves_give_the_same_files(tmp_path: Path) -> None:
    single = [path.read_bytes() for path in draw(tmp_path / "a")]
    assert single == [path.read_bytes() for path in draw(tmp_path / "b")]
    assert not list((tmp_path / "a").glob(".*"))


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"diptych\[plots\]"):
        draw(tmp_path)
