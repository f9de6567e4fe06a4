"""A view whose columns change: what others granted, wrote and built on it is kept, or the change is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest

from refold.errors import FixInput, NotFound
from refold.sinks import Connections, Content, Sql
from refold.sinks.sql import SqlTarget
from refold.testing.sink_conformance import assert_holds, content_of
from refold.types import Schema, decimal, int64, text
from tests.sinks.test_sql import opened, places, query

__all__ = ["places"]

FORMER: Schema = {"product_id": text(), "level": int64(), "country": text(null=True)}
ADDED: Schema = {"product_id": text(), "price": decimal(9, 2), "level": int64(), "country": text(null=True)}
DROPPED: Schema = {"product_id": text(), "level": int64()}
RETYPED: Schema = {"product_id": text(), "level": decimal(9, 2), "country": text(null=True)}
ROWS: dict[str, tuple[Schema, tuple[object, ...]]] = {
    "added": (ADDED, ("P", Decimal("19.45"), 2, None)),
    "dropped": (DROPPED, ("P", 2)),
    "retyped": (RETYPED, ("P", Decimal("2.00"), None)),
}
READERS = """
    DROP ROLE IF EXISTS reader; DROP ROLE IF EXISTS clerk; CREATE ROLE reader; CREATE ROLE clerk;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
    GRANT SELECT ON stock_view TO reader; GRANT SELECT ON stock_view TO PUBLIC;
    GRANT SELECT (level), UPDATE (product_id) ON stock_view TO clerk WITH GRANT OPTION;
    COMMENT ON VIEW stock_view IS 'stock: 100%, it''s all; a\\b :c';
    COMMENT ON COLUMN stock_view.product_id IS 'the article';
    ALTER VIEW stock_view SET (security_barrier = true)"""
ABOUT = """
    SELECT relname, reloptions::text, obj_description(oid, 'pg_class'),
        (SELECT string_agg(grantee::regrole || privilege_type || is_grantable, ' ' ORDER BY grantee)
            FROM aclexplode(relacl) WHERE grantee <> relowner)
    FROM pg_class WHERE relname = 'stock_view'
    UNION ALL SELECT attname, '', col_description(attrelid, attnum), attacl::text
    FROM pg_attribute WHERE attrelid = 'stock_view'::regclass AND attname IN ('product_id', 'level') ORDER BY 1"""


def changed(places: Connections, how: str) -> tuple[SqlTarget, SqlTarget, Content]:
    """The sink with a first version released and one of other columns published; and that one's content."""
    former = content_of(FORMER, [("P", 1, None)], "v1")
    columns, row = ROWS[how]
    later = content_of(columns, [row], "v2", ordinal=2)
    before, after = opened(places, former), opened(places, later)
    before.publish(former)
    before.release("v1", {})
    after.publish(later)
    return before, after, later


@pytest.mark.parametrize("how", ROWS)
def test_grants_comments_owner_and_options_outlive_other_columns(
    connections: Connections, postgres: str, how: str
) -> None:
    _, after, later = changed(connections.using(database=postgres), how)
    query(postgres, READERS)
    query(postgres, "DROP ROLE IF EXISTS keeper; CREATE ROLE keeper; GRANT ALL ON SCHEMA public TO keeper")
    query(postgres, "ALTER VIEW stock_view OWNER TO keeper; GRANT SELECT ON ALL TABLES IN SCHEMA public TO keeper")
    query(postgres, "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT DELETE ON TABLES TO clerk")
    about = query(postgres, ABOUT)
    assert "reader" in str(about) and "it's all" in str(about) and "the article" in str(about)
    Sql("stock_view").prepare([(after, "v2", {})])
    assert query(postgres, ABOUT) == about
    after.release("v2", {})
    assert query(postgres, ABOUT) == about
    owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'stock_view'"
    assert query(postgres, owner) == [("keeper",)]
    assert_holds(later, after.read())
    assert query(postgres, "SET ROLE reader; SELECT product_id FROM stock_view") == [("P",)]
    assert after.faults(later, {}) == []


def test_a_column_that_is_added_comes_last_on_postgresql_and_leaves_views_of_others(
    connections: Connections, postgres: str
) -> None:
    before, after, later = changed(connections.using(database=postgres), "added")
    query(postgres, "CREATE VIEW theirs AS SELECT level, product_id FROM stock_view")
    Sql("stock_view").prepare([(after, "v2", {})])
    assert before.released() == "v1"
    after.release("v2", {})
    assert query(postgres, "SELECT * FROM stock_view") == [("P", 2, None, Decimal("19.45"))]
    assert query(postgres, "SELECT * FROM theirs") == [(2, "P")]
    assert_holds(later, after.read())
    assert after.faults(later, {}) == []
    with pytest.raises(FixInput, match=r"would drop or retype price.*\n.*view theirs"):
        Sql("stock_view").prepare([(after, "v1", {})])


