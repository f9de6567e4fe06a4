"""A database behind a URL: transactions, locks and understandable errors, on SQLite and PostgreSQL.

Put what differs between the two databases here (for rows, in `refold.sinks.bulk`), so that `refold.sinks.sql` need not
know which one it has. Every transaction opens its own connection and closes it, so that none survives a fork. Which
tables exist and what they mean belongs to `refold.sinks.sql_tables`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from refold.errors import DeclarationError, FixInput, RefoldError, Unavailable
from refold.sinks import bulk, bulk_postgres, bulk_sqlite
from refold.storage.urls import mask_url
from refold.types import Schema

_WAIT_SECONDS = 30
_TOO_LARGE = "54000"
_PASSING = ("08", "40", "53", "55", "57", "58")
"""Classes of PostgreSQL's error codes that pass: connection, rollback, resources, locks, operator, system."""


class Database:
    """One database. Connects only inside `reading` and `writing`."""

    def __init__(self, url: str) -> None:
        parsed = _accepted(url)
        self.url = url
        self.sqlite = parsed.get_backend_name() == "sqlite"
        self.place = f"sqlite:///{parsed.database}" if self.sqlite else mask_url(url)
        self._file = Path(str(parsed.database)) if self.sqlite else None
        self._engine = _sqlite_engine(parsed) if self.sqlite else _postgres_engine(parsed, self.place)
        self.dialect = self._engine.dialect

    def empty(self) -> bool:
        """Whether nothing can be in it yet, because its file does not exist; asking creates none."""
        return self._file is not None and not self._file.exists()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One transaction that sees one moment of the database."""
        begin = "BEGIN" if self.sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
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

    def limit_waiting(self, connection: sa.Connection) -> None:
        """From here on wait for locks on tables and views at most 30 seconds; for statements that readers may block."""
        if not self.sqlite:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'")

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
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        drivers_error: type[Exception] = self.dialect.loaded_dbapi.Error
        try:
            with self._engine.connect() as opened:
                connection = opened.execution_options(refold_begin=begin)
                with connection.begin():
                    yield connection
        except DBAPIError as error:
            raise _explained(error.orig or error, self.place) from error
        except drivers_error as error:
            raise _explained(error, self.place) from error


def _accepted(url: str) -> URL:
    """The parsed URL with the driver that is meant. Raises DeclarationError for what no SQL sink can use."""
    accepted = "Use sqlite:///path/to/file.db or postgresql+psycopg2://user:password@host/database."
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    except ArgumentError as error:
        raise DeclarationError("The database URL", [f"it is not a URL. {accepted}"]) from error
    if parsed.drivername in ("postgresql", "postgresql+psycopg2"):
        return parsed.set(drivername="postgresql+psycopg2")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise DeclarationError("The database URL", [f"{parsed.drivername} is not supported. {accepted}"])
    if parsed.database in (None, "", ":memory:") or "mode" in parsed.query:
        raise DeclarationError("The database URL", [f"SQLite in memory forgets what is published. {accepted}"])
    return parsed


def _sqlite_engine(url: URL) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": _WAIT_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def _make_folder(*_: object) -> None:
        file = Path(str(url.database))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FixInput(
                f"Expected a folder for the database sqlite:///{file}, found that {file.parent} cannot be made: "
                f"{error.strerror}.",
                remedy="Check REFOLD_DATABASE and what is at that path.",
            ) from error

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        # Left to itself, sqlite3 begins late and commits around DDL, which would let half a publish be seen.
        connection.isolation_level = None
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            # The switch does not wait its turn where others have the file open; a later connection does it then.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")

    event.listen(engine, "begin", _begin)
    return engine


def _postgres_engine(url: URL, place: str) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url, poolclass=NullPool, hide_parameters=True, client_encoding="utf8", connect_args={"connect_timeout": 10}
        )
    except ImportError as error:
        raise FixInput(f"{place} needs the PostgreSQL driver.", remedy="pip install 'refold[postgres]'.") from error
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    statement = connection.get_execution_options().get("refold_begin")
    if statement:
        connection.exec_driver_sql(statement)
    if connection.dialect.name == "postgresql":
        # With another zone a timestamp of the year 9999 comes back as one of the year 10000, which Python refuses.
        connection.exec_driver_sql("SET LOCAL timezone = 'UTC'")


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"refold {name}".encode()).digest()[:8], "big", signed=True)


def _explained(error: BaseException, place: str) -> RefoldError:
    """The Refold error for a driver's error. It repeats only the first line of the driver's text, never a value."""
    code = getattr(error, "pgcode", None) or ""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if code == _TOO_LARGE:
        remedy = "A row of PostgreSQL fits a page: about 8,000 bytes beside its long texts."
        return FixInput(f"{place} refused rows: {first}.", remedy=remedy)
    if code[:2] == "23" or isinstance(error, sqlite3.IntegrityError):
        remedy = "A store has one row per key, and nulls only in columns declared nullable."
        return FixInput(f"{place} refused rows: {first}.", remedy=remedy)
    if code[:2] in _PASSING or (not code and type(error).__name__ in ("InterfaceError", "OperationalError")):
        return Unavailable(f"{place} is unavailable: {first}.", remedy="Check that it runs, then try again.")
    return FixInput(f"{place} refused a statement: {first}.", remedy="Check the rights of the database user.")
