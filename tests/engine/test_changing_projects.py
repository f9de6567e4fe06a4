"""Projects change while their logs live on; what is damaged is found again or named; unsound queries are refused."""

from __future__ import annotations

import pytest

from assets.logs import Op, product_changes, stock_events
from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import Log, decimal, int64, latest_by_key, relation, text
from refold.errors import Damaged, DeclarationError, RuleError
from refold.rebuild import rebuild_all
from tests.support import Shop, changed, levels, moved
from tests.three_days import layout_of, write_layout


def _sealed(shop: Shop, through: str | None = None):
    engine = shop.engine()
    for _ in engine.sealing.seal(through):
        pass
    return engine


def _proven(engine, *stores) -> None:
    snapshot = engine.chain.get()
    for store in stores:
        engine.build(store, snapshot)
        verdict = engine.prover.prove(store, snapshot)
        assert verdict.passed, [str(d) for d in verdict.differences]


def test_a_log_that_is_declared_later_begins_with_the_next_snapshot(shop: Shop):
    shop = shop.declared(stores=[stock])
    shop.land("dt=2026-01-01/a.jsonl", moved("e1", "M", 3))
    first = _sealed(shop).chain.get()
    orders = Log("orders", key="id", event_id="n", columns={"n": int64(), "id": text()})
    last_orders = latest_by_key(orders, "last_orders", version=1, columns={"n": int64()})
    more = shop.declared(stores=[stock, last_orders])
    more.land("orders/dt=2026-01-02/a.jsonl", {"n": 1, "id": "x"})

    engine = _sealed(more)

    second = engine.chain.get()
    assert (first.cut("orders").events, second.cut("orders").events) == (0, 1)
    assert second.cut("stock_events").id == first.cut("stock_events").id
    _proven(engine, stock, last_orders)
    assert [f for _, found in engine.verify_log("orders", second) for f in found] == []
    assert engine.rows(last_orders, second)["id"].to_pylist() == ["x"]


def test_a_log_that_is_declared_no_more_stays_where_it_ended_and_may_come_back(shop: Shop):
    both = shop.declared(stores=[stock, product_catalog])
    both.land("dt=2026-01-01/a.jsonl", moved("e1", "M", 3))
    both.land("product_changes/dt=2026-01-01/a.jsonl", changed(1, "c", "M", "lamp", "1.00"))
    first = _sealed(both).chain.get()

    without = _sealed(shop.declared(stores=[product_catalog]), "2026-01-02").chain.get()

    assert without.cut("stock_events").id == first.cut("stock_events").id
    both.land("dt=2026-01-03/b.jsonl", moved("e2", "M", 4))
    engine = _sealed(both)
    _proven(engine, stock, product_catalog)
    assert levels(engine) == {"M": 7}


def test_a_layout_that_lost_a_segment_is_damage_and_never_a_smaller_state(shop: Shop):
    shop = shop.declared(stores=[stock])
    shop.land("dt=2026-01-01/a.jsonl", moved("e1", "M", 3))
    shop.land("dt=2026-01-02/a.jsonl", moved("e2", "M", 4))
    _sealed(shop)
    layout, logs = layout_of(shop, "2026-01-02")
    logs["stock_events"]["segments"] = []
    write_layout(layout, logs)

    engine = shop.engine()

    with pytest.raises(Damaged, match="does not make up log 'stock_events'"):
        engine.build(stock, engine.chain.get())
    with pytest.raises(Damaged, match="does not make up log 'stock_events'"):
        engine.prover.prove(stock, engine.chain.get())


def test_damaged_deduplication_is_found_again_from_the_ids(shop: Shop):
    shop = shop.declared(stores=[stock])
    shop.land("dt=2026-01-01/a.jsonl", moved("e1", "M", 3), moved("e1", "M", 3))
    shop.land("dt=2026-01-02/a.jsonl", moved("e1", "M", 3), moved("e1", "M", 4), moved("e2", "M", 1))
    _sealed(shop)
    for file in (shop.store / "logs" / "stock_events" / "repeats").iterdir():
        file.write_bytes(b"gone")

    engine = shop.engine()

    _proven(engine, stock)
    record = engine.builder.require(stock, engine.chain.get())
    assert record.outcomes == {"applied": 2, "duplicate": 2, "conflict": 1, "rejected": 0, "ignored": 0}


