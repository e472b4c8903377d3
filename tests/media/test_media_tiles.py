"""Tiles cover the picture, overlap as asked, and hold the pixels their boxes say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.media.tiles import tiles


def numbered(width: int, height: int) -> Image.Image:
    values = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3)
    return Image.fromarray((values * 7 % 251).astype(np.uint8))


def test_scales_and_counts() -> None:
    found = tiles(numbered(400, 300))
    assert [found[0][0], len(found)] == [(0, 0, 400, 300), 1 + 4 + 9]
    assert {box[2] - box[0] for box, _ in found} == {400, 283, 200}


def test_pixels_are_the_boxes() -> None:
    picture = numbered(90, 70)
    for box, tile in tiles(picture):
        left, upper, right, lower = box
        assert np.array_equal(np.asarray(tile), np.asarray(picture)[upper:lower, left:right])


def test_small_pictures_stay_whole() -> None:
    assert [box for box, _ in tiles(numbered(40, 20))] == [(0, 0, 40, 20)]
    assert [box for box, _ in tiles(numbered(1, 1), (1, 1, 0.5), side=1)] == [(0, 0, 1, 1)]
    assert tiles(numbered(40, 20), (0.25,)) == []


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.02, 1.0), st.floats(0.0, 0.8))
def test_every_pixel_is_covered_and_neighbours_overlap(
    width: int, height: int, area: float, overlap: float
) -> None:
    picture = Image.new("L", (width, height))
    boxes = [box for box, _ in tiles(picture, (area,), overlap=overlap, side=1)]
    seen = np.zeros((height, width), int)
    for left, upper, right, lower in boxes:
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height
        seen[upper:lower, left:right] += 1
    assert seen.min() >= 1
    lefts = sorted({box[0] for box in boxes})
    tile = boxes[0][2] - boxes[0][0]
    assert all(b - a <= max(tile * (1 - overlap) + 1, 1) for a, b in pairwise(lefts))


@settings(deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0, 1), st.floats(0, 1))
def test_what_is_as_large_as_a_tile_is_mostly_in_one(area: float, across: float, down: float) -> None:
    width, height = 400, 300
    scale = area**0.5
    w, h = round(width * scale), round(height * scale)
    x, y = across * (width - w), down * (height - h)
    best = max(
        max(0, min(x + w, box[2]) - max(x, box[0])) * max(0, min(y + h, box[3]) - max(y, box[1]))
        for box, _ in tiles(Image.new("1", (width, height)), (area,))
    )
    assert best / (w * h) >= 9 / 16 - 0.03


@pytest.mark.parametrize(
    ("areas", "overlap"), [((0,), 0.5), ((1.5,), 0.5), ((-1,), 0.5), ((1,), 1.0), ((1,), -0.1)]
)
def test_nonsense_is_refused(areas: tuple[float, ...], overlap: float) -> None:
    with pytest.raises(ValueError, match="expected areas"):
        tiles(numbered(40, 40), areas, overlap=overlap)
