"""Half a year of a real shop, rebuilt and compared with answers that came about without Refold.

What is compared is read from the sinks by plain means, as their readers would: sqlite3, deltalake, json.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deltalake import DeltaTable

from assets import PROJECT
from refold.rebuild import RebuildRun
from tests.golden import object_sums
from tests.support import Shop

GOLDEN = {
    "checked": (336, "4f450ed5378615d6"),
    "delta": (8, "2bb004441578d8f4"),
    "expectations": (6, "e80b0efd6a8b1f0c"),
    "layouts": (182, "9e574fd1240b81d5"),
    "logs": (1547, "606b5b1643d33c84"),
    "proofs": (287, "7d5f337e6a5383e1"),
    "releases": (1, "fe953c1cf2cbcdac"),
    "search": (4, "b5abd3080a08f898"),
    "sinks": (8, "9c100344ec496f40"),
    "snapshots": (182, "a46d5eb59ee0f239"),
    "states": (848, "ec7148daeb95802d"),
}
"""What the same landing left in the store when this was written; see `tests/test_golden.py`."""


@pytest.fixture(scope="module")
def retail(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The whole history folded and replayed at every snapshot; relations, which take longest, at the last one."""
    shop = Shop(tmp_path_factory.mktemp("retail"), PROJECT, shared_data / "retail" / "landing")
    engine = shop.engine()
    for _ in engine.sealing.seal():
        pass
    head = engine.chain.get()
    verdicts = []
    for log in PROJECT.logs:
        for _ in engine.fold_history(log.name, head):
            pass
        verdicts += [verdict for _, found in engine.prove_history(log.name, head) for verdict in found.values()]
    for relation in PROJECT.relations:
        engine.builder.build(relation, head)
        verdicts.append(engine.prover.prove(relation, head))
    rebuild = RebuildRun(engine)
    assert [event.problem for event in rebuild.publish_and_release() if event.problem] == []
    expected = json.loads((shared_data / "retail" / "expected.json").read_text())
    return SimpleNamespace(shop=shop, engine=engine, head=head, verdicts=verdicts, expected=expected)


@pytest.fixture
def database(retail: SimpleNamespace) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(retail.shop.root / "refold.db")
    yield connection
    connection.close()


def test_every_snapshot_of_every_store_equals_full_replay(retail: SimpleNamespace):
    folded = len(PROJECT.folded) * len(retail.engine.chain)
    assert len(retail.verdicts) == folded + len(PROJECT.relations)
    assert [str(d) for verdict in retail.verdicts for d in verdict.differences] == []
    assert all(verdict.passed for verdict in retail.verdicts)


def test_days_without_trade_are_their_parents_under_another_key(retail: SimpleNamespace):
    assert len({snapshot.id for snapshot in retail.engine.chain}) == retail.expected["summary"]["snapshots"] == 141
    assert len(retail.engine.chain) == 182


def test_events_and_outcomes_are_those_expected(retail: SimpleNamespace):
    summary = retail.expected["summary"]
    counts = retail.engine.builder.require(PROJECT.store("stock"), retail.head).outcomes
    assert dict(counts) == {
        "applied": summary["applied"],
        "rejected": summary["rejected"],
        "duplicate": summary["duplicate"],
        "conflict": 0,
        "ignored": 0,
    }
    assert retail.head.logs["stock_events"].seq_end == summary["events"]
    assert retail.head.logs["product_changes"].seq_end == summary["catalog_changes"]
    assert retail.engine.quarantine() == []


def test_stock_in_the_database_is_that_expected(retail: SimpleNamespace, database: sqlite3.Connection):
    summary = retail.expected["summary"]
    rows = database.execute("SELECT product_id, level FROM stock_view").fetchall()
    assert dict(rows) == retail.expected["stock"]
    assert len(rows) == summary["products"]
    assert sum(level > 0 for _, level in rows) == summary["products_nonzero"]
    assert sum(level for _, level in rows) == summary["total_stock"]
    lines = sorted((product.encode(), level) for product, level in rows)
    tsv = b"".join(product + f"\t{level}\n".encode() for product, level in lines)
    assert sha256(tsv).hexdigest() == summary["stock_tsv_sha256"]


