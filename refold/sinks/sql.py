"""Tables in a SQL database: all versions side by side, a stable view for readers, one row that says what it shows.

For a sink `Sql("stock_view")` the database holds

- `stock_view`: the view that readers use. It is made once and then left alone, because on PostgreSQL even
  `CREATE OR REPLACE VIEW` waits behind any idle reader, and every later reader queues behind it;
- `stock_view__<hash>`: the rows of all versions; the hash is of the columns, so that other columns are another table,
  as is content that PostgreSQL cannot hold plainly (`refold.sinks.sql_exact`);
- `refold_release`: one row a table with the version that its view shows and that version's lineage: number and time
  of the release, snapshot, digest, code version, proof;
- `refold_versions`: one row for every version that is held whole, written in the transaction that loads it.

A release is the update of one row, or of several in one transaction, so that readers of several views see one
snapshot. Only when columns changed does a release change the view, in the same transaction; `prepare` tries that
before the release is committed, and rolls it back (`refold.sinks.sql_views`).

How the types are stored:

| type | SQLite | PostgreSQL |
|---|---|---|
| int64 | BIGINT | bigint |
| text, enum | TEXT, collation BINARY | text, collation "C", U+0000 shown as U+FFFD and held exactly beside |
| decimal(p, s) | TEXT `12.3400`; the view shows a number, and this text as `<column>_exact` | numeric(p, s) |
| date | TEXT `2020-01-31` | date |
| timestamp | TEXT `2020-01-31T08:00:00.000000Z` | timestamptz |
| boolean | BOOLEAN, 0 or 1 | boolean |
| binary | BLOB | bytea |
| ratio | DOUBLE | double precision |

Both compare keys byte for byte and hold the empty text and null apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa

from refold.errors import Conflict, DeclarationError, NotFound, RefoldError
from refold.sinks.base import Content, Sink, SinkFault, Target, no_version, repeated_but_for_case, require_columns
from refold.sinks.connections import DATABASE, Connections
from refold.sinks.database import Database
from refold.sinks.database_fenced import database_of
from refold.sinks.sql_exact import exact_columns, exactly, needs_exact, with_exact
from refold.sinks.sql_faults import release_faults, remake, remove_strays, stray_faults, version_faults, view_faults
from refold.sinks.sql_tables import (
    HIDDEN,
    LINEAGE,
    VERSION,
    add_missing_columns,
    has_registry,
    held_version,
    held_versions,
    missing_columns,
    of_version,
    registry,
    released_version,
    releases,
    rows_table_of,
    versions,
)
from refold.sinks.sql_views import decimal_faults, follow_columns, shown, shows_columns, shows_exactly
from refold.sinks.sql_withdrawal import WITHDRAWN, clear_withdrawn, drop_view, require_free
from refold.sinks.values import require_storable
from refold.storage.objects import canonical_json
from refold.types import Schema, describe

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_COLUMN_SIZE_BYTES_MAX = 63
_RESERVED = {"refold_release", "refold_versions"}

Move = tuple[Target, str, Mapping[str, str]]


@dataclass(frozen=True)
class Sql(Sink):
    """A table in the project's database, SQLite or PostgreSQL, read through the view `table`.

    SQLite computes exactly with decimals of at most 15 digits (18 where they have no scale), so that wider columns are
    refused there, unless `round_decimals` permits its view to show them rounded, with the exact text beside.

    >>> Sql("stock_view").name
    'stock_view'
    """

    table: str
    round_decimals: bool = False
    kind: ClassVar[str] = "sql"
    label: ClassVar[str] = "SQL view"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.table) or self.table.lower() in _RESERVED:
            fault = f"a table's name matches {_NAME.pattern} and is not one of {', '.join(sorted(_RESERVED))}"
            raise DeclarationError(f"Sql({self.table!r})", [fault])

    @property
    def name(self) -> str:
        """The name of the view."""
        return self.table

    @property
    def connection(self) -> str:
        """The database; a subclass may name another one."""
        return DATABASE

    def options(self) -> dict[str, Any]:
        """What a release records: the default of `round_decimals` is left out, as before there was one."""
        return {name: value for name, value in super().options().items() if value is not False}

    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> SqlTarget:
        """The table in the database. Raises DeclarationError where it cannot hold the columns."""
        faults = [
            f"the column {name!r} is longer than {_COLUMN_SIZE_BYTES_MAX} bytes"
            for name in columns
            if len(name.encode()) > _COLUMN_SIZE_BYTES_MAX
        ]
        faults += repeated_but_for_case(columns)
        faults += [f"the column name {name} is taken" for name in columns if name.lower() in HIDDEN]
        if faults:
            raise DeclarationError(f"{self} of store {store}", sorted(faults))
        return SqlTarget(
            self.table, database_of(connections.url(self.connection), connections.fence), store, key, columns
        )

    def unfit(self, connections: Connections, columns: Schema) -> list[str]:
        """Decimals that SQLite cannot compute with, and names that it needs for their exact text."""
        sqlite = connections.urls.get(self.connection, "").startswith("sqlite")
        return decimal_faults(columns, may_round=self.round_decimals) if sqlite else []

    def by_hand(self, place: str) -> str:
        """The statement to run."""
        return f'Run DROP VIEW "{self.table}"; for {place}.'

    def prepare(self, moves: Sequence[Move]) -> None:
        """Move several tables and roll it back. Raises NotFound, FixInput where a view cannot change its columns."""
        for group in _by_database(moves):
            _release_all(group, dry=True)

    def release_together(self, moves: Sequence[Move], confirm: Callable[[], None] = lambda: None) -> None:
        """Release several tables, in one transaction for all that are in one database; none where all show it already.

        `confirm` is called with the release rows locked, so that of two releases the newer one is always the last.
        Raises NotFound where one of the versions is unknown; then nothing of that database is released.
        """
        for group in _by_database(moves):
            _release_all(group, confirm)


class SqlTarget(Target):
    """One table's versions, release row and view."""

    def __init__(self, table: str, database: Database, store: str, key: Sequence[str], columns: Schema) -> None:
        self.table = table
        self.store = store
        self.database = database
        self.columns = dict(columns)
        self.description = describe(columns)
        self.rows_table = rows_table_of(table, key, columns, sqlite=database.sqlite)
        self._exact_table = rows_table_of(table, key, columns, sqlite=database.sqlite, exact=True)

    @property
    def place(self) -> str:
        """The table and its database, secrets masked."""
        return f"table {self.table} in {self.database.place}"

    def publish(self, content: Content) -> None:
        """Load a version in one transaction; rows of the same version that are there are replaced.

        Raises FixInput where a value cannot be stored, Unavailable where the database does not answer.
        """
        require_storable(content, self.place)
        table = self._table_of(content)
        exact = table is self._exact_table
        rows = with_exact(content, self.place) if exact else content.rows
        self._make_tables(table)
        whole = self._whole(content)
        with self.database.writing(self.lock(content.version)) as connection:
            connection.execute(sa.delete(table).where(table.c[VERSION] == content.version))
            connection.execute(of_version(sa.delete(versions), self.table, content.version))
            self.database.load(connection, table, content.version, rows, self.columns)
            connection.execute(sa.insert(versions).values(whole))

    def read(self, version: str | None = None) -> pa.Table:
        """The rows of a version, or those that the view shows. Raises NotFound, FixInput, Unavailable."""
        if self.database.empty():
            raise NotFound(no_version(self.place, version))
        with self.database.reading() as connection:
            sought = version if version is not None else released_version(connection, self.table)
            found = held_version(connection, self.table, sought) if sought is not None else None
            if sought is None or found is None:
                raise NotFound(no_version(self.place, version))
            require_columns(self.place, sought, found.columns, self.description)
            table = self._exact_table if found.rows_table == self._exact_table.name else self.rows_table
            if version is not None:
                return self._rows(connection, table, sought)
            # What readers get is what the view gives, not what its definition is believed to be.
            if table is self._exact_table and shows_exactly(connection, self.table, table, sought):
                return self._rows(connection, table, sought)
            return self.database.fetch(connection, shown(connection, self.table, self.columns), self.columns)

    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        """Move the view to a version by updating one row. Raises NotFound, Unavailable."""
        _release_all([(self, version, lineage)])

    def released(self) -> str | None:
        """The version that the view shows."""
        if self.database.empty():
            return None
        with self.database.reading() as connection:
            return released_version(connection, self.table)

    def withdraw(self, confirm: Callable[[], None] = lambda: None) -> str:
        """Drop the view, in one transaction with its release row. Raises FixInput, Unavailable.

        The view must be the one that Refold made, and no view or function of others may depend on it.
        """
        if self.released() is not None:
            with self.database.writing("tables") as connection:
                drop_view(connection, self.table, self.store, confirm)
        return ""

    def versions(self) -> list[str]:
        """The versions whose transaction committed."""
        if self.database.empty():
            return []
        with self.database.reading() as connection:
            return held_versions(connection, self.table)

    def drop(self, version: str) -> None:
        """Delete the rows of a version, also one of former columns. Raises Conflict if it is released."""
        if self.database.empty():
            return
        with self.database.writing(self.lock(version)) as connection:
            found = held_version(connection, self.table, version)
            if found is None:
                return
            if released_version(connection, self.table) == version:
                raise Conflict(f"{self.place} shows the version {version}.", remedy="Release another one first.")
            rows = sa.table(found.rows_table, sa.column(VERSION))
            connection.execute(sa.delete(rows).where(rows.c[VERSION] == version))
            connection.execute(of_version(sa.delete(versions), self.table, version))
            clear_withdrawn(connection, self.table, str(found.rows_table))

    def faults(self, content: Content, lineage: Mapping[str, str] | None = None) -> list[SinkFault]:
        """What is wrong with a version's registry row, and with `lineage` with release row and view. See the base."""
        if self.database.empty():
            return [SinkFault(self.place, f"version {content.version}", "no database")]
        table, place = self._table_of(content), self.database.place
        with self.database.reading() as connection:
            if not has_registry(connection):
                return [SinkFault(self.place, f"version {content.version}", "no table refold_release")]
            found = version_faults(connection, place, table, self._whole(content))
            if lineage is None:
                return found
            for each in (self.rows_table, self._exact_table):
                found += stray_faults(connection, place, self.table, each)
            row = self._row(content.version, lineage) | {"rows_table": table.name}
            found += release_faults(connection, place, row)
        return found + view_faults(self.database, self.table, table.name, self.description)

    def salvage(self, version: str, *, served: bool) -> pa.Table | None:
        """The rows of the table, or those that the view shows; also where the registry does not name them."""
        try:
            if served and self.released() == version:
                return self.read(None)
        except RefoldError:
            pass  # the view or the registry is at fault; the rows may still be well
        with self.database.reading() as connection:
            known = set(sa.inspect(connection).get_table_names())
            tables = [table for table in (self.rows_table, self._exact_table) if table.name in known]
            found = [self._rows(connection, table, version) for table in tables]
            return next((rows for rows in found if rows.num_rows), found[0]) if found else None

    def mend(self, content: Content) -> None:
        """Create tables, release row and view again where they differ; delete rows of no version.

        Raises FixInput where a table that Refold did not make has the view's name.
        """
        with self.database.writing("tables", self.lock(content.version)) as connection:
            remake(connection, self.table, self._table_of(content), self.store, self.description)
            remove_strays(connection, self.table, self.rows_table, self._exact_table)

    def _whole(self, content: Content) -> dict[str, object]:
        """The registry row of a version that is held whole."""
        held = {"table_name": self.table, "version": content.version, "rows_table": self._table_of(content).name}
        return held | {"columns": self.description, "row_count": content.rows.num_rows}

    def _table_of(self, content: Content) -> sa.Table:
        return self._exact_table if not self.database.sqlite and needs_exact(content) else self.rows_table

    def _rows(self, connection: sa.Connection, table: sa.Table, version: str) -> pa.Table:
        """The rows of a version in one of its tables, exactly."""
        columns = exact_columns(self.columns) if table is self._exact_table else self.columns
        query = sa.select(*(table.c[name] for name in columns)).where(table.c[VERSION] == version)
        found = self.database.fetch(connection, query, columns)
        return exactly(found, self.columns) if table is self._exact_table else found

    def _row(self, version: str, lineage: Mapping[str, str]) -> dict[str, object]:
        """The release row of a version, but for its table of rows."""
        known = {name: lineage.get(name) for name in LINEAGE}
        row = {"table_name": self.table, "version": version, "store": self.store}
        return {**row, **known, "lineage": canonical_json(dict(lineage)).decode()}

    def lock(self, version: str) -> str:
        """The name of the lock that publishing, releasing and dropping one version take."""
        return f"{self.table} {version}"

    def shows(self, connection: sa.Connection, version: str, lineage: Mapping[str, str]) -> bool:
        """Whether the release row names exactly this version and lineage, in every cell."""
        if missing_columns(connection):
            return False
        row = connection.execute(sa.select(releases).where(releases.c.table_name == self.table)).one_or_none()
        held = held_version(connection, self.table, version)
        if row is None or held is None:
            return False
        if self.database.sqlite and not shows_columns(connection, self.table, held.rows_table, held.columns):
            return False
        return dict(row._mapping) == self._row(version, lineage) | {"rows_table": held.rows_table}

    def move(self, connection: sa.Connection, version: str, lineage: Mapping[str, str]) -> None:
        """Point the release row to a version, and where the view shows other columns, make it follow."""
        found = held_version(connection, self.table, version)
        if found is None:
            raise NotFound(no_version(self.place, version))
        here = releases.c.table_name == self.table
        # Updated, and thereby locked, before it is read: two releases that both swap the view would trip else.
        connection.execute(sa.update(releases).where(here).values(self._row(version, lineage)))
        table = connection.scalar(sa.select(releases.c.rows_table).where(here))
        if table == WITHDRAWN:
            require_free(connection, self.table, self.place)
        shows = table == found.rows_table
        if self.database.sqlite:  # which waits for no reader, so that a view made by an earlier Refold follows as well
            shows = shows and shows_columns(connection, self.table, found.rows_table, found.columns)
        if not shows:
            follow_columns(connection, self.table, found.rows_table, found.columns)
            connection.execute(sa.update(releases).where(here).values(rows_table=found.rows_table))

    def _make_tables(self, table: sa.Table) -> None:
        """Make what is missing of the registry, the table of rows, the release row and the view."""
        with self.database.writing("tables") as connection:
            registry.create_all(connection)
            add_missing_columns(connection)
            table.metadata.create_all(connection)
            query = sa.select(releases.c.table_name).where(releases.c.table_name == self.table)
            if connection.scalar(query) is not None:
                return
            require_free(connection, self.table, self.place)
            row = {"table_name": self.table, "rows_table": table.name, "store": self.store}
            connection.execute(sa.insert(releases).values(row))
            follow_columns(connection, self.table, table.name, self.description)


