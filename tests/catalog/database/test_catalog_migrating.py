"""Migration of catalogues from earlier formats without loss; unknown formats are refused by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from diptych.catalog import Store
from diptych.catalog.database import schema
from diptych.errors import CatalogError
from tests.catalog.catalogs import colours, content, index

# Undo the additions of format 3.
TO_FORMAT_2 = """
ALTER TABLE contents DROP COLUMN taken_from;
ALTER TABLE contents DROP COLUMN own_data;
ALTER TABLE files DROP COLUMN changed;
DROP INDEX files_sidecar_data;
ALTER TABLE files DROP COLUMN sidecar_data;
ALTER TABLE roots DROP COLUMN archives;
ALTER TABLE roots DROP COLUMN system_folders;
DROP TABLE ratings;
DROP TABLE forgotten;
DROP TABLE set_aside;
UPDATE meta SET value = '2' WHERE key = 'format';
"""


def tables(database: Path) -> dict[str, set[tuple[str, str]]]:
    """The schema: table -> (column, type), and the names of indexes."""
    with closing(sqlite3.connect(database)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'").fetchall()
        return {
            name: {(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({name})")}
            for (name,) in names
        }


def run(database: Path, script: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    return tmp_path / "catalog"


def test_format_2_is_brought_on(catalog: Path) -> None:
    database = catalog / "catalog.sqlite"
    expected, rows = tables(database), content(catalog)
    run(database, TO_FORMAT_2 + "INSERT INTO tags VALUES (1, 'mine', 1.0, 'list');")
    assert tables(database) != expected
    store = Store.open(catalog)
    assert store.database.all("SELECT tag FROM tags") == [("mine",)]
    assert store.database.all("SELECT value FROM meta WHERE key = 'format'") == [(str(schema.FORMAT),)]
    store.close()
    assert tables(database) == expected
    assert content(catalog) == rows


def test_a_broken_migration_leaves_the_old_format(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = catalog / "catalog.sqlite"
    run(database, TO_FORMAT_2)
    before = tables(database)
    broken = {2: schema.MIGRATIONS[2] + "; ALTER TABLE missing_table ADD COLUMN x TEXT"}
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    with pytest.raises(CatalogError, match="no such table"):
        Store.open(catalog)
    assert tables(database) == before
    monkeypatch.undo()
    Store.open(catalog).close()


def test_postgres_is_brought_on(new_database: Callable[[], str], tmp_path: Path) -> None:
    address = new_database()
    colours(tmp_path / "pictures")
    index(address, tmp_path / "pictures")
    rows = content(address)
    store = Store.open(address)
    with store.database.writing():
        for statement in schema.statements(TO_FORMAT_2, store.database.column_types):
            store.database.run(statement)
    store.close()
    assert content(address) == rows  # opening it migrates
    store = Store.open(address)
    assert store.database.all("SELECT COUNT(*), SUM(changed) FROM files")[0][0] == len(rows)
    store.close()


@pytest.mark.parametrize(
    ("number", "way"), [("1", "index again, into another folder"), ("99", "update diptych"), ("x", "none")]
)
def test_other_formats_are_refused(catalog: Path, number: str, way: str) -> None:
    run(catalog / "catalog.sqlite", f"UPDATE meta SET value = '{number}' WHERE key = 'format'")
    with pytest.raises(CatalogError, match=f"this version reads {schema.FORMAT}.*{way}|{way}.*this version"):
        Store.open(catalog)
