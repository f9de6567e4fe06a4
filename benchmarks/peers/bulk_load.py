"""The bulk loaders of the databases themselves: the rows that Refold publishes, into a table with the same key.

SQLite by `executemany` in one transaction; PostgreSQL by COPY from text made in memory, and by ADBC. Making what the
loader takes from the Arrow table is timed, as it is part of what Refold does.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.databases import empty_postgres
from benchmarks.ours import prepare_publish
from benchmarks.program import Program

_SQL_TYPE = {"string": "TEXT", "int64": "BIGINT"}
_VERSION = "000000-0123456789ab"


def _rows(data: Path) -> pa.Table:
    rows = pq.read_table(data / "rows.parquet")
    return rows.add_column(0, "version", pa.repeat(pa.scalar(_VERSION), len(rows)))


def _create(rows: pa.Table, sqlite: bool) -> str:
    collation = "" if sqlite else ' COLLATE "C"'
    columns = [
        f"{field.name} {_SQL_TYPE[str(field.type)]}{collation if pa.types.is_string(field.type) else ''} NOT NULL"
        for field in rows.schema
    ]
    return f"CREATE TABLE rows ({', '.join(columns)}, PRIMARY KEY (version, {rows.column_names[1]}))"


def _prepare(data: Path) -> None:
    prepare_publish(data)
    for file in data.glob("bulk.db*"):
        file.unlink()


def _start_sqlite(data: Path) -> tuple[sqlite3.Connection, pa.Table]:
    rows, connection = _rows(data), sqlite3.connect(data / "bulk.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(_create(rows, sqlite=True))
    return connection, rows


def _load_sqlite(data: Path, started: tuple[sqlite3.Connection, pa.Table]) -> int:
    connection, rows = started
    marks = ", ".join("?" * rows.num_columns)
    connection.execute("BEGIN")
    for batch in rows.to_batches(max_chunksize=50_000):
        values = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        connection.executemany(f"INSERT INTO rows VALUES ({marks})", values)
    connection.execute("COMMIT")
    return len(rows)


def _start_postgres(data: Path) -> tuple[str, pa.Table]:
    import psycopg2  # noqa: PLC0415  # a package of its own

    url, rows = empty_postgres(data), _rows(data)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(_create(rows, sqlite=False))
    connection.close()
    return url, rows


def _copy(data: Path, started: tuple[str, pa.Table]) -> int:
    import psycopg2  # noqa: PLC0415  # a package of its own

    url, rows = started
    text = io.BytesIO()
    options = pa_csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    pa_csv.write_csv(rows, text, options)
    text.seek(0)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY rows FROM STDIN", text)
    connection.close()
    return len(rows)


def _adbc(data: Path, started: tuple[str, pa.Table]) -> int:
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415  # a package of its own

    url, rows = started
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("rows", rows, mode="append")
        connection.commit()
    return len(rows)


def _program(work: Callable[..., int], start: Callable[..., object]) -> Program:
    return Program(work, start, prepare=_prepare, answer=lambda found: None)


SQLITE = _program(_load_sqlite, _start_sqlite)
COPY, ADBC = _program(_copy, _start_postgres), _program(_adbc, _start_postgres)