def test_a_damaged_record_in_the_middle_of_history_costs_a_longer_fold(shop: Shop):
    shop = shop.declared(stores=[stock])
    for day in (1, 2, 3):
        shop.land(f"dt=2026-01-0{day}/a.jsonl", moved(f"e{day}", "M", day))
    engine = shop.engine()
    rebuild_all(engine)
    middle = engine.builder.require(stock, engine.chain.get("2026-01-02"))
    (shop.store / middle.objects[0].name).write_bytes(b"gone")

    again = shop.engine()
    rebuild_all(again)

    assert again.builder.checkpoints.state(stock, middle).row("M")["level"] == 3


def test_a_key_whose_only_event_is_a_conflict_has_no_published_row(shop: Shop):
    strict = latest_by_key(stock_events, "last_quantity", version=1, columns={"quantity": int64(1, 10**6)})
    shop = shop.declared(stores=[strict])
    shop.land("dt=2026-01-01/a.jsonl", moved("e1", "A", 3), moved("e1", "B", 3))

    engine = _sealed(shop)

    _proven(engine, strict)
    assert engine.rows(strict, engine.chain.get())["product_id"].to_pylist() == ["A"]


def _one_row(sql: str, **returns):
    @relation(reads=[stock.ledger, stock], key=["k"], returns={"k": int64(), **returns}, sinks=[])
    def one_row():
        """One row."""
        return sql

    return one_row


def _run(shop: Shop, query) -> list[dict]:
    shop = shop.declared(stores=[stock, query])
    shop.land("dt=2026-01-01/a.jsonl", moved("e1", "M", 3), moved("e2", "M", 4), moved("e3", "N", -1))
    engine = _sealed(shop)
    _proven(engine, stock, query)
    return engine.rows(query, engine.chain.get()).to_pylist()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 AS k, count(*) AS n FROM stock_ledger", 3),
        ("SELECT 1 AS k, SUM(QUANTITY) AS n FROM stock_ledger", 8),
        ("SELECT 1 AS k, count(DISTINCT l) AS n FROM stock_ledger l", 3),
        # Natural: product_id and the position of the last event are common to both, so one event a product joins.
        ("SELECT 1 AS k, sum(quantity) AS n FROM stock_ledger NATURAL JOIN stock;", 5),
    ],
)
def test_a_query_gives_what_its_text_says_whatever_columns_it_names(shop: Shop, sql: str, expected: int):
    assert _run(shop, _one_row(sql, n=int64())) == [{"k": 1, "n": expected}]


@pytest.mark.parametrize("call", ["random()", "epoch(now())", "year(current_date)", "epoch(current_timestamp)"])
def test_a_query_that_asks_clock_or_chance_is_refused(call: str):
    with pytest.raises(DeclarationError, match="depends on more than its inputs"):
        _one_row(f"SELECT 1 AS k, CAST({call} AS BIGINT) AS n FROM stock_ledger", n=int64())


def test_a_float_is_not_rounded_into_an_exact_column(shop: Shop):
    with pytest.raises(DeclarationError, match="computed as DOUBLE"):
        _run(shop, _one_row("SELECT 1 AS k, avg(quantity) AS n FROM stock_ledger", n=decimal(18, 4)))


def test_an_overflow_in_a_query_is_an_error_of_its_value_and_not_of_its_text(shop: Shop):
    with pytest.raises(RuleError, match="cannot hold"):
        _run(shop, _one_row("SELECT 1 AS k, sum(quantity) * 9223372036854775807 AS n FROM stock_ledger", n=int64()))


def test_declarations_that_could_not_work_are_refused_with_all_faults():
    with pytest.raises(DeclarationError, match="is not an identifier"):
        latest_by_key(product_changes, "../x y", version=1, columns={})
    with pytest.raises(DeclarationError, match="expected a value of 'description', text"):
        latest_by_key(product_changes, "x", version=1, columns={}, delete_when=("description", Op.DELETE))
    with pytest.raises(DeclarationError, match="two inputs named 'stock_ledger'"):
        relation(reads=[stock.ledger, stock.ledger], key=["k"], returns={"k": int64()})(lambda: "SELECT 1 AS k")