def test_rejected_ids_are_those_expected_in_the_order_of_the_log(retail: SimpleNamespace):
    ledger = retail.engine.builder.ledger_rows(PROJECT.store("stock"), retail.head).sort_by("log_seq")
    rejected = [
        event_id
        for event_id, outcome in zip(ledger["event_id"].to_pylist(), ledger["outcome"].to_pylist(), strict=True)
        if outcome == "rejected"
    ]
    summary = retail.expected["summary"]
    assert sha256("\n".join(rejected).encode()).hexdigest() == summary["rejected_ids_sha256"]
    assert sha256("\n".join(sorted(rejected)).encode()).hexdigest() == summary["rejected_ids_sorted_sha256"]


def test_daily_movement_in_the_delta_table_is_that_expected(retail: SimpleNamespace):
    rows = DeltaTable(str(retail.shop.store / "delta" / "daily_movement")).to_pyarrow_table().to_pylist()
    names = ("applied_events", "units_added", "units_removed", "rejected_events")
    found = [[row["event_date"].isoformat(), row["country"] or "", *(row[name] for name in names)] for row in rows]
    assert sorted(found) == sorted(retail.expected["daily_movement"])


def test_the_catalogue_in_the_database_is_that_expected(retail: SimpleNamespace, database: sqlite3.Connection):
    rows = database.execute("SELECT product_id, description, unit_price_exact FROM product_catalog").fetchall()
    assert len(rows) == retail.expected["summary"]["catalog_products"]
    assert _catalogue(rows) == _catalogue(
        (row["product_id"], row["description"], row["unit_price"]) for row in retail.expected["catalog"]
    )


def _catalogue(rows: Any) -> dict[str, tuple[str | None, Decimal]]:
    return {product: (description, Decimal(price)) for product, description, price in rows}


def test_search_documents_join_the_expected_catalogue_and_stock(retail: SimpleNamespace):
    folder = retail.shop.store / "search" / "bulk" / "product_search"
    version = json.loads((folder / "released.json").read_bytes())["version"]
    lines = [line for part in sorted((folder / version).glob("*.ndjson")) for line in part.read_bytes().splitlines()]
    found = {row["product_id"]: row for row in map(json.loads, lines[1::2])}
    stock = retail.expected["stock"]
    catalogue = {row["product_id"]: row for row in retail.expected["catalog"]}
    assert found.keys() == stock.keys() | catalogue.keys()
    for product, row in found.items():
        named = catalogue.get(product, {"description": None, "unit_price": None})
        assert (row["level"], row["description"]) == (stock.get(product), named["description"])
        assert (row["unit_price"] is None) == (named["unit_price"] is None)
        assert row["unit_price"] is None or Decimal(row["unit_price"]) == Decimal(named["unit_price"])


def test_the_search_index_finds_a_product_by_its_description(retail: SimpleNamespace):
    store = PROJECT.store("product_search")
    sink = next(sink for sink in store.sinks if type(sink).__name__ == "Tantivy")
    target = retail.engine.publisher.target(store, sink)
    assert target.read().num_rows == len(retail.expected["stock"].keys() | _ids(retail.expected["catalog"]))
    hits = target.search("groovy cactus", limit=1)
    assert [hit.document["product_id"] for hit in hits] == ["10080"]
    assert hits[0].document["level"] == retail.expected["stock"]["10080"]


def _ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["product_id"] for row in rows}


def test_what_is_served_is_the_last_snapshot_with_a_proof_for_every_store(retail: SimpleNamespace):
    release = retail.engine.releaser.current()
    assert release is not None
    assert (release.number, release.snapshot) == (1, "2011-05-31")
    assert release.proofs.keys() == {store.name for store in PROJECT.stores}


def test_the_log_is_whole(retail: SimpleNamespace):
    for log in PROJECT.logs:
        assert [finding for _, found in retail.engine.verify_log(log.name, retail.head) for finding in found] == []


def test_the_store_holds_the_same_objects_as_ever(retail: SimpleNamespace):
    assert object_sums(retail.shop.store) == GOLDEN
