"""Call paths described in docs/architecture.md: short, without a return to a room, and up to date."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from tests.trips import TRIPS, Trip, furnish, walk

MOST_CALLS = 8
PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trips")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        furnish(home)
    return home


@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.title)
def test_trips(trip: Trip, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    trail = walk(trip)
    assert len(trail) - 1 <= MOST_CALLS, "\n".join(trail)
    rooms = [room for room, _ in groupby(name.partition(".")[0] for name in trail)]
    assert len(rooms) == len(set(rooms)), f"returns to a room that it had left: {rooms}"
    text = PAGE.read_text(encoding="utf-8").partition(f"### {trip.title}\n")[2].partition("\n### ")[0]
    described = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert described == trail, "bring the page up to date with  python -m tests.trips"