def _by_database(moves: Sequence[Move]) -> Iterable[Sequence[tuple[SqlTarget, str, Mapping[str, str]]]]:
    groups: dict[str, list[tuple[SqlTarget, str, Mapping[str, str]]]] = {}
    for target, version, lineage in moves:
        assert isinstance(target, SqlTarget), f"{target.place} is not a SQL target"
        groups.setdefault(target.database.url, []).append((target, version, lineage))
    return groups.values()


def _release_all(
    moves: Sequence[tuple[SqlTarget, str, Mapping[str, str]]],
    confirm: Callable[[], None] = lambda: None,
    *,
    dry: bool = False,
) -> None:
    """Release tables of one database in one transaction, which a dry run rolls back."""
    database = moves[0][0].database
    if database.empty():
        raise NotFound(no_version(moves[0][0].place, moves[0][1]))
    # By table name, so that two releases of the same tables update the rows in one order.
    ordered = sorted(moves, key=lambda move: move[0].table)
    with database.reading() as connection:
        if not has_registry(connection):
            raise NotFound(no_version(ordered[0][0].place, ordered[0][1]))
        if all(target.shows(connection, version, lineage) for target, version, lineage in ordered):
            return
        lacking = missing_columns(connection)
    if lacking:
        # By itself: a reader that holds a view to be replaced would wait for this table, and the release for the view.
        with database.writing("tables") as connection:
            add_missing_columns(connection)
    with database.writing(*(target.lock(version) for target, version, _ in ordered)) as connection:
        # The rows of all tables are locked before the first is moved, so that a later release also confirms later.
        names = [target.table for target, _, _ in ordered]
        rows = sa.select(releases.c.table_name).where(releases.c.table_name.in_(names))
        connection.execute(rows.order_by(releases.c.table_name).with_for_update()).all()
        confirm()
        trial = connection.begin_nested() if dry else None
        for target, version, lineage in ordered:
            target.move(connection, version, lineage)
        if trial is not None:
            trial.rollback()
