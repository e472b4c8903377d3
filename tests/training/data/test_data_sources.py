"""Sources of training pairs: shards, tables, labelled tars, folders, and damaged ones."""

import gzip
import io
import json
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import DataError
from diptych.media.folders.captions import captions_of_fields, parse_json
from diptych.training.data.sources import tars
from diptych.training.data.sources.captions import Templates
from diptych.training.data.sources.sources import (
    Folder,
    LabelledFolder,
    LabelledTar,
    Once,
    Part,
    TablePairs,
    TarPairs,
    describe,
    split,
)
from tests.toys import write_latin
from tests.training.data.make_pairs import caption_members, class_members, picture, write_tar

KEYS = st.sampled_from(["captions", "caption", "text", "alt"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


def test_shards_with_json_captions(tmp_path):
    write_tar(tmp_path / "a-0.tar", caption_members(range(3)))
    write_tar(tmp_path / "a-1.tar.gz", caption_members(range(3, 5)))
    source = TarPairs([tmp_path / "a-0.tar", tmp_path / "a-1.tar.gz"]).open()
    assert len(source) == 5
    record = source.read(4)
    assert record.key == "a-1/0004"
    assert record.captions == tuple(f"caption {n} of picture 4" for n in range(3))
    assert record.image == picture(4, (44, 36))


def test_shards_with_text_and_a_named_field(tmp_path):
    fields = json.dumps({"caption": "from json", "alt": ["one", 2, " "]}).encode()
    path = write_tar(
        tmp_path / "t.tar", [("a.jpg", b"x"), ("a.txt", b" from text\n"), ("a.json", fields), ("b.png", b"y")]
    )
    source = TarPairs(path).open()
    assert source.captions(0) == ("from text",)
    assert source.dropped == {"no caption": 1}
    assert TarPairs(path, caption_field="alt").open().captions(0) == ("one",)
    assert TarPairs(path, caption_field="none").open().captions(0) == ()


def test_odd_members_of_a_tar(tmp_path):
    path = tmp_path / "odd.tar"
    long = "d/" * 80 + "deep"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo("d.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        names = [
            f"{long}.jpg",
            f"{long}.txt",
            "naïve.JPG",
            "naïve.txt",
            "._naïve.jpg",
            "only.txt",
            "x.cls",
            ".jpg",
        ]
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    source = TarPairs(path).open()
    assert [source.key(n) for n in range(len(source))] == [f"odd/{long}", "odd/naïve"]
    assert source.read(0).image == b"abc"


def test_a_tar_that_ends_early_is_read_as_far_as_it_goes(tmp_path):
    path = write_tar(tmp_path / "t.tar", caption_members(range(10)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match="ends too early"):
        source = TarPairs(path).open()
    assert 0 < len(source) < 10
    assert source.dropped["archive cut short"] == 1

    packed = tmp_path / "t.tar.gz"
    packed.write_bytes(
        gzip.compress(write_tar(tmp_path / "w.tar", caption_members(range(9))).read_bytes())[:4000]
    )
    with pytest.warns(UserWarning, match="ends too early"):
        assert 0 < len(TarPairs(packed).open()) < 9


@pytest.mark.parametrize(
    "data", [b"", b"not a tar at all" * 100, b"\x1f\x8bnot gzip", gzip.compress(b"hello", mtime=0)]
)
def test_what_is_no_tar_is_refused_by_name(tmp_path, data):
    path = tmp_path / "bad.tar"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.tar"):
        TarPairs(path).open()


def test_a_large_archive_is_unpacked_to_a_file_that_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr(tars.tempfile, "tempdir", str(tmp_path))
    path = write_tar(tmp_path / "t.tar.gz", caption_members(range(5)))
    source = TarPairs(path).open()
    assert source.read(3).image == picture(3, (43, 35))
    assert len(list(tmp_path.glob("diptych-*"))) == 1
    del source
    assert not list(tmp_path.glob("diptych-*"))


def test_rows_of_a_table_do_not_lead_out_of_the_root_that_is_given(tmp_path):
    (tmp_path / "root").mkdir()
    for path in ("root/a.png", "b.png"):
        (tmp_path / path).write_bytes(picture(1))
    rows = ["a.png,a", "../b.png,b", f"{tmp_path / 'b.png'},c", "./a.png,d"]
    (tmp_path / "root" / "t.csv").write_text("\n".join(["filepath,title", *rows]))
    given = TablePairs(tmp_path / "root" / "t.csv", root=tmp_path / "root").open()
    assert [given.captions(n) for n in range(len(given))] == [("a", "d")]
    assert given.dropped == {"outside of root": 2}
    own = TablePairs(tmp_path / "root" / "t.csv").open()  # the folder of the table, as in open_clip
    assert len(own) == 3
    assert own.read(1).image == picture(1)


def test_labels_by_folder_with_names_changed_and_left_out(tmp_path):
    path = write_tar(
        tmp_path / "c.tar", [*class_members(["Faces_easy", "ant", "sea_horse"]), ("top.png", b"z")]
    )
    templates = ("a photo of {a}.", "the {}", "{}, a kind of {kind}")
    source = LabelledTar(
        path, templates, rename={"Faces_easy": "face"}, exclude=frozenset({"sea horse", "wolf"})
    ).open()
    assert source.classes == ("ant", "face")
    assert source.unmatched == {"wolf"}
    assert source.excluded == 4
    assert source.dropped == {"no label": 1}
    assert {source.captions(n) for n in range(len(source))} == {
        ("a photo of a face.", "the face"),
        ("a photo of an ant.", "the ant"),
    }


@pytest.mark.parametrize("name", ["Faces_easy", "Faces easy", "face"])
def test_a_class_is_left_out_under_any_of_its_names(tmp_path, name):
    path = write_tar(tmp_path / "c.tar", class_members(["Faces_easy", "ant"]))
    source = LabelledTar(path, rename={"Faces_easy": "face"}, exclude=frozenset({name})).open()
    assert {source.label(n) for n in range(len(source))} == {"ant"}


def test_labels_by_json_field(tmp_path):
    members = []
    for n, fields in enumerate([{"label": "owl", "kind": "bird"}, {"label": "chair"}, {"label": 3}, {}]):
        members += [(f"{n}.png", picture(n)), (f"{n}.json", json.dumps(fields).encode())]
    path = write_tar(tmp_path / "l.tar", members)
    source = LabelledTar(path, ("a {}", "{}, a {kind}"), label_field="label").open()
    assert [source.captions(n) for n in range(len(source))] == [("a owl", "owl, a bird"), ("a chair",)]
    assert source.dropped == {"no label": 2}


def test_folders(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png", "c.png"):
        (tmp_path / name).write_bytes(picture(1))
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "sub/b.json").write_text('{"text": ["two", "three"]}')
    source = Folder(tmp_path).open()
    assert [(source.key(n), source.captions(n)) for n in range(len(source))] == [
        ("a.png", ("one",)),
        ("sub/b.png", ("two", "three")),
    ]
    assert source.dropped == {"no caption": 1}
    labelled = LabelledFolder(tmp_path, ("{}",)).open()
    assert [labelled.captions(n) for n in range(len(labelled))] == [("sub",)]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png"):
        source.read(0)


def test_an_empty_folder_is_refused(tmp_path):
    for description in (Folder(tmp_path), LabelledFolder(tmp_path)):
        with pytest.raises(DataError, match="no usable record"):
            description.open()


@pytest.mark.parametrize(("name", "sign"), [("t.csv", ","), ("t.tsv", "\t"), ("t.csv", "\t"), ("t.csv", ";")])
def test_tables_of_text(tmp_path, name, sign):
    rows = [
        ["id", "filepath", "title"],
        ["1", "a.png", "one"],
        ["2", "b.png", "two"],
        ["3", "a.png", "uno"],
        ["4"],
    ]
    (tmp_path / name).write_text("\n".join(sign.join(row) for row in rows) + "\n\n")
    (tmp_path / "a.png").write_bytes(b"AA")
    source = TablePairs(tmp_path / name).open()
    assert [(source.key(n), source.captions(n)) for n in range(len(source))] == [
        ("a.png", ("one", "uno")),
        ("b.png", ("two",)),
    ]
    assert source.image(0) == b"AA"
    assert source.dropped == {"no caption": 1}


def test_parquet_with_files_lists_and_pictures_inside(tmp_path):
    pictures = [picture(n) for n in range(3)]
    columns = {"img": pictures, "txt": [["a", "b"], ["c"], None]}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    source = TablePairs(tmp_path / "p.parquet", image="img", caption="txt").open()
    assert [source.captions(n) for n in range(len(source))] == [("a", "b"), ("c",)]
    assert source.image(1) == pictures[1]
    structs = [{"bytes": pictures[0], "path": None}, {"bytes": None, "path": "x.png"}, None]
    pq.write_table(pa.table({"filepath": structs, "title": ["a", "b", "c"]}), tmp_path / "q.parquet")
    source = TablePairs(tmp_path / "q.parquet").open()
    assert source.image(0) == pictures[0]
    assert source.key(1) == "x.png"


def test_bad_tables(tmp_path):
    (tmp_path / "t.csv").write_text("file,titel\na,b\n")
    with pytest.raises(DataError, match=r"no column 'filepath'.*'file', 'titel'.*mean 'file'"):
        TablePairs(tmp_path / "t.csv").open()
    (tmp_path / "u.csv").write_text("filepath,title\nhttp://x/a.jpg,b\n")
    with pytest.raises(DataError, match="local files only"):
        TablePairs(tmp_path / "u.csv").open()
    (tmp_path / "v.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"v\.parquet"):
        TablePairs(tmp_path / "v.parquet").open()


@given(st.lists(st.tuples(st.text(), st.text()), max_size=8), st.sampled_from([",", "\t"]))
def test_any_table_is_read_or_refused(tmp_path_factory, rows, sign):
    import csv

    path = tmp_path_factory.mktemp("t") / "t.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file, delimiter=sign).writerows([("filepath", "title"), *rows])
    try:
        source = TablePairs(path).open()
    except DataError:
        return
    read = {text for n in range(len(source)) for text in source.captions(n)}
    clean = {text.encode("utf-8", "replace").decode().replace("\0", "").strip() for _, text in rows}
    assert {"".join(text.split()) for text in read} <= {"".join(text.split()) for text in clean}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of bytes that are not UTF-8
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_json_gives_captions_or_none(data):
    captions = captions_of_fields(parse_json(data))
    assert all(isinstance(text, str) and text.strip() == text != "" for text in captions)


@given(st.text())
def test_any_template_is_taken_or_refused(text):
    try:
        sentences = Templates((text,)).fill("owl", {})
    except DataError:
        return
    assert all("owl" in sentence for sentence in sentences)


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{0.__class__}", "{", "{x[0]}"])
def test_templates_without_a_proper_hole_are_refused(template):
    with pytest.raises(DataError, match="template"):
        Templates((template,))
    with pytest.raises(DataError, match="at least one"):
        Templates(())


def test_split_stands_when_records_come_and_go(tmp_path):
    write_tar(tmp_path / "s.tar", caption_members(range(200)))
    source = TarPairs(tmp_path / "s.tar").open()
    train, held = split(source, 0.2, seed=3)
    keys = {held.key(n) for n in range(len(held))}
    assert 20 <= len(held) <= 60
    assert len(train) + len(held) == 200
    assert held.read(0).key in keys
    write_tar(tmp_path / "s.tar", caption_members(range(0, 200, 2)))
    _, fewer = split(TarPairs(tmp_path / "s.tar").open(), 0.2, seed=3)
    assert {fewer.key(n) for n in range(len(fewer))} == {key for key in keys if int(key[2:]) % 2 == 0}
    with pytest.raises(DataError, match="share to hold out"):
        split(source, 1.0)


def test_the_kind_is_guessed(tmp_path):
    pairs = write_tar(tmp_path / "p.tar", caption_members(range(2)))
    classes = write_tar(tmp_path / "c.tar.gz", class_members(["a", "b"]))
    labels = write_tar(tmp_path / "l.tar", [("0.png", picture(0)), ("0.json", b'{"label": "owl"}')])
    other = write_tar(tmp_path / "o.tar", [("0.png", picture(0)), ("0.json", b'{"alt": "owl"}')])
    (tmp_path / "t.csv").write_text("filepath,title\n")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.txt").write_text("x")
    (tmp_path / "g" / "owl").mkdir(parents=True)
    assert describe(pairs) == TarPairs(pairs)
    assert describe(classes) == LabelledTar(classes)
    assert describe(str(labels)) == LabelledTar(str(labels), label_field="label")
    assert isinstance(describe(tmp_path / "t.csv"), TablePairs)
    assert isinstance(describe(tmp_path / "f"), Folder)
    assert isinstance(describe(tmp_path / "g"), LabelledFolder)
    with pytest.raises(DataError, match="caption_field"):
        describe(other)
    assert pickle.loads(pickle.dumps(describe(pairs))) == TarPairs(pairs)


def test_the_real_packs(shared):
    flickr = describe(shared / "data" / "flickr8k-train-000000.tar").open()
    assert len(flickr) == 2000
    assert all(len(flickr.captions(n)) == 5 for n in range(0, 2000, 100))
    left_out = frozenset({"owl", "goose"})
    labelled = LabelledTar(
        shared / "data" / "open-train-000002.tar.gz",
        ("{}", "{}: {kind}"),
        label_field="label",
        exclude=left_out,
    ).open()
    assert len(labelled) + labelled.excluded == 4806
    assert labelled.excluded > 0
    assert not left_out & set(labelled.classes)
    assert all(np.array([len(labelled.image(n)) for n in range(0, 4000, 50)]) > 500)


def test_parts_of_one_description_share_its_index(tmp_path):
    path, opened = write_tar(tmp_path / "pairs.tar", caption_members(range(20))), []

    class Counted:
        def open(self):
            opened.append(1)
            return TarPairs(path).open()

    once = Once(Counted())
    train, held = Part(once, 0.5).open(), Part(once, 0.5, held_out=True).open()
    assert opened == [1]
    keys = [{side.key(n) for n in range(len(side))} for side in (train, held)]
    assert keys[0].isdisjoint(keys[1])
    assert len(keys[0] | keys[1]) == 20


def test_captions_of_parquet_that_are_no_utf8_are_mended(tmp_path):
    write_latin(tmp_path / "t.parquet", b"a caf\xe9", b"tea")
    source = TablePairs(tmp_path / "t.parquet", image="text", caption="text").open()
    assert [source.captions(n) for n in range(2)] == [("a caf\ufffd",), ("tea",)]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_several_caption_columns_are_several_captions(tmp_path, name):
    rows = [("1.jpg", "a cat", "ein Kater"), ("2.jpg", "", "ein Hund"), ("1.jpg", "a cat sits", "")]
    if name == "t.csv":
        lines = ["img,en,de", *(",".join(row) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines))
    else:
        columns = dict(zip(("img", "en", "de"), zip(*rows, strict=True), strict=True))
        pq.write_table(pa.table({key: list(values) for key, values in columns.items()}), tmp_path / name)
    source = describe(tmp_path / name, image="img", captions=["en", "de"]).open()
    assert [source.key(n) for n in range(len(source))] == ["1.jpg", "2.jpg"]
    assert source.captions(0) == ("a cat", "ein Kater", "a cat sits")
    assert source.captions(1) == ("ein Hund",)
    with pytest.raises(DataError, match="no column 'fr'"):
        TablePairs(tmp_path / name, "img", ("en", "fr")).open()


def test_columns_of_what_is_no_table_are_refused(tmp_path):
    (tmp_path / "1.txt").write_text("a cat")
    with pytest.raises(DataError, match="is not a table"):
        describe(tmp_path, captions=["en"])