THEIRS = {
    "a view": ("CREATE VIEW theirs AS SELECT product_id FROM stock_view", "view theirs"),
    "a materialized view": ("CREATE MATERIALIZED VIEW theirs AS SELECT level FROM stock_view", "view theirs"),
    "a function": (
        "CREATE FUNCTION theirs() RETURNS bigint BEGIN ATOMIC SELECT sum(level) FROM stock_view; END",
        r"function theirs\(\)",
    ),
    "a table of its rows": ("CREATE TABLE theirs (one stock_view)", "table theirs"),
    "a trigger": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        "CREATE TRIGGER theirs INSTEAD OF DELETE ON stock_view FOR EACH ROW EXECUTE FUNCTION f()",
        "trigger theirs on view stock_view",
    ),
    "a rule": ("CREATE RULE theirs AS ON DELETE TO stock_view DO INSTEAD NOTHING", "rule theirs"),
    "a default": (
        "ALTER VIEW stock_view ALTER COLUMN level SET DEFAULT 7",
        "default value for column level of view stock_view",
    ),
}


@pytest.mark.parametrize("what", THEIRS)
@pytest.mark.parametrize("how", ["dropped", "retyped"])
def test_what_depends_on_the_view_is_named_and_nothing_is_changed(
    connections: Connections, postgres: str, how: str, what: str
) -> None:
    before, after, _ = changed(connections.using(database=postgres), how)
    statement, named = THEIRS[what]
    query(postgres, statement)
    for act in (lambda: Sql("stock_view").prepare([(after, "v2", {})]), lambda: after.release("v2", {})):
        with pytest.raises(FixInput, match=rf"(?s)stock_view cannot change its columns.*{named}.*Drop them"):
            act()
    assert before.released() == "v1"
    assert query(postgres, "SELECT * FROM stock_view") == [("P", 1, None)]


@pytest.mark.parametrize(("how", "broken"), [("added", False), ("dropped", True), ("retyped", False)])
def test_on_sqlite_views_of_others_are_kept_or_the_change_is_refused(
    connections: Connections, how: str, broken: bool
) -> None:
    before, after, later = changed(connections, how)
    database = connections.url("database")
    query(database, "CREATE VIEW theirs AS SELECT country, level FROM stock_view")
    query(database, "CREATE VIEW broken_before AS SELECT absent FROM stock_view")
    acts: list[Callable[[], None]] = [lambda: Sql("stock_view").prepare([(after, "v2", {})])]
    if not broken:
        acts[0]()
        assert before.released() == "v1"
        after.release("v2", {})
        assert query(database, "SELECT * FROM theirs") == [(None, 2)]
        assert_holds(later, after.read())
        return
    for act in (*acts, lambda: after.release("v2", {})):
        with pytest.raises(FixInput, match=r"(?s)Views of others would fail.*view theirs: no such column: country"):
            act()
    assert before.released() == "v1"
    assert query(database, "SELECT * FROM theirs") == [(None, 1)]


def test_preparing_an_unknown_version_is_not_found_and_changes_nothing(places: Connections) -> None:
    before, _, _ = changed(places, "added")
    with pytest.raises(NotFound):
        Sql("stock_view").prepare([(before, "v9", {})])
    assert before.released() == "v1"


def test_a_view_of_an_earlier_refold_on_sqlite_shows_numbers_from_the_next_release_on(connections: Connections) -> None:
    """It showed decimals as text, by which 9.75 is more than 19.45."""
    columns: Schema = {"product_id": text(), "price": decimal(9, 2)}
    content = content_of(columns, [("P", Decimal("9.75")), ("Q", Decimal("19.45"))], "v1")
    target, database = opened(connections, content), connections.url("database")
    target.publish(content)
    target.release("v1", {})
    [(made,)] = query(database, "SELECT sql FROM sqlite_master WHERE name = 'stock_view'")
    rows = re.escape(target.rows_table.name)
    former = re.sub(rf"SELECT .* \nFROM {rows}", f"SELECT product_id, price FROM {target.rows_table.name}", str(made))
    query(database, "DROP VIEW stock_view")
    query(database, former)
    assert query(database, "SELECT max(price) FROM stock_view") == [("9.75",)]
    target.release("v1", {})
    assert query(database, "SELECT max(price), max(price_exact) FROM stock_view") == [(19.45, "9.75")]
