"""Which files belong to one picture (captions, sidecars), decided by their names."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.media.folders import keys
from diptych.media.folders.keys import Companions, companions, split_key

SCREENSHOTS = [f"Screenshot 2024-01-05 at 10.33.{n:02}" for n in range(16)]


def test_dotted_names_are_whole_keys() -> None:
    files = Companions([name + end for name in SCREENSHOTS for end in (".jpg", ".txt")])
    assert [files.of(f"{name}.jpg") for name in SCREENSHOTS] == [
        {".txt": f"{name}.txt"} for name in SCREENSHOTS
    ]
    assert not list(files.unused())


@pytest.mark.parametrize(
    ("picture", "names", "expected"),
    [
        ("a.jpg", "a.jpg a.txt a.json", "a.txt a.json"),
        ("DSC1.JPG", "DSC1.JPG DSC1.TXT DSC1.Json", "DSC1.TXT DSC1.Json"),
        ("DSC1.JPG", "DSC1.JPG dsc1.txt", "dsc1.txt"),
        ("A.jpg", "a.jpg A.jpg a.txt", ""),  # a.txt belongs to a.jpg
        ("A.jpg", "A.jpg a.txt á.txt", "a.txt"),
        ("1.left.jpg", "1.left.jpg 1.right.jpg 1.txt", "1.txt"),  # WebDataset: several pictures of one key
        ("1.left.jpg", "1.left.jpg 1.left.txt 1.txt", "1.left.txt"),
        ("1.seg.png", "1.jpg 1.seg.png 1.txt", ""),  # not a second picture with that caption
        ("1.jpg", "1.jpg 1.seg.png 1.output.txt 1.txt", "1.txt"),
        ("1.jpg", "1.jpg 1.output.txt", ""),
        ("a/1.jpg", "a/1.jpg b/1.txt", ""),
        ("a.b/1.jpg", "a.b/1.jpg a.txt", ""),
    ],
)
def test_whose_helpers_are_whose(picture: str, names: str, expected: str) -> None:
    assert list(Companions(names.split()).of(picture).values()) == expected.split()


def test_normal_forms_of_one_name_are_one_key() -> None:
    picture = unicodedata.normalize("NFD", "Müller.jpg")
    assert Companions([picture, "Müller.txt"]).of(picture) == {".txt": "Müller.txt"}


@given(st.lists(st.from_regex(r"[ab]{1,2}(\.[ab0]{1,2}){0,2}\.(jpg|png|txt|TXT|json|npy)", fullmatch=True)))
def test_no_helper_is_given_to_another_ones_picture(names: list[str]) -> None:
    """Helpers of a picture with its own key belong to that picture only."""
    files = Companions(names)
    pictures = {name for name in names if name.endswith(("jpg", "png"))}
    owned = {split_key(name)[0] for name in pictures}
    for picture in pictures:
        for helper in files.of(picture).values():
            owner = split_key(helper)[0]
            assert owner == split_key(picture)[0] or owner not in owned


def test_beside_a_file(tmp_path: Path) -> None:
    for name in ("at 10.33.01.JPG", "at 10.33.01.TXT", "at 10.33.02.JPG", "at 10.txt"):
        (tmp_path / name).write_text(name)
    assert companions(tmp_path / "at 10.33.01.JPG") == {".txt": tmp_path / "at 10.33.01.TXT"}
    assert companions(tmp_path / "at 10.33.02.JPG") == {".txt": tmp_path / "at 10.txt"}
    assert companions(tmp_path / "none" / "a.jpg") == {}


def test_a_folder_is_listed_once_when_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this, the work for n pictures would be quadratic."""
    listed: list[str] = []
    real = keys._list_folder
    monkeypatch.setattr(keys, "_list_folder", lambda *asked: listed.append(asked[0]) or real(*asked))
    for number in range(40):
        (tmp_path / f"{number}.jpg").touch()
        (tmp_path / f"{number}.txt").touch()
    for seconds in (10**9, 10**10):  # long ago; in the future by a wrong clock
        os.utime(tmp_path, (seconds, seconds))
        for number in range(40):
            assert companions(tmp_path / f"{number}.jpg") == {".txt": tmp_path / f"{number}.txt"}
    assert len(listed) == 2
