"""Decimals as readers of SQLite find them: numbers that compare, sort and sum, and their exact text beside them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from refold.sinks import Connections, Sql
from refold.sinks.sql_views import decimal_number, exact_name, is_exact_integer
from refold.testing.sink_conformance import assert_holds, content_of
from refold.types import ColumnType, Schema, decimal, describe, int64, text
from tests.sinks.test_sql import opened, query

UNITS = st.integers(1 - 10**15, 10**15 - 1)


def shown(connections: Connections, column: ColumnType, values: Sequence[Decimal | None], sql: str) -> list[object]:
    """What a query of the view gives for rows of these values, each row named by its place."""
    columns: Schema = {"row": text(), "price": column}
    content = content_of(columns, [(f"{n:06d}", value) for n, value in enumerate(values)], "v1")
    target = opened(connections, content)
    target.publish(content)
    target.release("v1", {})
    assert_holds(content, target.read())
    return [row[0] for row in query(connections.url("database"), sql)]


def test_the_largest_of_9_75_and_19_45_is_19_45(connections: Connections) -> None:
    prices = [Decimal("9.75"), None, Decimal("19.45"), Decimal("-0.05")]
    column = decimal(15, 2, null=True)
    assert shown(connections, column, prices, "SELECT max(price) FROM stock_view") == [19.45]
    database = connections.url("database")
    assert query(database, "SELECT row FROM stock_view WHERE price > 9.8") == [("000002",)]
    assert query(database, "SELECT row FROM stock_view WHERE price = 19.45 OR price = -0.05 ORDER BY price") == [
        ("000003",),
        ("000002",),
    ]
    exact = "SELECT sum(CAST(replace(price_exact, '.', '') AS INTEGER)), typeof(price), typeof(price_exact)"
    assert query(database, f"{exact} FROM stock_view") == [(2915, "real", "text")]
    assert query(database, "SELECT round(sum(price), 2) FROM stock_view") == [(29.15,)]


@settings(max_examples=300)
@given(st.lists(UNITS, min_size=2, max_size=30), st.integers(0, 15))
def test_every_decimal_of_15_digits_is_the_nearest_double_and_sorts_as_it_does(units: list[int], scale: int) -> None:
    """Compared with Python's own conversion of the text, which rounds correctly, and with exact fractions."""
    values = [Decimal(n).scaleb(-scale) for n in units]
    with sqlite3.connect(":memory:") as connection:
        number = str(decimal_number(_parameter(), 15, scale).compile(compile_kwargs={"literal_binds": True}))
        texts = [format(value, f".{scale}f") for value in values]
        numbers = [connection.execute(f"SELECT {number.replace('x', '?')}", (each,)).fetchone()[0] for each in texts]
    if not is_exact_integer(15, scale):
        assert numbers == [float(each) for each in texts]
    assert sorted(range(len(units)), key=lambda i: (numbers[i], i)) == sorted(
        range(len(units)), key=lambda i: (Fraction(values[i]), i)
    )
    assert [f"{each:.15g}" for each in numbers] == [f"{float(each):.15g}" for each in texts]


def _parameter():
    import sqlalchemy as sa

    return sa.literal_column("x", sa.Text())


@given(st.lists(st.integers(1 - 10**11, 10**11 - 1), min_size=1, max_size=200))
def test_sums_round_to_the_exact_sum(units: list[int]) -> None:
    """Of rows whose total has 13 digits; an exact sum of any size is that of the exact texts."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (x TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [(format(Decimal(n).scaleb(-2), ".2f"),) for n in units])
        number = str(decimal_number(_parameter(), 15, 2).compile(compile_kwargs={"literal_binds": True}))
        [(total, exact)] = connection.execute(
            f"SELECT sum({number}), sum(CAST(replace(x, '.', '') AS INTEGER)) FROM t"
        ).fetchall()
    assert exact == sum(units)
    assert round(Decimal(total), 2) == Decimal(sum(units)).scaleb(-2)


def test_18_digits_without_a_scale_are_exact_integers(connections: Connections) -> None:
    values = [Decimal(10**18 - 1), Decimal(10**18 - 2), Decimal(1 - 10**18)]
    found = shown(connections, decimal(18, 0), values, "SELECT price FROM stock_view ORDER BY price")
    assert found == [1 - 10**18, 10**18 - 2, 10**18 - 1]
    assert query(connections.url("database"), "SELECT * FROM stock_view LIMIT 1") == [("000000", 10**18 - 1)]


def test_more_digits_are_refused_before_publishing_unless_rounding_is_permitted(
    connections: Connections, postgres: str
) -> None:
    columns: Schema = {"sku": text(), "price": decimal(18, 4), "rate": decimal(19, 0), "n": decimal(15, 4)}
    faults = Sql("catalog").unfit(connections, columns)
    assert [fault.split("'")[1] for fault in faults] == ["price", "rate"]
    assert "round_decimals=True" in faults[0] and "PostgreSQL" in faults[0]
    assert Sql("catalog", round_decimals=True).unfit(connections, columns) == []
    assert Sql("catalog").unfit(connections.using(database=postgres), columns) == []


def test_rounded_decimals_are_right_to_15_digits_and_exact_beside(connections: Connections) -> None:
    values = [Decimal("12345678901234.5678"), Decimal("19.4500"), Decimal("9.7500")]
    found = shown(connections, decimal(18, 4), values, "SELECT price FROM stock_view ORDER BY price DESC")
    assert [f"{number:.15g}" for number in found] == ["12345678901234.6", "19.45", "9.75"]
    exact = query(connections.url("database"), "SELECT price_exact FROM stock_view ORDER BY row")
    assert exact == [("12345678901234.5678",), ("19.4500",), ("9.7500",)]


def test_a_column_with_the_name_of_an_exact_text_is_refused(connections: Connections) -> None:
    columns: Schema = {"sku": text(), "price": decimal(9, 2), "Price_Exact": int64()}
    [fault] = Sql("catalog").unfit(connections, columns)
    assert "'price_exact' would hold the exact text of 'price'" in fault
    assert exact_name("price") in fault and describe(columns)


def test_a_view_that_shows_another_number_than_its_text_is_read_as_it_is_shown(connections: Connections) -> None:
    columns: Schema = {"sku": text(), "price": decimal(9, 2)}
    content = content_of(columns, [("P", Decimal("9.75"))], "v1")
    target, database = opened(connections, content), connections.url("database")
    target.publish(content)
    target.release("v1", {})
    query(database, "DROP VIEW stock_view")
    query(database, f"CREATE VIEW stock_view AS SELECT sku, 8.5 AS price, price AS price_exact "
                    f"FROM {target.rows_table.name}")  # fmt: skip
    assert target.read()["price"].to_pylist() == [Decimal("8.50")]
    assert "8.5" in str(target.faults(content, {}))
