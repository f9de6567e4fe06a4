"""Tables in a SQL database: all versions side by side, a stable view for readers, one row that says what it shows.

For a sink `Sql("stock_view")` the database holds

- `stock_view`: the view that readers use. It is made once and then left alone, because on PostgreSQL even
  `CREATE OR REPLACE VIEW` waits behind any idle reader, and every later reader queues behind it;
- `stock_view__<hash>`: the rows of all versions; the hash is of the columns, so that other columns are another table;
- `refold_release`: one row a table with the version that its view shows and that version's lineage: number and time
  of the release, snapshot, digest, code version, proof;
- `refold_versions`: one row for every version that is held whole, written in the transaction that loads it.

A release is the update of one row, or of several in one transaction, so that readers of several views see one
snapshot. Only when columns changed does a release replace the view, in the same transaction.

How the types are stored:

| type | SQLite | PostgreSQL |
|---|---|---|
| int64 | BIGINT | bigint |
| text, enum | TEXT, collation BINARY | text, collation "C", no U+0000 |
| decimal(p, s) | TEXT `12.3400`, since its NUMERIC is a double | numeric(p, s) |
| date | TEXT `2020-01-31` | date |
| timestamp | TEXT `2020-01-31T08:00:00.000000Z` | timestamptz |
| boolean | BOOLEAN, 0 or 1 | boolean |
| binary | BLOB | bytea |
| ratio | DOUBLE | double precision |

Both compare keys byte for byte and hold the empty text and null apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.schema import CreateView, DropView

from refold.errors import Conflict, DeclarationError, FixInput, NotFound
from refold.sinks.base import Connections, Content, Sink, Target, no_version, require_columns
from refold.sinks.database import Database
from refold.sinks.values import require_storable
from refold.storage import canonical_json
from refold.types import ColumnType, Schema, describe

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_COLUMN_SIZE_BYTES_MAX = 63
_VERSION = "refold_version"
_RESERVED = {"refold_release", "refold_versions"}
_LINEAGE = ("release", "released_at", "snapshot", "snapshot_id", "digest", "code_version", "proof")

_registry = sa.MetaData()
_releases = sa.Table(
    "refold_release",
    _registry,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("rows_table", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("store", sa.Text, nullable=False),
    *(sa.Column(name, sa.Text) for name in _LINEAGE),
    sa.Column("lineage", sa.Text),
)
_versions = sa.Table(
    "refold_versions",
    _registry,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("rows_table", sa.Text, nullable=False),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
)

# SQLAlchemy types differ in their parameter, which nothing here depends on.
SqlType = sa.types.TypeEngine[Any]
Move = tuple[Target, str, Mapping[str, str]]


@dataclass(frozen=True)
class Sql(Sink):
    """A table in the project's database, SQLite or PostgreSQL, read through the view `table`.

    >>> Sql("stock_view").name
    'stock_view'
    """

    table: str
    kind: ClassVar[str] = "sql"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.table) or self.table.lower() in _RESERVED:
            fault = f"a table's name matches {_NAME.pattern} and is none of {', '.join(sorted(_RESERVED))}"
            raise DeclarationError(f"Sql({self.table!r})", [fault])

    @property
    def name(self) -> str:
        """The name of the view."""
        return self.table

    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> SqlTarget:
        """The table in `connections.database_url`. Raises DeclarationError where it cannot hold the columns."""
        faults = [
            f"the column {name!r} is longer than {_COLUMN_SIZE_BYTES_MAX} bytes"
            for name in columns
            if len(name.encode()) > _COLUMN_SIZE_BYTES_MAX
        ]
        lowered = [name.lower() for name in columns]
        faults += [
            f"the column name {name!r} occurs twice, but for case"
            for name in {n for n in lowered if lowered.count(n) > 1}
        ]
        if _VERSION in lowered:
            faults.append(f"the column name {_VERSION} is taken")
        if faults:
            raise DeclarationError(f"{self} of store {store}", sorted(faults))
        return SqlTarget(self.table, Database(connections.database_url), key, columns)

    def release_together(self, moves: Sequence[Move], confirm: Callable[[], None] = lambda: None) -> None:
        """Release several tables, in one transaction for all that are in one database; none where all show it already.

        `confirm` is called with the release rows locked, so that of two releases the newer one is always the last.
        Raises NotFound where one of the versions is unknown; then nothing of that database is released.
        """
        groups: dict[str, list[tuple[SqlTarget, str, Mapping[str, str]]]] = {}
        for target, version, lineage in moves:
            assert isinstance(target, SqlTarget), f"{target.place} is not a SQL target"
            groups.setdefault(target.database.url, []).append((target, version, lineage))
        for group in groups.values():
            _release_all(group, confirm)


class SqlTarget(Target):
    """One table's versions, release row and view."""

    def __init__(self, table: str, database: Database, key: Sequence[str], columns: Schema) -> None:
        self.table = table
        self.database = database
        self.columns = dict(columns)
        self.description = describe(columns)
        self.rows_table = _rows_table(table, key, columns, sqlite=database.sqlite)

    @property
    def place(self) -> str:
        """The table and its database, secrets masked."""
        return f"table {self.table} in {self.database.place}"

    def publish(self, content: Content) -> None:
        """Load a version in one transaction; rows of the same version that are there are replaced.

        Raises FixInput where a value cannot be stored, Unavailable where the database does not answer.
        """
        require_storable(content, self.place, nul=self.database.sqlite)
        self._make_tables(content)
        held = {"table_name": self.table, "version": content.version}
        whole = held | {
            "rows_table": self.rows_table.name,
            "columns": self.description,
            "row_count": content.rows.num_rows,
        }
        with self.database.writing(self.lock(content.version)) as connection:
            connection.execute(sa.delete(self.rows_table).where(self.rows_table.c[_VERSION] == content.version))
            connection.execute(_of_version(sa.delete(_versions), held))
            self.database.load(connection, self.rows_table, content.version, content.rows, self.columns)
            connection.execute(sa.insert(_versions).values(whole))

    def read(self, version: str | None = None) -> pa.Table:
        """The rows of a version, or those that the view shows. Raises NotFound, FixInput, Unavailable."""
        if self.database.empty():
            raise NotFound(no_version(self.place, version))
        with self.database.reading() as connection:
            sought = version if version is not None else self._released(connection)
            found = self._held(connection, sought) if sought is not None else None
            if sought is None or found is None:
                raise NotFound(no_version(self.place, version))
            require_columns(self.place, sought, found.columns, self.description)
            names = list(self.columns)
            query = sa.select(*(self.rows_table.c[name] for name in names))
            query = query.where(self.rows_table.c[_VERSION] == sought)
            if version is None:
                # What readers get is what the view gives, not what its definition is believed to be.
                view = sa.table(self.table, *(sa.column(n, self.rows_table.c[n].type) for n in names))
                query = sa.select(*(view.c[name] for name in names))
            return self.database.fetch(connection, query, self.columns)

    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        """Move the view to a version by updating one row. Raises NotFound, Unavailable."""
        _release_all([(self, version, lineage)])

    def released(self) -> str | None:
        """The version that the view shows."""
        if self.database.empty():
            return None
        with self.database.reading() as connection:
            return self._released(connection)

    def versions(self) -> list[str]:
        """The versions whose transaction committed."""
        if self.database.empty():
            return []
        with self.database.reading() as connection:
            if not _has_registry(connection):
                return []
            query = sa.select(_versions.c.version).where(_versions.c.table_name == self.table)
            return sorted(connection.scalars(query))

    def drop(self, version: str) -> None:
        """Delete the rows of a version, also one of former columns. Raises Conflict if it is released."""
        if self.database.empty():
            return
        with self.database.writing(self.lock(version)) as connection:
            found = self._held(connection, version)
            if found is None:
                return
            if self._released(connection) == version:
                raise Conflict(f"{self.place} shows the version {version}.", remedy="Release another one first.")
            rows = sa.table(found.rows_table, sa.column(_VERSION))
            connection.execute(sa.delete(rows).where(rows.c[_VERSION] == version))
            connection.execute(_of_version(sa.delete(_versions), {"table_name": self.table, "version": version}))

    def lock(self, version: str) -> str:
        """The name of the lock that publishing, releasing and dropping one version take."""
        return f"{self.table} {version}"

    def shows(self, connection: sa.Connection, version: str, lineage: Mapping[str, str]) -> bool:
        """Whether the release row names exactly this version and lineage."""
        query = sa.select(_releases.c.version, _releases.c.lineage).where(_releases.c.table_name == self.table)
        row = connection.execute(query).one_or_none()
        return row is not None and tuple(row) == (version, _lineage_text(lineage))

    def move(self, connection: sa.Connection, version: str, lineage: Mapping[str, str]) -> None:
        """Point the release row to a version, and where that has other columns, replace the view."""
        found = self._held(connection, version)
        if found is None:
            raise NotFound(no_version(self.place, version))
        here = _releases.c.table_name == self.table
        # Updated, and thereby locked, before it is read: two releases that both swap the view would trip else.
        row = {name: lineage.get(name) for name in _LINEAGE} | {"lineage": _lineage_text(lineage)}
        connection.execute(sa.update(_releases).where(here).values(version=version, **row))
        shown = connection.scalar(sa.select(_releases.c.rows_table).where(here))
        if shown != found.rows_table:
            self.database.limit_waiting(connection)
            connection.execute(DropView(sa.Table(self.table, sa.MetaData())))
            _create_view(connection, self.table, found.rows_table)
            connection.execute(sa.update(_releases).where(here).values(rows_table=found.rows_table))

    def _make_tables(self, content: Content) -> None:
        """Make what is missing of the registry, the table of rows, the release row and the view."""
        with self.database.writing("tables") as connection:
            _registry.create_all(connection)
            _add_missing_columns(connection)
            self.rows_table.metadata.create_all(connection)
            query = sa.select(_releases.c.table_name).where(_releases.c.table_name == self.table)
            if connection.scalar(query) is not None:
                return
            inspector = sa.inspect(connection)
            if self.table in inspector.get_table_names() + inspector.get_view_names():
                raise FixInput(
                    f"Expected no {self.place}, found one that Refold did not make.",
                    remedy="Give the sink another name, or move that table away.",
                )
            row = {"table_name": self.table, "rows_table": self.rows_table.name, "store": content.store}
            connection.execute(sa.insert(_releases).values(row))
            _create_view(connection, self.table, self.rows_table.name)

    def _released(self, connection: sa.Connection) -> str | None:
        if not _has_registry(connection):
            return None
        return connection.scalar(sa.select(_releases.c.version).where(_releases.c.table_name == self.table))

    def _held(self, connection: sa.Connection, version: str) -> sa.Row[tuple[object, ...]] | None:
        if not _has_registry(connection):
            return None
        query = sa.select(_versions).where(_versions.c.table_name == self.table, _versions.c.version == version)
        return connection.execute(query).one_or_none()


