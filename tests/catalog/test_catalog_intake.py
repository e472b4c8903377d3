"""What is read beside the pixels: libraries that are missing, texts in odd letters, nothing that ends a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from catalogs import colours, index
from raw_files import dng

from diptych.catalog import Store, failures


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
