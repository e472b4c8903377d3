"""Label files as people and other tools write them: parsed by their suffix, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import TextError
from diptych.zeroshot.label_files import EXPECTED, read_labels_file


def read(tmp_path: Path, name: str, content: str | bytes, **options: bool) -> Any:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels_file(path, **options)


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("labels.csv", "id,label\n0,rose\n1,tulip\n", ["rose", "tulip"]),
        ("labels.csv", "sep=;\r\nid;Name;colour\r\n0;rose;red\r\n1;tulip;yellow\r\n", ["rose", "tulip"]),
        ("labels.tsv", "class_name\tcount\nrose\t3\ntulip\t4\n", ["rose", "tulip"]),
        ("labels.csv", "rose\ntulip\n", ["rose", "tulip"]),
        ("labels.csv", "0,rose\n1,tulip\n", ["rose", "tulip"]),
        ("labels.csv", 'label\n"rose, red"\ntulip\n', ["rose, red", "tulip"]),
        ("data.yaml", "names:\n  0: rose\n  1: tulip\n", ["rose", "tulip"]),
        ("data.yaml", "path: ../x\nnc: 2\nnames: [rose, tulip]\n", ["rose", "tulip"]),
        ("labels.csv", "label,name\n0,rose\n1,tulip\n", ["rose", "tulip"]),
        ("labels.csv", "label;class_name\n0;rose\n1;tulip\n", ["rose", "tulip"]),
        ("labels.csv", "id,label,name\n7,0,rose\n8,1,tulip\n", ["rose", "tulip"]),
        ("labels.csv", "label,name\nn01440764,tench\nn01443537,goldfish\n", ["tench", "goldfish"]),
        ("labels.csv", "name,label\n0,rose\n1,\n2,tulip\n", ["rose", "tulip"]),
        ("labels.csv", "label,name\n7,0\n8,1\n", ["7", "8"]),  # digits, as for MNIST
        ("data.yaml", "path: ../x\nnames: {tulip: 1, rose: 0, lily: 10}\n", ["rose", "tulip", "lily"]),
        ("data.yaml", "labels: train/labels\nnames: [rose, tulip]\n", ["rose", "tulip"]),
        ("labels.txt", "id, please\nrose\n", ["id, please", "rose"]),
        ("data.yml", "names: ['no', yes, 1]\n", ["no", "yes", "1"]),  # labels, not booleans
        ("i.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', ["tench", "goldfish"]),
        ("i.json", '{"10": ["n1", "x"]}', {"10": ["n1", "x"]}),
        ("ids.json", '{"1": "tulip", "0": "rose", "10": "lily"}', ["rose", "tulip", "lily"]),
        ("config.json", '{"id2label": {"0": "rose", "1": "tulip"}, "hidden_size": 3}', ["rose", "tulip"]),
        ("label2id.json", '{"tulip": 1, "rose": 0}', ["rose", "tulip"]),
        (
            "coco.json",
            '{"categories": [{"id": 1, "name": "rose"}, {"id": 2, "name": "tulip"}]}',
            ["rose", "tulip"],
        ),
        ("names.json", '{"labels": ["rose", "tulip"]}', ["rose", "tulip"]),
        ("texts.json", '{"rose": ["a rose"], "tulip": null}', {"rose": ["a rose"], "tulip": None}),
        ("labels.txt", '["rose", "tulip"]', ["rose", "tulip"]),
        ("labels.names", "rose\ntulip\n", ["rose", "tulip"]),
        ("labels", "rose\rtulip\r", ["rose", "tulip"]),
        ("labels.txt", "rose\ntulip\n".encode("utf-16"), ["rose", "tulip"]),
        ("labels.txt", "Ku\u0308che\n", ["Küche"]),
    ],
)
def test_files_of_other_tools(tmp_path: Path, name: str, content: str | bytes, labels: Any) -> None:
    assert read(tmp_path, name, content) == labels


def test_comments_and_signs_that_are_none(tmp_path: Path) -> None:
    content = "# flowers\nrose  \n\n\ttulip\ndaisy # the white one\n#1 dad mug\nC#\nF# minor\n##\n#\nrose\n"
    assert read(tmp_path, "l.txt", content) == [
        "rose",
        "tulip",
        "daisy",
        "#1 dad mug",
        "C#",
        "F# minor",
        "rose",
    ]
    with pytest.warns(UserWarning, match=r"1 line.*'#rose'.*a comment has a space after the #"):
        assert read(tmp_path, "l.txt", "#rose\ntulip\n") == ["#rose", "tulip"]


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("0 rose\n1 tulip\n2 red car\n", ["rose", "tulip", "red car"]),
        ("1: rose\n2: tulip\n", ["rose", "tulip"]),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ["tench, Tinca tinca", "goldfish"]),
    ],
)
def test_numbers_before_every_label_are_told_and_left_out(
    tmp_path: Path, content: str, labels: list[str]
) -> None:
    with pytest.warns(UserWarning, match="are left out"):
        assert read(tmp_path, "l.txt", content) == labels


def test_numbers_that_are_part_of_labels_stay(tmp_path: Path) -> None:
    assert read(tmp_path, "l.txt", "2 dogs\n3 cats\n") == ["2 dogs", "3 cats"]
    assert read(tmp_path, "l.txt", "1 dog\n3 dogs\n") == ["1 dog", "3 dogs"]
    assert read(tmp_path, "l.txt", "1 dog\n") == ["1 dog"]


def test_names_of_folders_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, "n.json", '{"0": "rose", "1": "tulip"}', folders=True) == {
        "0": "rose",
        "1": "tulip",
    }
    index = '{"0": ["n01440764", "great_white_shark"], "1": ["n01443537", "goldfish"]}'
    assert read(tmp_path, "n.json", index, folders=True) == {
        "n01440764": "great white shark",
        "n01443537": "goldfish",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.csv", "a,b\nrose,tulip\n", "no column of labels: its first row is 'a', 'b'"),
        ("labels.xml", "<names/>", "labels cannot be read from this kind of file"),
        ("labels.xlsx", b"PK\x03\x04\x14\x00\xff\x81", "not a text"),
        ("labels.txt", "names:\n  0: rose\n", "looks like YAML"),
        ("labels.txt", "sep=;\nid;label\n", "looks like a table"),
        ("labels.txt", b"rose\0tulip", "zero bytes"),
        ("data.yaml", "train: images\n", "has no 'names': its fields are 'train'"),
        ("data.yaml", "names: [a\n", "cannot be read as YAML"),
        ("data.yaml", "a: &a [x]\nnames: [*a, *a]\n", "aliases"),
        ("data.yaml", "names: []\n", "has no labels"),
        ("data.yaml", "nc: 2\nnames: classes.txt\n", "'names' is 'classes.txt'; expected a list of labels"),
        ("data.yaml", "nc: 2\nnames: {rose: red, tulip: 1}\n", "expected a list of labels, number -> label"),
        ("data.yaml", "names: {0: [rose], 1: [tulip]}\n", "expected a list of labels, number -> label"),
        ("data.yaml", f"names: {{rose: {'9' * 5000}, tulip: 1}}\n", "expected a list of labels"),
        ("labels.txt", "id,label\n0,rose\n", "call it .csv"),
        ("labels.txt", "Index\tName\n0\trose\n1\ttulip\n", "call it .csv"),
        ("labels.txt", "class_id;class;colour\n0;rose;red\n", "call it .csv"),
        ("labels.json", "{", "cannot be read as JSON"),
        ("labels.json", "3", "has no labels"),
        ("labels.json", '{"a": 1.5}', "expected a list of texts"),
        ("labels.txt", "# only a comment\n", "has no labels"),
    ],
)
def test_what_holds_no_labels_says_what_was_expected(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(TextError, match=message) as raised:
        read(tmp_path, name, content)
    assert name in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="cannot be read: No such file"):
        read_labels_file(tmp_path / "labels.txt")
    assert "one label per line" in EXPECTED


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
        max_leaves=8,
    )
)
def test_any_json_gives_labels_or_an_error(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("l") / "l.json"
    path.write_text(json.dumps(value))
    try:
        labels = read_labels_file(path)
    except TextError:
        return
    assert labels


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.text(max_size=40), st.sampled_from([".txt", ".csv", ".yaml", ".json", ".tsv"]))
def test_any_text_gives_labels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("l") / f"l{suffix}"
    path.write_bytes(text.encode())
    try:
        labels = read_labels_file(path)
    except TextError:
        return
    assert all(isinstance(item, str) and item.strip() for item in labels) or isinstance(labels, dict | list)
