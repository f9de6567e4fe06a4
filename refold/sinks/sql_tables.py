"""The tables and views of SQL sinks: their columns and types, and what the database's catalogue reports about them.

`refold.sinks.sql` writes to them; `refold.sinks.sql_faults` checks and repairs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateView, DropView

from refold.types import ColumnKind, ColumnType, Schema, describe

VERSION = "refold_version"
"""The first column of every table of rows."""

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


def add_missing_columns(connection: sa.Connection) -> None:
    """Add the columns that a table created by an earlier Refold lacks."""
    unless = "" if connection.dialect.name == "sqlite" else "IF NOT EXISTS "
    for name in missing_columns(connection):
        connection.exec_driver_sql(f'ALTER TABLE {releases.name} ADD COLUMN {unless}"{name}" TEXT')


def missing_columns(connection: sa.Connection) -> list[str]:
    """The columns that a table created by an earlier Refold lacks."""
    held = {column["name"] for column in sa.inspect(connection).get_columns(releases.name)}
    return [name for name in LINEAGE if name not in held]


def create_view(connection: sa.Connection, view: str, rows_table: str) -> None:
    """Create the view over the rows of the version that its release row names."""
    connection.execute(_view(connection, view, view, rows_table))


def replace_view(connection: sa.Connection, view: str, rows_table: str) -> None:
    """Drop the view if it exists, and create it."""
    connection.execute(DropView(sa.Table(view, sa.MetaData()), if_exists=True))
    create_view(connection, view, rows_table)


def _view(connection: sa.Connection, name: str, view: str, rows_table: str, *, temporary: bool = False) -> CreateView:
    names = [str(column["name"]) for column in sa.inspect(connection).get_columns(rows_table)]
    rows = sa.table(rows_table, *(sa.column(name) for name in names))
    shown: sa.ColumnElement[str | None] = releases.c.version
    if connection.dialect.name == "postgresql":
        # A transaction that began before a view was replaced finds the new view and the old release row, by which the
        # table of the new one is empty. No rows would be a mix with what it reads of other views; so it is an error.
        stale = shown + ": the columns of this view have changed since this transaction began; begin another"
        refused = sa.cast(sa.cast(stale, sa.BigInteger), sa.Text)
        shown = sa.case((releases.c.rows_table == rows_table, shown), else_=refused)
    shown = sa.select(shown).where(releases.c.table_name == view).scalar_subquery()
    columns = [rows.c[name] for name in names if name != VERSION]
    return CreateView(sa.select(*columns).where(rows.c[VERSION] == shown), name, temporary=temporary)


def view_texts(connection: sa.Connection, view: str, rows_table: str) -> tuple[str, str | None]:
    """The definition that a view should have, and the one it has; None where there is no view of that name.

    PostgreSQL rewrites definitions, so the same view is created for a moment and its definition is compared; the
    transaction must be allowed to write, and the temporary view is rolled back.
    """
    if connection.dialect.name == "sqlite":
        query = sa.text("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = :view")
        expected = str(_view(connection, view, view, rows_table).compile(dialect=connection.dialect))
        found = connection.scalar(query, {"view": view})
        return _flat(expected), None if found is None else _flat(found)
    query = sa.text(
        "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relname = :view AND relkind = 'v' AND pg_table_is_visible(oid)"
    )
    found = connection.scalar(query, {"view": view})
    probe = f"refold_probe_{view}"[:63]
    with connection.begin_nested() as nested:
        connection.execute(_view(connection, probe, view, rows_table, temporary=True))
        expected = str(connection.scalar(query, {"view": probe}))
        nested.rollback()
    return _flat(expected), None if found is None else _flat(found)


def _flat(text: str) -> str:
    return " ".join(text.split())


def rows_table_of(view: str, key: Sequence[str], columns: Schema, *, sqlite: bool) -> sa.Table:
    """The table of a view's rows; where a key column may be null, a plain index takes the place of the primary key."""
    layout = sha256(f"{describe(columns)}\n\n{chr(10).join(key)}".encode()).hexdigest()[:8]
    nullable = any(columns[name].null for name in key)
    collation = "BINARY" if sqlite else "C"
    name = f"{view}__{layout}"
    stored = [sa.Column(part, _stored_as(column, sqlite), nullable=column.null) for part, column in columns.items()]
    table = sa.Table(name, sa.MetaData(), sa.Column(VERSION, sa.Text(collation=collation), nullable=False), *stored)
    ordered = [table.c[VERSION], *(table.c[part] for part in key)]
    if nullable:
        sa.Index(f"{name}_key", *ordered)
    else:
        table.append_constraint(sa.PrimaryKeyConstraint(*ordered))
    return table


def _stored_as(column: ColumnType, sqlite: bool) -> SqlType:
    if column.kind in (ColumnKind.TEXT, ColumnKind.ENUM):
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
