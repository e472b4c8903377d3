"""Tables of pairs by other programs: encodings, separators, compression, JSON lines, refused files."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import pytest

from diptych.embedding.tables import chunks, columns_of, read_chunk
from diptych.errors import DataError
from diptych.files.text_files import TextEncodingWarning
from diptych.training.checkpoints.checkpoint import stable_repr
from diptych.training.data.sources import shard_reader, shards
from diptych.training.data.sources.folders import Folder
from diptych.training.data.sources.records import Once
from diptych.training.data.sources.shards import TarPairs
from diptych.training.data.sources.sources import describe
from diptych.training.data.sources.tables import TablePairs
from tests.training.data.make_pairs import picture, write_tar

CAPTION = "un café à côté, n° {}"
ROWS = ["filepath,title", *(f'i/{n}.png,"{CAPTION.format(n)}"' for n in range(8))]
FORMS = {
    "cp1252": "\r\n".join(ROWS).encode("cp1252"),
    "utf16": "\r\n".join(ROWS).encode("utf-16"),
    "cr": "\r".join(ROWS).encode(),
    "excel": ("sep=;\r\n" + "\r\n".join(row.replace(",", ";", 1) for row in ROWS)).encode("utf-8-sig"),
    "semicolons": "\n".join(row.replace(",", ";", 1) for row in ROWS).encode("cp1252"),
}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    for n in range(8):
        (tmp_path / "i" / f"{n}.png").write_bytes(picture(n))
    return tmp_path


@pytest.mark.filterwarnings("ignore::diptych.files.text_files.TextEncodingWarning")
@pytest.mark.parametrize("form", FORMS)
def test_tables_in_the_encoding_they_have(desk: Path, form: str) -> None:
    path = desk / "t.csv"
    path.write_bytes(FORMS[form])
    source = TablePairs(path).open()
    assert [source.captions(n) for n in range(8)] == [(CAPTION.format(n),) for n in range(8)]
    assert len({source.read(n).image for n in range(8)}) == 8
    assert columns_of(path) == ["filepath", "title"]
    for rows in (3, 8, 100):  # each chunk is read from its own offset in the file
        pieces = [list(read_chunk(path, ["title", "filepath"], chunk)) for chunk in chunks(path, rows)]
        assert [cell for piece in pieces for cell in piece] == [
            (CAPTION.format(n), f"i/{n}.png") for n in range(8)
        ]


def test_the_guess_is_told_once_a_file(desk: Path) -> None:
    (desk / "t.csv").write_bytes(FORMS["cp1252"])
    with pytest.warns(TextEncodingWarning, match=r"t\.csv") as warned:
        TablePairs(desk / "t.csv").open()
    assert len(warned) == 1


@pytest.mark.filterwarnings("ignore::diptych.files.text_files.TextEncodingWarning")
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lists_of_texts(desk: Path, encoding: str, end: str) -> None:
    path = desk / "list.txt"
    path.write_bytes(end.join(["un café", "une forêt", "a dog", ""]).encode(encoding))
    read = [cell for chunk in chunks(path, 2) for (cell,) in read_chunk(path, ["text"], chunk)]
    assert [text.strip() for text in read] == ["un café", "une forêt", "a dog"]


def test_packed_tables_and_json_lines(desk: Path) -> None:
    (desk / "pairs.csv.gz").write_bytes(gzip.compress("\n".join(ROWS).encode()))
    lines = [json.dumps({"file_name": f"i/{n}.png", "text": CAPTION.format(n)}) for n in range(8)]
    (desk / "metadata.jsonl").write_text("\n".join(lines))
    (desk / "captions.csv").write_text("\n".join(["image,caption", *ROWS[1:]]))
    for name in (
        "pairs.csv.gz",
        "metadata.jsonl",
        "captions.csv",
        ".",
    ):  # a folder of the hub contains metadata.jsonl
        source = describe(desk / name).open()
        assert [source.captions(n) for n in range(8)] == [(CAPTION.format(n),) for n in range(8)], name


@pytest.mark.parametrize(
    ("name", "content", "way_out"),
    [
        (
            "captions.txt",
            b"image,caption\na.jpg,a dog\n",
            r"It looks like a table \('image,caption'\): call it captions\.csv",
        ),
        (
            "coco.json",
            b'{"images": [], "annotations": []}',
            "COCO's JSON is measured with diptych evaluate retrieval",
        ),
        ("list.json", b'[{"image": "a.jpg"}]', "Write JSON as one object a line"),
        ("words.txt", b"a dog\na cat\n", "captions of a folder lie beside their pictures"),
        ("pairs.xlsx", b"PK\x03\x04\x14\x00\xff\x81" + bytes(30), "Pack pictures and captions into a tar"),
        ("pairs.zip", b"PK\x03\x04\x14\x00\xff\x81" + bytes(30), "unpack them into a folder"),
    ],
)
def test_what_is_no_kind_of_pairs(tmp_path: Path, name: str, content: bytes, way_out: str) -> None:
    (tmp_path / name).write_bytes(content)
    expected = "no known kind of pairs: expected tar, CSV, TSV, Parquet or a folder.*"
    with pytest.raises(DataError, match=f"(?i){name} is {expected}{way_out}"):
        describe(tmp_path / name)


def test_a_shard_is_one_whatever_its_name(desk: Path) -> None:
    import tarfile

    with tarfile.open(desk / "shard", "w") as tar:
        tar.add(desk / "i" / "0.png", "0.png")
        (desk / "0.txt").write_text("a dog")
        tar.add(desk / "0.txt", "0.txt")
    assert len(describe(desk / "shard").open()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"filepath,titel\na.jpg,a dog\n",
            "has no column 'title': its columns are 'filepath', 'titel'. Did you mean",
        ),
        (b"filepath\na.jpg\n", "has no column 'title'"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not a text"),
        (b"", "has no column 'filepath'.*none"),
    ],
)
def test_tables_without_captions_say_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        describe(tmp_path / "t.csv").open()


@pytest.mark.parametrize(
    "content",
    ['{"file_name": "a.jpg"}\n', '{"a": 1', "[1]\n", '"text"\n'],
    ids=["no text", "cut", "list", "string"],
)
def test_json_lines_that_are_no_pairs(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"t\.jsonl"):
        describe(tmp_path / "t.jsonl").open()


@pytest.mark.parametrize(("files", "names"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_of_a_table_find_files_of_the_other_normal_form(tmp_path: Path, files: str, names: str) -> None:
    (tmp_path / "pairs").mkdir()
    rows = ["filepath,title"]
    for n in range(8):
        (tmp_path / "pairs" / unicodedata.normalize(files, f"Müller {n}.png")).write_bytes(picture(n))
        rows.append(unicodedata.normalize(names, f"pairs/Müller {n}.png,a flower"))
    (tmp_path / "t.csv").write_text("\n".join(rows))
    source = TablePairs(tmp_path / "t.csv").open()
    assert len({source.read(n).image for n in range(8)}) == 8


HOSTILE = [("i/0\ud800.png", "a \udc80 dog"), ("i/1\0.png", "a cat"), ("i/2.png", "a lion")]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_names_that_no_file_has_are_records_that_cannot_be_read(desk: Path, kind: str) -> None:
    path = desk / f"t.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps({"filepath": name, "title": text}) for name, text in HOSTILE))
    else:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {
            name: arrow.array([row[at].encode("utf-8", "surrogatepass") for row in HOSTILE])
            for at, name in enumerate(("filepath", "title"))
        }
        texts = {name: column.view(arrow.string()) for name, column in columns.items()}
        parquet.write_table(arrow.table(texts), path)
    source = TablePairs(path).open()
    assert len(source.hashes()) == 3
    for index in (0, 1):
        with pytest.raises(DataError, match=r"cannot be read"):
            source.read(index)
    assert "".join(text for n in range(3) for text in source.captions(n)).encode()
    assert source.read(2).captions == ("a lion",)


def test_files_too_long_for_a_picture_or_a_caption(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (3, 4, 5):
        (desk / "i" / f"{n}.txt").write_text("a dog")
    for name in ("3.png", "4.txt"):
        with (desk / "i" / name).open("r+b") as file:
            file.truncate(2**31)  # sparse: it takes no space on the disk
    source = Folder(desk / "i").open()
    assert [source.key(n) for n in range(3)] == ["3.png", "4.png", "5.png"]
    with pytest.raises(DataError, match=r"3\.png cannot be read.*over the limit"):
        source.image(0)
    with pytest.raises(DataError, match=r"4\.txt is over"):
        source.captions(1)
    assert source.captions(2) == ("a dog",)
    for module in (shard_reader, shards):
        monkeypatch.setattr(module, "LARGEST_TEXT", 10)
    tar = write_tar(
        desk / "0.tar",
        [
            (f"{n}.{kind}", data)
            for n, text in enumerate((b"a dog", b"a long tale"))
            for kind, data in (("png", picture(n)), ("txt", text))
        ],
    )
    assert [record.captions for record in shard_reader.ShardReader(str(tar))] == [("a dog",)]
    pairs = TarPairs(tar).open()
    assert [pairs.captions(n) for n in range(2)] == [("a dog",), ()]


def test_tables_of_several_folders_may_call_different_pictures_alike(tmp_path: Path) -> None:
    for n, folder in enumerate(("x", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(picture(n))
        (tmp_path / folder / "t.csv").write_text(f"filepath,title\n1.jpg,a dog\n./1.jpg,{folder}\n")
    whole = tmp_path / "y" / "1.jpg"
    (tmp_path / "x" / "more.csv").write_text(f"filepath,title\n{whole},a lion\n{tmp_path}/2.jpg,a cat\n")
    tables = [tmp_path / "x" / "t.csv", tmp_path / "y" / "t.csv"]
    source = TablePairs([*tables, tmp_path / "x" / "more.csv"]).open()
    assert [(source.key(n), source.captions(n)) for n in range(len(source))] == [
        ("x/t.csv/1.jpg", ("a dog", "x")),
        ("y/t.csv/1.jpg", ("a dog", "y", "a lion")),
        (f"{tmp_path}/2.jpg", ("a cat",)),
    ]
    assert len(set(source.hashes().tolist())) == 3
    alone = TablePairs(tables[0]).open()
    assert [alone.key(n) for n in range(len(alone))] == ["1.jpg"]
    rooted = TablePairs(tables, root=tmp_path / "x").open()  # one folder: one picture
    assert [(rooted.key(n), rooted.captions(n)) for n in range(len(rooted))] == [
        ("1.jpg", ("a dog", "x", "a dog", "y"))
    ]


def test_checkpoints_hold_the_old_name_of_tables_of_pairs() -> None:
    pairs = TablePairs("t.csv", caption=("en", "de"))
    fields = "path='t.csv', image='filepath', caption=('en', 'de'), separator=None, root=None"
    assert stable_repr(pairs) == repr(pairs) == repr(Once(pairs)) == f"Table({fields})"
