"""Resolving folders, patterns and names to picture files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diptych.errors import ImageError
from diptych.media import IMAGE_SUFFIXES, find_images


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        "deep/c.webp",
        "deep/er/d.heic",
        ".hidden/e.jpg",
        "._a.png",
        "[1].jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(found: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_folders_give_their_pictures_sorted(album: Path) -> None:
    assert names(find_images([album]), album) == [
        "[1].jpg",
        "a.png",
        "b.JPG",
        "deep/c.webp",
        "deep/er/d.heic",
    ]
    assert names(find_images([str(album)], recursive=False), album) == ["[1].jpg", "a.png", "b.JPG"]
    assert find_images([album / "empty"]) == []
    assert find_images([]) == []


def test_each_file_comes_once(album: Path) -> None:
    assert names(find_images([album / "a.png", album, album / "a.png"]), album).count("a.png") == 1


def test_a_named_file_is_taken_whatever_its_suffix(album: Path) -> None:
    assert find_images([album / "notes.txt"]) == [album / "notes.txt"]
    assert find_images([album / "._a.png"]) == [album / "._a.png"]
    assert find_images([album / "[1].jpg"]) == [album / "[1].jpg"]


def test_patterns(album: Path) -> None:
    assert names(find_images([f"{album}/*.png"]), album) == ["a.png"]
    assert names(find_images([f"{album}/**/*.webp"]), album) == ["deep/c.webp"]
    assert "notes.txt" not in names(find_images([f"{album}/*"]), album)
    assert names(find_images([f"{album}/de?p"]), album) == ["deep/c.webp", "deep/er/d.heic"]


@pytest.mark.parametrize("missing", ["gone.jpg", "gone/", "*.tiff", "a\0b", "x" * 5000])
def test_what_is_not_there_is_named(album: Path, missing: str) -> None:
    with pytest.raises(ImageError, match=r"no such file or folder|no picture matches"):
        find_images([album, f"{album}/{missing}"])


def test_refusals_can_be_printed_whatever_the_name(album: Path) -> None:
    for name in (b"caf\xe9", b"caf\xe9*"):
        with pytest.raises(ImageError, match="caf") as caught:
            find_images([album / os.fsdecode(name)])
        str(caught.value).encode()


def test_the_home_folder_and_links(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(album))
    monkeypatch.setenv("USERPROFILE", str(album))
    assert find_images(["~/a.png"]) == [album / "a.png"]
    (album / "deep/loop").symlink_to(album, target_is_directory=True)
    assert len(find_images([album])) == 5


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
    assert {".jpg", ".png", ".heic", ".nef"} <= IMAGE_SUFFIXES
