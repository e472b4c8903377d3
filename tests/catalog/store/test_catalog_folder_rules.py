"""Exclusions while folders are walked: rsync patterns, archives, and folders of the operating system."""

from __future__ import annotations

import contextlib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.catalog.files import listing
from diptych.catalog.store.folder_rules import FolderRules, check_patterns
from diptych.errors import InputError
from tests.catalog.catalogs import colours, content, index, paint
from tests.toys import picture_bytes, tar_bytes

FILES = [
    *("one.png", "b.gif", "private/x.png", "2019/private/y.png", "2019/drafts/z.png", "drafts/2019/w.png"),
    *("thumbs", "a b /x.png", "[1].png", "#old/x.png", "!new/x.png", "Möbel/x.png"),
]

PATTERNS = {
    "*.gif": ["b.gif"],
    "private": ["private/x.png", "2019/private/y.png"],
    "private/": ["private/x.png", "2019/private/y.png"],
    "private/*": ["private/x.png", "2019/private/y.png"],
    "private/**": ["private/x.png", "2019/private/y.png"],
    "private/***": ["private/x.png", "2019/private/y.png"],
    "**/private/**": ["private/x.png", "2019/private/y.png"],
    "**/private": ["private/x.png", "2019/private/y.png"],
    "/private": ["private/x.png"],
    "/private/": ["private/x.png"],
    "./private": ["private/x.png", "2019/private/y.png"],
    "thumbs/": [],  # a file
    "thumbs": ["thumbs"],
    "2019/drafts": ["2019/drafts/z.png"],
    "19/drafts": [],
    "2019/*": ["2019/private/y.png", "2019/drafts/z.png", "drafts/2019/w.png"],
    "/*/private": ["2019/private/y.png"],
    "a b ": ["a b /x.png"],
    r"\[1].png": ["[1].png"],
    "[[]1].png": ["[1].png"],
    "#old": ["#old/x.png"],
    r"\!new": ["!new/x.png"],
    "M?bel": ["Möbel/x.png"],
    unicodedata.normalize("NFD", "Möbel"): ["Möbel/x.png"],
    "PRIVATE": [],
    "": [],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str) -> None:
    rules = FolderRules(Path("/home/me"), (pattern,))
    check_patterns([pattern])
    assert [name for name in FILES if rules.leaves_out(Path("/home/me", name))] == PATTERNS[pattern]


def test_full_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for base in (tmp_path / "real", tmp_path / "link"):
        for pattern in (f"{tmp_path}/real/private", f"{base}/private/", f"~/{base.name}/private"):
            rules = FolderRules(base, (pattern,))
            assert rules.leaves_out(base / "private" / "x.png"), pattern
            assert not rules.leaves_out(base / "2019" / "private" / "x.png"), pattern


@pytest.mark.parametrize("pattern", ["!keep", "/", "./", "..", "../x", "a/../b", "[x", "a\\", "[z-a]"])
def test_what_cannot_be_matched_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="--exclude"):
        check_patterns([pattern])


@given(st.text(max_size=20), st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=9))
def test_any_text_is_matched_or_refused(pattern: str, name: str) -> None:
    with contextlib.suppress(InputError):
        check_patterns([pattern])
    FolderRules(Path("/a"), (pattern,)).leaves_out(Path("/a", name, "x.png"))


@given(
    st.text(st.characters(exclude_characters="/\0", categories=["L", "N", "P", "S"]), min_size=1, max_size=9)
)
def test_a_name_leaves_itself_out(name: str) -> None:
    pattern = "".join(f"\\{letter}" if letter in "*?[\\!" else letter for letter in name)
    if name in (".", "..", "~") or name.startswith("~"):
        return
    assert FolderRules(Path("/a"), (pattern,)).leaves_out(Path("/a", "b", name))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_walk_and_a_look_at_one_path_agree(tmp_path: Path, pattern: str) -> None:
    root = tmp_path / "root"
    for name in (name for name in FILES if name != "thumbs"):
        paint(root / name, "red")
    paint(root / "#recycle" / "x.png", "red")
    paint(root / "Lib.photoslibrary" / "resources" / "x.png", "red")
    for rules in (FolderRules(root, (pattern,)), FolderRules(root, (pattern,), system_folders=True)):
        walked = {
            Path(str(item.path, "utf-8"))
            for item in listing.list_files(root, listing.ListingReport(), rules=rules)
        }
        assert walked == {path for path in root.rglob("*.*") if path.is_file() and not rules.leaves_out(path)}


def test_folders_that_systems_keep_are_left_out(tmp_path: Path) -> None:
    share = tmp_path / "share"
    paint(share / "one.png", "red")
    for shade, name in enumerate(("@eaDir/one.png/S.png", "@eaDir/one.png/M.png", "#recycle/deleted.png")):
        paint(share / name, "blue", shade=shade)
    outcome = index(tmp_path / "catalog", share)
    assert (outcome.embedded, len(outcome.notes)) == (1, 1)
    assert outcome.notes[0].startswith("left out: #recycle, @eaDir, which")
    assert not index(tmp_path / "catalog").notes
    assert index(tmp_path / "catalog", share, system_folders=True).embedded == 3
    assert not index(tmp_path / "catalog").changed  # remembered
    outcome = index(tmp_path / "catalog", share, system_folders=False)
    assert (outcome.removed, outcome.left_out, outcome.retained) == (3, 3, 0)
    assert index(tmp_path / "catalog", share / "#recycle").embedded == 1  # named
    assert not index(tmp_path / "catalog").changed


def test_archives_are_left_out_on_request(tmp_path: Path) -> None:
    album = tmp_path / "album"
    colours(album)
    (album / "some.tar").write_bytes(tar_bytes({"x.png": picture_bytes("red", (9, 9))}))
    assert index(tmp_path / "catalog", album, archives=False).embedded == 6
    assert not index(tmp_path / "catalog").changed  # remembered
    assert index(tmp_path / "catalog", album, archives=True).embedded == 1
    outcome = index(tmp_path / "catalog", album, archives=False)
    assert (outcome.removed, outcome.left_out) == (1, 1)
    assert all(not member for _, member in content(tmp_path / "catalog"))


def test_a_pattern_that_leaves_out_nothing_is_said(tmp_path: Path) -> None:
    album = tmp_path / "album"
    colours(album / "thumbs")
    colours(album)
    outcome = index(tmp_path / "catalog", album, exclude=["thumb*", "thumbs", "Private", "*.gif"])
    assert [note.split(" leaves")[0] for note in outcome.notes] == [
        "--exclude 'Private'",
        "--exclude '*.gif'",
    ]
    assert not index(tmp_path / "catalog").notes
