"""Private folders of file servers and operating systems: skipped by walks unless they are named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from diptych.datasets import load_labelled
from diptych.media import find_images, list_archive
from tests.toys import picture_bytes, tar_bytes

KEPT = ["2019/beach.png", "Photos.photoslibrary/originals/0/a.png", "Old.aplibrary/Masters/b.png"]
LEFT_OUT = [
    *("@eaDir/beach.png/SYNOPHOTO_THUMB_M.png", "2019/@eadir/beach.png/M.png", "#recycle/x.png"),
    *("#snapshot/x.png", "@Recycle/x.png", "$RECYCLE.BIN/x.png", "System Volume Information/x.png"),
    *("lost+found/x.png", "__MACOSX/x.png", ".Trash-1000/x.png", ".@__thumb/x.png", ".stfolder/x.png"),
    *("Photos.photoslibrary/resources/x.png", "Old.aplibrary/Previews/x.png", "A Previews.lrdata/x.png"),
]


@pytest.fixture
def share(tmp_path: Path) -> Path:
    for name in (*KEPT, *LEFT_OUT):
        path = tmp_path / "share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_bytes("red"))
    return tmp_path / "share"


def test_folders(share: Path) -> None:
    assert [path.relative_to(share).as_posix() for path in find_images([share])] == sorted(KEPT)


def test_a_folder_that_was_named_is_taken(share: Path) -> None:
    assert find_images([share / "#recycle"]) == [share / "#recycle" / "x.png"]
    assert find_images([f"{share}/#recycle/*.png"]) == [share / "#recycle" / "x.png"]
    assert find_images([f"{share}/**/@eaDir/**/*.png"]) == [share / LEFT_OUT[0]]


def test_patterns(share: Path) -> None:
    assert [path.relative_to(share).as_posix() for path in find_images([f"{share}/**/*.png"])] == sorted(KEPT)


@pytest.mark.parametrize("name", ["some.zip", "some.tar", "some.tgz"])
def test_archives(tmp_path: Path, name: str) -> None:
    files = {name: picture_bytes("red") for name in (*KEPT, *LEFT_OUT)}
    path = tmp_path / name
    if name == "some.zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in files.items():
                archive.writestr(member, data)
    else:
        path.write_bytes(tar_bytes(files, "w:gz" if name == "some.tgz" else "w"))
    assert {entry.name for entry in list_archive(path)} == set(KEPT)


@pytest.mark.parametrize("kind", ["folder", "pack.zip", "pack.tar"])
def test_they_are_no_classes(tmp_path: Path, kind: str) -> None:
    files = {
        f"{name}/1.png": picture_bytes("red") for name in ("ant", "bee", "@eaDir", "#recycle", "__MACOSX")
    }
    path = tmp_path / kind
    if kind == "pack.zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in files.items():
                archive.writestr(member, data)
    elif kind == "pack.tar":
        path.write_bytes(tar_bytes(files))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True)
            (path / name).write_bytes(data)
    assert load_labelled(path).class_names == ("ant", "bee")
