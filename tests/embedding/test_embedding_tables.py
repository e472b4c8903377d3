"""Tables read in chunks: the chunks together equal the whole table."""

from __future__ import annotations

import csv
import io
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.embedding.tables import chunks, columns_of, read_chunk
from diptych.errors import DataError
from tests.toys import write_latin

# A lone carriage return ends a row in csv, and NUL is removed: neither occurs in these texts.
CELLS = st.text(st.sampled_from(string.ascii_letters + " ,;\t\"'|äß猫\n"), max_size=8)
TABLES = st.lists(st.tuples(CELLS, CELLS), max_size=25)


def pieces(path: Path, columns: list[str], rows: int) -> list[list[tuple[object, ...]]]:
    return [list(read_chunk(path, columns, chunk)) for chunk in chunks(path, rows)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@given(table=TABLES, rows=st.integers(1, 7), separator=st.sampled_from(",\t;|"), mark=st.booleans())
@settings(max_examples=60)
def test_chunks_of_csv_are_the_table(
    desk: Path, table: list[tuple[str, str]], rows: int, separator: str, mark: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "a caption"), *table])
    path = desk / "table.csv"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.getvalue().encode())
    assert columns_of(path) == ["path", "a caption"]
    result = pieces(path, ["a caption", "path"], rows)
    assert [row for piece in result for row in piece] == [(b, a) for a, b in table]
    assert all(len(piece) == rows for piece in result[:-1])
    assert sum(chunk.rows for chunk in chunks(path, rows)) == len(table)


@given(table=TABLES, rows=st.integers(1, 7), group=st.integers(1, 9))
@settings(max_examples=30)
def test_chunks_of_parquet_are_the_table(
    desk: Path, table: list[tuple[str, str]], rows: int, group: int
) -> None:
    path = desk / "table.parquet"
    columns = {
        "path": pa.array([a for a, _ in table], pa.string()),
        "n": pa.array(range(len(table)), pa.int32()),
    }
    pq.write_table(pa.table(columns), path, row_group_size=group)
    result = [row for piece in pieces(path, ["n", "path"], rows) for row in piece]
    assert result == [(n, a) for n, (a, _) in enumerate(table)]


@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n\r\0\ufeff", codec="utf-8"), max_size=9)),
    rows=st.integers(1, 5),
)
@settings(max_examples=60)
def test_chunks_of_a_list_are_its_lines(desk: Path, lines: list[str], rows: int) -> None:
    path = desk / "list.txt"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    result = [row[0] for piece in pieces(path, ["text"], rows) for row in piece]
    assert result == [f"{line}\n" for line in lines]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of bytes that are not UTF-8
@given(data=st.binary(max_size=200))
@settings(max_examples=60)
@pytest.mark.parametrize("name", ["noise.csv", "noise.parquet", "noise.txt"])
def test_noise_is_read_or_refused(desk: Path, name: str, data: bytes) -> None:
    path = desk / name
    path.write_bytes(data)
    try:
        columns = columns_of(path)[:1]
        assert sum(len(piece) for piece in pieces(path, columns, 3)) == sum(
            item.rows for item in chunks(path, 3)
        )
    except DataError:
        pass


def test_a_table_that_is_not_there(desk: Path) -> None:
    with pytest.raises(DataError, match="is not a table that can be read"):
        columns_of(desk / "none.csv")
    with pytest.raises(DataError, match="not a Parquet table"):
        columns_of(desk / "none.parquet")


def test_texts_of_parquet_that_are_no_utf8_are_mended(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_latin(path, b"caf\xe9", b"tea")
    assert pieces(path, ["text"], 10) == [[("caf\ufffd",), ("tea",)]]
    assert [row for (row,) in pieces(path, ["texts"], 10)[0]] == [None, ["tea"]]
