"""Tables of attributes matched with pictures: rows without a match are counted and named."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.audits.bias.attribute_table import parse_table
from diptych.audits.bias.people import (
    AMBIGUOUS,
    BROKEN,
    DISAGREE,
    NO_FILE,
    NO_PICTURE,
    NO_ROW,
    REPEATED,
    group_codes,
    load_people,
    load_pictures,
)
from diptych.errors import DataError
from tests.audits.planted import numbered
from tests.toys import tar_bytes


def pack(tmp_path: Path, table: str | bytes, *, name: str = "pack/labels.csv", pictures: int = 3) -> Path:
    content = table.encode() if isinstance(table, str) else table
    files = {f"pack/{number}.png": numbered(number) for number in range(pictures)}
    path = tmp_path / "pack.tar"
    path.write_bytes(tar_bytes(files | ({name: content} if name else {})))
    return path


def test_a_table_inside_an_archive(tmp_path: Path) -> None:
    people = load_people(
        pack(tmp_path, "file,age,gender\n2.png,3-9, Male \n0.png,20-29,Female\n1.png,,Male\n")
    )
    assert people.keys == ("pack/0.png", "pack/1.png", "pack/2.png")
    assert people.columns == {"age": ("20-29", None, "3-9"), "gender": ("Female", "Male", "Male")}
    assert not people.problems
    assert people.trouble() == ["1 blank cells of 'age': 'pack/1.png'."]
    names, codes = people.groups("gender")
    assert (names, codes.tolist()) == (("Female", "Male"), [0, 1, 1])


def test_everything_wrong_is_counted_and_named(tmp_path: Path) -> None:
    rows = [
        "file,age",
        "0.png,1",
        "0.png,1",
        "1.png,1",
        "1.png,2",
        "gone.png,1",
        ",3",
        "2.png,1,extra",
        "2.png,5",
    ]
    people = load_people(pack(tmp_path, "\n".join(rows), pictures=4))
    assert people.columns["age"] == ("1", "5")
    assert people.problems == {
        REPEATED: ("0.png",),
        DISAGREE: ("pack/1.png",),
        NO_PICTURE: ("gone.png",),
        NO_FILE: ("",),
        BROKEN: ("row 8",),
        NO_ROW: ("pack/3.png",),
    }
    assert len(people.trouble()) == 6


def test_a_name_that_fits_several_pictures_fits_none(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "pack" / folder).mkdir(parents=True)
        (tmp_path / "pack" / folder / "1.png").write_bytes(numbered(1))
    (tmp_path / "pack" / "people.csv").write_text("file,age\n1.png,7\na/1.png,8\n")
    people = load_people(tmp_path / "pack")
    assert people.keys == ("a/1.png",)
    assert people.columns["age"] == ("8",)
    assert people.problems == {AMBIGUOUS: ("1.png",), NO_ROW: ("b/1.png",)}


def test_a_name_is_looked_for_beside_the_table_first(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "pack" / folder).mkdir(parents=True)
        (tmp_path / "pack" / folder / "1.png").write_bytes(numbered(1))
    (tmp_path / "pack" / "b" / "people.csv").write_text("file,age\n1.png,7\n")
    assert load_people(tmp_path / "pack").keys == ("b/1.png",)


def test_a_table_beside_an_archive_or_named(tmp_path: Path) -> None:
    path = pack(tmp_path, "", name="")
    table = tmp_path / "pack.tsv"
    table.write_text("image\tsex\npack\\0.png\tMale\nsomewhere/pack/1.png\tMale\n")
    people = load_people(path)
    assert people.columns == {"sex": ("Male",)}
    assert people.problems[NO_PICTURE] == ("somewhere/pack/1.png",)
    other = tmp_path / "other.csv"
    other.write_text("who;sex\n2.png;Female\n")
    result = load_people(path, other, file="who", columns=["sex"])
    assert result.columns == {"sex": ("Female",)}


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"file": ["0.png", "1.png"], "age": [7, None]}), buffer)
    people = load_people(pack(tmp_path, buffer.getvalue(), name="pack/labels.parquet"))
    assert people.columns == {"age": ("7", None)}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "is empty"),
        ("file,age\n", "has a header and no row"),
        ("who,age\n0.png,3\n", "its columns are 'who', 'age'"),
        ("file,age,age\n0.png,3,4\n", "several columns 'age'"),
        ("file\n0.png\n", "expected columns of attributes"),
        ("file,age\nother.png,3\n", "no row of"),
        (b"file,age\n0.png,\xff\x01\n", "not a text"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, table: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_people(pack(tmp_path, table))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_either_normal_form_fit(tmp_path: Path, form: str) -> None:
    (tmp_path / unicodedata.normalize(form, "Müller.png")).write_bytes(numbered(0))
    other = "NFD" if form == "NFC" else "NFC"
    (tmp_path / "people.csv").write_text(unicodedata.normalize(other, "file,age\nMüller.png,3\n"))
    assert load_people(tmp_path).values("age") == ("3",)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = pack(tmp_path, "file,age\n0.png,3\n")
    with pytest.raises(DataError, match="Did you mean 'age'"):
        load_people(path, columns=["ages"])
    with pytest.raises(DataError, match="its attributes are 'age'"):
        load_people(path).values("gender")


def test_no_table_or_several(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none inside or beside it"):
        load_people(pack(tmp_path, "", name=""))
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "0.png").write_bytes(numbered(0))
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("file,age\n0.png,3\n")
    with pytest.raises(DataError, match=r"several: 'a\.csv', 'b\.csv'"):
        load_people(folder)
    assert load_people(folder, folder / "a.csv").columns == {"age": ("3",)}
    with pytest.raises(DataError, match="cannot be read"):
        load_people(folder, folder / "c.csv")
    with pytest.raises(DataError, match="is not a table"):
        load_people(folder, folder / "0.png")


def test_a_blank_column_has_no_groups(tmp_path: Path) -> None:
    people = load_people(pack(tmp_path, "file,age,sex\n0.png,,x\n"))
    with pytest.raises(DataError, match="every cell is blank"):
        people.groups("age")


def test_the_fingerprint_follows_the_attributes(tmp_path: Path) -> None:
    first = load_people(pack(tmp_path, "file,age\n0.png,3\n")).fingerprint
    assert load_people(pack(tmp_path, "file,age\n0.png,4\n")).fingerprint != first
    assert load_people(pack(tmp_path, "file,age\n0.png,3\n")).fingerprint == first


def test_pictures_alone(tmp_path: Path) -> None:
    assert len(load_pictures(pack(tmp_path, "x"))) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        load_pictures(tmp_path / "empty")


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=8))
def test_cells_come_back_as_they_were_written(rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "age"])
    writer.writerows(rows)
    wanted = [tuple(cell.strip() for cell in row) for row in rows if any(cell.strip() for cell in row)]
    if wanted:
        result = parse_table(text.getvalue().encode(), "t.csv")
        assert list(result.cells) == wanted
        assert not result.broken


def test_broken_rows_are_numbered_as_in_the_file() -> None:
    table = parse_table(b"file,age\n\n0.png,3\n,\n1.png\n2.png,4,5\n", "t.csv")
    assert (table.cells, table.broken) == ((("0.png", "3"),), ("row 5", "row 6"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of bytes that are not UTF-8
@given(st.binary(max_size=200), st.sampled_from(["t.csv", "t.tsv", "t.parquet"]))
def test_any_bytes_are_a_table_or_an_error(content: bytes, name: str) -> None:
    try:
        rows = parse_table(content, name)
    except DataError:
        return
    assert all(len(row) == len(rows.header) for row in rows.cells)


@given(st.lists(st.one_of(st.none(), st.text(min_size=1, max_size=3)), min_size=1))
def test_codes_are_the_values_again(values: list[str | None]) -> None:
    if all(value is None for value in values):
        return
    names, codes = group_codes(values, "toy")
    assert [None if code < 0 else names[code] for code in codes] == values
