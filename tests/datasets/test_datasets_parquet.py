"""Data sets in Parquet as on the Hugging Face hub: columns of pictures, classes and captions."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.datasets import load_captioned, load_labelled
from diptych.datasets.formats.parquet import class_labels
from diptych.errors import DataError, MissingExtraError
from diptych.evaluation import evaluate_zero_shot
from tests.toys import ToyEncoder, picture_bytes

RED, GREEN, BLUE = (picture_bytes(colour) for colour in ("red", "green", "blue"))
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ["red", "green", "blue"]


def hub(features: dict[str, Any]) -> dict[str, str]:
    """Metadata in the form that the `datasets` library writes."""
    return {"huggingface": json.dumps({"info": {"features": features}})}


LABELS = hub({"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}})


def write(path: Path, columns: dict[str, Any], metadata: dict[str, str] | None = None, rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=rows)
    return path


def structs(pictures: list[bytes | None]) -> pa.Array:
    return pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(pictures)], STRUCT)


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
def test_pictures_and_named_labels(tmp_path: Path, kind: str) -> None:
    pictures = [RED, BLUE, GREEN]
    column = structs(pictures) if kind == "struct" else pa.array(pictures, getattr(pa, kind)())
    data = load_labelled(write(tmp_path / "x.parquet", {"image": column, "label": [0, 2, 1]}, LABELS))
    assert data.class_names == tuple(NAMES)
    assert data.labels.tolist() == [0, 2, 1]
    assert [content for _, content in data] == pictures
    assert evaluate_zero_shot(ToyEncoder(), data).metrics["acc1"] == 1.0


def test_a_folder_of_parts_and_files(tmp_path: Path) -> None:
    write(tmp_path / "data/test-00000-of-00002.parquet", {"img": structs([RED]), "label": [0]}, LABELS)
    write(tmp_path / "data/test-00001-of-00002.parquet", {"img": structs([BLUE]), "label": [2]}, LABELS)
    write(
        tmp_path / "data/train-00000-of-00001.parquet",
        {"img": structs([GREEN] * 3), "label": [1] * 3},
        LABELS,
    )
    assert [content for _, content in load_labelled(tmp_path)] == [RED, BLUE]
    assert load_labelled(tmp_path, part="train").labels.tolist() == [1, 1, 1]
    assert len(set(load_labelled(tmp_path).keys)) == 2


def test_words_and_numbers_without_names(tmp_path: Path) -> None:
    words = load_labelled(write(tmp_path / "w.parquet", {"jpg": [RED, BLUE], "label": ["sea_horse", "ant"]}))
    assert [words.class_names[label] for label in words.labels] == ["sea horse", "ant"]
    encoded = pa.array(["b", "a", "b"]).dictionary_encode()
    again = load_labelled(write(tmp_path / "d.parquet", {"jpg": [RED] * 3, "label": encoded}))
    assert again.labels.tolist() == [1, 0, 1]
    numbers = write(tmp_path / "n.parquet", {"jpg": [RED, BLUE], "cls": [1, 0], "text": ["a", "b"]})
    assert load_labelled(numbers).class_names == ("0", "1")
    assert load_labelled(numbers, class_names="cifar10").class_names[1] == "automobile"


def test_of_two_columns_of_classes_the_fine_one_counts(tmp_path: Path) -> None:
    known = {
        "coarse_label": {"names": ["animal", "thing"], "_type": "ClassLabel"},
        "fine_label": {"names": ["cat", "dog", "cup"], "_type": "ClassLabel"},
    }
    columns = {"img": structs([RED, BLUE]), "coarse_label": [1, 0], "fine_label": [2, 0]}
    data = load_labelled(write(tmp_path / "x.parquet", columns, hub(known)))
    assert [data.class_names[label] for label in data.labels] == ["cup", "cat"]


def test_a_row_without_bytes_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.parquet", {"image": structs([RED, None, b"broken"]), "label": [0, 1, 2]}, LABELS
    )
    result = evaluate_zero_shot(ToyEncoder(), load_labelled(path))
    assert result.failures[0].reason == "its row holds no bytes"
    assert [item.key for item in result.failures] == ["x.parquet/000001", "x.parquet/000002"]


@pytest.mark.parametrize(
    ("columns", "metadata", "told"),
    [
        ({"label": [0], "name": ["x"]}, None, "no column of pictures: its columns are 'label', 'name'"),
        ({"a": [RED], "b": [RED], "label": [0]}, None, r"several columns of bytes \('a', 'b'\)"),
        ({"image": [RED], "caption": ["x"]}, None, "no column of classes"),
        ({"image": [RED], "label": [0.5]}, None, "no column of classes"),
        ({"image": [RED], "label": [[0]]}, None, "no column of classes"),
        (
            {"image": [RED], "label": pa.array([None], pa.int64())},
            None,
            "row 0 of its column 'label' is empty",
        ),
        ({"image": [RED], "label": [-1]}, LABELS, "label -1, so its labels are not published"),
        ({"image": [RED], "label": [3]}, LABELS, "label 3, but names for 3 classes"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, LABELS, "holds no picture"),
        ({"image": [[RED]], "label": [0]}, None, "no column of pictures"),
    ],
)
def test_what_is_no_data_set_is_told(tmp_path: Path, columns: Any, metadata: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_labelled(write(tmp_path / "x.parquet", columns, metadata))


def test_files_that_do_not_agree_are_told(tmp_path: Path) -> None:
    write(tmp_path / "test-0.parquet", {"image": [RED], "label": [0]}, LABELS)
    write(tmp_path / "test-1.parquet", {"image": [RED], "label": ["red"]})
    with pytest.raises(DataError, match="do not agree"):
        load_labelled(tmp_path)
    other = hub({"label": {"names": NAMES[::-1], "_type": "ClassLabel"}})
    write(tmp_path / "test-1.parquet", {"image": [RED], "label": [0]}, other)
    with pytest.raises(DataError, match="do not agree"):
        load_labelled(tmp_path)


def test_cut_and_foreign_files_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"image": [RED] * 9, "label": [0] * 9}, LABELS)
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"PAR1" + b"x" * 100 + b"PAR1"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"x\.parquet"):
            load_labelled(path)
    path.write_bytes(whole)
    data = load_labelled(path)
    path.write_bytes(whole[:40] + bytes(len(whole) - 1000)[40:] + whole[-1000:])  # the footer is complete
    with pytest.raises(DataError, match=r"x\.parquet"):
        list(data)


def test_captions_by_row(tmp_path: Path) -> None:
    columns = {"image": structs([RED, BLUE, GREEN]), "caption": [["one", " two "], [], ["three", None]]}
    data = load_captioned(write(tmp_path / "x.parquet", columns))
    assert data.captions == (("one", "two"), ("three",))
    assert [content for _, content in data] == [RED, GREEN]
    assert data.skipped == (("x.parquet/000001", "its row has no caption"),)
    plain = write(tmp_path / "y.parquet", {"jpg": [RED], "alt": ["words"]})
    assert load_captioned(plain, field="alt").captions == (("words",),)
    with pytest.raises(DataError, match="no column of captions: its columns are 'jpg', 'alt'"):
        load_captioned(plain)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", {"image": [RED], "label": [0]}, LABELS)
    real = builtins.__import__

    def gone(name: str, *more: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="pyarrow")

    monkeypatch.setattr("importlib.import_module", gone)
    with pytest.raises(MissingExtraError, match=r"diptych\[evaluation\]"):
        load_labelled(path)
    assert builtins.__import__ is real


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["info", "features", "label", "names", "_type"]) | st.text(max_size=3), inner
        )
    ),
    max_leaves=10,
)


@settings(max_examples=150)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_metadata_gives_names_or_none(data: bytes) -> None:
    for column, names in class_labels({b"huggingface": data}).items():
        assert isinstance(column, str)
        assert names
        assert all(isinstance(name, str) for name in names)


def test_deep_metadata_gives_none() -> None:
    assert class_labels({b"huggingface": b"[" * 100_000}) == {}
    assert class_labels(None) == {}


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True), st.data())
def test_any_names_and_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    labels = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=5))
    contents = data.draw(st.lists(st.binary(max_size=20), min_size=len(labels), max_size=len(labels)))
    path = tmp_path_factory.mktemp("pq") / "x.parquet"
    metadata = hub({"label": {"names": names, "_type": "ClassLabel"}})
    write(path, {"image": pa.array(contents, pa.binary()), "label": labels}, metadata)
    result = load_labelled(path, class_names=names)
    assert [names[label] for label in labels] == [result.class_names[label] for label in result.labels]
    assert [content for _, content in result] == contents
    assert np.array_equal(result.labels, labels)
