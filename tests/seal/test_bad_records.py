"""A record that cannot be an event is quarantined with place, reason and raw bytes, and can be tried again."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assets.logs import stock_events
from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import Daily, Project, QuarantineLimits, int64
from refold.errors import QuarantineLimit
from refold.rebuild import rebuild_all
from tests.seal.sealing import GOOD, STOCK_ONLY, ids, ids_of, refused, sealed, with_log
from tests.support import Shop, changed, levels, line, moved, outcomes


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


BAD: dict[str, tuple[Any, str]] = {
    "cut off in the middle": (json.dumps(GOOD)[:40], "not-json"),
    "not JSON at all": ("event_id,product_id", "not-json"),
    "a list": ([1, 2], "not-an-object"),
    "a null": ("null", "not-an-object"),
    "a number that is none": (json.dumps(GOOD | {"quantity": float("nan")}), "not-json"),
    "an infinite number": (json.dumps(GOOD | {"quantity": float("inf")}), "not-json"),
    "no event id": (_without("event_id"), "missing"),
    "no key": (_without("product_id"), "missing"),
    "a null key": (GOOD | {"product_id": None}, "missing"),
    "no quantity": (_without("quantity"), "missing"),
    "no time": (_without("occurred_at"), "missing"),
    "a key that is a number": (GOOD | {"product_id": 7}, "wrong-type"),
    "a quantity that is text": (GOOD | {"quantity": "5"}, "wrong-type"),
    "a quantity with a fraction": (GOOD | {"quantity": 1.5}, "wrong-type"),
    "a quantity that is true": (GOOD | {"quantity": True}, "wrong-type"),
    "a negative quantity": (GOOD | {"quantity": -5}, "out-of-range"),
    "no units": (GOOD | {"quantity": 0}, "out-of-range"),
    "an absurd quantity": (GOOD | {"quantity": 10**6 + 1}, "out-of-range"),
    "a quantity beyond 64 bits": (GOOD | {"quantity": 10**30}, "out-of-range"),
    "a quantity of 5,000 digits": (json.dumps(GOOD).replace(": 5,", f": {'9' * 5000},"), "out-of-range"),
    "an unknown event type": (GOOD | {"event_type": "stolen"}, "unknown-value"),
    "an event type in capitals": (GOOD | {"event_type": "ADD"}, "unknown-value"),
    "a time that is none": (GOOD | {"occurred_at": "yesterday"}, "not-a-time"),
    "a time without zone": (GOOD | {"occurred_at": "2026-01-01T10:00:00"}, "no-zone"),
    "the 30th of February": (GOOD | {"occurred_at": "2026-02-30T10:00:00Z"}, "not-a-time"),
    "a price that is none": (GOOD | {"unit_price": "cheap"}, "not-a-decimal"),
    "a price with too many digits": (GOOD | {"unit_price": "0.00001"}, "out-of-range"),
    "a key given twice": ('{"product_id": "cup", ' + json.dumps(GOOD)[1:], "duplicate-key"),
    "Latin-1": (json.dumps(GOOD | {"country": "Österreich"}, ensure_ascii=False).encode("latin-1"), "not-utf8"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16-le"), "not-json"),
    "half a surrogate pair": (json.dumps(GOOD).replace("lamp", "\\ud800"), "lone-surrogate"),
    "nesting without end": (json.dumps(GOOD)[:-1] + ', "more": ' + "[" * 100_000 + "]" * 100_000 + "}", "too-deep"),
    "a line of ten megabytes": (json.dumps(GOOD | {"note": "x" * 10 * 2**20}), "line-too-long"),
}


@pytest.fixture(scope="module")
def quarantined(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Every bad record between good ones; enough good ones that the limit lets them pass."""
    shop = with_log(Shop(tmp_path_factory.mktemp("bad"), STOCK_ONLY), quarantine=QuarantineLimits(bytes_min=20 << 20))
    bad = [record if isinstance(record, str | bytes) else json.dumps(record) for record, _ in BAD.values()]
    good = [moved(f"good {number}", "lamp", 1) for number in range(len(BAD))]
    between = [item for pair in zip(bad, good, strict=True) for item in pair]
    shop.land("dt=2026-01-01/bad.jsonl", *between, *(moved(f"filler {n}", "lamp", 1) for n in range(25 * len(BAD))))
    rebuild_all(shop.engine())
    return shop


