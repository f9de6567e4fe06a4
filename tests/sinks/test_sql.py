"""SQL tables seen as their readers see them: through other drivers, by plain SQL, on both databases."""

from __future__ import annotations

import datetime as dt
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.errors import Conflict, DeclarationError, FixInput, NotFound, Unavailable
from refold.sinks import Connections, Content, Sql
from refold.sinks.bulk_postgres import copy_text
from refold.sinks.database import Database
from refold.sinks.sql import SqlTarget
from refold.testing.sink_conformance import ALL_TYPES, LEVELS, assert_holds, content_of, levels
from refold.types import Schema, decimal, int64, text

ONE_OF_ALL = (
    "P-1", dt.date(2020, 1, 31), 7, "n", Decimal("1.5"), Decimal(3), None,
    dt.datetime(2020, 1, 31, 8, 0, 0, 5, dt.UTC), True, b"\x00\xff", 0.25,
)  # fmt: skip
Query = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture(params=["sqlite", "postgres"])
def places(request: pytest.FixtureRequest, connections: Connections) -> Connections:
    """The connections with each kind of database in turn."""
    return connections if request.param == "sqlite" else connections.using(database=request.getfixturevalue("postgres"))


def opened(places: Connections, content: Content, name: str = "stock_view") -> SqlTarget:
    return Sql(name).open(places, content.store, content.key, content.columns)


