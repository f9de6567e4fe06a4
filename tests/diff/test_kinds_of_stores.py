"""Latest rows, relations and documents under two declarations; other columns, keys and logs."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from assets.daily_movement import daily_movement
from assets.logs import stock_events
from assets.product_catalog import product_catalog
from assets.product_search import product_search
from assets.stock import stock
from refold import Daily, Project, text
from refold.diff.compare import Comparer, Comparison
from refold.diff.shadow import Shadow
from refold.engine import Engine
from refold.errors import FixInput, NotFound
from refold.stores.declaration import Store
from tests.diff import variants
from tests.support import Shop, changed, moved

SHOP = Project("shop", Daily(dt.date(2026, 1, 1)), [stock, product_catalog, daily_movement, product_search])
DAY = dt.date(2026, 1, 1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Two days, sealed and nothing else: `lamp` is refused once, `vase` leaves the catalogue."""
    shop = Shop(tmp_path_factory.mktemp("shop"), SHOP)
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5, country="AT"), moved("2", "vase", 1, country="AT"))
    shop.land("dt=2026-01-02/a.jsonl", moved("3", "lamp", -8, country="AT"), moved("4", "lamp", 2))
    lamp, vase = changed(1, "c", "lamp", "Lamp", "3.5"), changed(2, "c", "vase", "Vase", "9")
    shop.land("product_changes/dt=2026-01-01/a.jsonl", lamp, vase)
    shop.land("product_changes/dt=2026-01-02/a.jsonl", changed(3, "d", "vase"))
    engine = shop.engine()
    for _ in engine.sealing.seal():
        pass
    return engine


def sides(engine: Engine, old: dict[str, Store], new: dict[str, Store]) -> Comparer:
    snapshot = engine.chain.get()
    both = [
        Shadow(label, engine.objects, engine.chain, snapshot, stores) for label, stores in (("old", old), ("new", new))
    ]
    return Comparer(engine.chain, snapshot, *both)


def compared(engine: Engine, old: Store, new: Store) -> Comparison:
    return sides(engine, {new.name: old}, {new.name: new}).compare([new.name], 10)[0]


def changes(found: Comparison) -> list[tuple[str, tuple, dict]]:
    return [(c.kind, tuple(c.key.values()), dict(c.cells)) for c in found.rows.changes]


def test_a_catalogue_that_forgets_nothing_has_one_row_more(engine: Engine):
    found = compared(engine, product_catalog, variants.keeping)
    ((kind, key, cells),) = changes(found)
    assert (kind, key) == ("added", ("vase",))
    assert (cells["description"], cells["unit_price"]) == ((None, None), (None, None))
    (outcomes,) = found.outcomes
    assert (outcomes.changed, outcomes.events) == (0, 3)
    assert (outcomes.first.log_seq, outcomes.first.event["op"]) == (2, "d")
    assert outcomes.first.old.after["deleted"] is True


def test_a_relation_changes_with_the_rule_it_reads_though_its_query_is_the_same(engine: Engine):
    found = compared(engine, daily_movement, variants.lenient_movement)
    assert found.old.code_version == found.new.code_version
    names = ("applied_events", "units_removed", "rejected_events")
    assert changes(found) == [
        ("changed", (DAY, "AT"), dict(zip(names, [(2, 3), (0, 8), (1, 0)], strict=True))),
    ]
    (outcomes,) = found.outcomes
    assert outcomes.moves == [("rejected (INSUFFICIENT_STOCK)", "applied", 1)]


def test_documents_change_with_either_side(engine: Engine):
    comparer = sides(engine, {"product_search": product_search}, {"product_search": variants.lenient_search})
    (found,) = comparer.compare(["product_search"], 10)
    assert changes(found) == [("changed", ("lamp",), {"level": (7, -1)})]
    told = comparer.why(found, ["lamp"])
    assert [(e.old.after["level"], e.new.after["level"]) for e in told["stock"]] == [(5, 5), (5, -3), (7, -1)]
    assert [event.parts for event in told["product_catalog"]] == [False]


