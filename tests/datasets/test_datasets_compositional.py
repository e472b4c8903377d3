"""Loading compositional benchmarks in their released forms: cases, skipped records, safe file names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.datasets import load_captioned, load_compositional, load_labelled
from diptych.datasets.compositional_records import CaseRecords, read_aro, read_sugar_crepe, read_winoground
from diptych.datasets.formats.archives import Unread
from diptych.errors import DataError
from tests.compositional_files import (
    ATTRIBUTES,
    RELATIONS,
    aro_record,
    write_aro,
    write_sugar_crepe,
    write_winoground,
    zip_bytes,
)
from tests.toys import picture_bytes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    *("filename", "caption", "negative_caption", "image_path", "true_caption", "false_caption"),
    *("bbox_x", "bbox_y", "bbox_w", "bbox_h", "relation_name", "attributes"),
    *("image_0", "image_1", "caption_0", "caption_1", "tag", "num_main_preds"),
)
RECORDS = st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON) | JSON, max_size=4)


@pytest.mark.parametrize("form", ["zip", "folder", "parquet"])
def test_winoground_reads_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    (single,) = load_compositional(write_winoground(tmp_path / "w", form))
    (task,) = single.tasks
    assert (single.name, task.name, len(task), len(single.pictures)) == ("winoground", "winoground", 5, 10)
    first = task.cases[0]
    assert first.captions == ("red", "blue")
    assert dict(first.categories) == {"collapsed_tag": "Object", "num_main_preds": "1", "tag": "Noun"}
    shown = [content for _, content in single.pictures]
    assert [shown[place] for place in first.images] == [picture_bytes("red"), picture_bytes("blue")]
    (again,) = load_compositional(write_winoground(tmp_path / "again", "zip"))
    assert task.fingerprint == again.tasks[0].fingerprint


def test_a_parquet_file_alone(tmp_path: Path) -> None:
    file = next(write_winoground(tmp_path / "w", "parquet").rglob("*.parquet"))
    assert len(load_compositional(file)[0].tasks[0]) == 5
    for load in (load_labelled, load_captioned):
        with pytest.raises(DataError, match="evaluate compositional"):
            load(file)


def test_aro_shows_the_box_and_counts_what_its_authors_count(tmp_path: Path) -> None:
    (single,) = load_compositional(write_aro(tmp_path))
    relation, attribution = single.tasks
    assert [task.name for task in single.tasks] == ["aro/vg_relation", "aro/vg_attribution"]
    assert (len(relation), len(attribution)) == (len(RELATIONS), len(ATTRIBUTES))
    assert relation.class_names == ("on", "under")
    assert relation.labels.tolist() == [0, 0, 1, -1, -1, -1]
    assert attribution.class_names == ("wet_old",)
    assert attribution.labels.tolist() == [0] * 25 + [-1] * 24
    shown = [(image.size, image.getpixel((0, 0))) for _, image in single.pictures]  # type: ignore[union-attr]
    assert shown == [((10, 10), (255, 0, 0)), ((10, 10), (0, 0, 255))]
    assert single.pictures.keys == ("1.png, box 0 0 10 10", "1.png, box 10 0 20 10")
    assert len(set(single.pictures.digests())) == 2


def test_a_box_that_shows_nothing_is_unread(tmp_path: Path) -> None:
    write_aro(tmp_path)
    cases = [
        aro_record("blue", "red", relation_name="on"),
        aro_record("blue", "red", x=20, relation_name="on"),
        aro_record("blue", "red", relation_name="on") | {"bbox_w": 1e8, "bbox_h": 1e8},
        aro_record("blue", "red", x=15, relation_name="on"),  # half of it outside: black, as by ARO
    ]
    (tmp_path / "visual_genome_relation.json").write_text(json.dumps(cases))
    (tmp_path / "visual_genome_attribution.json").unlink()
    (single,) = load_compositional(tmp_path)
    shown = dict(iter(single.pictures))
    outside, large = shown["1.png, box 20 0 30 10"], shown["1.png, box 10 0 1e+08 1e+08"]
    assert isinstance(outside, Unread)
    assert "outside of the 20 x 10 pixels" in outside.reason
    assert isinstance(large, Unread)
    assert "over the limit" in large.reason
    assert shown["1.png, box 15 0 25 10"].getpixel((9, 0)) == (0, 0, 0)  # type: ignore[union-attr]


def test_a_picture_that_cannot_be_decoded_leaves_all_its_boxes(tmp_path: Path) -> None:
    (write_aro(tmp_path) / "images" / "1.png").write_bytes(b"broken")
    shown = [content for _, content in load_compositional(tmp_path)[0].pictures]
    assert [type(item) for item in shown] == [Unread, Unread]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_sugar_crepe_shares_its_pictures(tmp_path: Path, form: str) -> None:
    (single,) = load_compositional(write_sugar_crepe(tmp_path, form=form))
    assert [task.name.partition("/")[2] for task in single.tasks] == [
        *("add_att", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
    ]
    assert [content for _, content in single.pictures] == [picture_bytes(c) for c in ("blue", "green", "red")]
    assert single.tasks[0].class_names == ()


def test_pictures_elsewhere(tmp_path: Path) -> None:
    write_sugar_crepe(tmp_path / "sugar")
    (tmp_path / "sugar" / "val2017").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no pictures beside the files of sugar_crepe: expected val2017"):
        load_compositional(tmp_path / "sugar")
    (single,) = load_compositional(tmp_path / "sugar", images=tmp_path / "elsewhere")
    assert len(single.pictures) == 3
    with pytest.raises(DataError, match="gone is not there"):
        load_compositional(tmp_path / "sugar", images=tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none of the 3 pictures"):
        load_compositional(tmp_path / "sugar", images=tmp_path / "empty")


def test_several_benchmarks_in_one_folder(tmp_path: Path) -> None:
    write_winoground(tmp_path)
    write_aro(tmp_path)
    write_sugar_crepe(tmp_path)
    assert [item.name for item in load_compositional(tmp_path)] == ["winoground", "aro", "sugar_crepe"]


@pytest.mark.parametrize("place", ["gone", ".", "add_att.json"])
def test_no_benchmark(tmp_path: Path, place: str) -> None:
    if place.endswith(".json"):  # one file of the benchmark instead of its folder
        write_sugar_crepe(tmp_path)
    with pytest.raises(DataError, match="expected a folder"):
        load_compositional(tmp_path / place)


def test_missing_pictures_and_broken_records_are_told(tmp_path: Path) -> None:
    write_sugar_crepe(tmp_path)
    (tmp_path / "val2017" / "blue.png").unlink()
    records = json.loads((tmp_path / "swap_att.json").read_text())
    records |= {"x": {"filename": "red.png", "caption": "red"}, "y": 3}
    (tmp_path / "swap_att.json").write_text(json.dumps(records))
    (single,) = load_compositional(tmp_path)
    task = next(task for task in single.tasks if task.name.endswith("swap_att"))
    assert len(task) == 2
    assert task.skipped == (
        ("swap_att.json, record x", "it has no 'negative_caption'"),
        ("swap_att.json, record y", "it is not an object with fields: 3"),
        ("blue.png", "named by a test case, but missing"),
    )


def test_a_sample_keeps_the_protocol(tmp_path: Path) -> None:
    (single,) = load_compositional(write_aro(tmp_path))
    few = single.sample(10)
    relation, attribution = few.tasks
    assert (len(relation), relation.sampled_from) == (6, None)
    assert (len(attribution), attribution.sampled_from) == (10, 49)
    assert attribution.extent == "a random sample of 10 of 49 cases"
    assert attribution.class_names == ("wet_old",)  # 25 cases in the file, fewer in the sample
    assert sorted(set(attribution.labels.tolist())) == [-1, 0]
    smallest = single.sample(1)
    assert len(smallest.pictures) <= 2
    for task in smallest.tasks:
        assert task.pictures is smallest.pictures
        assert task.fingerprint
        assert all(place < len(smallest.pictures) for case in task.cases for place in case.images)


@given(RECORDS | JSON)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "x.json").write_text(json.dumps(value))
    lines = value if isinstance(value, list) else [value]
    (folder / "x.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
    for read, file in (
        (read_sugar_crepe, "x.json"),
        (read_aro, "x.json"),
        (read_winoground, "x.jsonl"),
    ):
        try:
            records, left_out = read(folder / file)
        except DataError:
            continue
        _check((records, left_out))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of bytes that are not UTF-8
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "x.json"
    file.write_bytes(data)
    for read in (read_sugar_crepe, read_aro, read_winoground):
        with pytest.raises(DataError):
            read(file)


def _check(found: CaseRecords) -> None:
    records, left_out = found
    assert records
    for item in records:
        assert len(item.captions) == 2
        assert all(text.strip() and text.encode() for text in item.captions)
        for name, box in item.images:
            assert name
            assert box is None or (box[2] - box[0] >= 0.99 and box[3] - box[1] >= 0.99)
    assert all(key and reason for key, reason in left_out)


@given(
    st.lists(
        st.sampled_from(["..", ".", "/", "secret.png", "val2017", "red.png", "\\", "~", "C:"]), max_size=6
    )
)
def test_names_never_leave_the_folder(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    root = tmp_path_factory.mktemp("names")
    (root / "secret.png").write_bytes(picture_bytes("white"))
    folder = write_sugar_crepe(root / "sugar")
    for file in folder.glob("*.json"):
        file.unlink()
    names = ["/".join(parts), str(root / "secret.png"), "../../secret.png", "../secret.png", "red.png"]
    records = [
        {"filename": name or "x", "caption": "a", "negative_caption": "b"} for name in dict.fromkeys(names)
    ]
    (folder / "add_obj.json").write_text(json.dumps(records))
    (single,) = load_compositional(folder)
    inside = [picture_bytes("blue"), picture_bytes("green"), picture_bytes("red")]
    assert all(content in inside for _, content in single.pictures)


def test_class_folders_in_a_zip(tmp_path: Path) -> None:
    red, blue = picture_bytes("red"), picture_bytes("blue")
    files = {
        "p/red/1.png": red,
        "p/blue/1.png": blue,
        "__MACOSX/p/red/._1.png": b"x",
        "p/blue/2.png": red,
        "/p/red/1.png": blue,
    }
    (tmp_path / "p.zip").write_bytes(zip_bytes(files))
    data = load_labelled(tmp_path / "p.zip")
    assert [(key, data.class_names[label]) for (key, _), label in zip(data, data.labels, strict=True)] == [
        ("p/red/1.png", "red"),
        ("p/blue/1.png", "blue"),
        ("p/blue/2.png", "blue"),
    ]
    assert [content for _, content in data] == [red, blue, red]
    (tmp_path / "cut.zip").write_bytes((tmp_path / "p.zip").read_bytes()[:-30])
    with pytest.raises(DataError, match="expected a zip archive"):
        load_labelled(tmp_path / "cut.zip")
