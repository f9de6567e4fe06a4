"""Finds and repairs damage in a SQL sink's database outside the rows of a version.

It covers the registry row of a version, the release row, the view, and rows that belong to no version, cell by cell.
Rows are compared by content in `refold.repair.sink_audit`; `refold.sinks.sql` publishes and releases versions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from refold.errors import AccessDenied, FixInput
from refold.sinks.base import SinkFault, unlike
from refold.sinks.database import Database
from refold.sinks.sql_tables import (
    VERSION,
    add_missing_columns,
    registry,
    releases,
    versions,
)
from refold.sinks.sql_views import follow_columns, view_texts

_NAMES = re.compile(r'"(?:[^"]|"")*"|[^\s,]+')


def version_faults(
    connection: sa.Connection, place: str, rows_table: sa.Table, expected: Mapping[str, object]
) -> list[SinkFault]:
    """Differences in the registry row of a version, and a missing table of rows."""
    query = sa.select(versions).where(versions.c.table_name == expected["table_name"])
    row = connection.execute(query.where(versions.c.version == expected["version"])).one_or_none()
    where = f"table {versions.name} in {place}, row {expected['table_name']} {expected['version']}"
    found = unlike(where, expected, None if row is None else _cells(row))
    if not sa.inspect(connection).has_table(rows_table.name):
        found.append(SinkFault(f"table {rows_table.name} in {place}", "a table", "none"))
    return found


def stray_faults(connection: sa.Connection, place: str, table: str, rows_table: sa.Table) -> list[SinkFault]:
    """Rows of versions that the registry does not name, and registered versions without rows."""
    if not sa.inspect(connection).has_table(rows_table.name):
        return []
    query = sa.select(versions).where(versions.c.table_name == table, versions.c.rows_table == rows_table.name)
    held = {row.version: row.row_count for row in connection.execute(query)}
    column = rows_table.c[VERSION]
    grouped = sa.select(column, sa.func.count()).group_by(column)
    counts: dict[str, int] = dict(connection.execute(grouped).tuples().all())
    found = []
    for version in sorted(counts.keys() - held.keys()):
        where = f"table {rows_table.name} in {place}, {VERSION} {version}"
        found.append(SinkFault(where, f"no rows, as {versions.name} does not name it", f"{counts[version]} rows"))
    for version in sorted(version for version, count in held.items() if count and not counts.get(version)):
        where = f"table {versions.name} in {place}, row {table} {version}"
        hint = "0 rows; publish that version, or delete the row"
        found.append(SinkFault(where, f"{held[version]} rows in {rows_table.name}", hint))
    return found


def release_faults(connection: sa.Connection, place: str, expected: Mapping[str, object]) -> list[SinkFault]:
    """The cells of a release row that differ."""
    row = connection.execute(sa.select(releases).where(releases.c.table_name == expected["table_name"])).one_or_none()
    where = f"table {releases.name} in {place}, row {expected['table_name']}"
    return unlike(where, expected, None if row is None else _cells(row))


_SCHEMAS = sa.text("""
    SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = :view AND relkind IN ('r', 'v', 'm', 'f', 'p') AND nspname !~ '^pg_temp'""")
_SOURCES = sa.text("""
    SELECT DISTINCT refobjid::regclass::text FROM pg_rewrite JOIN pg_depend ON objid = pg_rewrite.oid
    WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass AND refobjid <> ev_class
        AND ev_class = to_regclass(quote_ident(:view)) ORDER BY 1""")
_PATHS = sa.text("""
    SELECT NULL AS role, reset_val AS path FROM pg_settings WHERE name = 'search_path'
    UNION SELECT rolname, substr(setting, length('search_path=') + 1)
    FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting LEFT JOIN pg_roles ON pg_roles.oid = setrole
    WHERE setting LIKE 'search_path=%' AND setdatabase IN (0, (SELECT oid FROM pg_database
        WHERE datname = current_database()))
    ORDER BY 1 NULLS FIRST, 2""")


def shadow_faults(connection: sa.Connection, place: str, view: str) -> list[SinkFault]:
    """On PostgreSQL, what another schema gives to readers who name the view without its schema.

    Looked at are the search paths of this session, the database and every role that has one of its own.
    """
    schemas = set(connection.scalars(_SCHEMAS, {"view": view}))
    here = str(connection.scalar(sa.text("SELECT current_schema()")))
    found = []
    for role, path in connection.execute(_PATHS).tuples() if schemas - {here} else ():
        names = [name[1:-1].replace('""', '"') if name[:1] == '"' else name.lower() for name in _NAMES.findall(path)]
        own = connection.scalars(sa.text("SELECT rolname FROM pg_roles ORDER BY 1")) if "$user" in names else ()
        for user in [role] if role else [None, *(name for name in own if name in schemas)]:
            searched = [user if name == "$user" else name for name in names]
            first = next((name for name in searched if name in schemas), here)
            if first != here and here in searched:
                who = f"readers with the path {path}" if user is None else f"the role {user}"
                hint = f"{first}.{view} for {who}; rename it, or put {here} first"
                found.append(SinkFault(f"view {view} in {place}", f"{here}.{view} for every reader", hint))
    return found


_SECURED = sa.text("""
    SELECT own.relname FROM pg_class AS shown JOIN pg_class AS own
        ON own.relnamespace = shown.relnamespace AND own.relname IN (:rows_table, :releases) AND own.relrowsecurity
    WHERE shown.oid = to_regclass(quote_ident(:view))
        AND (shown.reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1']
            OR (own.relforcerowsecurity OR own.relowner <> shown.relowner)
            AND NOT EXISTS (SELECT FROM pg_roles
                WHERE oid = shown.relowner AND (rolsuper OR rolbypassrls)))
    ORDER BY 1""")


def security_faults(connection: sa.Connection, place: str, view: str, rows_table: str) -> list[SinkFault]:
    """On PostgreSQL, tables whose row-level security applies to who reads the view, and may hide rows from some."""
    names = {"view": view, "rows_table": rows_table, "releases": releases.name}
    hint = "row-level security of {} for those who read the view; restrict rows in a view over this one instead"
    return [
        SinkFault(f"view {view} in {place}", "the same rows for every reader", hint.format(table))
        for table in connection.scalars(_SECURED, names)
    ]


def _cells(row: sa.Row[Any]) -> dict[str, object]:
    return {str(name): value for name, value in row._mapping.items()}


def view_faults(database: Database, view: str, rows_table: str, description: str) -> list[SinkFault]:
    """What keeps readers from the view that Refold creates over the table of rows.

    It is missing, differs from that, is hidden by another one, or row-level security applies to its readers.

    On PostgreSQL definitions are compared by a temporary view. A role without the right to make one compares only which
    tables the view reads; its rows are compared in any case.
    """
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(rows_table):
            return []  # `version_faults` reports the missing table
        hidden = []
        if not database.sqlite:
            hidden += shadow_faults(connection, database.place, view)
            hidden += security_faults(connection, database.place, view, rows_table)
        if database.sqlite:
            texts = view_texts(connection, view, rows_table, description)
    if not database.sqlite:
        try:
            with database.writing() as connection:
                texts = view_texts(connection, view, rows_table, description)
        except AccessDenied:
            with database.reading() as connection:
                sources = connection.scalars(_SOURCES, {"view": view})
                texts = ", ".join(sorted((releases.name, rows_table))), ", ".join(sources)
    expected, found = texts
    where = f"view {view} in {database.place}"
    return hidden if found == expected else [*hidden, SinkFault(where, expected, found or "no view")]


def remake(connection: sa.Connection, view: str, rows_table: sa.Table, store: str, description: str) -> None:
    """Create or replace registry, table of rows, release row and view where they differ.

    Raises FixInput where a table that Refold did not make has the view's name.
    """
    registry.create_all(connection)
    add_missing_columns(connection)
    rows_table.metadata.create_all(connection)
    here = releases.c.table_name == view
    row = connection.execute(sa.select(releases).where(here)).one_or_none()
    held = sa.select(versions.c.rows_table, versions.c.columns).where(versions.c.table_name == view)
    served = connection.execute(held.where(versions.c.version == row.version)).first() if row is not None else None
    shown = rows_table.name
    if served is not None and sa.inspect(connection).has_table(served.rows_table):
        shown, description = served.rows_table, served.columns
    if row is None:
        connection.execute(sa.insert(releases).values(table_name=view, rows_table=shown, store=store))
    else:
        connection.execute(sa.update(releases).where(here).values(rows_table=shown))
    if view in sa.inspect(connection).get_table_names():
        raise FixInput(
            f"Expected the view {view}, found a table of that name that Refold did not make.",
            remedy="Move that table away, then repair again.",
        )
    expected, found = view_texts(connection, view, shown, description)
    if found != expected:
        follow_columns(connection, view, shown, description)


def remove_strays(connection: sa.Connection, view: str, *tables: sa.Table) -> None:
    """Delete the rows that no registered version has in these tables, as far as they exist."""
    known = set(sa.inspect(connection).get_table_names())
    for table in tables:
        if table.name in known:
            here = (versions.c.table_name == view) & (versions.c.rows_table == table.name)
            named = sa.select(versions.c.version).where(here)
            connection.execute(sa.delete(table).where(table.c[VERSION].not_in(named)))
