"""File identity: content decides where inode, size and time mislead; touched files are not embedded again."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from diptych.catalog import IntakeSettings, Store
from diptych.catalog.annotations.records import ListedFile
from diptych.catalog.files import comparison, listing
from tests.catalog.catalogs import colours, content, index, paint, search
from tests.toys import COLOURS, ToyEncoder

TIME = 1_600_000_000 * 10**9
VERIFY = IntakeSettings(verify=True)


def bitmap(path: Path, colour: str) -> Path:
    """Write a picture whose file has a fixed size and time, in place (no rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), COLOURS[colour]).save(path, "BMP")
    os.utime(path, ns=(TIME, TIME))
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    for name, colour in (("frame1.bmp", "red"), ("frame2.bmp", "green")):
        bitmap(tmp_path / "frames" / name, colour)
    index(tmp_path / "catalog", tmp_path / "frames")
    return tmp_path / "frames"


@pytest.fixture
def same_inode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every file the same inode, as a file system does that reuses inode numbers."""
    result = listing._listed_file

    def reused(path: str, stat: Callable[[], os.stat_result], sidecar: int = 0) -> ListedFile:
        return replace(result(path, stat, sidecar), inode=7)

    monkeypatch.setattr(listing, "_listed_file", reused)


def embedded_as(catalog: Path, encoder: ToyEncoder, path: Path) -> float:
    """Cosine between the stored vector of a file and the picture that it contains."""
    store = Store.open(catalog)
    assert store.active is not None
    number = store.database.all("SELECT content FROM files WHERE path = ?", (os.fsencode(path),))[0][0]
    _, rows = store.active.vectors([number])
    store.close()
    with Image.open(path) as image:
        return float(rows[0] @ encoder.encode_images([image.convert("RGB")])[0])


def test_an_inode_that_another_picture_got(tmp_path: Path, frames: Path, same_inode: None) -> None:
    index(tmp_path / "catalog", frames, settings=VERIFY)
    (frames / "frame1.bmp").unlink()
    bitmap(frames / "frame3.bmp", "blue")
    outcome = index(tmp_path / "catalog", frames)
    assert (outcome.moved, outcome.embedded, outcome.removed) == (0, 1, 1)
    assert embedded_as(tmp_path / "catalog", ToyEncoder(), frames / "frame3.bmp") == pytest.approx(
        1, abs=1e-3
    )


def test_a_file_that_was_renamed_is_known_by_its_bytes(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (frames / "frame1.bmp").rename(frames / "frame3.bmp")
    read: list[Path] = []
    digest = comparison.digest
    monkeypatch.setattr(comparison, "digest", lambda path: read.append(path) or digest(path))
    outcome = index(tmp_path / "catalog", frames)
    assert (outcome.moved, outcome.embedded, outcome.removed) == (1, 0, 0)
    assert read == [frames / "frame3.bmp"]


def test_files_in_a_renamed_folder_are_not_opened(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (frames / "old").mkdir()
    for name in ("a", "b"):
        shutil.copy2(frames / "frame1.bmp", frames / "old" / f"{name}.bmp")
    index(tmp_path / "catalog", frames)
    (frames / "old").rename(frames / "new")

    def refuse(path: Path) -> bytes:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(comparison, "digest", refuse)
    outcome = index(tmp_path / "catalog", frames)
    assert (outcome.moved, outcome.copies, outcome.removed) == (2, 0, 0)


def test_a_gone_file_gets_one_name_of_several(tmp_path: Path, frames: Path) -> None:
    os.link(frames / "frame1.bmp", frames / "a.bmp")
    os.link(frames / "frame1.bmp", frames / "b.bmp")
    (frames / "frame1.bmp").unlink()
    outcome = index(tmp_path / "catalog", frames)
    assert (outcome.moved, outcome.copies, outcome.removed, outcome.embedded) == (1, 1, 0, 0)


def test_another_picture_of_the_same_size_and_time_under_the_same_name(tmp_path: Path, frames: Path) -> None:
    bitmap(frames / "frame1.bmp", "blue")
    outcome = index(tmp_path / "catalog", frames)
    assert (outcome.embedded, outcome.differing) == (1, [(frames / "frame1.bmp", "")])
    assert embedded_as(tmp_path / "catalog", ToyEncoder(), frames / "frame1.bmp") == pytest.approx(
        1, abs=1e-3
    )


TOUCHES: dict[str, Callable[[Path], object]] = {
    "permissions": lambda path: path.chmod(0o600),
    "a hard link": lambda path: os.link(path, path.with_name("link")),
    "there and back": lambda path: path.rename(path.with_name("x")).rename(path),
    "restored from a backup": lambda path: (
        shutil.copy2(path, path.with_name("y")),
        path.with_name("y").replace(path),
    ),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_what_is_only_touched_is_read_and_not_embedded(tmp_path: Path, frames: Path, touch: str) -> None:
    before = content(tmp_path / "catalog")
    TOUCHES[touch](frames / "frame1.bmp")
    encoder = ToyEncoder()
    outcome = index(tmp_path / "catalog", frames, encoder=encoder)
    assert (outcome.checked, outcome.copies, outcome.embedded, outcome.differing) == (1, 0, 0, [])
    assert encoder.calls == [("images", 2)]  # only the golden pictures
    assert content(tmp_path / "catalog") == before
    outcome = index(tmp_path / "catalog", frames)
    assert (outcome.checked, outcome.same) == (0, 2)


def test_a_catalogue_that_knows_no_change_times_learns_them(tmp_path: Path, frames: Path) -> None:
    store = Store.open(tmp_path / "catalog")
    store.database.run("UPDATE files SET changed = 0")
    store.close()
    assert index(tmp_path / "catalog", frames).same == 2
    bitmap(frames / "frame1.bmp", "blue")
    assert index(tmp_path / "catalog", frames).embedded == 1


def test_verifying_reads_everything_and_says_what_differs(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = index(tmp_path / "catalog", frames, settings=VERIFY)
    assert (outcome.checked, outcome.differing, outcome.embedded) == (2, [], 0)
    # A block that goes bad on the device changes no time at all.
    state = (frames / "frame2.bmp").stat()
    bitmap(frames / "frame2.bmp", "blue")
    result = listing._listed_file

    def unchanged(path: str, stat: Callable[[], os.stat_result], sidecar: int = 0) -> ListedFile:
        single = result(path, stat, sidecar)
        return replace(single, changed=state.st_ctime_ns) if path.endswith("frame2.bmp") else single

    monkeypatch.setattr(listing, "_listed_file", unchanged)
    assert index(tmp_path / "catalog", frames).same == 2
    outcome = index(tmp_path / "catalog", frames, settings=VERIFY)
    assert (outcome.checked, outcome.differing) == (1, [(frames / "frame2.bmp", "")])
    assert search(tmp_path / "catalog", "blue")[0] == "frame2.bmp"


def test_pictures_in_an_archive_that_kept_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "album" / "some.zip"

    def pack(colour: str) -> None:
        picture = bitmap(tmp_path / "x.bmp", colour)
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("x.bmp", (2020, 1, 1, 0, 0, 0)), picture.read_bytes())
        os.utime(path, ns=(TIME, TIME))

    pack("red")
    index(tmp_path / "catalog", path.parent)
    assert index(tmp_path / "catalog", path.parent, settings=VERIFY).checked == 1
    path.chmod(0o600)
    assert index(tmp_path / "catalog", path.parent).checked == 1
    pack("blue")
    outcome = index(tmp_path / "catalog", path.parent)
    assert (outcome.embedded, outcome.differing) == (1, [(path, "x.bmp")])


def test_a_verified_copy_counts_once(tmp_path: Path) -> None:
    colours(tmp_path / "album")
    shutil.copy(tmp_path / "album" / "red.png", tmp_path / "album" / "copy.png")
    index(tmp_path / "catalog", tmp_path / "album")
    outcome = index(tmp_path / "catalog", tmp_path / "album", settings=VERIFY)
    assert (outcome.checked, outcome.copies, outcome.embedded) == (7, 0, 0)
    paint(tmp_path / "album" / "new.png", "red", shade=9)
    outcome = index(tmp_path / "catalog", tmp_path / "album", settings=VERIFY)
    assert (outcome.checked, outcome.copies, outcome.embedded) == (7, 0, 1)