@pytest.mark.parametrize("number", range(len(BAD)), ids=list(BAD))
def test_a_bad_record_is_quarantined_with_place_reason_and_raw_bytes(quarantined: Shop, number: int):
    record, reason = list(BAD.values())[number]
    found = {item.record.number: item for item in quarantined.engine().quarantine()}
    item = found[2 * number + 1]
    assert item.record.reason == reason
    assert item.record.raw + b"\n" == line(record if isinstance(record, str | bytes) else json.dumps(record))
    assert item.record.detail.startswith(("Expected", "Column")) and "found" in item.record.detail
    assert len(item.record.detail) < 300
    assert (item.object, item.log, item.snapshot) == (
        "stock_events/dt=2026-01-01/bad.jsonl",
        "stock_events",
        "2026-01-01",
    )


def test_every_record_read_is_an_event_or_quarantined(quarantined: Shop):
    engine = quarantined.engine()
    cut = engine.chain.get().logs["stock_events"]
    assert len(engine.quarantine()) == cut.quarantined == len(BAD)
    assert cut.read == cut.events + cut.quarantined == 27 * len(BAD)
    assert [f for _, found in engine.verify_log("stock_events", engine.chain.get()) for f in found] == []


HARMLESS: dict[str, Any] = {
    "fields that are not declared": GOOD | {"note": {"by": ["ann", 1.5, None]}},
    "a field that is not declared, twice": '{"note": 1, "note": 2, ' + json.dumps(GOOD)[1:],
    "blank lines around it": b"\n  \n" + json.dumps(GOOD).encode() + b"\n\t",
    "a Windows line end": json.dumps(GOOD).encode() + b"\r",
    "white space around it": "  " + json.dumps(GOOD) + "\t",
    "an escaped key": json.dumps(GOOD).replace('"product_id"', '"product\\u005fid"'),
    "an offset from UTC": GOOD | {"occurred_at": "2026-01-01T12:00:00+02:00"},
}


@pytest.mark.parametrize("record", HARMLESS.values(), ids=list(HARMLESS))
def test_what_only_looks_odd_is_an_event(shop: Shop, record: Any):
    shop.land("dt=2026-01-01/a.jsonl", record)
    for _ in shop.engine().sealing.seal():
        pass
    engine = shop.engine()
    engine.build(stock, engine.chain.get())
    assert levels(engine) == {"lamp": 5}
    assert engine.quarantine() == []


def test_no_line_end_after_the_last_record_loses_nothing(shop: Shop):
    path = shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 1), moved("2", "lamp", 2))
    path.write_bytes(path.read_bytes()[:-1])
    rebuild_all(shop.engine())
    assert levels(shop.engine()) == {"lamp": 3}


def test_too_much_quarantine_stops_the_snapshot_and_counts_the_reasons(shop: Shop, tmp_path: Path):
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5))
    sealed(shop)
    bad = [GOOD | {"quantity": -1}, "{", "{", "{"]
    path = shop.land("dt=2026-01-02/a.jsonl", *(moved(str(n), "lamp", 1) for n in range(2, 20)), *bad)
    error = refused(
        shop,
        QuarantineLimit,
        "Log 'stock_events' was not sealed at snapshot 2026-01-02: 4 of 22 records",
        "of 2026-01-02 cannot be events",
        "stock_events/dt=2026-01-02/a.jsonl line 19",
    )
    assert isinstance(error, QuarantineLimit)
    assert error.reasons == {"not-json": 3, "out-of-range": 1}
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:18]))
    sealed(shop)
    assert ids(shop) == ids_of(tmp_path / "other", shop.landing)


