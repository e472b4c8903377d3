"""Access to a catalogue's database: plain SQL with `?` placeholders, and exclusive write transactions.

This module knows no table; the statements are in `store` and its neighbours. SQLite is opened in WAL mode: a
reader never waits for a writer, two writers take turns, and a writer that is killed leaves the state before
its transaction. Each thread has its own connection, so a transaction belongs to one thread.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from diptych.catalog.database import schema
from diptych.catalog.database.connections import ThreadConnections
from diptych.errors import CatalogError, SaveError
from diptych.files.unicode_text import caseless
from diptych.media.sources import name_of

Row = tuple[Any, ...]
T = TypeVar("T")
MAX_SQL_VALUES = 500  # placeholders in one statement; SQLite before 3.32 allowed 999
_CONNECTION_NUMBERS = itertools.count()  # `data_version` can be compared within one connection only
BUSY_TIMEOUT = 120.0  # seconds that a writer waits for another writer's transaction


class Database(ABC):
    """Interface of a catalogue's database; every statement is SQL that both SQLite and PostgreSQL accept."""

    name: str
    readonly: bool
    column_types: Mapping[str, str]  # names of the column types that differ between databases, see `schema`
    _connections: ThreadConnections[Any]

    @property
    def _connection(self) -> Any:
        return self._connections.of_this_thread()

    def close(self) -> None:
        """Close the connections of all threads."""
        self._connections.close()

    @abstractmethod
    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Execute a query and fetch all rows."""

    @abstractmethod
    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement and return the number of changed rows."""

    @abstractmethod
    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for each row of values."""

    @abstractmethod
    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Open a write transaction: exclusive among writers, committed as a whole or rolled back."""

    @abstractmethod
    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Open a read transaction: all queries in it see one snapshot of the database."""

    @abstractmethod
    def has_table(self, name: str) -> bool:
        """Whether a table of this name exists."""

    @abstractmethod
    def text_of(self, column: str) -> str:
        """Return SQL that decodes a column of paths (bytes) to text; bytes that are not UTF-8 are escaped."""

    @abstractmethod
    def caseless(self, text: str) -> str:
        """Return SQL that folds a text for comparisons that ignore case and Unicode normal form."""


class Sqlite(Database):
    """A SQLite database file, which `create` makes if it does not exist.

    Raises
    ------
    CatalogError
        The file does not exist or is not a database.

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

    column_types: Mapping[str, str] = schema.SQLITE_TYPES

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path, self.name = path, str(path)
        self._memory = str(path) == ":memory:"
        # In a read-only folder SQLite cannot create the write-ahead log that readers and writers share. If a
        # process with write permission has the database open, its log exists and is read; otherwise the file
        # is opened as immutable (`_connect`).
        self.readonly = not (self._memory or create) and not os.access(path.parent, os.W_OK)
        self._create = create
        self._connections = ThreadConnections[Any](self._connect, name=self.name)
        self._connection  # noqa: B018 - opened now, so that the error comes from here

    def _connect(self) -> sqlite3.Connection:
        path = self.path
        has_log = path.with_name(f"{path.name}-wal").exists()
        mode = ("ro" if has_log else "ro&immutable=1") if self.readonly else "rwc" if self._create else "rw"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        if self._memory:  # a name makes the connections of all threads open the same in-memory database
            uri = f"file:diptych-{id(self)}?mode=memory&cache=shared"
        try:
            # Each connection is used by one thread only, but `close` may run in another one.
            connection = sqlite3.connect(
                uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise CatalogError(f"{path} cannot be opened: {error}") from error
        try:
            with _translated_errors(path):
                if not self.readonly:
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA mmap_size = 268435456")
                connection.execute("PRAGMA temp_store = FILE")
                # SQLite's LOWER folds ASCII letters only and does not normalise Unicode.
                connection.create_function("CASELESS", 1, _caseless, deterministic=True)
                connection.create_function("TEXT_OF", 1, _text_of, deterministic=True)
                number = next(_CONNECTION_NUMBERS)
                connection.create_function("CONNECTION_NUMBER", 0, lambda: number)
        except BaseException:
            connection.close()
            raise
        self._create = False  # if the file is deleted later, fail instead of creating an empty one
        return connection

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Execute a query and fetch all rows."""
        with _translated_errors(self.path):
            return cast("list[Row]", self._connection.execute(sql, values).fetchall())

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement and return the number of changed rows."""
        with _translated_errors(self.path):
            return int(self._connection.execute(sql, values).rowcount)

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for each row of values."""
        with _translated_errors(self.path):
            self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Open a write transaction: exclusive among writers, committed as a whole or rolled back."""
        with _translated_errors(self.path):
            # IMMEDIATE takes the write lock now. A deferred transaction would take it at its first write and
            # fail if another writer had committed since its first read.
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # SQLite has already rolled back if the device is full
                self._connection.execute("ROLLBACK")
            raise
        with _translated_errors(self.path):
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Open a read transaction: all queries in it see one snapshot of the database."""
        is_outermost = not self._connection.in_transaction  # an enclosing transaction is a snapshot already
        if is_outermost:
            with _translated_errors(self.path):
                self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if is_outermost and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def has_table(self, name: str) -> bool:
        """Whether a table of this name exists."""
        return bool(self.all("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)))

    def copy_to(self, path: Path) -> None:
        """Copy the current state into a new file; other connections may keep writing."""
        self.run("VACUUM INTO ?", (str(path),))

    def text_of(self, column: str) -> str:
        """Return SQL that decodes a column of paths (bytes) to text."""
        return f"TEXT_OF({column})"

    def caseless(self, text: str) -> str:
        """Return SQL that folds case and Unicode normal form of a text."""
        return f"CASELESS({text})"


def _caseless(text: str | None) -> str | None:
    return None if text is None else caseless(text)


def _text_of(path: bytes) -> str:
    return name_of(os.fsdecode(path))


@contextlib.contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as this package's errors, with advice."""
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
                f"{path} has been locked by another process for {BUSY_TIMEOUT:.0f} s: wait for it, or stop it"
            ) from error
        raise CatalogError(f"{path}: {reason}") from error
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise  # a fault of this program, not of the file
        raise CatalogError(f"{path} was closed by another thread: open the catalogue again") from error
    except sqlite3.DatabaseError as error:
        # "file is not a database" and "malformed" have exactly this class; its subclasses do not mean damage.
        if type(error) is not sqlite3.DatabaseError:
            raise CatalogError(f"{path}: {error}") from error
        raise CatalogError(f"{path} is not a catalogue's database, or is damaged: {error}") from error


