"""The table reader: the same rows and the same error messages in every format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.errors import DataError
from diptych.files.tables import column_names, open_text_table, read_rows, separator_line

ROWS = [("a.jpg", "a dog, asleep"), ("b.jpg", "un café")]
COLUMNS = ["file", "caption"]
NAMES = ["t.csv", "t.tsv", "t.csv.gz", "t.jsonl", "t.jsonl.gz", "t.parquet"]


def write_table(path: Path) -> Path:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        cells = dict(zip(COLUMNS, map(list, zip(*ROWS, strict=True)), strict=True))
        pq.write_table(pa.table(cells), path)
        return path
    if kind == "jsonl":
        lines = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in ROWS]
    else:
        sign = {"csv": ",", "tsv": "\t"}[kind]
        lines = [sign.join(f'"{cell}"' for cell in row) for row in (COLUMNS, *ROWS)]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_rows_and_messages(tmp_path: Path, name: str) -> None:
    path = write_table(tmp_path / name)
    assert column_names(path, "training") == COLUMNS
    assert list(read_rows(path, COLUMNS[::-1], "training")) == [row[::-1] for row in ROWS]
    columns = "its columns are 'file', 'caption'"
    expected = rf"{name} has no column 'captions': {columns}\. Did you mean 'caption'\? Name it"
    with pytest.raises(DataError, match=expected):
        next(read_rows(path, ["captions"], "training", way_out="Name it: --column"))


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_an_error_that_names_the_table(tmp_path: Path, name: str) -> None:
    path = write_table(tmp_path / name)
    data = path.read_bytes()
    is_text = name in ("t.csv", "t.tsv")  # a truncated file is still a valid table
    path.write_bytes(b"\xff\x00\x81\x01" if is_text else data[:-3])
    with pytest.raises(DataError, match=name):
        list(read_rows(path, COLUMNS, "training"))
    path.unlink()
    with pytest.raises(DataError, match=rf"{name} is not a (Parquet )?table that can be read"):
        column_names(path, "training")


def test_separators_are_guessed_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b;c|d\n")
    assert column_names(path, "training") == ["a", "b;c|d"]
    with open_text_table(path, expected=["c|d"]) as table:  # a column that only ";" gives
        assert table.columns == ["a,b", "c|d"]
    path.write_text("sep=|\na,b,c|d\n1,2|3\n4\n")
    assert list(read_rows(path, ["d"], "training")) == [("3",), ()]
    with pytest.raises(DataError, match=r"can be read: .*delimiter"):
        list(read_rows(path, ["d"], "training", separator=";;"))


def test_names_of_columns_may_span_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('"the\nfile",title\na.jpg,"a\ndog"\n')
    assert list(read_rows(path, ["title", "the\nfile"], "training")) == [("a\ndog", "a.jpg")]
    path.write_text('"never closed,title\n' + "a.jpg,a dog\n" * 1000)
    assert len(column_names(path, "training")[0]) < 1000
    path.write_text('file,title,size 5"\na.jpg,a 5" disk,x\nb.jpg,a dog,y\n')  # inches, not quoted names
    assert list(read_rows(path, ["file", 'size 5"'], "training")) == [("a.jpg", "x"), ("b.jpg", "y")]


def test_separator_lines_of_excel() -> None:
    lines = ("sep=;", '"sep=\t"\r\n', "SEP=|\n", "separate;x")
    assert [separator_line(line) for line in lines] == [";", "\t", "|", ""]