def _release_all(
    moves: Sequence[tuple[SqlTarget, str, Mapping[str, str]]], confirm: Callable[[], None] = lambda: None
) -> None:
    database = moves[0][0].database
    if database.empty():
        raise NotFound(no_version(moves[0][0].place, moves[0][1]))
    # By table name, so that two releases of the same tables update the rows in one order.
    ordered = sorted(moves, key=lambda move: move[0].table)
    with database.reading() as connection:
        if not _has_registry(connection):
            raise NotFound(no_version(ordered[0][0].place, ordered[0][1]))
        if all(target.shows(connection, version, lineage) for target, version, lineage in ordered):
            return
    with database.writing(*(target.lock(version) for target, version, _ in ordered)) as connection:
        _add_missing_columns(connection)
        # The rows of all tables are locked before the first is moved: whoever comes later then confirms later, too.
        names = [target.table for target, _, _ in ordered]
        rows = sa.select(_releases.c.table_name).where(_releases.c.table_name.in_(names))
        connection.execute(rows.order_by(_releases.c.table_name).with_for_update()).all()
        confirm()
        for target, version, lineage in ordered:
            target.move(connection, version, lineage)


def _add_missing_columns(connection: sa.Connection) -> None:
    """Give the release rows of an earlier Refold the columns that they lack."""
    held = {column["name"] for column in sa.inspect(connection).get_columns(_releases.name)}
    unless = "" if connection.dialect.name == "sqlite" else "IF NOT EXISTS "
    for name in _LINEAGE:
        if name not in held:
            connection.exec_driver_sql(f'ALTER TABLE {_releases.name} ADD COLUMN {unless}"{name}" TEXT')


