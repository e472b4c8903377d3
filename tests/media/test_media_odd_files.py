"""Unusual files: listed or skipped, loaded upright or refused by name, and never blocking."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from diptych.errors import ImageError
from diptych.media import find_images, load_image, read_details
from tests.media.odd_files import SIZE, Expected, make_odd_files, scene


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Expected]]:
    folder = tmp_path_factory.mktemp("odd")
    return folder, make_odd_files(folder)


def test_the_set_is_whole(odd: tuple[Path, dict[str, Expected]]) -> None:
    names = set(odd[1])
    assert {f"orientation-{n}.jpg" for n in range(1, 9)} <= names
    assert {
        "cmyk.jpg",
        "animated.webp",
        "truncated.jpg",
        "huge.jpg",
        "text.jpg",
        "._orientation-1.jpg",
    } <= names
    assert max(len(name) for name in names) > 3000 or os.name == "nt"


def test_a_search_finds_what_is_to_be_found(odd: tuple[Path, dict[str, Expected]]) -> None:
    folder, expected = odd
    result = {path.relative_to(folder).as_posix() for path in find_images([folder])}
    assert result == {name for name, item in expected.items() if item.found}


@pytest.mark.parametrize("target", [None, 64])
def test_each_is_loaded_or_refused(odd: tuple[Path, dict[str, Expected]], target: int | None) -> None:
    folder, expected = odd
    for name, item in expected.items():
        if item.size is None:
            with pytest.raises(ImageError, match=item.refused) as caught:
                load_image(folder / name, target=target)
            message = str(caught.value)
            assert Path(name).name[:20].splitlines()[0] in message or "\\udc" in message
            message.encode()  # can be encoded in any message
        else:
            image = load_image(folder / name, target=target)
            shrunk = target is not None and image.size == (item.size[0] // 2, item.size[1] // 2)
            assert image.size == item.size or shrunk, name
            assert image.mode == "RGB"


def test_what_is_the_same_picture_has_the_same_pixels(odd: tuple[Path, dict[str, Expected]]) -> None:
    folder, expected = odd
    wanted = np.asarray(scene(), int)
    same = [name for name, item in expected.items() if item.same == "scene"]
    assert len(same) >= 10
    for name in same:
        difference = np.abs(np.asarray(load_image(folder / name), int) - wanted)
        assert difference.max() <= 12, name
        assert difference.mean() < 1, name


def test_headers_of_all(odd: tuple[Path, dict[str, Expected]]) -> None:
    folder, expected = odd
    described = {"truncated.jpg", "truncated.png", "huge.jpg", "huge.png"}  # faulty pixels, valid headers
    for name, item in expected.items():
        if item.size is None and name not in described:
            with pytest.raises(ImageError, match=item.refused):
                read_details(folder / name)
        else:
            details = read_details(folder / name)
            size = item.size or ((60_000, 60_000) if "huge" in name else SIZE)
            assert (details.width, details.height) == size, name


def test_folders_that_cannot_be_listed_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.png").touch()
    real = os.scandir

    def scandir(path: str | os.PathLike[str]) -> object:
        if os.fspath(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    messages: list[ImageError] = []
    assert find_images([tmp_path], on_error=messages.append) == [tmp_path / "b" / "2.png"]
    assert [str(error) for error in messages] == [
        f"{tmp_path / 'a'}: the folder cannot be listed: Permission denied"
    ]
    assert find_images([tmp_path]) == [tmp_path / "b" / "2.png"]
