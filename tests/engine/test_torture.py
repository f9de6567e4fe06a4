"""A small hostile shop: repeats, conflicts, bad records, hostile keys, an empty day, a late object.

First everything that landed, then the late objects on top, each compared with answers that came about without Refold.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections import Counter
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assets import PROJECT
from refold import Daily
from refold.rebuild import rebuild_all
from tests.support import Shop, copy_landing


@pytest.fixture(scope="module")
def torture(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What there was to see after `landing/`, and again after `late/` had been added to it."""
    data = shared_data / "torture"
    shop = Shop(tmp_path_factory.mktemp("torture"), PROJECT.with_cadence(Daily(dt.date(2026, 2, 1))))
    expected = json.loads((data / "expected.json").read_text())
    copy_landing(data / "landing", shop.landing)
    first = _seen(shop)
    copy_landing(data / "late", shop.landing)
    return SimpleNamespace(shop=shop, first=first, then=_seen(shop), expected=expected)


def _seen(shop: Shop) -> SimpleNamespace:
    """Rebuild all, then read stock and catalogue from the database and the rest from the engine."""
    engine = shop.engine()
    before = len(engine.chain)
    reports = list(engine.sealing.seal())
    head = rebuild_all(engine)
    ledger = engine.builder.ledger_rows(engine.project.store("stock"), head)
    connection = sqlite3.connect(shop.root / "refold.db")
    stock = connection.execute("SELECT product_id, level FROM stock_view").fetchall()
    catalogue = connection.execute("SELECT product_id, description, unit_price_exact FROM product_catalog").fetchall()
    connection.close()
    return SimpleNamespace(
        reports=reports,
        sealed=len(engine.chain) - before,
        chain={snapshot.key: snapshot for snapshot in engine.chain},
        outcomes=list(zip(ledger["event_id"].to_pylist(), ledger["outcome"].to_pylist(), strict=True)),
        quarantine=engine.quarantine(),
        stock=stock,
        catalogue=catalogue,
        serves=engine.releaser.current().snapshot,
    )


@pytest.fixture(params=["first", "then"])
def both(request: pytest.FixtureRequest, torture: SimpleNamespace) -> tuple[SimpleNamespace, dict[str, Any]]:
    return getattr(torture, request.param), torture.expected[request.param]


def test_records_events_and_outcomes_are_counted_as_expected(both):
    found, expected = both
    summary = expected["summary"]
    cuts = [snapshot.logs for snapshot in found.chain.values()]
    counts = Counter(outcome for _, outcome in found.outcomes)
    assert sum(cut["stock_events"].read for cut in cuts) == summary["stock_records"]
    assert sum(cut["product_changes"].read for cut in cuts) == summary["catalog_records"]
    assert sum(cut["stock_events"].events for cut in cuts) == summary["events"]
    assert sum(cut["stock_events"].quarantined for cut in cuts) == summary["quarantined"]
    assert counts == {name: summary[name] for name in ("applied", "rejected", "duplicate", "conflict")}


def test_conflicts_and_rejections_are_of_the_expected_ids(both):
    found, expected = both
    rejected = sorted(event_id for event_id, outcome in found.outcomes if outcome == "rejected")
    assert sorted(i for i, outcome in found.outcomes if outcome == "conflict") == sorted(expected["conflicts"])
    assert sha256("\n".join(rejected).encode()).hexdigest() == expected["summary"]["rejected_ids_sorted_sha256"]


def test_quarantine_holds_the_expected_places_with_reason_and_raw_bytes(both, torture: SimpleNamespace):
    found, expected = both
    assert sorted([item.object, item.record.number] for item in found.quarantine) == sorted(expected["quarantined"])
    assert all(item.record.reason and item.record.detail for item in found.quarantine)
    for item in found.quarantine:
        path = torture.shop.landing / item.object
        if path.suffix == ".jsonl":
            assert path.read_bytes().split(b"\n")[item.record.number - 1] == item.record.raw


def test_stock_in_the_database_is_that_expected(both):
    found, expected = both
    assert dict(found.stock) == expected["stock"]
    assert len(found.stock) == expected["summary"]["products"]
    assert sum(level for _, level in found.stock) == expected["summary"]["total_stock"]
    lines = sorted((product.encode(), json.dumps(product), level) for product, level in found.stock)
    text = "".join(f"{product}\t{level}\n" for _, product, level in lines)
    assert sha256(text.encode()).hexdigest() == expected["summary"]["stock_sha256"]


def test_the_catalogue_in_the_database_is_that_expected(both):
    found, expected = both
    rows = {product: (description, price and Decimal(price)) for product, description, price in found.catalogue}
    assert len(found.catalogue) == expected["summary"]["catalog_products"]
    assert rows == {
        row["product_id"]: (row["description"], row["unit_price"] and Decimal(row["unit_price"]))
        for row in expected["catalog"]
    }


def test_the_empty_day_is_its_parent_under_another_key(both, torture: SimpleNamespace):
    found, _ = both
    day = torture.expected["empty_day"]
    before = (dt.date.fromisoformat(day) - dt.timedelta(days=1)).isoformat()
    assert found.chain[day].id == found.chain[before].id
    assert found.chain[day].parent_key == before


def test_the_late_object_is_reported_and_enters_the_next_snapshot(torture: SimpleNamespace):
    late = torture.expected["late_object"]
    assert torture.then.sealed == 1
    assert [(report.snapshot.key, report.late) for report in torture.then.reports] == [("2026-02-11", [late])]
    objects = {o.name: o for o in torture.then.chain["2026-02-11"].logs["stock_events"].objects}
    assert objects[late].late
    assert sum(o.late for o in objects.values()) == 1


def test_what_was_sealed_before_the_late_object_stays_as_it_was(torture: SimpleNamespace):
    assert {key: torture.then.chain[key].id for key in torture.first.chain} == {
        key: snapshot.id for key, snapshot in torture.first.chain.items()
    }
    assert (torture.first.serves, torture.then.serves) == ("2026-02-10", "2026-02-11")
