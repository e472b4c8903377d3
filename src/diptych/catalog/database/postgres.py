"""A catalogue in PostgreSQL with pgvector, for many machines that index and search one collection.

The same statements as in SQLite, with `%s` in place of `?`; writers take turns by an advisory lock; the rows
of a space are a table of its own, which pgvector searches. Filtered searches look at every allowed row: an
index that filters afterwards loses recall without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from diptych.catalog.database import schema
from diptych.catalog.database.connections import ThreadConnections
from diptych.catalog.database.database import Row
from diptych.catalog.database.spaces import Space, SpaceInfo
from diptych.errors import CatalogError, SaveError
from diptych.extras import require
from diptych.progress import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from diptych.catalog.database.database import Database
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

SCHEMES = ("postgresql://", "postgres://")
_LOCK = 0x64697074  # "dipt": the advisory lock of writers
_WIDEST = {"halfvec": 4000, "vector": 2000}  # numbers in a row that an index takes
HNSW_ROWS = 50_000  # from so many rows on an index is made
_SEARCHED = 1000  # most that pgvector's HNSW looks at
# The Unicode Standard 15, table 3-7, without NUL, which PostgreSQL's texts do not have.
_UTF8_IN_HEX = (
    "^(0[1-9a-f]|[1-7].|(c[2-9a-f]|d.)[89ab].|e0[ab].[89ab].|(e[1-9a-cef][89ab].|ed[89].)[89ab].|"
    "(f0[9ab].|f[1-3][89ab].|f48.)[89ab].[89ab].)*$"
)


def is_address(place: str | Path) -> bool:
    """Whether a catalogue's name is the address of a PostgreSQL database.

    Examples
    --------
    >>> is_address("postgresql://host/pictures"), is_address("/mnt/catalog")
    (True, False)
    """
    return isinstance(place, str) and place.startswith(SCHEMES)


class Postgres:
    """A database, with a connection for each thread.

    Parameters
    ----------
    address : str
        `postgresql://user@host/database`.

    Raises
    ------
    CatalogError
        It cannot be reached, or pgvector is not installed there.
    MissingExtraError
        psycopg or pgvector's adapter is not installed here.
    """

    readonly = False
    words: Mapping[str, str] = schema.POSTGRES_WORDS

    def __init__(self, address: str) -> None:
        self._psycopg: Any = require("psycopg", extra="postgres", purpose="open a catalogue in PostgreSQL")
        self._adapter: Any = require("pgvector.psycopg", extra="postgres", purpose="search in PostgreSQL")
        self.name, self._address = name_without_secrets(address), address
        self._connections: ThreadConnections[Any] = ThreadConnections(
            self._connect, name=self.name, is_open=lambda connection: not connection.closed
        )
        self._connection  # noqa: B018 - opened now, so that the error comes from here

    def _connect(self) -> Any:
        with self._told():
            connection = self._psycopg.connect(self._address, autocommit=True)
            try:
                if not connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchall():
                    with connection.transaction():  # two at once would both find it missing
                        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                self._adapter.register_vector(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    @property
    def _connection(self) -> Any:
        return self._connections.of_this_thread()

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row."""
        with self._told():
            return cast("list[Row]", self._connection.execute(_marked(sql), values).fetchall())

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Do it; how many rows it changed."""
        with self._told():
            return int(self._connection.execute(_marked(sql), values).rowcount)

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Do it for each of these."""
        listed = list(rows)
        if listed:
            with self._told(), self._connection.cursor() as cursor:
                cursor.executemany(_marked(sql), listed)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that no other writer runs beside: all of it happens, or nothing."""
        with self._told(), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the database for all that is asked in here, whoever writes meanwhile."""
        if self._connection.info.transaction_status != self._psycopg.pq.TransactionStatus.IDLE:
            yield  # in a transaction, which its beginner has made what it is
            return
        with self._told(), self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield

    def has_table(self, name: str) -> bool:
        """Whether the tables are there."""
        return bool(self.all("SELECT 1 WHERE to_regclass(?) IS NOT NULL", (name,)))

    def text_of(self, column: str) -> str:
        """A column of paths, which are bytes, as text, in SQL; what is no UTF-8 in octal where not ASCII."""
        whole = f"encode({column}, 'hex') ~ '{_UTF8_IN_HEX}'"  # else convert_from would end the query
        text = f"convert_from({column}, 'UTF8') COLLATE \"default\""  # else C's, of ASCII alone
        return f"CASE WHEN {whole} THEN {text} ELSE encode({column}, 'escape') END"

    def caseless(self, text: str) -> str:
        """A text in small letters and one normal form, in SQL."""
        # LIKE cannot compare a CASE of two collations, and a parameter alone has no type.
        return f"LOWER(NORMALIZE(({text})::text, NFC))"

    def close(self) -> None:
        """Let go of it, in every thread."""
        self._connections.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """PostgreSQL's errors as this package's, with the way out."""
        try:
            yield
        except self._psycopg.errors.DiskFull as error:
            raise SaveError(
                f"cannot write to {self.name}: its disk is full. What was committed before is safe; free "
                "some space there, then run the same command again"
            ) from error
        except self._psycopg.Error as error:
            reason = " ".join(str(error).split())
            hint = " (install pgvector on that server)" if "extension" in reason else ""
            raise CatalogError(f"{self.name}: {reason}{hint}") from error


