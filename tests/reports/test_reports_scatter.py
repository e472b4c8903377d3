"""Scatter plots with intervals on logit-scaled axes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from diptych.reports import Curve, Mark, Scatter, save_plot

MARKS = {
    "ordinary": [Mark(0.4, 0.2), Mark(0.6, 0.4, (0.55, 0.65), (0.35, 0.45))],
    "ours": [Mark(0.7, 0.6, label="zero-shot")],
}
LINES = {
    "line": Curve([0.3, 0.8], [0.1, 0.6], low=[0.05, 0.5], high=[0.2, 0.7]),
    "y = x": Curve([0.0, 1.0], [0.0, 1.0], dashed=True),
}


def draw(folder: Path, *, logit: bool, marks: dict[str, list[Mark]] | None = None) -> list[Path]:
    return save_plot(
        folder / "s",
        Scatter(marks=marks or MARKS, lines=LINES, x="clean", y="shifted", title="T", logit=logit),
    )


@pytest.mark.parametrize("logit", [False, True])
def test_the_picture_says_what_it_shows(tmp_path: Path, logit: bool) -> None:
    svg, png = draw(tmp_path, logit=logit)
    words = "".join(ElementTree.parse(svg).getroot().itertext())
    for word in ("ordinary", "ours", "zero-shot", "line", "y = x", "clean", "shifted", "T"):
        assert word in words
    with Image.open(png) as picture:
        picture.load()
        assert len(picture.convert("RGB").getcolors(2**24)) > 20
    assert [p.read_bytes() for p in draw(tmp_path / "again", logit=logit)] == [
        svg.read_bytes(),
        png.read_bytes(),
    ]


def test_equal_steps_are_equal_odds() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    Scatter(marks=MARKS, x="x", y="y", logit=True).draw(axes)
    place = [axes.transData.transform((0.5, share))[1] for share in (0.2, 1 / 3, 0.5)]  # odds 1/4, 1/2, 1
    assert place[2] - place[1] == pytest.approx(place[1] - place[0])
    assert axes.get_ylim()[0] < 0.2 < 0.6 < axes.get_ylim()[1]
    assert 0.5 in axes.get_yticks()


def test_nothing_right_and_everything_right_have_a_place(tmp_path: Path) -> None:
    marks = {"ends": [Mark(0.0, 1.0, (0.0, 0.0), (0.9, 1.0)), Mark(1.0, 0.0)]}
    assert all(path.stat().st_size for path in draw(tmp_path, logit=True, marks=marks))
