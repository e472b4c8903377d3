"""Folders of shards in the layout of CLIP_benchmark: labelled, captioned, damaged."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.datasets import load_captioned, load_labelled
from diptych.errors import DataError
from diptych.evaluation import evaluate_zero_shot
from tests.layout_files import labelled_shard, write_shards
from tests.toys import ToyEncoder, picture_bytes, tar_bytes

NAMES, PROMPTS = ("red", "green", "blue"), ("a photo of {c}.", "{c}!")
SHARDS = [labelled_shard(["red", "blue"], [0, 2]), labelled_shard(["green"], [1], start=2)]


@pytest.mark.parametrize("where", [".", "test"])
def test_pictures_labels_names_and_prompts(tmp_path: Path, where: str) -> None:
    folder = write_shards(tmp_path / "wds_colours", SHARDS, names=NAMES, templates=PROMPTS)
    data = load_labelled(folder / where)
    assert data.class_names == NAMES
    assert data.labels.tolist() == [0, 2, 1]
    assert data.templates == ("a photo of {}.", "{}!")
    assert [content for _, content in data] == [picture_bytes(name) for name in ("red", "blue", "green")]
    result = evaluate_zero_shot(ToyEncoder(), data, templates=data.templates)
    assert (result.metrics["acc1"], result.n) == (1.0, 3)
    assert data.sample(2).templates == data.subset(["red"]).templates == data.templates


def test_the_part_that_is_asked_for(tmp_path: Path) -> None:
    write_shards(tmp_path, SHARDS[:1], names=NAMES, part="val")
    write_shards(tmp_path, SHARDS[1:], part="train")
    assert len(load_labelled(tmp_path)) == 2
    assert load_labelled(tmp_path, part="train").labels.tolist() == [1]


def test_one_shard_alone_gives_numbers(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(tar_bytes(SHARDS[0]))
    data = load_labelled(tmp_path / "0.tar")
    assert data.class_names == ("0", "1", "2")
    assert load_labelled(tmp_path / "0.tar", class_names=[*NAMES, "white"]).class_names[2] == "blue"
    with pytest.raises(DataError, match="2 class names for 3 classes"):
        load_labelled(tmp_path / "0.tar", class_names=NAMES[:2])


def test_a_picture_without_a_class_is_named_and_left_out(tmp_path: Path) -> None:
    files = {**SHARDS[0], "s9.png": picture_bytes("red"), "s8.png": picture_bytes("red"), "s8.cls": b"red"}
    files["s7.cls"], files["s7.png"] = b"1", b"no picture"
    data = load_labelled(write_shards(tmp_path, [files], names=NAMES))
    assert dict(data.skipped) == {
        "s9.png": "no KEY.cls beside it", "s8.png": "its .cls says 'red': expected a number"
    }  # fmt: skip
    result = evaluate_zero_shot(ToyEncoder(), data)
    assert sorted(item.key for item in result.failures) == ["s7.png", "s8.png", "s9.png"]
    assert result.n == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "test" / "1.tar").unlink(), "1.tar is not there, though .* tells of 2"),
        (
            lambda folder: (folder / "test" / "nshards.txt").write_text("many"),
            "expected the number of shards",
        ),
        (lambda folder: (folder / "test" / "nshards.txt").write_text("0"), "expected the number of shards"),
        (lambda folder: (folder / "test" / "nshards.txt").write_text("9" * 30), "expected the number"),
        (lambda folder: (folder / "test" / "0.tar").write_bytes(b"x" * 700), "0.tar cannot be read"),
        (lambda folder: (folder / "classnames.txt").write_text("red\ngreen\n"), "label 2, but names for 2"),
        (lambda folder: (folder / "classnames.txt").write_bytes(b"\xff\xfea"), "cut short or damaged"),
        (lambda folder: (folder / "dataset_type.txt").write_text("retrieval"), "is for retrieval"),
        (lambda folder: (folder / "test").rename(folder / "train"), "no part 'test': it has 'train'"),
    ],
)
def test_broken_folders_are_told(tmp_path: Path, change, told: str) -> None:
    folder = write_shards(tmp_path, SHARDS, names=NAMES)
    change(folder)
    with pytest.raises(DataError, match=told):
        load_labelled(folder)


def test_a_negative_label_means_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label -1, so its labels are not published"):
        load_labelled(write_shards(tmp_path, [labelled_shard(["red"], [-1])], names=NAMES))


def test_captions_a_line_each(tmp_path: Path) -> None:
    files = {"s0.png": picture_bytes("red"), "s0.txt": b"one\ntwo\n", "s1.png": picture_bytes("blue")}
    folder = write_shards(
        tmp_path / "wds_pairs", [files, {"s2.jpg": b"x", "s2.txt": b"three"}], kind="retrieval"
    )
    data = load_captioned(folder)
    assert data.captions == (("one", "two"), ("three",))
    assert data.name == "wds_pairs"
    assert [key for key, _ in data.skipped] == ["s1.png"]


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), min_size=1, max_size=9
)


@settings(max_examples=30)
@given(st.lists(TEXTS.map(str.strip).filter(bool), min_size=1, max_size=5, unique=True), st.data())
def test_any_names_and_labels_come_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    labels = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=6))
    cut = data.draw(st.integers(0, len(labels)))
    shards = [
        labelled_shard(["red"] * len(part), part, start)
        for start, part in ((0, labels[:cut]), (cut, labels[cut:]))
    ]
    folder = write_shards(tmp_path_factory.mktemp("wds"), shards, names=names)
    result = load_labelled(folder)
    assert result.labels.tolist() == labels
    assert result.class_names == tuple(names)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of bytes that are not UTF-8
@settings(max_examples=40)
@given(st.binary(max_size=12), st.binary(max_size=12), st.binary(max_size=12))
def test_any_bytes_in_the_small_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cls: bytes, names: bytes, count: bytes
) -> None:
    folder = write_shards(tmp_path_factory.mktemp("wds"), [{"0.png": picture_bytes("red"), "0.cls": cls}])
    (folder / "classnames.txt").write_bytes(names)
    if count:
        (folder / "test" / "nshards.txt").write_bytes(count)
    with contextlib.suppress(DataError):
        load_labelled(folder)
