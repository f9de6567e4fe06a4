"""The tables of SQL sinks: their columns and types, and what the database's catalogue reports about them.

`refold.sinks.sql` writes to them, `refold.sinks.sql_views` shows them to readers, and `refold.sinks.sql_faults` checks
and repairs both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from refold.types import ColumnKind, ColumnType, Schema, describe

VERSION = "refold_version"
"""The first column of every table of rows."""

EXACT = "refold_exact"
"""The last column of a table of rows for content that PostgreSQL cannot hold plainly; see `refold.sinks.sql_exact`."""

HIDDEN = (VERSION, EXACT)
"""The columns of a table of rows that its view does not show."""

LINEAGE = ("release", "released_at", "snapshot", "snapshot_id", "digest", "code_version", "proof")
"""The columns of a release row that say where its content comes from."""

# SQLAlchemy types differ in their parameter, which nothing here depends on.
SqlType = sa.types.TypeEngine[Any]

registry = sa.MetaData()
releases = sa.Table(
    "refold_release",
    registry,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("rows_table", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("store", sa.Text, nullable=False),
    *(sa.Column(name, sa.Text) for name in LINEAGE),
    sa.Column("lineage", sa.Text),
)
versions = sa.Table(
    "refold_versions",
    registry,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("rows_table", sa.Text, nullable=False),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
)


def has_registry(connection: sa.Connection) -> bool:
    """Whether this database has Refold's tables."""
    return sa.inspect(connection).has_table(releases.name)


def released_version(connection: sa.Connection, view: str) -> str | None:
    """The version that the release row of a view names."""
    if not has_registry(connection):
        return None
    return connection.scalar(sa.select(releases.c.version).where(releases.c.table_name == view))


def held_version(connection: sa.Connection, view: str, version: str) -> sa.Row[tuple[object, ...]] | None:
    """The registry row of a version of a view."""
    if not has_registry(connection):
        return None
    query = sa.select(versions).where(versions.c.table_name == view, versions.c.version == version)
    return connection.execute(query).one_or_none()


def held_versions(connection: sa.Connection, view: str) -> list[str]:
    """The versions of a view that are held whole, sorted."""
    if not has_registry(connection):
        return []
    return sorted(connection.scalars(sa.select(versions.c.version).where(versions.c.table_name == view)))


def of_version(statement: sa.Delete, view: str, version: str) -> sa.Delete:
    """A statement on the registry of versions, for one of them."""
    return statement.where(versions.c.table_name == view, versions.c.version == version)


def add_missing_columns(connection: sa.Connection) -> None:
    """Add the columns that a table created by an earlier Refold lacks."""
    unless = "" if connection.dialect.name == "sqlite" else "IF NOT EXISTS "
    for name in missing_columns(connection):
        connection.exec_driver_sql(f'ALTER TABLE {releases.name} ADD COLUMN {unless}"{name}" TEXT')


def missing_columns(connection: sa.Connection) -> list[str]:
    """The columns that a table created by an earlier Refold lacks."""
    held = {column["name"] for column in sa.inspect(connection).get_columns(releases.name)}
    return [name for name in LINEAGE if name not in held]


def rows_table_of(view: str, key: Sequence[str], columns: Schema, *, sqlite: bool, exact: bool = False) -> sa.Table:
    """The table of a view's rows; where a key column may be null, a plain index takes the place of the primary key.

    With `exact` the table of the same columns for content that `refold.sinks.sql_exact` describes.
    """
    layout = sha256(f"{describe(columns)}\n\n{chr(10).join(key)}".encode()).hexdigest()[:8]
    nullable = any(columns[name].null for name in key)
    collation = "BINARY" if sqlite else "C"
    name = f"{view}__{layout}{'x' if exact else ''}"
    stored = [sa.Column(part, _stored_as(column, sqlite), nullable=column.null) for part, column in columns.items()]
    if exact:
        stored.append(sa.Column(EXACT, sa.LargeBinary()))
    table = sa.Table(name, sa.MetaData(), sa.Column(VERSION, sa.Text(collation=collation), nullable=False), *stored)
    ordered = [table.c[VERSION], *(table.c[part] for part in key)]
    if exact:
        sa.Index(f"{name}_key", table.c[key[0]], postgresql_using="hash")
    elif nullable:
        sa.Index(f"{name}_key", *ordered)
    else:
        table.append_constraint(sa.PrimaryKeyConstraint(*ordered))
    return table


def _stored_as(column: ColumnType, sqlite: bool) -> SqlType:
    if column.kind in (ColumnKind.TEXT, ColumnKind.ENUM, ColumnKind.VERSION_VECTOR):
        return sa.Text(collation="BINARY" if sqlite else "C")
    if sqlite and column.kind in (ColumnKind.DECIMAL, ColumnKind.DATE, ColumnKind.TIMESTAMP):
        return sa.Text()
    stored: Mapping[str, SqlType] = {
        "int64": sa.BigInteger(),
        "decimal": sa.Numeric(column.precision, column.scale),
        "date": sa.Date(),
        "timestamp": sa.TIMESTAMP(timezone=True),
        "boolean": sa.Boolean(),
        "binary": sa.LargeBinary(),
        "ratio": sa.Double(),
    }
    return stored[column.kind]
