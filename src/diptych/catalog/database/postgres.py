"""A catalogue in PostgreSQL with pgvector, shared by several machines.

Statements are those for SQLite, with `%s` for `?`. Writers take turns by an advisory lock. The embeddings of
a space are a table of their own, searched by pgvector. Filtered searches scan every allowed row: an index
that filters its results afterwards would silently lose recall.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from diptych.catalog.database import schema
from diptych.catalog.database.connections import ThreadConnections
from diptych.catalog.database.database import Database, Row
from diptych.catalog.database.spaces import Space, SpaceInfo
from diptych.errors import CatalogError, SaveError
from diptych.extras import require
from diptych.progress import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

SCHEMES = ("postgresql://", "postgres://")
_LOCK = 0x64697074  # advisory lock of writers: "dipt" in ASCII
_MAX_INDEX_DIM = {"halfvec": 4000, "vector": 2000}  # pgvector's limits for an HNSW index
HNSW_ROWS = 50_000  # rows from which an index is built
_MAX_EF_SEARCH = 1000  # pgvector's limit of candidates in an HNSW search
# Well-formed UTF-8 in hexadecimal digits (Unicode Standard 15, table 3-7), without NUL, which text columns
# of PostgreSQL cannot hold.
_UTF8_IN_HEX = (
    "^(0[1-9a-f]|[1-7].|(c[2-9a-f]|d.)[89ab].|e0[ab].[89ab].|(e[1-9a-cef][89ab].|ed[89].)[89ab].|"
    "(f0[9ab].|f[1-3][89ab].|f48.)[89ab].[89ab].)*$"
)


def is_address(location: str | Path) -> bool:
    """Whether the location of a catalogue is the address of a PostgreSQL database.

    Examples
    --------
    >>> is_address("postgresql://host/pictures"), is_address("/mnt/catalog")
    (True, False)
    """
    return isinstance(location, str) and location.startswith(SCHEMES)


class Postgres(Database):
    """A PostgreSQL database (`postgresql://user@host/database`), with one connection per thread.

    Raises
    ------
    CatalogError
        The server cannot be reached, or pgvector is not installed on it.
    MissingExtraError
        psycopg or pgvector's adapter is not installed on this machine.
    """

    readonly = False
    column_types: Mapping[str, str] = schema.POSTGRES_TYPES

    def __init__(self, address: str) -> None:
        self._psycopg: Any = require("psycopg", extra="postgres", purpose="open a catalogue in PostgreSQL")
        self._adapter: Any = require("pgvector.psycopg", extra="postgres", purpose="search in PostgreSQL")
        self.name, self._address = name_without_secrets(address), address
        self._connections = ThreadConnections[Any](
            self._connect, name=self.name, is_open=lambda connection: not connection.closed
        )
        self._connection  # noqa: B018 - opened now, so that the error comes from here

    def _connect(self) -> Any:
        with self._translated_errors():
            connection = self._psycopg.connect(self._address, autocommit=True)
            try:
                if not connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchall():
                    # Under the lock: two processes that create the extension at once would both fail.
                    with connection.transaction():
                        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                self._adapter.register_vector(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Execute a query and fetch all rows."""
        with self._translated_errors():
            return cast("list[Row]", self._connection.execute(_psycopg_sql(sql), values).fetchall())

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement and return the number of changed rows."""
        with self._translated_errors():
            return int(self._connection.execute(_psycopg_sql(sql), values).rowcount)

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for each row of values."""
        listed = list(rows)
        if listed:
            with self._translated_errors(), self._connection.cursor() as cursor:
                cursor.executemany(_psycopg_sql(sql), listed)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Open a write transaction: exclusive among writers, committed as a whole or rolled back."""
        with self._translated_errors(), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Open a read transaction: all queries in it see one snapshot of the database."""
        # REPEATABLE READ takes one snapshot at its first query; READ COMMITTED, the default, one for each
        # query.
        if self._connection.info.transaction_status != self._psycopg.pq.TransactionStatus.IDLE:
            yield  # inside another transaction, which has set its isolation level
            return
        with self._translated_errors(), self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield

    def has_table(self, name: str) -> bool:
        """Whether a table of this name exists."""
        return bool(self.all("SELECT 1 WHERE to_regclass(?) IS NOT NULL", (name,)))

    def text_of(self, column: str) -> str:
        """Return SQL that decodes a column of paths (bytes) to text.

        A path that is not UTF-8 keeps its ASCII bytes; its other bytes become octal escapes.
        """
        is_utf8 = f"encode({column}, 'hex') ~ '{_UTF8_IN_HEX}'"  # convert_from raises an error otherwise
        text = f"convert_from({column}, 'UTF8') COLLATE \"default\""  # collation C would fold ASCII only
        return f"CASE WHEN {is_utf8} THEN {text} ELSE encode({column}, 'escape') END"

    def caseless(self, text: str) -> str:
        """Return SQL that folds case and Unicode normal form of a text."""
        # The cast unites the collations of a CASE, which LIKE could not compare, and types a bare parameter.
        return f"LOWER(NORMALIZE(({text})::text, NFC))"

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise PostgreSQL's errors as this package's errors, with advice."""
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
    """Return the name of a database for messages: host, port and database only.

    Raises
    ------
    CatalogError
        Not an address. The message does not repeat it, as it may contain a password.

    Examples
    --------
    >>> name_without_secrets("postgresql://someone:secret@host:5432/pictures")
    'host:5432/pictures'
    """
    psycopg: Any = require("psycopg", extra="postgres", purpose="open a catalogue in PostgreSQL")
    try:
        settings: Mapping[str, Any] = psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        raise CatalogError(
            "this is not the address of a PostgreSQL database: expected postgresql://user@host:port/name, "
            "with special characters in a password as %40"
        ) from None
    host = ":".join(str(settings[key]) for key in ("host", "port") if settings.get(key))
    return "/".join(part for part in (host, str(settings.get("dbname") or "")) if part) or "PostgreSQL"


def _psycopg_sql(sql: str) -> str:
    """Write the placeholders `?` as psycopg's `%s`.

    Examples
    --------
    >>> _psycopg_sql("SELECT 1 WHERE a = ? AND b LIKE '50%'")
    "SELECT 1 WHERE a = %s AND b LIKE '50%%'"
    """
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresSpace(Space):
    """A space whose embeddings are a table with a pgvector column, in a `Postgres` database."""

    def __init__(self, database: Database, info: SpaceInfo) -> None:
        super().__init__(database, info)
        self.kind = "halfvec" if database.all("SELECT 1 FROM pg_type WHERE typname = 'halfvec'") else "vector"
        self.table = f"space_{info.id}"

    def refresh(self) -> None:
        """Check that the space still exists; nothing is cached here."""
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

    def _mark_dead(self, rows: Sequence[int]) -> None:
        self.database.many(f"DELETE FROM {self.table} WHERE row = ?", [(row,) for row in rows])

    def live_rows(self) -> RowNumbers:
        """Numbers of the live rows, sorted, (n,) int64."""
        rows = self.database.all("SELECT row FROM vectors WHERE space = ? ORDER BY row", (self.info.id,))
        return np.array([row[0] for row in rows], np.int64)

    def gather(self, numbers: RowNumbers) -> FloatArray:
        """Load embeddings by row number, (n, dim) float32."""
        embeddings = np.zeros((len(numbers), self.info.dim), np.float32)
        if not len(numbers):
            return embeddings
        unique_numbers = sorted(set(map(int, numbers)))
        vectors: dict[int, Any] = dict(
            self.database.all(f"SELECT row, vector FROM {self.table} WHERE row = ANY(?)", (unique_numbers,))
        )
        if missing := [number for number in unique_numbers if number not in vectors]:
            raise CatalogError(f"{self.table} has no row {missing[0]}: the catalogue may be damaged")
        for i, number in enumerate(numbers):
            vector = vectors[int(number)]  # a type of pgvector, or an array
            embeddings[i] = vector.to_numpy() if hasattr(vector, "to_numpy") else vector
        return embeddings

    def nearest(
        self, queries: FloatArray, k: int, allowed: RowNumbers | None = None
    ) -> tuple[RowNumbers, FloatArray]:
        """Search the k nearest live rows of each query; see `Space.nearest`."""
        numbers = np.full((len(queries), k), -1, np.int64)
        cosines = np.full((len(queries), k), -np.inf, np.float32)
        # The table is created with the first row.
        if not self.info.rows and not len(self):
            return numbers, cosines
        for i, query in enumerate(queries):
            matches = self._nearest(query, k, allowed)
            numbers[i, : len(matches)] = [number for number, _ in matches]
            cosines[i, : len(matches)] = [cosine for _, cosine in matches]
        return numbers, cosines

    def _nearest(self, query: FloatArray, k: int, allowed: RowNumbers | None) -> list[Row]:
        value = self._value(query)
        # MATERIALIZED keeps the planner from searching the index first and filtering its results.
        source, values = f"SELECT row, vector FROM {self.table}", ()
        if allowed is not None:
            source, values = f"{source} WHERE row = ANY(?)", (allowed.tolist(),)  # type: ignore[assignment]
        elif k <= _MAX_EF_SEARCH // 2 and self._indexed():
            with self.database.reading():
                # Twice as many candidates as results, for recall. `<#>` is the negative inner product, so its
                # negation is the cosine of unit vectors.
                self.database.run(f"SET LOCAL hnsw.ef_search = {min(_MAX_EF_SEARCH, max(100, 2 * k))}")
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
        """Build an HNSW index once there are enough rows; new rows enter it by themselves."""
        rows = len(self)
        # Fewer rows are scanned, which is exact. Later rows enter the index by themselves, so it is built
        # once.
        if rows < HNSW_ROWS or self.info.dim > _MAX_INDEX_DIM[self.kind] or self._indexed():
            return None
        exact, _ = self.nearest(queries, 10)
        with stage("building an index", None), self.database.writing():
            self.database.run(
                f"CREATE INDEX ON {self.table} USING hnsw (vector {self.kind}_ip_ops) "
                "WITH (m = 16, ef_construction = 200)"
            )
        approximate, _ = self.nearest(queries, 10)
        pairs = zip(exact.tolist(), approximate.tolist(), strict=True)
        recall = float(np.mean([len(set(true) & set(returned)) / len(true) for true, returned in pairs]))
        return (
            f"{rows:,} rows in an HNSW index; "
            f"{len(queries):,} text queries find {recall:.3f} of the nearest 10"
        )

    def erase(self) -> None:
        """Delete the embeddings."""
        self.database.run(f"DROP TABLE IF EXISTS {self.table}")

    def close(self) -> None:
        """Do nothing: this class holds no resources."""

    def _value(self, row: FloatArray) -> Any:
        module: Any = require("pgvector", extra="postgres", purpose="search in PostgreSQL")
        # Rounded to float16 even in a float32 column, so that results equal those of a SQLite catalogue.
        rounded = row.astype(np.float16).astype(np.float32)
        return module.HalfVector(rounded) if self.kind == "halfvec" else module.Vector(rounded)