def _lineage_text(lineage: Mapping[str, str]) -> str:
    return canonical_json(dict(lineage)).decode()


def _has_registry(connection: sa.Connection) -> bool:
    return sa.inspect(connection).has_table(_releases.name)


def _of_version(statement: sa.Delete, held: Mapping[str, str]) -> sa.Delete:
    return statement.where(*(_versions.c[name] == value for name, value in held.items()))


def _create_view(connection: sa.Connection, view: str, rows_table: str) -> None:
    names = [str(column["name"]) for column in sa.inspect(connection).get_columns(rows_table)]
    rows = sa.table(rows_table, *(sa.column(name) for name in names))
    shown = sa.select(_releases.c.version).where(_releases.c.table_name == view).scalar_subquery()
    columns = [rows.c[name] for name in names if name != _VERSION]
    connection.execute(CreateView(sa.select(*columns).where(rows.c[_VERSION] == shown), view))


def _rows_table(view: str, key: Sequence[str], columns: Schema, *, sqlite: bool) -> sa.Table:
    """The table of a view's rows; where a key column may be null, a plain index stands in for the primary key."""
    layout = sha256(f"{describe(columns)}\n\n{chr(10).join(key)}".encode()).hexdigest()[:8]
    nullable = any(columns[name].null for name in key)
    collation = "BINARY" if sqlite else "C"
    name = f"{view}__{layout}"
    stored = [sa.Column(part, _stored_as(column, sqlite), nullable=column.null) for part, column in columns.items()]
    table = sa.Table(name, sa.MetaData(), sa.Column(_VERSION, sa.Text(collation=collation), nullable=False), *stored)
    ordered = [table.c[_VERSION], *(table.c[part] for part in key)]
    if nullable:
        sa.Index(f"{name}_key", *ordered)
    else:
        table.append_constraint(sa.PrimaryKeyConstraint(*ordered))
    return table


def _stored_as(column: ColumnType, sqlite: bool) -> SqlType:
    if column.kind in ("text", "enum"):
        return sa.Text(collation="BINARY" if sqlite else "C")
    if sqlite and column.kind in ("decimal", "date", "timestamp"):
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