def in_batches(values: Sequence[T]) -> Iterator[tuple[str, list[T]]]:
    """Yield values in batches of at most `MAX_SQL_VALUES`, each with its SQL placeholders.

    Examples
    --------
    >>> list(in_batches([7, 8, 9]))
    [('?, ?, ?', [7, 8, 9])]
    """
    for start in range(0, len(values), MAX_SQL_VALUES):
        batch = list(values[start : start + MAX_SQL_VALUES])
        yield ", ".join("?" * len(batch)), batch


def select_in(database: Database, sql: str, values: Iterable[Any], *before: Any) -> Iterator[Row]:
    """Yield the rows of a query for many values, in batches; `{}` in it stands for their placeholders.

    Parameters
    ----------
    values : iterable of int or bytes
        NumPy integers are converted, since SQLite would store them as bytes.
    before : any
        Values of the placeholders in front of `{}`.

    Examples
    --------
    >>> database = Sqlite(Path(":memory:"), create=True)
    >>> changed = database.run("CREATE TABLE numbers(n INTEGER)")
    >>> database.many("INSERT INTO numbers VALUES (?)", [(n,) for n in range(2000)])
    >>> rows = select_in(database, "SELECT n FROM numbers WHERE n > ? AND n IN ({})", range(1200), 1190)
    >>> len(list(rows))
    9
    """
    plain = [value if isinstance(value, bytes) else int(value) for value in values]
    for placeholders, batch in in_batches(plain):
        yield from database.all(sql.replace("{}", placeholders), (*before, *batch))


def migrate(database: Database) -> None:
    """Migrate the tables of a catalogue to the current format.

    Raises
    ------
    CatalogError
        The format is newer, cannot be migrated, or is older and the database is read-only.
    """
    number = _format_of(database)
    if number == schema.FORMAT:
        return
    problem = (
        f"{database.name} is a catalogue of format {number or 'none'}, this version reads {schema.FORMAT}"
    )
    if number is not None and number > schema.FORMAT:
        raise CatalogError(f"{problem}: update diptych")
    if number not in schema.MIGRATIONS:
        raise CatalogError(f"{problem}: index again, into another folder")
    if database.readonly:
        raise CatalogError(f"{problem}: run any command on it once as a user who may write to its folder")
    with database.writing():
        # Read the number again inside the transaction: another process may have migrated meanwhile.
        for step in range(_format_of(database) or 0, schema.FORMAT):
            for statement in schema.statements(schema.MIGRATIONS[step], database.column_types):
                database.run(statement)
        database.run("UPDATE meta SET value = ? WHERE key = 'format'", (str(schema.FORMAT),))


def _format_of(database: Database) -> int | None:
    rows = database.all("SELECT value FROM meta WHERE key = 'format'")
    return int(rows[0][0]) if rows and str(rows[0][0]).isdecimal() else None