def connect(url: str) -> sqlite3.Connection:
    """A connection by the plain driver, that of a reader who knows nothing of Refold."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    import psycopg2

    return psycopg2.connect(url)


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = connect(url)
    try:
        cursor = connection.cursor()
        cursor.execute(sql)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows
    finally:
        connection.close()


def test_readers_use_a_plain_view_that_is_empty_before_the_first_release(places: Connections) -> None:
    content = levels("v1", 3, count=2)
    target = opened(places, content)
    target.publish(content)
    select = "SELECT product_id, level FROM stock_view ORDER BY product_id"
    assert query(places.url("database"), select) == []
    target.release("v1", content.lineage)
    assert query(places.url("database"), select) == [("P-0000", 3), ("P-0001", 3)]


def test_the_release_row_tells_the_version_and_its_lineage(places: Connections) -> None:
    content = levels("v1", 3)
    target = opened(places, content)
    target.publish(content)
    target.release("v1", content.lineage | {"extra": "ä"})
    select = "SELECT table_name, version, store, snapshot, digest, code_version, proof, lineage FROM refold_release"
    lineage = '{"code_version":"1-abc","digest":"' + "d" * 64 + '","extra":"ä","proof":"p","snapshot":"2020-01-01"}'
    row = ("stock_view", "v1", "a_store", "2020-01-01", "d" * 64, "1-abc", "p", lineage)
    assert query(places.url("database"), select) == [row]


def test_sqlite_stores_each_type_as_the_table_in_the_docstring_says(connections: Connections) -> None:
    content = content_of(ALL_TYPES, [ONE_OF_ALL], "v1")
    target = opened(connections, content)
    target.publish(content)
    target.release("v1", {})
    row = query(connections.url("database"), "SELECT * FROM stock_view")[0]
    at = "2020-01-31T08:00:00.000005Z"
    assert row == ("P-1", "2020-01-31", 7, "n", 1.5, "1.5000000000", 3, None, at, 1, b"\x00\xff", 0.25)
    assert [type(value) for value in row][:7] == [str, str, int, str, float, str, int]


def test_postgresql_stores_each_type_as_the_table_in_the_docstring_says(
    connections: Connections, postgres: str
) -> None:
    places = connections.using(database=postgres)
    content = content_of(ALL_TYPES, [ONE_OF_ALL], "v1")
    target = opened(places, content)
    target.publish(content)
    select = """SELECT column_name, data_type, collation_name, numeric_precision, numeric_scale
        FROM information_schema.columns WHERE table_name = 'stock_view' ORDER BY ordinal_position"""
    assert query(postgres, select) == [
        ("name", "text", "C", None, None),
        ("day", "date", None, None, None),
        ("number", "bigint", None, 64, 0),
        ("note", "text", "C", None, None),
        ("price", "numeric", None, 38, 10),
        ("units", "numeric", None, 18, 0),
        ("until", "date", None, None, None),
        ("at", "timestamp with time zone", None, None, None),
        ("active", "boolean", None, None, None),
        ("raw", "bytea", None, None, None),
        ("share", "double precision", None, 53, None),
    ]


def test_the_big_list_of_naughty_strings_survives_as_keys(places: Connections, naughty_strings: list[str]) -> None:
    rows = [(word, i) for i, word in enumerate(naughty_strings)]
    content = content_of(LEVELS, rows, "v1")
    target = opened(places, content)
    target.publish(content)
    target.release("v1", {})
    assert_holds(content, target.read())
    assert sorted(query(places.url("database"), "SELECT product_id, level FROM stock_view")) == sorted(rows)


def test_column_names_that_sql_would_misread_are_quoted(places: Connections) -> None:
    names = ['quo"te', "per%cent", "colon:x", "order", "Select", "two words", "ä", "per%(cent)s", "que?stion"]
    columns: Schema = {"key": text()} | {name: int64(null=True) for name in names}
    content = content_of(columns, [("P", *range(len(names))), ("Q", *(None for _ in names))], "v1")
    target = opened(places, content)
    target.publish(content)
    target.release("v1", {})
    assert_holds(content, target.read())


def test_keys_may_be_null_where_they_are_declared_so(places: Connections) -> None:
    columns: Schema = {"day": text(), "country": text(null=True), "count": int64()}
    rows = [("2020-01-01", None, 1), ("2020-01-01", "", 2), ("2020-01-01", "FR", 3)]
    content = replace(content_of(columns, rows, "v1"), key=["day", "country"])
    target = opened(places, content)
    target.publish(content)
    assert_holds(content, target.read("v1"))


def test_a_key_that_is_repeated_is_refused_and_nothing_is_held(places: Connections) -> None:
    content = content_of(LEVELS, [("P", 1), ("P", 2)], "v1")
    target = opened(places, content)
    with pytest.raises(FixInput, match="one row per key"):
        target.publish(content)
    assert target.versions() == []


def test_what_a_hand_changed_in_the_table_is_seen_and_published_again_is_mended(places: Connections) -> None:
    content = levels("v1", 3)
    target = opened(places, content)
    target.publish(content)
    target.release("v1", {})
    query(places.url("database"), f"UPDATE {target.rows_table.name} SET level = 4 WHERE product_id = 'P-0003'")
    assert sum(target.read()["level"].to_pylist()) == 61
    target.publish(content)
    assert_holds(content, target.read())
    assert target.released() == "v1"


def test_tables_are_released_together_or_not_at_all(places: Connections) -> None:
    first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
    stock, catalog = opened(places, first, "stock"), opened(places, first, "catalog")
    for target in (stock, catalog):
        target.publish(first)
    stock.publish(second)
    Sql("stock").release_together([(target, "v1", {}) for target in (stock, catalog)])
    with pytest.raises(NotFound):
        Sql("stock").release_together([(stock, "v2", {}), (catalog, "v2", {})])
    assert (stock.released(), catalog.released()) == ("v1", "v1")


def test_one_statement_over_two_views_never_sees_two_snapshots(places: Connections) -> None:
    contents = [levels("v1", 1), levels("v2", 2, ordinal=2)]
    targets = [opened(places, contents[0], name) for name in ("stock", "catalog")]
    for target in targets:
        for content in contents:
            target.publish(content)

    def release(version: str) -> None:
        Sql("stock").release_together([(target, version, {}) for target in targets])

    release("v1")
    done = threading.Event()

    def read() -> set[tuple[object, ...]]:
        joined = "SELECT DISTINCT s.level, c.level FROM stock s JOIN catalog c ON s.product_id = c.product_id"
        seen: set[tuple[object, ...]] = set()
        while not done.is_set():
            rows = query(places.url("database"), joined)
            assert len(rows) == 1
            seen.update(rows)
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            for version in ("v2", "v1") * 15:
                release(version)
        finally:
            done.set()
        assert reader.result() <= {(1, 1), (2, 2)}


def test_an_idle_reader_does_not_hold_up_a_release(places: Connections) -> None:
    first, second = levels("v1", 1, count=2), levels("v2", 2, count=2, ordinal=2)
    target = opened(places, first)
    for content in (first, second):
        target.publish(content)
    target.release("v1", {})
    idle = connect(places.url("database"))
    cursor = idle.cursor()
    cursor.execute("BEGIN") if places.url("database").startswith("sqlite") else None
    cursor.execute("SELECT level FROM stock_view")
    assert cursor.fetchall() == [(1,), (1,)]
    target.release("v2", {})
    assert query(places.url("database"), "SELECT level FROM stock_view") == [(2,), (2,)]
    idle.rollback()
    idle.close()


def test_changed_columns_reach_readers_at_the_release_and_only_then(places: Connections) -> None:
    former = levels("v1", 1, count=1)
    columns: Schema = {"product_id": text(), "price": decimal(10, 2)}
    later = content_of(columns, [("P-0000", Decimal("2.50"))], "v2", ordinal=2)
    before, after = opened(places, former), opened(places, later)
    before.publish(former)
    before.release("v1", {})
    after.publish(later)
    assert query(places.url("database"), "SELECT * FROM stock_view") == [("P-0000", 1)]
    after.release("v2", {})
    price = (2.5, "2.50") if places.url("database").startswith("sqlite") else (Decimal("2.50"),)
    assert query(places.url("database"), "SELECT * FROM stock_view") == [("P-0000", *price)]
    after.drop("v1")
    assert after.versions() == ["v2"]


def test_a_table_that_refold_did_not_make_is_left_alone(places: Connections) -> None:
    query(places.url("database"), "CREATE TABLE stock_view (mine int)") if "postgres" in places.url(
        "database"
    ) else None
    if places.url("database").startswith("sqlite"):
        Path(places.url("database").removeprefix("sqlite:///")).parent.mkdir(parents=True)
        query(places.url("database"), "CREATE TABLE stock_view (mine int)")
    content = levels("v1", 1)
    with pytest.raises(FixInput, match="did not make"):
        opened(places, content).publish(content)
    assert query(places.url("database"), "SELECT * FROM stock_view") == []


def test_asking_an_sqlite_database_that_does_not_exist_makes_none(connections: Connections) -> None:
    target = opened(connections, levels("v1", 1))
    with pytest.raises(NotFound):
        target.read()
    assert (target.released(), target.versions()) == (None, [])
    assert not Path(connections.url("database").removeprefix("sqlite:///")).parent.exists()


def test_an_unreachable_database_is_to_be_retried_and_its_password_stays_secret(connections: Connections) -> None:
    url = "postgresql://ann:hunter2@127.0.0.1:1/shop?connect_timeout=1"
    content = levels("v1", 1)
    with pytest.raises(Unavailable, match="try again") as caught:
        opened(connections.using(database=url), content).publish(content)
    shown: BaseException | None = caught.value
    while shown is not None:
        assert "hunter2" not in str(shown)
        shown = shown.__cause__ or shown.__context__
    assert "postgresql://ann:***@127.0.0.1:1/shop" in str(caught.value)


def test_an_sqlite_database_locked_by_somebody_else_is_to_be_retried(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(Unavailable), database.writing() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
        raise sqlite3.OperationalError("database is locked")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_the_usual_postgresql_urls_are_accepted(scheme: str) -> None:
    assert Database(f"{scheme}://ann@db/shop").dialect.driver == "psycopg2"


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://db/x", "nonsense", "postgresql+asyncpg://db/x"]
)
def test_urls_that_cannot_work_are_refused_with_what_is_accepted(url: str) -> None:
    with pytest.raises(DeclarationError, match=r"sqlite:///path/to/file\.db or postgresql"):
        Database(url)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a.b", "x" * 49, "refold_release", 'a"b', "a;b"])
def test_table_names_that_cannot_be_are_refused_at_the_declaration(name: str) -> None:
    with pytest.raises(DeclarationError):
        Sql(name)


def test_columns_that_a_database_would_confuse_are_all_listed(connections: Connections) -> None:
    columns: Schema = {"a": text(), "A": text(), "refold_version": text(), "x" * 64: text()}
    with pytest.raises(DeclarationError) as caught:
        Sql("stock").open(connections, "stock", ["a"], columns)
    assert len(caught.value.faults) == 3


def test_a_publisher_that_is_killed_leaves_nothing_half_done(connections: Connections) -> None:
    script = """