def name_without_secrets(address: str) -> str:
    """How messages name a database: host, port and database alone.

    Raises
    ------
    CatalogError
        It is no address; the message does not repeat it, for what is wrong in it may be the password.

    Examples
    --------
    >>> name_without_secrets("postgresql://someone:secret@host:5432/pictures")
    'host:5432/pictures'
    """
    psycopg: Any = require("psycopg", extra="postgres", purpose="open a catalogue in PostgreSQL")
    try:
        told: Mapping[str, Any] = psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        raise CatalogError(
            "this is not the address of a PostgreSQL database: expected postgresql://user@host:port/name, "
            "with special characters in a password as %40"
        ) from None
    place = ":".join(str(told[key]) for key in ("host", "port") if told.get(key))
    return "/".join(part for part in (place, str(told.get("dbname") or "")) if part) or "PostgreSQL"


def _marked(sql: str) -> str:
    """`?` as psycopg writes it.

    Examples
    --------
    >>> _marked("SELECT 1 WHERE a = ? AND b LIKE '50%'")
    "SELECT 1 WHERE a = %s AND b LIKE '50%%'"
    """
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresSpace(Space):
    """A space whose rows are a table.

    Parameters
    ----------
    database : Database
        A `Postgres`.
    info : SpaceInfo
    """

    def __init__(self, database: Database, info: SpaceInfo) -> None:
        super().__init__(database, info)
        self.kind = "halfvec" if database.all("SELECT 1 FROM pg_type WHERE typname = 'halfvec'") else "vector"
        self.table = f"space_{info.id}"

    def refresh(self) -> None:
        """Nothing is kept here but that the space is there."""
        if not self.database.all("SELECT 1 FROM spaces WHERE id = ?", (self.info.id,)):
            raise CatalogError("the catalogue's space was replaced by another process: run the command again")

    def _append(self, rows: FloatArray) -> int:
        self.database.run(
            f"CREATE TABLE IF NOT EXISTS {self.table} "
            f"(row BIGINT PRIMARY KEY, vector {self.kind}({self.info.dim}) NOT NULL)"
        )
        first = int(self.database.all("SELECT row_count FROM spaces WHERE id = ?", (self.info.id,))[0][0])
        self.database.many(
            f"INSERT INTO {self.table} (row, vector) VALUES (?, ?)",
            [(first + n, self._value(row)) for n, row in enumerate(rows)],
        )
        return first

    def _bury(self, rows: Sequence[int]) -> None:
        self.database.many(f"DELETE FROM {self.table} WHERE row = ?", [(row,) for row in rows])

    def living(self) -> RowNumbers:
        """The rows that belong to somebody, sorted."""
        found = self.database.all("SELECT row FROM vectors WHERE space = ? ORDER BY row", (self.info.id,))
        return np.array([row[0] for row in found], np.int64)

    def gather(self, numbers: RowNumbers) -> FloatArray:
        """Rows by their numbers, (n, dim) float32."""
        rows = np.zeros((len(numbers), self.info.dim), np.float32)
        if not len(numbers):
            return rows
        wanted = sorted(set(map(int, numbers)))
        found: dict[int, Any] = dict(
            self.database.all(f"SELECT row, vector FROM {self.table} WHERE row = ANY(?)", (wanted,))
        )
        if missing := [number for number in wanted if number not in found]:
            raise CatalogError(f"row {missing[0]} is asked for, and {self.table} has none of that number")
        for i, number in enumerate(numbers):
            rows[i] = _numbers(found[int(number)])
        return rows

    def nearest(
        self, queries: FloatArray, k: int, allowed: RowNumbers | None = None
    ) -> tuple[RowNumbers, FloatArray]:
        """The k living rows nearest to each query; see `Space.nearest`."""
        numbers = np.full((len(queries), k), -1, np.int64)
        cosines = np.full((len(queries), k), -np.inf, np.float32)
        if not self.info.rows and not len(self):
            return numbers, cosines
        for i, query in enumerate(queries):
            found = self._nearest(query, k, allowed)
            numbers[i, : len(found)] = [row[0] for row in found]
            cosines[i, : len(found)] = [row[1] for row in found]
        return numbers, cosines

    def _nearest(self, query: FloatArray, k: int, allowed: RowNumbers | None) -> list[Row]:
        value = self._value(query)
        # Materialised, so that the planner cannot take the index and filter what comes out of it.
        source, values = f"SELECT row, vector FROM {self.table}", ()
        if allowed is not None:
            source, values = f"{source} WHERE row = ANY(?)", (allowed.tolist(),)  # type: ignore[assignment]
        elif k <= _SEARCHED // 2 and self._indexed():
            with self.database.reading():
                self.database.run(f"SET LOCAL hnsw.ef_search = {min(_SEARCHED, max(100, 2 * k))}")
                return self.database.all(
                    f"SELECT row, -(vector <#> ?) FROM {self.table} ORDER BY vector <#> ?, row LIMIT ?",
                    (value, value, k),
                )
        return self.database.all(
            f"WITH rows AS MATERIALIZED ({source}) "
            "SELECT row, -(vector <#> ?) AS cosine FROM rows ORDER BY cosine DESC, row LIMIT ?",
            (*values, value, k),
        )

    def _indexed(self) -> bool:
        return bool(
            self.database.all(
                "SELECT 1 FROM pg_indexes WHERE tablename = ? AND indexdef LIKE '%hnsw%'", (self.table,)
            )
        )

    def improve(self, queries: FloatArray, stage: Stage) -> str | None:
        """Make an HNSW index, which grows by itself, where there are rows enough; see `Space.improve`."""
        rows = len(self)
        if rows < HNSW_ROWS or self.info.dim > _WIDEST[self.kind] or self._indexed():
            return None
        exact, _ = self.nearest(queries, 10)
        with stage("building an index", None), self.database.writing():
            self.database.run(
                f"CREATE INDEX ON {self.table} USING hnsw (vector {self.kind}_ip_ops) "
                "WITH (m = 16, ef_construction = 200)"
            )
        found, _ = self.nearest(queries, 10)
        pairs = zip(exact.tolist(), found.tolist(), strict=True)
        recall = float(np.mean([len(set(one) & set(other)) / len(one) for one, other in pairs]))
        told = f"{len(queries):,} text queries find {recall:.3f} of the nearest 10"
        return f"{rows:,} rows in an HNSW index; {told}"

    def erase(self) -> None:
        """Remove the rows."""
        self.database.run(f"DROP TABLE IF EXISTS {self.table}")

    def close(self) -> None:
        """Nothing is held here."""

    def _value(self, row: FloatArray) -> Any:
        module: Any = require("pgvector", extra="postgres", purpose="search in PostgreSQL")
        # A vector of single precision keeps what half precision keeps: the two kinds of catalogue agree.
        kept = row.astype(np.float16).astype(np.float32)
        return module.HalfVector(kept) if self.kind == "halfvec" else module.Vector(kept)


def _numbers(value: Any) -> Any:
    return value.to_numpy() if hasattr(value, "to_numpy") else np.asarray(value, np.float32)
