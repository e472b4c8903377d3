"""File names made from arbitrary text: inside their folder, valid on every file system, and unique."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diptych.files.disk import LONGEST_STEM, file_inside, file_stem, file_stems

HOSTILE = [
    "x/../../../evil",
    "..",
    "/etc/passwd",
    "C:\\Windows\\x",
    "a\0b",
    "",
    " . ",
    "CON",
    "con .txt",
    "aux.",
    "lpt1.tar.gz",
    "\udcff",
    "e\u0301",
    "\u202egpj.exe",
    "é" * 500,
    "हिन्दी",
    "🐶",
    "~",
    "-rf",
    '"><script>alert(1)</script>',
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(), st.text("aA.é/ -_2()", max_size=6))


@given(TEXTS, st.booleans())
@example("nul", True)
def test_a_name_stays_in_its_folder_and_every_file_system_takes_it(text: str, spaces: bool) -> None:
    name = file_stem(text, spaces=spaces)
    assert name
    assert name.strip(" .") == name
    assert Path("folder", name).resolve() == Path("folder").resolve() / name
    assert len(name.encode()) <= LONGEST_STEM  # encode() also refuses lone surrogates
    assert not set(name) & set('<>:"/\\|?*')
    assert not any(ord(letter) < 32 for letter in name)
    reserved = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}
    assert name.split(".")[0].strip().casefold() not in reserved
    assert file_stem(name, spaces=spaces) == name, "a name that is allowed stays as it is"


@given(st.lists(TEXTS, max_size=12), st.booleans())
@example(["Test", "test", "test-2", "test (2)"], False)
@example(["é" * 500, "é" * 501, "é" * 502], True)
def test_no_two_texts_share_a_file(texts: list[str], spaces: bool) -> None:
    names = file_stems(texts, spaces=spaces)
    assert len(names) == len(texts)
    assert len({name.casefold() for name in names}) == len(texts)
    for text, name in zip(texts, names, strict=True):
        assert len(name.encode()) <= LONGEST_STEM
        assert Path("folder", name).parent == Path("folder")
        assert name == file_stem(text, spaces=spaces) or name.endswith(("-", ")", *"0123456789"))


def test_letters_of_every_script_stay() -> None:
    assert file_stem("हिन्दी, ไทย/日本語") == "हिन्दी-ไทย-日本語"


@given(st.text(st.sampled_from("ab./\\:\0C "), max_size=12))
@example("a/C:b")
def test_a_name_from_data_never_leads_out_of_its_folder(name: str) -> None:
    for system in (PurePosixPath, PureWindowsPath):
        home = system("home/data")
        file = file_inside(Path("home/data"), name)
        if file is not None:
            joined = system(*file.parts)
            assert joined.is_relative_to(home)
            assert joined != home
            assert ".." not in joined.parts
            assert (home / name).is_relative_to(home)  # joined as the operating system does it


@pytest.mark.parametrize("name", ["a.png", "val/a.png", "./a.png", "a..b", "..a", "a b"])
def test_a_name_inside_is_kept(name: str) -> None:
    assert file_inside(Path("data"), name) == Path("data") / name
