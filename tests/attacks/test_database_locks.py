"""Somebody else holds a lock in the database: every wait ends, and names who holds it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from refold.errors import Unavailable
from refold.sinks import Connections, Sql
from refold.sinks.database import Database
from refold.sinks.sql import SqlTarget
from refold.storage.objects import ObjectStore
from refold.testing.sink_conformance import levels


def target_at(url: str, folder: Path) -> SqlTarget:
    content = levels("v1", 3)
    places = Connections(ObjectStore.open(str(folder)), {"database": url})
    return Sql("stock_view").open(places, content.store, content.key, content.columns)


@contextmanager
def held(url: str, statement: str) -> Iterator[int]:
    """Another session that has run a statement and leaves its transaction open; gives its pid."""
    with closing(psycopg2.connect(url, application_name="somebody's psql")) as session, session.cursor() as cursor:
        cursor.execute(statement)
        yield session.info.backend_pid


def test_every_transaction_limits_its_waits(postgres: str) -> None:
    """F6: a wait for a lock had no end."""
    with Database(postgres).writing() as connection:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("lock_timeout", "statement_timeout")]
    assert shown == ["30s", "2h"]
    with Database(postgres).reading() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "30s"
    with Database(f"{postgres}&options=-c lock_timeout=700 -c statement_timeout=9000").writing() as connection:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("lock_timeout", "statement_timeout")]
    assert shown == ["700ms", "9s"]


def test_a_session_that_holds_the_release_row_is_named_and_what_is_served_stays(postgres: str, tmp_path: Path) -> None:
    """F6: `SELECT … FOR SHARE` on `refold_release` left open: no end after 180 s, pointer and SQL apart."""
    target = target_at(f"{postgres}&options=-c lock_timeout=800", tmp_path)
    for version in ("v1", "v2"):
        target.publish(levels(version, 3))
    target.release("v1", {})
    move = (target, "v2", {})
    with held(postgres, "SELECT * FROM refold_release FOR SHARE") as pid:
        for attempt in (Sql("stock_view").prepare, Sql("stock_view").release_together):
            began = time.monotonic()
            with pytest.raises(Unavailable, match=f"The lock is held by session {pid} .*somebody's psql.* idle in tr"):
                attempt([move])
            assert time.monotonic() - began < 15
        assert target.released() == "v1"
        assert target.read().equals(levels("v1", 3).rows)
    Sql("stock_view").release_together([move])
    assert target.released() == "v2"


def test_a_named_lock_of_another_process_is_waited_for_and_named(postgres: str) -> None:
    """F6: publishing takes advisory locks, which had no limit either."""
    database = Database(postgres, wait_seconds=0.8)
    with database.writing("tables") as connection:
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        named = rf"held by session {pid} of user \w+ .*refold.* idle in transaction"
        with pytest.raises(Unavailable, match=named), database.writing("tables"):
            pass


def test_a_locked_table_of_rows_stops_no_reader_for_ever(postgres: str, tmp_path: Path) -> None:
    """F6: readers wait for a table that a migration has locked."""
    target = target_at(f"{postgres}&options=-c lock_timeout=4000", tmp_path)
    target.publish(levels("v1", 3))
    target.release("v1", {})
    with held(postgres, f'LOCK TABLE "{target.rows_table.name}"') as pid, pytest.raises(Unavailable, match=str(pid)):
        target.read()


def test_a_locked_sqlite_is_waited_for_and_then_unavailable(tmp_path: Path) -> None:
    """F6: SQLite does not say who holds its lock."""
    file = tmp_path / "refold.db"
    database = Database(f"sqlite:///{file}", wait_seconds=0.3)
    with closing(sqlite3.connect(file, isolation_level=None)) as session:
        session.execute("PRAGMA journal_mode = WAL")
        session.execute("BEGIN IMMEDIATE")
        waited = "database is locked; waited 0.3 seconds for another process"
        with pytest.raises(Unavailable, match=waited), database.writing():
            pass
