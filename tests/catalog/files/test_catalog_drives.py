"""Drives that come and go: files stay known while a drive is away, whatever device number it gets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.catalog.files import listing, missing
from diptych.catalog.files.mounts import Mount, mounts, mounts_below, network_kind
from tests.catalog.catalogs import colours, content, index, paint
from tests.toys import ToyEncoder

Mounted = dict[str, int]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Fake device numbers by parts of paths, as if drives were mounted there; the last match counts."""
    devices: Mounted = {}
    result, stat = listing._listed_file, Path.stat

    def number(path: str) -> int | None:
        return next((device for name, device in reversed(devices.items()) if f"{name}" in f"{path}/"), None)

    def numbered(path: str, status: Callable[[], object], sidecar: int = 0) -> object:
        from dataclasses import replace

        single = result(path, status, sidecar)  # type: ignore[arg-type]
        device = number(path)
        return single if device is None else replace(single, device=device)

    class Status:
        def __init__(self, status: object, device: int) -> None:
            self.st_dev, self._status = device, status

        def __getattr__(self, name: str) -> object:
            return getattr(self._status, name)

    def stat_there(self: Path, **options: bool) -> object:
        status, device = stat(self, **options), number(str(self))
        return status if device is None else Status(status, device)

    monkeypatch.setattr(listing, "_listed_file", numbered)
    monkeypatch.setattr(missing.Path, "stat", stat_there)
    return devices


@pytest.fixture
def media(tmp_path: Path, mounted: Mounted) -> Path:
    """A folder that contains two drives and one picture outside of them."""
    media = tmp_path / "media"
    for drive, shade in (("one", 1), ("two", 50)):
        for number, name in enumerate(("a.png", "holiday/b.png", "holiday/c.png")):
            paint(media / drive / name, "red", shade=shade + number)
    paint(media / "here.png", "blue")
    mounted.update({"/media/": 5, "/media/one/": 11, "/media/two/": 22})
    index(tmp_path / "catalog", media)
    return media


def unmount(media: Path, drive: str, mounted: Mounted) -> Path:
    away = media.parent / "away"
    away.mkdir(exist_ok=True)
    del mounted[f"/media/{drive}/"]
    return (media / drive).rename(away / drive)


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "a folder with another picture"])
def test_a_drive_that_went_away(tmp_path: Path, media: Path, mounted: Mounted, left: str) -> None:
    before = content(tmp_path / "catalog")
    drive = unmount(media, "one", mounted)
    if left != "nothing":
        (media / "one").mkdir()
    if left == "a folder with another picture":
        paint(media / "one" / "holiday" / "other.png", "green")
    for _ in range(3):
        outcome = index(tmp_path / "catalog", media)
        assert (outcome.removed, outcome.retained) == (0, 3)
        assert outcome.retained_below in ([media / "one"], [media / "one", media / "one" / "holiday"])
    shutil.rmtree(media / "one", ignore_errors=True)
    drive.rename(media / "one")
    mounted["/media/one/"] = 33
    encoder = ToyEncoder()
    outcome = index(tmp_path / "catalog", media, encoder=encoder)
    assert (outcome.embedded, outcome.retained) == (0, 0)
    assert encoder.calls == [("images", 2)]  # only the golden pictures
    if left != "a folder with another picture":
        assert content(tmp_path / "catalog") == before


def test_a_number_that_another_drive_got(tmp_path: Path, media: Path, mounted: Mounted) -> None:
    unmount(media, "one", mounted)
    mounted["/media/two/"] = 11  # the number of the other drive before
    for _ in range(3):
        outcome = index(tmp_path / "catalog", media)
        assert (outcome.removed, outcome.retained, outcome.same) == (0, 3, 4)


def test_a_part_of_a_path_is_listed_after_numbers_were_given_anew(
    tmp_path: Path, media: Path, mounted: Mounted
) -> None:
    unmount(media, "one", mounted)
    mounted["/media/two/"] = 11
    index(tmp_path / "catalog", media / "two")
    outcome = index(tmp_path / "catalog", media)
    assert (outcome.removed, outcome.retained) == (0, 3)


def test_numbers_that_change_at_every_mount(tmp_path: Path, media: Path, mounted: Mounted) -> None:
    for number in range(100, 103):
        mounted.update({"/media/": number, "/media/one/": number + 10, "/media/two/": number + 20})
        outcome = index(tmp_path / "catalog", media)
        assert (outcome.changed, outcome.same, outcome.checked) == (False, 7, 0)
    mounted.update({"/media/": 200, "/media/one/": 210, "/media/two/": 220})
    (media / "one" / "a.png").unlink()
    shutil.rmtree(media / "two" / "holiday")
    outcome = index(tmp_path / "catalog", media)
    assert (outcome.removed, outcome.retained) == (3, 0)


def test_deleted_pictures_of_a_drive_that_is_there(tmp_path: Path, media: Path) -> None:
    shutil.rmtree(media / "one" / "holiday")
    outcome = index(tmp_path / "catalog", media)
    assert (outcome.removed, outcome.retained) == (2, 0)


def test_a_drive_mounted_elsewhere_is_read_and_not_embedded(
    tmp_path: Path, media: Path, mounted: Mounted
) -> None:
    unmount(media, "one", mounted).rename(tmp_path / "elsewhere")
    encoder = ToyEncoder()
    outcome = index(tmp_path / "catalog", tmp_path / "elsewhere", encoder=encoder)
    assert (outcome.embedded, outcome.copies) == (0, 3)
    assert encoder.calls == [("images", 2)]
    assert index(tmp_path / "catalog", media, remove_gone=True).removed == 3
    assert len(content(tmp_path / "catalog")) == 7


def test_a_folder_that_is_on_the_drive_of_its_path_is_a_deletion(tmp_path: Path) -> None:
    colours(tmp_path / "album" / "inner")
    colours(tmp_path / "album")
    index(tmp_path / "catalog", tmp_path / "album")
    shutil.rmtree(tmp_path / "album" / "inner")
    outcome = index(tmp_path / "catalog", tmp_path / "album")
    assert (outcome.removed, outcome.retained, outcome.retained_below) == (6, 0, [])


# ---------------------------------------------------------------------------------------------- mounts

TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 22 0:31 / /mnt/nas rw,noatime shared:2 master:1 - nfs4 nas:/photos rw,vers=4.2
37 22 8:17 / /media/me/my\040drive rw shared:3 - exfat /dev/sdb1 rw
38 36 0:44 / /mnt/nas/local rw - ext4 /dev/sdc1 rw
39 22 0:50 / /mnt/cloud rw - fuse.rclone remote: rw
a line that is none of the table
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text(TABLE.strip())
    return tmp_path / "mountinfo"


def test_what_is_mounted(table: Path, tmp_path: Path) -> None:
    assert len(mounts(table)) == 5
    assert mounts_below([Path("/media/me")], table) == {Mount("37", "/media/me/my drive", "exfat")}
    assert mounts(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home/me", ""), ("/mnt/nas", "nfs4"), ("/mnt/nas/2019", "nfs4"), ("/mnt/nas/local/x", ""),
     ("/mnt/nas2", ""), ("/mnt/cloud/x", "fuse.rclone")],
)  # fmt: skip
def test_network_drives(table: Path, folder: str, kind: str) -> None:
    assert network_kind(Path(folder), table) == kind
