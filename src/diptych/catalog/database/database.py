"""The database of a catalogue: plain SQL with `?`, and transactions that exclude each other.

What is asked is `store`'s business; here is only how: SQLite, so opened that a reader never waits for a
writer, that two writers take turns, and that a writer killed at any instant leaves the state before its
transaction. Every thread has a connection of its own, so that a transaction is one thread's alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from diptych.catalog.database import schema
from diptych.catalog.database.connections import ThreadConnections
from diptych.errors import CatalogError, SaveError
from diptych.files.unicode_text import caseless
from diptych.media.sources import name_of

Row = tuple[Any, ...]
T = TypeVar("T")
MOST_VALUES = 500  # in one statement; SQLite of old took 999
_NUMBERS = itertools.count()  # of connections: which one counted `data_version`?
PATIENCE = 120.0  # seconds that a writer waits for another's transaction


class Database(Protocol):
    """What `store` asks of a database; every statement is SQL that SQLite and PostgreSQL both take."""

    name: str
    readonly: bool
    words: Mapping[str, str]  # the words in which its tables are made, see `schema`

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row."""
        ...

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Do it; how many rows it changed."""
        ...

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Do it for each of these."""
        ...

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """A transaction that no other writer runs beside: all of it happens, or nothing."""
        ...

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """One state of the database for all that is asked in here, whoever writes meanwhile."""
        ...

    def has_table(self, name: str) -> bool:
        """Whether there is a table of this name."""
        ...

    def text_of(self, column: str) -> str:
        """A column of paths, which are bytes, as text, in SQL; what is no UTF-8 is escaped."""
        ...

    def caseless(self, text: str) -> str:
        """A text, in SQL, for comparisons in which neither case nor the normal form of Unicode counts."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Sqlite:
    """A file of SQLite.

    Parameters
    ----------
    path : path
    create : bool
        Make it when it is not there.

    Raises
    ------
    CatalogError
        The file is not there, or is no database.

    Examples
    --------
    >>> database = Sqlite(Path(":memory:"), create=True)
    >>> with database.writing():
    ...     changed = database.run("CREATE TABLE numbers(n INTEGER)")
    ...     database.many("INSERT INTO numbers VALUES (?)", [(1,), (2,)])
    >>> database.all("SELECT n FROM numbers ORDER BY n")
    [(1,), (2,)]
    >>> database.close()
    """

    words: Mapping[str, str] = schema.SQLITE_WORDS

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path, self.name = path, str(path)
        self._memory = str(path) == ":memory:"
        # A folder that may not be written to has no place for the log that readers and writers share. Where
        # somebody else who may write has one open, its log is there and is read; else the file is taken as it
        # is.
        self.readonly = not (self._memory or create) and not os.access(path.parent, os.W_OK)
        self._create = create
        self._connections = ThreadConnections(self._connect, name=self.name)
        self._connection  # noqa: B018 - opened now, so that the error comes from here

    def _connect(self) -> sqlite3.Connection:
        path = self.path
        alone = not path.with_name(f"{path.name}-wal").exists()
        mode = ("ro&immutable=1" if alone else "ro") if self.readonly else "rwc" if self._create else "rw"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        if self._memory:  # named, so that every thread's connection means the same one
            uri = f"file:diptych-{id(self)}?mode=memory&cache=shared"
        try:
            # Only its own thread uses a connection; another one may have to close it.
            connection = sqlite3.connect(
                uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise CatalogError(f"{path} cannot be opened: {error}") from error
        try:
            with _told(path):
                if not self.readonly:
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA mmap_size = 268435456")
                connection.execute("PRAGMA temp_store = FILE")
                # SQLite's own LOWER knows the letters of ASCII alone, and no normal form.
                connection.create_function("CASELESS", 1, _caseless, deterministic=True)
                connection.create_function("TEXT_OF", 1, _text_of, deterministic=True)
                number = next(_NUMBERS)
                connection.create_function("CONNECTION_NUMBER", 0, lambda: number)
        except BaseException:
            connection.close()
            raise
        self._create = False  # a file that is gone later is an error, and no reason for an empty one
        return connection

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._connections.of_this_thread()

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row."""
        with _told(self.path):
            return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Do it; how many rows it changed."""
        with _told(self.path):
            return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Do it for each of these."""
        with _told(self.path):
            self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that no other writer runs beside: all of it happens, or nothing."""
        with _told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full device ends it by itself
                self._connection.execute("ROLLBACK")
            raise
        with _told(self.path):
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the database for all that is asked in here, whoever writes meanwhile."""
        ours = not self._connection.in_transaction  # else it is one state already
        if ours:
            with _told(self.path):
                self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if ours and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def has_table(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return bool(self.all("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)))

    def copy_to(self, path: Path) -> None:
        """Write the database as it is at this moment into a new file; others may write meanwhile."""
        self.run("VACUUM INTO ?", (str(path),))

    def text_of(self, column: str) -> str:
        """A column of bytes as text, in SQL."""
        return f"TEXT_OF({column})"

    def caseless(self, text: str) -> str:
        """A text in small letters and one normal form, in SQL."""
        return f"CASELESS({text})"

    def close(self) -> None:
        """Let go of it, in every thread."""
        self._connections.close()


def _caseless(text: str | None) -> str | None:
    return None if text is None else caseless(text)


def _text_of(path: bytes) -> str:
    return name_of(os.fsdecode(path))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as this package's, with the way out."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = str(error)
        if "full" in reason or "disk I/O" in reason:
            raise SaveError(
                f"cannot write {path}: {reason}. What was committed before is safe; free some space, then "
                "run the same command again"
            ) from error
        if "readonly" in reason:
            raise SaveError(
                f"cannot write {path}: its folder may not be written to. Search works; to index, choose "
                "another catalogue or change the permissions"
            ) from error
        if "locked" in reason:
            raise CatalogError(
                f"{path} has been locked by another process for {PATIENCE:.0f} s: wait for it, or stop it"
            ) from error
        raise CatalogError(f"{path}: {reason}") from error
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise  # a mistake in this program says nothing about the file
        raise CatalogError(f"{path} was closed by another thread: open the catalogue again") from error
    except sqlite3.DatabaseError as error:
        # "file is not a database" and "malformed" are of this class; its other kinds say nothing of the file.
        if type(error) is not sqlite3.DatabaseError:
            raise CatalogError(f"{path}: {error}") from error
        raise CatalogError(f"{path} is not a catalogue's database, or is damaged: {error}") from error


def in_parts(values: Sequence[T]) -> Iterator[tuple[str, list[T]]]:
    """As many values at a time as one statement may name, with their marks.

    Examples
    --------
    >>> list(in_parts([7, 8, 9]))
    [('?, ?, ?', [7, 8, 9])]
    """
    for start in range(0, len(values), MOST_VALUES):
        part = list(values[start : start + MOST_VALUES])
        yield ", ".join("?" * len(part)), part