def test_why_on_a_key_of_several_parts_shows_its_events(engine: Engine):
    comparer = sides(engine, {"m": daily_movement}, {"m": variants.lenient_movement})
    (found,) = comparer.compare(["m"], 10)
    told = comparer.why(found, ["2026-01-01", "AT"])["stock"]
    assert [(e.log_seq, e.old.outcome, e.new.outcome) for e in told] == [
        (0, "applied", "applied"),
        (1, "applied", "applied"),
        (2, "rejected (INSUFFICIENT_STOCK)", "applied"),
    ]
    with pytest.raises(NotFound, match="no event"):
        comparer.why(found, ["2026-01-01", "XX"])
    with pytest.raises(FixInput, match="found 1 values"):
        comparer.why(found, ["2026-01-01"])


def test_a_new_column_is_named_and_common_columns_are_compared(engine: Engine):
    found = compared(engine, stock, replace(variants.counted, name="stock"))
    assert [(c.column, c.old, c.new) for c in found.schema] == [("movements", None, "int64")]
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (0, 0, 0)
    assert found.outcomes[0].first is None and found.differs


def test_another_key_leaves_no_row_to_compare(engine: Engine):
    found = sides(engine, {"m": daily_movement}, {"m": variants.by_day}).compare(["m"], 10)[0]
    assert found.schema[0].column == "key"
    assert (found.schema[0].old, found.schema[0].new) == ("event_date, country", "event_date")
    assert (found.rows.removed, found.rows.added, found.rows.changed) == (2, 1, 0)


def test_a_store_on_one_side_alone_is_added_or_removed_whole(engine: Engine):
    one, other = {"stock": stock}, {"product_catalog": product_catalog}
    found = {each.store: each for each in sides(engine, one, other).compare(["stock", "product_catalog"], 10)}
    assert (found["stock"].new, found["stock"].rows.removed, found["stock"].rows.added) == (None, 2, 0)
    assert (found["product_catalog"].old, found["product_catalog"].rows.added) == (None, 1)
    assert all(each.differs for each in found.values())
    with pytest.raises(NotFound, match=r"no store 'stok'.*product_catalog, stock"):
        sides(engine, one, other).compare(["stok"], 10)


def test_the_same_declaration_is_not_even_folded(engine: Engine):
    comparer = sides(engine, {s.name: s for s in SHOP.stores}, {s.name: s for s in SHOP.stores})
    found = comparer.compare([store.name for store in SHOP.stores], 10)
    assert all(each.same and not each.differs and each.rows is None for each in found)


def test_a_rerun_finds_the_same_in_the_same_order(engine: Engine):
    assert repr(compared(engine, stock, variants.lenient_stock)) == repr(
        compared(engine, stock, variants.lenient_stock)
    )


def test_a_raised_version_alone_changes_nothing(engine: Engine):
    raised = replace(stock, version=9, rule=replace(stock.rule, version=9))
    found = compared(engine, stock, raised)
    assert not found.same and not found.differs
    assert found.outcomes[0].first is None


def test_logs_that_are_declared_otherwise_are_refused_and_every_difference_told(engine: Engine):
    columns = {**stock_events.columns, "customer_id": text(), "till": text()}
    other = replace(stock, log=replace(stock_events, columns=columns, key="till", event_id="customer_id"))
    with pytest.raises(FixInput) as refused:
        compared(engine, stock, other)
    for told in (
        "key",
        "'till' from 'product_id'",
        "event id",
        "'customer_id' became text from text?",
        "'till' was added",
    ):
        assert told in str(refused.value)


def test_a_log_that_was_sealed_with_other_columns_is_refused(engine: Engine):
    wider = replace(stock_events, columns={**stock_events.columns, "till": text(null=True)})
    pair = replace(stock, log=wider), replace(variants.credit, name="stock", log=wider)
    with pytest.raises(FixInput, match=r"than it was sealed.*column 'till' was added"):
        compared(engine, *pair)


def test_a_store_over_another_log_is_refused(engine: Engine):
    with pytest.raises(FixInput, match="log 'product_changes' became 'stock_events'"):
        sides(engine, {"s": product_catalog}, {"s": stock}).compare(["s"], 10)
