"""Labelled and captioned pictures loaded from folders and archives, valid and damaged."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.datasets import domains, load_captioned, load_labelled
from diptych.datasets.dataset import ImageCollection, stratified
from diptych.errors import DataError
from tests.toys import picture_bytes, tar_bytes

RED, BLUE = picture_bytes("red"), picture_bytes("blue")
FILES = {
    "pack/sea_horse/1.png": RED,
    "pack/sea_horse/2.png": BLUE,
    "pack/ant/1.png": BLUE,
    "pack/labels.csv": b"not a picture",
    "pack/ant/.hidden.png": b"x",
}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def packed(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(tar_bytes(files, "w:gz" if path.name.endswith("gz") else "w"))
    return path


@pytest.mark.parametrize("kind", ["pack.tar", "pack.tar.gz", "folder"])
def test_the_folder_is_the_class(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "folder", FILES) if kind == "folder" else packed(tmp_path / kind, FILES)
    data = load_labelled(path)
    assert data.name == kind.split(".")[0]
    assert data.class_names == ("ant", "sea horse")
    result = {
        key: (data.class_names[label], content)
        for (key, content), label in zip(data, data.labels, strict=True)
    }
    assert result == {
        "pack/sea_horse/1.png": ("sea horse", RED),
        "pack/sea_horse/2.png": ("sea horse", BLUE),
        "pack/ant/1.png": ("ant", BLUE),
    }
    assert list(data.keys) == list(result)
    assert list(data) == list(data)  # a second pass is possible


def test_folder_and_archive_without_a_pack_folder_agree(tmp_path: Path) -> None:
    files = {"a/1.png": RED, "b/1.png": BLUE}
    folder, archive = (
        load_labelled(write(tmp_path / "x", files)),
        load_labelled(packed(tmp_path / "x.tar", files)),
    )
    assert list(folder) == list(archive)
    assert folder.fingerprint == archive.fingerprint


def test_the_fingerprint_tells_names_sizes_and_labels(tmp_path: Path) -> None:
    prints = [
        load_labelled(packed(tmp_path / f"{i}.tar", files)).fingerprint
        for i, files in enumerate(
            [FILES, dict(FILES), {**FILES, "pack/ant/1.png": BLUE + b" "}, {**FILES, "pack/bee/1.png": RED}]
        )
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    named = load_labelled(tmp_path / "0.tar", class_names=["an ant", "a sea horse"])
    assert named.fingerprint != prints[0]


def test_names_for_folders(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", {"n01440764/1.png": RED, "n01443537/1.png": RED})
    assert load_labelled(path).class_names == ("tench", "goldfish")
    every = load_labelled(path, class_names="imagenet")
    assert len(every.class_names) == 1000
    assert every.labels.tolist() == [0, 1]
    mapped = load_labelled(
        path, class_names={"n01443537": "gold", "n01440764": "tinca", "other": "none here"}
    )
    assert mapped.class_names == ("gold", "tinca", "none here")
    assert mapped.labels.tolist() == [1, 0]
    with pytest.raises(DataError, match="no class name is given for 'n01443537'"):
        load_labelled(path, class_names={"n01440764": "tench"})
    with pytest.raises(DataError, match="3 class names for 2 class folders"):
        load_labelled(path, class_names=["a", "b", "c"])


def test_domains_above_the_classes(tmp_path: Path) -> None:
    path = packed(
        tmp_path / "pacs.tar", {f"pacs/{d}/{c}/1.png": RED for d in ("photo", "sketch") for c in "ab"}
    )
    assert domains(path) == ("photo", "sketch")
    data = load_labelled(path, domain="sketch")
    assert (data.name, len(data)) == ("pacs/sketch", 2)
    assert len(load_labelled(path)) == 4
    with pytest.raises(DataError, match="folders above the classes: 'pacs', 'photo', 'sketch'"):
        load_labelled(path, domain="cartoon")


def test_a_subset_of_classes_is_told_apart_among_itself(tmp_path: Path) -> None:
    data = load_labelled(packed(tmp_path / "x.tar", {f"{c}/{i}.png": RED for i in range(2) for c in "abc"}))
    part = data.subset(["c", "a"])
    assert part.class_names == ("a", "c")
    assert [(key, part.class_names[label]) for key, label in zip(part.keys, part.labels, strict=True)] == [
        ("a/0.png", "a"), ("c/0.png", "c"), ("a/1.png", "a"), ("c/1.png", "c")
    ]  # fmt: skip
    assert [key for key, _ in part] == list(part.keys)
    with pytest.raises(DataError, match="no class 'z'; its classes are 'a', 'b', 'c'"):
        data.subset(["z"])


def test_a_sample_keeps_order_and_classes(tmp_path: Path) -> None:
    data = load_labelled(packed(tmp_path / "x.tar", {f"{c}/{i}.png": RED for c in "abc" for i in range(9)}))
    part = data.sample(7, seed=1)
    assert len(part) == len(list(part)) == 7
    assert part.class_names == data.class_names
    assert list(part.keys) == [key for key in data.keys if key in part.keys]
    assert all(data.class_names[label] == key[0] for key, label in zip(part.keys, part.labels, strict=True))
    assert data.sample(100).keys == data.keys


def test_captions_from_json_and_text(tmp_path: Path) -> None:
    files = {
        "000.png": RED,
        "000.json": json.dumps({"captions": ["one ", "two"]}).encode(),
        "001.json": json.dumps({"caption": "single"}).encode(),
        "001.png": BLUE,
        "002.png": RED,
        "002.txt": "\ufefffirst\n\nsecond\n".encode(),
        "003.png": RED,
        "004.png": RED,
        "004.json": b"{broken",
        "005.png": RED,
        "005.json": b'{"captions": [3, ""]}',
        "006.png": RED,
        "006.json": b"[1]",
    }
    for path in (
        packed(tmp_path / "s.tar", files),
        packed(tmp_path / "s.tar.gz", files),
        write(tmp_path / "s", files),
    ):
        data = load_captioned(path)
        assert data.captions == (("one", "two"), ("single",), ("first", "second"))
        assert [key for key, _ in data] == ["000.png", "001.png", "002.png"]
        assert [key for key, _ in data.skipped] == ["003.png", "004.png", "005.png", "006.png"]
        assert data.name == "s"


def test_of_two_texts_the_one_with_captions_counts(tmp_path: Path) -> None:
    good = {"0.png": RED, "0.json": b'{"captions": ["words"]}', "0.txt": b""}
    files = {**good, "1.json": b"{}", "1.txt": b"others", "1.png": RED}
    assert load_captioned(packed(tmp_path / "x.tar", files)).captions == (("words",), ("others",))


def test_a_name_that_comes_twice_counts_once(tmp_path: Path) -> None:
    data = load_labelled(packed(tmp_path / "x.tar", {"a/1.png": RED, "./a/1.png": BLUE, "b/1.png": BLUE}))
    assert list(data) == [("a/1.png", RED), ("b/1.png", BLUE)]


def test_shards_may_use_one_key_twice(tmp_path: Path) -> None:
    single = packed(tmp_path / "1.tar", {"0.png": RED, "0.txt": b"red"})
    two = packed(tmp_path / "2.tar", {"0.png": BLUE, "0.txt": b"blue"})
    data = load_captioned([single, two])
    assert data.captions == (("red",), ("blue",))
    assert [content for _, content in data] == [RED, BLUE]
    assert data.sample(1).captions in {(("red",),), (("blue",),)}


def test_a_named_field(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", {"0.png": RED, "0.json": b'{"alt": "words", "caption": "others"}'})
    assert load_captioned(path, field="alt").captions == (("words",),)
    assert load_captioned(path).captions == (("others",),)


@pytest.mark.parametrize("load", [load_labelled, load_captioned])
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, load) -> None:
    whole = tar_bytes({"a/1.png": RED * 50, "a/1.txt": b"words", "b/1.png": BLUE * 50})
    cases = {
        "missing.tar": None,
        "empty.tar": b"",
        "text.tar": b"this is no archive" * 100,
        "cut.tar": whole[:7000],
        "cut.tar.gz": tar_bytes({"a/1.png": np.random.default_rng(0).bytes(9000)}, "w:gz")[:5000],
    }
    for name, data in cases.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(DataError, match=name):
            load(path)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing"):
        load(tmp_path / "nothing")


def test_flat_pictures_have_no_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one folder per class"):
        load_labelled(write(tmp_path / "flat", {"1.png": RED}))


def test_files_that_move_while_read_are_noticed(tmp_path: Path) -> None:
    root = write(tmp_path / "x", {"a/1.png": RED, "a/2.png": RED, "b/1.png": RED})
    data = load_labelled(root)
    (root / "a" / "1.png").unlink()
    with pytest.raises(DataError, match="changed while it was read"):
        list(data)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\.\0"), min_size=1, max_size=20)


@settings(max_examples=40)
@given(
    st.dictionaries(st.tuples(NAMES, NAMES), st.binary(max_size=50), min_size=1, max_size=8), st.booleans()
)
def test_any_names_and_bytes_come_back(
    tmp_path_factory, files: dict[tuple[str, str], bytes], gz: bool
) -> None:
    path = tmp_path_factory.mktemp("any") / ("x.tar.gz" if gz else "x.tar")
    packed(path, {f"{folder}/{file}.png": data for (folder, file), data in files.items()})
    data = load_labelled(path, class_names={folder: folder for folder, _ in files})
    got = {
        (data.class_names[label], key): content
        for (key, content), label in zip(data, data.labels, strict=True)
    }
    assert got == {(folder, f"{folder}/{file}.png"): content for (folder, file), content in files.items()}


@pytest.mark.filterwarnings("ignore::diptych.files.text_files.TextEncodingWarning")
@settings(max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 2000))
def test_a_damaged_archive_is_read_or_refused_but_nothing_else(
    tmp_path_factory, noise: bytes, place: int
) -> None:
    path = tmp_path_factory.mktemp("noise") / "x.tar"
    whole = tar_bytes({"a/1.png": RED, "a/1.json": b'{"captions": ["x"]}', "b/2.png": BLUE})
    path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    for load in (load_labelled, load_captioned):
        with contextlib.suppress(DataError):
            list(load(path))


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    count=st.integers(0, 90),
    seed=st.integers(0, 3),
)
def test_a_sample_has_its_share_of_each_class(labels: list[int], count: int, seed: int) -> None:
    rows = stratified(np.array(labels), count, seed)
    assert len(set(rows.tolist())) == len(rows) == min(count, len(labels))
    assert sorted(rows.tolist()) == rows.tolist()
    classes, sizes = np.unique(labels, return_counts=True)
    taken = np.array([np.sum(np.array(labels)[rows] == label) for label in classes])
    quota = min(count, len(labels)) * sizes / len(labels)
    if len(rows) >= len(classes):
        assert taken.min() >= 1
        assert (taken >= np.minimum(np.floor(quota + 1e-9), 1)).all()
    if (quota >= 1).all() or len(rows) < len(classes):
        assert (abs(taken - quota) < 1 + 1e-9).all()


def test_small_samples_do_not_favour_the_first_classes() -> None:
    labels = np.arange(100).repeat(10)
    drawn = {int(labels[row]) for seed in range(60) for row in stratified(labels, 5, seed)}
    assert len(drawn) > 80


def test_a_sample_says_that_it_is_one(tmp_path: Path) -> None:
    data = load_labelled(write(tmp_path / "folder", FILES))
    assert (data.sampled_from, data.extent) == (None, "3 pictures")
    assert data.sample(3).extent == "3 pictures"
    assert data.sample(2).sample(1).extent == "a random sample of 1 of 3 pictures"
    assert ImageCollection("x", data.entries).sample(1).sampled_from == 3