def test_the_limit_is_a_share_and_a_count(tmp_path: Path):
    for share, count, passes in ((0.5, 1, False), (0.5, 2, True), (0.4, 2, False), (1.0, 10, True)):
        limits = QuarantineLimits(share_max=share, records_max=count, records_min=0)
        shop = with_log(Shop(tmp_path / f"{share} {count}", STOCK_ONLY), quarantine=limits)
        shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5), "{", "{", moved("2", "lamp", 1))
        if passes:
            assert len(sealed(shop)) == 1
        else:
            refused(shop, QuarantineLimit, "2 of 4")


def test_quarantined_records_that_read_now_enter_the_next_snapshot_once(shop: Shop):
    big, later = moved("big", "lamp", 2_000_000), moved("later", "lamp", -1_500_000)
    shop.land("dt=2026-01-01/a.jsonl", *(moved(str(n), "lamp", 1) for n in range(40)), big, "{")
    sealed(shop)
    wider = with_log(shop, columns=dict(stock_events.columns) | {"quantity": int64(1, 10**7)})
    offered = wider.engine().retry_quarantine()["stock_events"]
    assert [(item.object, item.record.number) for item in offered] == [("stock_events/dt=2026-01-01/a.jsonl", 41)]
    assert wider.engine().retry_quarantine()["stock_events"] == []  # offered already
    wider.land("dt=2026-01-02/a.jsonl", later)
    rebuild_all(wider.engine())
    wider.land("dt=2026-01-03/a.jsonl", moved("last", "lamp", 1))
    rebuild_all(wider.engine())
    engine = wider.engine()
    assert engine.retry_quarantine()["stock_events"] == []
    assert [outcome for event_id, outcome in outcomes(engine) if event_id == "big"] == ["applied"]
    assert levels(engine) == {"lamp": 40 + 2_000_000 - 1_500_000 + 1}
    cuts = {snapshot.key: snapshot.logs["stock_events"] for snapshot in engine.chain}
    assert [(cut.read, cut.events, cut.quarantined) for cut in cuts.values()] == [(42, 40, 2), (2, 2, 0), (1, 1, 0)]
    assert [f for _, found in engine.verify_log("stock_events", engine.chain.get()) for f in found] == []


def test_equal_records_quarantined_on_different_days_are_each_tried_again(shop: Shop):
    """The second retry carries the very bytes of the first; it must not be taken for it."""
    big = moved("big", "lamp", 2_000_000)
    wider = with_log(shop, columns=dict(stock_events.columns) | {"quantity": int64(1, 10**7)})
    for day in (1, 3):
        shop.land(f"dt=2026-01-0{day}/a.jsonl", *(moved(f"{day}-{n}", "cup", 1) for n in range(40)), big)
        sealed(shop)
        assert len(wider.engine().retry_quarantine()["stock_events"]) == 1
        wider.land(f"dt=2026-01-0{day + 1}/a.jsonl", moved(f"{day} next", "cup", 1))
        sealed(wider)
    engine = wider.engine()
    assert engine.retry_quarantine()["stock_events"] == []
    engine.build(engine.project.stores[0], engine.chain.get())
    assert [outcome for event_id, outcome in outcomes(engine) if event_id == "big"] == ["applied", "duplicate"]


def test_bad_change_events_are_quarantined_too(tmp_path: Path):
    shop = Shop(tmp_path, Project("catalogue", Daily(dt.date(2026, 1, 1)), [product_catalog]))
    bad: Sequence[Any] = [
        changed(1, "x", "lamp"),
        changed(2, "u", "lamp") | {"after": None},
        {"op": "c"},
        changed(3, "c", "lamp", "Lamp", "free"),
        changed(-1, "c", "lamp"),
    ]
    good = [changed(10 + n, "u", "lamp", f"Lamp {n}", "1") for n in range(100)]
    shop.land("product_changes/dt=2026-01-01/a.jsonl", *bad, *good)
    rebuild_all(shop.engine())
    assert [item.record.number for item in shop.engine().quarantine()] == [1, 2, 3, 4, 5]
    (row,) = shop.engine().rows(product_catalog, shop.engine().chain.get()).to_pylist()
    assert row["description"] == "Lamp 99"
