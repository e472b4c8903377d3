"""`diptych search` without a query, and the filters shared by all commands of a collection."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import Result

from diptych.catalog import Filter
from diptych.cli.main import app
from diptych.cli.shared.filters import FilterOptions, read_date

Run = Callable[..., Result]


@pytest.fixture
def indexed(run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Three pictures of three days in the default catalogue; one has a tag."""
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    for n, name in enumerate(("a.jpg", "b.png", "inner/c.webp")):
        os.utime(album / name, (n * 86400 + 43200,) * 2)
    assert run("index", album, "-m", tiny).exit_code == 0
    assert run("tag", "--add", "sea", album / "a.jpg").exit_code == 0
    return album


def paths(done: Result) -> list[str]:
    assert done.exit_code == 0, done.stderr
    return [Path(line).name for line in done.stdout.splitlines()]


def test_a_list_needs_no_model(run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.cli.shared.catalogs.encoder_for", None)  # loading this model would fail
    assert paths(run("search", "--paths")) == ["c.webp", "b.png", "a.jpg"]
    assert paths(run("search", "--paths", "--sort", "name")) == ["a.jpg", "b.png", "c.webp"]
    pages = [paths(run("search", "--paths", "-k", 2, "--page", page)) for page in (1, 2)]
    assert pages == [["c.webp", "b.png"], ["a.jpg"]]
    table = run("search", "--name", "png", "--all")
    rank, day, path = table.stdout.split()
    assert (rank, day) == ("1", "1970-01-02")
    assert path.endswith("/album/b.png")  # a long path is cut at its beginning, to fit in 80 columns
    assert "2 of 3 pictures, newest first (--page N shows more)" in run("search", "-k", 2).stderr
    printed = json.loads(run("search", "--tag", "sea", "--json").stdout)
    assert (printed["query"], printed["total"], printed["searched"]) == ([], 1, 3)
    assert (printed["hits"][0]["relevance"], printed["hits"][0]["tags"]) == (None, ["sea"])
    rows = list(csv.DictReader(io.StringIO(run("search", "--csv").stdout)))
    assert [Path(row["path"]).name for row in rows] == ["c.webp", "b.png", "a.jpg"]
    assert rows[2]["tags"] == "sea"
    assert run("search", "--html", "sheet.html").exit_code == 0
    assert "3 shown of 3 pictures, newest first" in Path("sheet.html").read_text("utf-8")
    assert run("search", "--page", 9).exit_code == 1


def test_what_needs_a_query(run: Run, indexed: Path) -> None:
    for words in (("--cutoff", "0.5"), ("--explain", "maps"), ("--sort", "likeness")):
        refused = run("search", *words)
        assert refused.exit_code == 2
        assert "query" in refused.stderr
    assert "the query is empty" in run("search", "").stderr
    assert run("search", "--json", "--csv").exit_code == 2
    assert run("search", "--sort", "size").exit_code == 2


def test_an_order_and_a_csv_of_a_query(run: Run, indexed: Path) -> None:
    assert paths(run("search", "dog", "--all", "--sort", "name", "--paths")) == ["a.jpg", "b.png", "c.webp"]
    rows = list(csv.DictReader(io.StringIO(run("search", "dog", "--all", "--csv", "-q").stdout)))
    assert len(rows) == 3
    assert all(float(row["relevance"]) <= 1 for row in rows)


def test_names_that_nothing_has_are_refused(run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.cli.shared.catalogs.encoder_for", None)
    commands: list[tuple[object, ...]] = [("search",), ("search", "dog"), ("map",), ("duplicates",)]
    commands += [("similar", indexed / "a.jpg"), ("catalog", "export", "vectors"), ("tag", "--xmp")]
    for command in commands:
        refused = run(*command, "--tag", "sae")
        assert refused.exit_code == 2, command
        assert "there is no such tag: 'sae'; did you mean 'sea'?" in " ".join(refused.stderr.split())
    assert run("search", "--type", "jgp").exit_code == 2
    assert run("search", "--not-in", "nowhere").exit_code == 2


def test_the_same_filters_everywhere() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    expected = set(FilterOptions.__dataclass_fields__)
    for name in ("search", "map", "duplicates", "similar", "tag"):
        assert expected <= {item.name for item in commands[name].params}, name
    assert expected <= {item.name for item in commands["catalog"].commands["export"].params}


def test_filters_of_other_commands(run: Run, indexed: Path) -> None:
    printed = json.loads(run("catalog", "export", "some.parquet", "--not-tag", "sea", "--json").stdout)
    assert printed["rows"] == 2
    alike = json.loads(run("similar", indexed / "a.jpg", "--not-name", "a.jpg", "--json").stdout)
    assert {Path(item["path"]).name for item in alike[0]["found"]} <= {"b.png", "c.webp"}
    assert alike[0]["found"]
    (indexed / "copy.jpg").write_bytes((indexed / "a.jpg").read_bytes())
    assert run("index").exit_code == 0
    results = [
        json.loads(run("duplicates", "--tiers", "bytes", "--json", *words).stdout)
        for words in ((), ("--not-name", "copy"), ("--tag", "sea"), ("--untagged",))
    ]
    assert [len(item["groups"]) for item in results] == [1, 0, 1, 0]


def test_options_become_a_filter() -> None:
    assert FilterOptions().filter() == Filter()
    assert not FilterOptions().filter()
    given = FilterOptions(
        after="2013", before="2013-05", tag=["a"], any_tag=["b", "c"], not_tag=["d"], min_rating=4
    )
    where = given.filter()
    assert (str(where.after), str(where.before)) == ("2013-01-01", "2013-05-31")
    assert (where.tags, where.any_tags, where.not_tags, where.min_rating) == (("a",), ("b", "c"), ("d",), 4)


@pytest.mark.parametrize("text", ["13", "soon", "2013-13", "2013-02-30", "2013-1-1-1", "", "20130"])
def test_what_is_no_date(text: str) -> None:
    import typer

    with pytest.raises(typer.BadParameter, match="is not a date"):
        read_date(text, end=True)


@pytest.mark.parametrize(
    "text", ["20130507", "2013:05:07", "2013/5/7", "2013-05-07 10:30", "2013-05-07T10:30:00+02:00"]
)
def test_a_day_however_it_is_written(text: str) -> None:
    assert str(read_date(text, end=True)) == "2013-05-07"
