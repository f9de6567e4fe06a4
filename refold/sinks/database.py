"""A database behind a URL: transactions, locks and understandable errors, on SQLite and PostgreSQL.

Put what differs between the two databases here or in `refold.sinks.database_sqlite` and
`refold.sinks.database_postgres` (for rows, in `refold.sinks.bulk`), so that `refold.sinks.sql` need not know which one
it has. Every transaction opens its own connection and closes it, so that none survives a fork. Which
tables exist and what they mean belongs to `refold.sinks.sql_tables`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from refold.errors import DeclarationError, RefoldError
from refold.sinks import bulk, bulk_postgres, bulk_sqlite, database_postgres, database_sqlite
from refold.sinks.database_postgres import Holders
from refold.storage.urls import mask_url
from refold.types import Schema

_WAIT_SECONDS = 30.0


class Database:
    """One database. Connects only inside `reading` and `writing`, which wait at most `wait_seconds` for a lock.

    On PostgreSQL a `lock_timeout` or `statement_timeout` of the role, the database or the URL is kept instead.
    """

    def __init__(self, url: str, *, wait_seconds: float = _WAIT_SECONDS) -> None:
        parsed = _accepted(url)
        self.url = url
        self.sqlite = parsed.get_backend_name() == "sqlite"
        self.place = f"sqlite:///{parsed.database}" if self.sqlite else mask_url(url)
        self._file = Path(str(parsed.database)) if self.sqlite else None
        self._wait_seconds = wait_seconds
        if self.sqlite:
            self._engine = database_sqlite.engine_of(parsed, wait_seconds)
        else:
            self._engine = database_postgres.engine_of(parsed, self.place)
        event.listen(self._engine, "begin", self._begin)
        self.dialect = self._engine.dialect

    def empty(self) -> bool:
        """Whether nothing can be in it yet, because its file does not exist; asking creates none."""
        return self._file is not None and not self._file.exists()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One transaction that sees one moment of the database. Needs no right to write, not even to its folder."""
        begin = "BEGIN" if self.sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        if self._file is not None and database_sqlite.needs_no_log(self._file):
            engine = database_sqlite.immutable_engine(self._file)
            with database_sqlite.unchanged(self._file, self.place), self._transaction("", engine) as connection:
                yield connection
            return
        with self._transaction(begin) as connection:
            yield connection

    @contextmanager
    def writing(self, *locks: str) -> Iterator[sa.Connection]:
        """One transaction, committed at the end or not at all, that holds the named locks of this database.

        Locks are taken in one order whatever order they are given in, so that writers wait and never deadlock.
        SQLite admits one writer at a time, whatever the names.
        """
        with self._transaction("BEGIN IMMEDIATE" if self.sqlite else "") as connection:
            if not self.sqlite:
                for number in sorted({_lock_number(name) for name in locks}):
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
            yield connection

    def at_once(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """Execute one statement that commits by itself, so that no process holds a lock while it is paused."""
        with self._transaction("", autocommit=True) as connection:
            return connection.execute(statement)

    def load(self, connection: sa.Connection, table: sa.Table, version: str, rows: pa.Table, columns: Schema) -> None:
        """Insert rows into a table whose first column is the version and whose others are `columns`, in order."""
        if self.sqlite:
            bulk_sqlite.load(connection, table, version, rows, columns)
        else:
            bulk_postgres.load(connection, table, version, rows)

    def fetch(self, connection: sa.Connection, query: bulk.Query, columns: Schema) -> pa.Table:
        """The rows of a query that selects `columns` as they are stored, with exactly the declared Arrow types."""
        return (bulk_sqlite if self.sqlite else bulk_postgres).fetch(connection, query, columns)

    @contextmanager
    def _transaction(
        self, begin: str, engine: sa.Engine | None = None, *, autocommit: bool = False
    ) -> Iterator[sa.Connection]:
        drivers_error: type[Exception] = self.dialect.loaded_dbapi.Error
        holders: Holders | None = None
        try:
            with (engine or self._engine).connect() as opened:
                silent_seconds = 2 * self._wait_seconds
                watched = (
                    nullcontext() if self.sqlite else database_postgres.watched(self._engine, opened, silent_seconds)
                )
                level: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
                connection = opened.execution_options(refold_begin=begin, **level)
                with watched as holders, connection.begin():
                    yield connection
        except DBAPIError as error:
            raise self._explained(error.orig or error, holders) from error
        except drivers_error as error:
            raise self._explained(error, holders) from error

    def _begin(self, connection: sa.Connection) -> None:
        statement = connection.get_execution_options().get("refold_begin")
        if statement:
            connection.exec_driver_sql(statement)
        if not self.sqlite:
            database_postgres.set_session(connection, self._wait_seconds)

    def _explained(self, error: BaseException, holders: Holders | None) -> RefoldError:
        """The Refold error for a driver's error. It repeats only the first line of the driver's text, never a value."""
        if self.sqlite:
            return database_sqlite.explained(error, self.place, self._wait_seconds)
        silent = database_postgres.silence(holders, self.place)
        return silent or database_postgres.explained(error, self.place, holders)


def _accepted(url: str) -> URL:
    """The parsed URL with the driver that is meant. Raises DeclarationError for what no SQL sink can use."""
    accepted = "Use sqlite:///path/to/file.db or postgresql+psycopg2://user:password@host/database."
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    except (ArgumentError, ValueError) as error:  # such as a port that is not a number
        raise DeclarationError("The database URL", [f"it is not a URL: {mask_url(url)}. {accepted}"]) from error
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise DeclarationError("The database URL", [f"the port {parsed.port} is not between 1 and 65535"])
    if parsed.drivername in ("postgresql", "postgresql+psycopg2"):
        return parsed.set(drivername="postgresql+psycopg2")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise DeclarationError("The database URL", [f"{parsed.drivername} is not supported. {accepted}"])
    if parsed.database in (None, "", ":memory:") or "mode" in parsed.query:
        raise DeclarationError("The database URL", [f"SQLite in memory forgets what is published. {accepted}"])
    return parsed


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"refold {name}".encode()).digest()[:8], "big", signed=True)
