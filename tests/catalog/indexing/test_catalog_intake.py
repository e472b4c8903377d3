"""Intake: missing libraries and text that a database cannot store never end a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.catalog import CatalogEntry, Filter, Searcher, SearchOptions, Store, check, failures, load_entry
from diptych.errors import CatalogError
from tests.catalog.catalogs import colours, index
from tests.media.raw_files import dng
from tests.toys import ToyEncoder, picture_bytes, tar_bytes


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    colours(tmp_path / "pictures")
    return tmp_path / "pictures"


def test_pictures_that_need_a_library_that_is_not_installed(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "camera.dng").write_bytes(dng())
    heif_start = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (pictures / "phone.heic").write_bytes(heif_start)
    for library in ("rawpy", "pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, library, None)
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.embedded, outcome.failed) == (6, 2)
    store = Store.open(tmp_path / "catalog")
    reasons = {path.name: reason for path, _, reason in failures(store.database)}
    store.close()
    assert set(reasons) == {"camera.dng", "phone.heic"}
    assert all("pip install 'diptych[media]'" in reason for reason in reasons.values())


def found(catalog: str | Path, where: Filter) -> list[CatalogEntry]:
    store = Store.open(catalog)
    asking = Searcher(store, ToyEncoder())
    answer = asking.search("red", SearchOptions(filters=where, cutoff=None, collapse=False))
    store.close()
    return [hit.entry for hit in answer.hits]


@pytest.mark.parametrize("kind", ["files", "postgres"])
def test_texts_that_no_database_keeps(
    tmp_path: Path, pictures: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """Lone surrogates and NUL characters in sidecars, in names of members and in queries."""
    catalog: str | Path = tmp_path / "catalog"
    if kind == "postgres":
        new_database: Callable[[], str] = request.getfixturevalue("new_database")
        catalog = new_database()
    (pictures / "red.json").write_text(r'{"caption": "a red wall \ud83d at\u0000 night"}')
    (pictures / "blue.txt").write_bytes(b"a blue\0 wall")
    odd = os.fsdecode(b"caf\xe9.png")
    members = {
        odd: picture_bytes("green", (9, 9)),
        "broken.png": b"no picture",
        "caf.png": picture_bytes("white", (9, 9)),
    }
    (pictures / "some.tar").write_bytes(tar_bytes(members))
    outcome = index(catalog, pictures)
    assert (outcome.embedded, outcome.failed) == (8, 1)
    assert index(catalog, pictures).same == 9
    captions = {entry.path.name: entry.caption for entry in found(catalog, Filter(caption="wall"))}
    assert captions == {"red.png": "a red wall \ufffd at night", "blue.png": "a blue wall"}
    (entry,) = found(catalog, Filter(name=odd))
    assert entry.member == "caf\\udce9.png"
    assert load_entry(entry).getpixel((0, 0)) == (0, 255, 0)
    (pictures / "some.tar").unlink()
    assert index(catalog, pictures).removed == 3
    store = Store.open(catalog)
    assert check(store) == []
    store.close()
    for odd in ("x\udce9", "x\0"):
        assert found(catalog, Filter(caption=odd, name=odd, camera=odd, tags=(odd,))) == []


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_a_reason_does_not_repeat_an_odd_name(tmp_path: Path, pictures: Path) -> None:
    (pictures / os.fsdecode(b"caf\xe9.png")).write_bytes(b"words")
    assert index(tmp_path / "catalog", pictures).failed == 1
    store = Store.open(tmp_path / "catalog")
    assert [reason for *_, reason in failures(store.database)] == ["not a picture: the bytes are text"]
    store.close()


@pytest.mark.parametrize("missing", [True, False])
def test_an_index_that_cannot_be_built_is_told_of(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    monkeypatch.setattr(
        "diptych.vectors.nearest.NearestNeighbours.needs_rebuild", lambda *_: "there are so many pictures"
    )
    if missing:
        monkeypatch.setitem(sys.modules, "faiss", None)
    else:

        def loses(*_: object, **__: object) -> None:
            raise CatalogError("the index loses neighbours")

        monkeypatch.setattr("diptych.vectors.ivf_build.build_ivf", loses)
    outcome = index(tmp_path / "catalog", pictures)
    assert outcome.embedded == 6
    assert outcome.built is not None
    assert outcome.built.startswith("not built, every search looks at every picture: ")
    assert ("pip install 'diptych[" if missing else "loses neighbours") in outcome.built
