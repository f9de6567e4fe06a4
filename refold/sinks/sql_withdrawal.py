"""A SQL view that no release has any more: dropping it, and its tables once their last version is dropped.

The release row of a withdrawn view has no version and no table of rows. Releasing a version creates the view again,
unless its name was taken meanwhile. Which sinks are withdrawn is decided in `refold.release`.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.schema import DropTable, DropView

from refold.errors import FixInput
from refold.sinks.sql_tables import LINEAGE, held_version, missing_columns, releases, versions
from refold.sinks.sql_views import dependents, shows_columns

WITHDRAWN = ""
"""The table of rows in the release row of a withdrawn view."""


def drop_view(connection: sa.Connection, view: str, store: str, confirm: Callable[[], None]) -> None:
    """Drop the view that serves a store, and empty its release row; nothing where another store has the row.

    `confirm` is called with the row locked, before the view is dropped. Raises FixInput where Refold did not make the
    view as it is, or others depend on it.
    """
    here = releases.c.table_name == view
    query = sa.select(releases.c.store, releases.c.version, releases.c.rows_table).where(here)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None or row.version is None or row.store != store:
        return
    if _exists(connection, view):
        held = held_version(connection, view, row.version)
        if held is not None and not shows_columns(connection, view, row.rows_table, str(held.columns)):
            raise FixInput(f"{view} is not the view that Refold made.")
        if listed := "".join(f"\n  - {name}" for name in dependents(connection, view)):
            raise FixInput(f"Others depend on the view {view}:{listed}", remedy="\nDrop them first.")
    confirm()
    connection.execute(DropView(sa.Table(view, sa.MetaData()), if_exists=True))
    nothing = dict.fromkeys({"version", "lineage", *LINEAGE} - {*missing_columns(connection)})
    connection.execute(sa.update(releases).where(here).values(rows_table=WITHDRAWN, **nothing))


def clear_withdrawn(connection: sa.Connection, view: str, rows_table: str) -> None:
    """Of a withdrawn view drop a table of rows that no version is in, and with the last version the release row."""
    here = releases.c.table_name == view
    if connection.scalar(sa.select(releases.c.rows_table).where(here)) != WITHDRAWN:
        return
    left = connection.scalars(sa.select(versions.c.rows_table).where(versions.c.table_name == view)).all()
    if rows_table not in left:
        connection.execute(DropTable(sa.Table(rows_table, sa.MetaData()), if_exists=True))
    if not left:
        connection.execute(sa.delete(releases).where(here))


def require_free(connection: sa.Connection, view: str, place: str) -> None:
    """Raise FixInput where there is a table or view of a view's name."""
    if _exists(connection, view):
        raise FixInput(
            f"Expected no {place}, found one that Refold did not make.",
            remedy="Give the sink another name, or move that table away.",
        )


def _exists(connection: sa.Connection, name: str) -> bool:
    inspector = sa.inspect(connection)
    return name in inspector.get_table_names() + inspector.get_view_names()