import sys
from refold.testing.sink_conformance import levels
from refold.sinks import Sql, Connections
from refold.storage.objects import ObjectStore
content = levels("v1", 1, count=20_000)
places = Connections(ObjectStore.open(sys.argv[1]), {"database": sys.argv[2]})
target = Sql("stock_view").open(places, "s", content.key, content.columns)
print("ready", flush=True)
while True:
    target.publish(content)
    print("published", flush=True)
"""
    arguments = [sys.executable, "-c", script, connections.objects.location, connections.url("database")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGKILL)
    assert lines == ["ready\n", "published\n"]
    content = levels("v1", 1, count=20_000)
    target = opened(connections, content)
    assert target.versions() == ["v1"]
    assert target.read("v1").num_rows == 20_000
    smaller = levels("v2", 2)
    target.publish(smaller)
    assert_holds(smaller, target.read("v2"))


@given(
    st.lists(st.one_of(st.none(), st.text(alphabet=st.characters(exclude_categories=["Cs"]))), min_size=1, max_size=20)
)
def test_copy_text_can_be_read_back_by_the_rules_of_postgresql(texts: list[str | None]) -> None:
    table = pa.table({"a": pa.array(texts, pa.string()), "b": pa.array([t and t.encode() for t in texts], pa.binary())})
    lines = copy_text("v1", table).decode().split("\n")
    assert lines.pop() == ""

    def field(raw: str) -> str | None:
        if raw == "\\N":
            return None
        unescaped = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
        pieces = iter(raw)
        return "".join(unescaped[next(pieces)] if piece == "\\" else piece for piece in pieces)

    rows = [[field(raw) for raw in line.split("\t")] for line in lines]
    expected = [["v1", t, None if t is None else "\\x" + t.encode().hex()] for t in texts]
    assert rows == expected


def test_a_released_version_is_not_dropped_even_by_another_opening(places: Connections) -> None:
    content = levels("v1", 1)
    target = opened(places, content)
    target.publish(content)
    target.release("v1", {})
    with pytest.raises(Conflict, match="Release another one first"):
        opened(places, content).drop("v1")
