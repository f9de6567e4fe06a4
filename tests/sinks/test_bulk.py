"""The fast ways of loading and fetching rows equal the general one, on both databases, for every type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, localcontext
from enum import Enum
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refold.sinks.bulk import fetch_generally, load_generally
from refold.sinks.database import Database
from refold.sinks.sql_tables import VERSION, rows_table_of
from refold.testing.sink_conformance import ALL_TYPES, NAUGHTY
from refold.types import Schema, arrow_schema, binary, date, enum, int64, ratio, text


class Movement(Enum):
    """An enum column's choices."""

    ADD = 1
    REMOVE = 2


COLUMNS: Schema = {"row": int64()} | dict(ALL_TYPES) | {"kind": enum(Movement, null=True), 'a "%s" ä, b': int64()}
WORDS = st.one_of(
    st.sampled_from(NAUGHTY), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
VALUES: dict[str, st.SearchStrategy[object]] = {
    "text": WORDS,
    "enum": st.sampled_from(["add", "remove"]),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "date": st.dates(),
    "timestamp": st.datetimes(timezones=st.just(dt.UTC)),
    "boolean": st.booleans(),
    "binary": st.binary(max_size=20),
    "ratio": st.floats(allow_nan=False, allow_infinity=False),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A few random rows, repeated to more than fit in one statement, whose first column numbers them."""
    schema = arrow_schema(COLUMNS)
    count = draw(st.integers(0, 6))
    drawn = {}
    for name, column in list(COLUMNS.items())[1:]:
        values = VALUES.get(column.kind)
        if column.kind == "decimal":
            most = Decimal((0, (9,) * column.precision, -column.scale))
            values = st.decimals(most.copy_negate(), most, places=column.scale)
        values = st.one_of(st.none(), values) if column.null else values
        with localcontext(prec=60):
            drawn[name] = draw(st.lists(values, min_size=count, max_size=count))
    times = draw(st.sampled_from([1, 3, 17, 25]))
    arrays = [pa.array(drawn[name] * times, COLUMNS[name].arrow) for name in drawn]
    return pa.table([pa.array(range(count * times), pa.int64()), *arrays], schema=schema)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database of each kind in turn."""
    sqlite = f"sqlite:///{tmp_path / 'x.db'}"
    return Database(sqlite if request.param == "sqlite" else request.getfixturevalue("postgres"))


def made(database: Database, columns: Schema) -> sa.Table:
    table = rows_table_of("t", [next(iter(columns))], columns, sqlite=database.sqlite)
    with database.writing() as connection:
        table.metadata.create_all(connection)
    return table


def of_version(table: sa.Table, columns: Schema, version: str) -> sa.Select[tuple[object, ...]]:
    query = sa.select(*(table.c[name] for name in columns)).where(table.c[VERSION] == version)
    return query.order_by(table.c[next(iter(columns))])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=tables())
def test_the_fast_ways_load_and_fetch_what_the_general_one_does(database: Database, rows: pa.Table) -> None:
    table = made(database, COLUMNS)
    with database.writing() as connection:
        connection.execute(sa.delete(table))
        database.load(connection, table, "fast", rows, COLUMNS)
        load_generally(connection, table, "general", rows, COLUMNS)
        for version in ("fast", "general"):
            query = of_version(table, COLUMNS, version)
            fast, general = (
                database.fetch(connection, query, COLUMNS),
                fetch_generally(connection, query, COLUMNS),
            )
            assert fast.schema.equals(general.schema)
            assert fast.equals(general)
            assert fast.equals(rows)


def test_more_rows_than_a_batch_come_back_in_order_and_whole(database: Database) -> None:
    columns: Schema = {"row": int64(), "word": text(null=True)}
    words = pa.array([None, "", "a,\"\n'b", "\\."] * 30_000)
    rows = pa.table([pa.array(range(120_000)), words], schema=arrow_schema(columns))
    table = made(database, columns)
    with database.writing() as connection:
        database.load(connection, table, "v", rows.slice(7), columns)
        assert database.fetch(connection, of_version(table, columns, "v"), columns).equals(rows.slice(7))


def test_a_single_column_may_be_null_in_every_row(database: Database) -> None:
    columns: Schema = {"word": text(null=True)}
    rows = pa.table([pa.array([None, None, ""])], schema=arrow_schema(columns))
    table = made(database, columns)
    with database.writing() as connection:
        database.load(connection, table, "v", rows, columns)
        found = database.fetch(connection, of_version(table, columns, "v"), columns)
    assert sorted(found["word"].to_pylist(), key=str) == ["", None, None]


def test_a_table_with_more_columns_than_a_statement_takes_rows_is_loaded_row_by_row(database: Database) -> None:
    columns: Schema = {f"c{i}": int64() for i in range(600)}
    rows = pa.table([pa.array([i, i + 1, i + 2]) for i in range(600)], schema=arrow_schema(columns))
    table = made(database, columns)
    with database.writing() as connection:
        database.load(connection, table, "v", rows, columns)
        assert database.fetch(connection, of_version(table, columns, "v"), columns).equals(rows)


def test_a_value_larger_than_a_block_of_text_is_fetched_all_the_same(postgres: str) -> None:
    columns: Schema = {"row": int64(), "word": text(), "raw": binary()}
    rows = pa.table([[1, 2], ["ä" * 9_000_000, "b"], [b"\0" * 9_000_000, b""]], schema=arrow_schema(columns))
    database = Database(postgres)
    table = made(database, columns)
    with database.writing() as connection:
        database.load(connection, table, "v", rows, columns)
        assert database.fetch(connection, of_version(table, columns, "v"), columns).equals(rows)


def test_defaults_of_the_database_for_the_writing_of_values_change_nothing(postgres: str) -> None:
    columns: Schema = {"row": int64(), "day": date(), "raw": binary(), "share": ratio()}
    values = [[1], [dt.date(2020, 2, 1)], [b"\\\x00\xff"], [0.1 + 0.2]]
    rows = pa.table(values, schema=arrow_schema(columns))
    database = Database(postgres)
    table = made(database, columns)
    with database.writing() as connection:
        database.load(connection, table, "v", rows, columns)
        for setting in ("datestyle = 'SQL, DMY'", "bytea_output = 'escape'", "extra_float_digits = -3"):
            connection.exec_driver_sql(f"SET LOCAL {setting}")
        assert database.fetch(connection, of_version(table, columns, "v"), columns).equals(rows)


@pytest.mark.parametrize("day", ["infinity", "0044-03-15 BC"])
def test_what_only_a_hand_can_have_written_is_found_as_by_the_general_way(postgres: str, day: str) -> None:
    columns: Schema = {"row": int64(), "day": date()}
    database = Database(postgres)
    table = made(database, columns)

    def outcome(general: bool) -> object:
        query = of_version(table, columns, "v")
        try:
            with database.reading() as connection:
                fetch = fetch_generally if general else database.fetch
                return fetch(connection, query, columns)
        except Exception as error:  # whichever it is, it is the same
            return type(error), str(error)

    with database.writing() as connection:
        connection.execute(sa.text(f"INSERT INTO {table.name} VALUES ('v', 1, '{day}')"))
    assert outcome(general=False) == outcome(general=True)
