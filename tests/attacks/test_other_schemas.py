"""Another schema of PostgreSQL has a table of the same name, and comes first in a search path."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from refold.errors import FixInput
from refold.sinks import Connections, Sql
from refold.sinks.database import Database
from refold.sinks.sql import SqlTarget
from refold.storage.objects import ObjectStore
from refold.testing.sink_conformance import levels

NAMES = "CREATE SCHEMA other; CREATE TABLE other.stock_view AS SELECT 'forged' AS product_id, 666 AS level;"
CLEAN = "DROP SCHEMA IF EXISTS other CASCADE; DROP SCHEMA IF EXISTS clerk CASCADE; DROP ROLE IF EXISTS clerk"


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def server(postgres: str):
    """The database without what the last test left in it."""
    query(postgres, CLEAN)
    yield postgres
    query(postgres, f"ALTER DATABASE {query(postgres, 'SELECT current_database()')[0][0]} RESET search_path; {CLEAN}")


def served(url: str, folder: Path) -> SqlTarget:
    content = levels("v1", 3)
    places = Connections(ObjectStore.open(str(folder)), {"database": url})
    target = Sql("stock_view").open(places, content.store, content.key, content.columns)
    target.publish(content)
    target.release("v1", content.lineage)
    return target


def faults(target: SqlTarget) -> list[str]:
    content = levels("v1", 3)
    return [f"{fault.expected} | {fault.found}" for fault in target.faults(content, content.lineage)]


def test_a_table_that_hides_the_view_from_readers_is_named(server: str, tmp_path: Path) -> None:
    """F18: "Served", while readers got the table of the other schema."""
    target = served(server, tmp_path)
    assert faults(target) == []
    query(server, NAMES)
    assert faults(target) == []  # no path searches it
    database = query(server, "SELECT current_database()")[0][0]
    query(server, f"ALTER DATABASE {database} SET search_path = other, public")
    assert query(server, "SELECT level FROM stock_view") == [(666,)]
    path = "readers with the path other, public; rename it, or put public first"
    assert faults(target) == [f"public.stock_view for every reader | other.stock_view for {path}"]
    assert target.read().equals(levels("v1", 3).rows)  # Refold itself reads its own


def test_a_role_whose_path_finds_another_table_is_named(server: str, tmp_path: Path) -> None:
    """F18: the path of a role, and the schema that has the name of a role."""
    target = served(server, tmp_path)
    query(server, f"{NAMES} CREATE ROLE clerk; ALTER ROLE clerk SET search_path = other, public")
    assert faults(target) == [
        "public.stock_view for every reader | other.stock_view for the role clerk; rename it, or put public first"
    ]
    query(server, "ALTER ROLE clerk RESET search_path; ALTER SCHEMA other RENAME TO clerk")
    assert faults(target) == [
        "public.stock_view for every reader | clerk.stock_view for the role clerk; rename it, or put public first"
    ]


SECURED = 'ALTER TABLE "{0}" ENABLE ROW LEVEL SECURITY; ALTER VIEW stock_view SET (security_invoker = {1})'


@pytest.mark.parametrize(("secured", "on"), [("rows", "true"), ("rows", "on"), ("release", "true")])
def test_row_level_security_that_applies_to_readers_is_named(
    server: str, tmp_path: Path, secured: str, on: str
) -> None:
    """The account that rebuilds saw all rows, and readers saw none."""
    target = served(server, tmp_path)
    table = target.rows_table.name if secured == "rows" else "refold_release"
    query(server, "CREATE ROLE clerk; GRANT USAGE ON SCHEMA public TO clerk")
    query(server, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk")
    try:
        query(server, SECURED.format(table, on))
        assert query(server, "SET ROLE clerk; SELECT count(*) FROM stock_view") == [(0,)]
        assert target.read().equals(levels("v1", 3).rows)
        hint = "for those who read the view; restrict rows in a view over this one instead"
        assert faults(target) == [f"the same rows for every reader | row-level security of {table} {hint}"]
        query(server, "ALTER VIEW stock_view RESET (security_invoker)")
        assert query(server, "SET ROLE clerk; SELECT count(*) FROM stock_view") == [(target.read().num_rows,)]
        assert faults(target) == []
    finally:
        query(server, "DROP OWNED BY clerk")


def test_tables_stay_where_they_were_made(server: str, tmp_path: Path) -> None:
    """F18: a schema that is put first later has forged tables and a forged function; neither is used."""
    target = served(server, tmp_path)
    forged = "CREATE FUNCTION other.replace(text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'forged' $$"
    query(server, f"{NAMES} {forged}; CREATE TABLE other.{target.rows_table.name} (refold_version text)")
    there = served(f"{server}&options=-c search_path=other,public", tmp_path)
    there.publish(levels("v2", 5))
    there.release("v2", {})
    assert target.released() == "v2"
    assert target.read().equals(levels("v2", 5).rows)
    assert query(server, f"SELECT * FROM other.{target.rows_table.name}") == []


def test_nothing_is_made_as_a_temporary_table_where_no_schema_can_be_used(server: str) -> None:
    """F18: an empty path must be an error, and not a table that ends with the session."""
    database = Database(f"{server}&options=-c search_path=nowhere")
    with pytest.raises(FixInput, match="no schema has been selected"), database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE gone (x int)")
