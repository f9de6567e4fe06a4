"""`assert_replay_equal` fails where it should, and tells why."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from assets.logs import Movement
from assets.product_search import product_search
from assets.stock import stock
from refold import relation, text
from refold.errors import FixInput
from refold.testing import assert_replay_equal
from tests.support import changed, moved


@relation(reads=[stock.ledger], key=["country"], returns={"country": text(null=True), "product_id": text()})
def any_product():
    """A query whose answer depends on the order in which rows happen to come."""
    return "SELECT country, arg_max(product_id, outcome) AS product_id FROM stock_ledger GROUP BY country"


def test_a_query_that_depends_on_the_order_of_rows_fails():
    days = {"2026-01-01": [moved(str(n), f"product {n}", 1) for n in range(50)]}
    with pytest.raises(
        AssertionError, match=r"any_product day by day: relation at snapshot 2026-01-01, country .*rows reversed"
    ):
        assert_replay_equal(any_product, days)


def test_all_differences_are_listed():
    days = {f"2026-01-0{day}": [moved(f"{day}-{n}", f"product {n}", 1) for n in range(50)] for day in (1, 2)}
    with pytest.raises(AssertionError) as failure:
        assert_replay_equal(any_product, days)
    assert {"2026-01-01", "2026-01-02"} <= {
        line.split("snapshot ")[1][:10] for line in str(failure.value).splitlines()[1:]
    }


def test_a_record_that_is_no_event_must_be_meant():
    with pytest.raises(AssertionError, match=r"line 2: missing\. Column quantity: expected an integer"):
        assert_replay_equal(stock, {"2026-01-01": [moved("1", "a", 1), '{"event_id": "2", "product_id": "a"}']})


def test_days_of_several_logs_are_given_by_name():
    with pytest.raises(FixInput, match="stock_events, product_changes"):
        assert_replay_equal(product_search, {"2026-01-01": [moved("1", "a", 1)]})
    with pytest.raises(FixInput, match="found orders"):
        assert_replay_equal(product_search, {"orders": {"2026-01-01": []}})


def test_no_day_at_all_is_refused():
    with pytest.raises(FixInput, match="at least one day"):
        assert_replay_equal(stock, {})


def test_values_may_be_given_as_python_has_them():
    event = moved("1", "a", 1) | {
        "event_type": Movement.ADD,
        "occurred_at": dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        "unit_price": Decimal("1.50"),
    }
    assert assert_replay_equal(stock, {"2026-01-01": [event]}, position=True) == [
        {"product_id": "a", "level": 1, "log_partition": 0, "log_offset": 0, "log_seq": 0}
    ]


def test_raw_lines_are_taken_as_they_are():
    days = {
        "stock_events": {"2026-01-01": [b'{"event_id": "\xff"}', "{", moved("1", "a", 1)]},
        "product_changes": {"2026-01-02": [changed(1, "c", "a", "A")]},
    }
    assert assert_replay_equal(product_search, days, quarantined=2) == [
        {"product_id": "a", "level": 1, "description": "A", "unit_price": None}
    ]
