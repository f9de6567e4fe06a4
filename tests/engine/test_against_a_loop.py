"""The engine against a loop of a few lines that anybody can check, over days that Hypothesis draws."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.logs import stock_events
from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import Daily, Log, Project, QuarantineLimits, int64, text
from refold.canonical.encoding import encode_rows
from refold.canonical.hash_table import HashTable
from refold.dedup.deliveries import Delivery, SeenRun, seal_deliveries
from refold.dedup.from_ids import ReplayDedup, Suspects
from refold.dedup.repeated_hashes import RepeatedHashes
from refold.log import event_ids
from refold.log.reader import Part
from refold.seal.seen_index import SeenIndex, sorted_entries
from refold.testing import assert_replay_equal
from refold.testing.strategies import event_days
from tests.support import Shop, changed, levels, moved, outcomes

ANY_NUMBER = QuarantineLimits(share_max=1.0, records_max=10**6)
STOCK = replace(stock, log=replace(stock_events, quarantine=ANY_NUMBER))
SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

Record = Mapping[str, Any] | str


def oracle(days: Mapping[str, list[Record]]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Levels and outcomes by a plain loop over all records in landing order; texts are not events."""
    seen: dict[str, Record] = {}
    level: dict[str, int] = {}
    found = []
    for record in (record for _, records in sorted(days.items()) for record in records if isinstance(record, Mapping)):
        event_id, product = record["event_id"], record["product_id"]
        if event_id in seen and seen[event_id] != record:
            found.append((event_id, "conflict"))
            continue
        held = level.setdefault(product, 0)
        if event_id in seen:
            outcome = "duplicate"
        elif record["event_type"] == "add":
            outcome, level[product] = "applied", held + record["quantity"]
        elif record["quantity"] > held:
            outcome = "rejected"
        else:
            outcome, level[product] = "applied", held - record["quantity"]
        seen.setdefault(event_id, record)
        found.append((event_id, outcome))
    return level, found


@st.composite
def hostile_days(draw: st.DrawFn) -> dict[str, list[Record]]:
    """Days of stock events, few of them large, with records between them that are none."""
    days: dict[str, list[Record]] = {}
    bad = st.sampled_from(["", "{", "[1]", '{"event_id": "1"}', '{"event_id": null, "product_id": "a"}'])
    units: dict[int, int] = {}
    for key, events in draw(event_days(stock_events, ids_max=9)).items():
        days[key] = []
        for event in events:
            size = units.setdefault(event["quantity"], draw(st.integers(1, 9)))
            days[key] += [*draw(st.lists(bad, max_size=1)), event | {"quantity": size}]
    return days


@settings(SLOW, max_examples=20)
@given(hostile_days(), st.sampled_from([("a.jsonl", "b.jsonl.gz"), ("partition=1/a.jsonl", "partition=1/b.jsonl.gz")]))
def test_levels_and_outcomes_are_those_of_the_loop_however_they_are_built(
    days: dict[str, list[Record]], names: tuple[str, str]
):
    """Two objects a day instead of one; also where landing names their log partition."""
    expected_levels, expected_outcomes = oracle(days)
    bad = sum(isinstance(record, str) and record != "" for records in days.values() for record in records)
    rows = assert_replay_equal(stock, days, quarantined=bad)
    assert {row["product_id"]: row["level"] for row in rows} == expected_levels
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), Project("stock", Daily(dt.date(2026, 1, 1)), [STOCK]))
        for key, records in days.items():
            shop.land(f"stock_events/dt={key}/{names[0]}", *records[: len(records) // 2])
            shop.land(f"stock_events/dt={key}/{names[1]}", *records[len(records) // 2 :])
        engine = shop.engine()
        for _ in engine.sealing.seal():
            pass
        engine.build(STOCK, engine.chain.get())
        assert levels(engine) == expected_levels
        assert outcomes(engine) == expected_outcomes


Change = tuple[int, str, str, str | None]


@st.composite
def change_days(draw: st.DrawFn) -> dict[str, list[Change]]:
    """Days of catalogue changes as (lsn, op, product, description); numbers repeat, with other content too."""
    change = st.tuples(
        st.integers(0, 9), st.sampled_from("cudr"), st.sampled_from("abA"), st.sampled_from([None, "", "x", "ÿ"])
    )
    found = {f"2026-01-0{day}": draw(st.lists(change, max_size=6)) for day in range(1, draw(st.integers(1, 4)) + 1)}
    return {key: [c if c[1] != "d" else (*c[:3], None) for c in changes] for key, changes in found.items()}


@settings(SLOW, max_examples=10)
@given(change_days())
def test_the_catalogue_is_that_of_a_dictionary(days: dict[str, list[Change]]):
    seen: set[int] = set()
    expected: dict[str, str | None] = {}
    for lsn, op, product, description in (change for _, changes in sorted(days.items()) for change in changes):
        if lsn not in seen and op == "d":
            expected.pop(product, None)
        elif lsn not in seen:
            expected[product] = description
        seen.add(lsn)
    rows = assert_replay_equal(product_catalog, {key: [changed(*c) for c in changes] for key, changes in days.items()})
    assert {row["product_id"]: row["description"] for row in rows} == expected


SALES = Log("sales", key="id", event_id="id", columns={"id": text(), "shop": text(null=True), "units": int64()})
PAIRS = replace(SALES, event_id=("shop", "id"))


def _batches(drawn: list[list[tuple[str, str, int]]]) -> list[pa.Table]:
    """Tables of sales in `log_seq` order, as sealing sees them."""
    tables, seq = [], 0
    for rows in drawn:
        columns = [
            pa.array([row[i] for row in rows], kind) for i, kind in enumerate((pa.string(), pa.string(), pa.int64()))
        ]
        seqs = pa.array(range(seq, seq + len(rows)), pa.int64())
        tables.append(pa.table([*columns, seqs], names=["id", "shop", "units", "log_seq"]))
        seq += len(rows)
    return tables


IDS, SHOPS = st.sampled_from(["1", "2", "3", "", "1 ", "é", "e\u0301"]), st.sampled_from(["a", "", None])
SALE = st.tuples(IDS, SHOPS, st.integers(0, 1))


@pytest.mark.parametrize("log", [SALES, PAIRS], ids=["one column", "two columns, one of them null at times"])
@pytest.mark.parametrize("hashes_kept", [2**64 - 1, 3, 0], ids=["true hashes", "two bits", "all hashes collide"])
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    drawn=st.lists(st.lists(SALE, min_size=1, max_size=8), min_size=1, max_size=5),
    shuffle=st.randoms(),
    memory_bytes=st.sampled_from([0, 40, 1 << 20]),
)
def test_deduplication_at_sealing_and_in_replay_are_those_of_a_dictionary(
    log: Log, hashes_kept: int, drawn, shuffle, memory_bytes: int
):
    """Sealing looks ids up by hash; however many collide, it must find what a dictionary of the ids finds."""
    batches = _batches(drawn)
    expected = _by_dictionary(log, [row for rows in drawn for row in rows])
    index, sealed = SeenIndex(), []
    for batch in batches:
        run = SeenRun.of(log, batch)
        run = replace(run, hashes=run.hashes & np.uint64(hashes_kept))
        deliveries, firsts = _seal(log, batch, run, index, batches)
        sealed += list(zip(deliveries.tolist(), firsts.tolist(), strict=True))
        index.add(sorted_entries(run, deliveries == Delivery.FIRST), int(run.seqs[-1]) + 1)
    assert sealed == expected
    # Replay reads partition by partition: any order of rows within a batch must do.
    turned = [batch.take(shuffle.sample(range(len(batch)), len(batch))) for batch in batches]

    def hashed(events: pa.Table) -> np.ndarray:
        return event_ids.hashes_of(events, log.id_columns) & np.uint64(hashes_kept)

    repeated = RepeatedHashes(memory_bytes)
    for batch in turned:
        repeated.add(hashed(batch))
    among, dedup = HashTable(repeated.result()), ReplayDedup()
    hashes = np.concatenate([hashed(batch) for batch in turned])
    assert repeated.occurrences == sum(count for count in Counter(hashes.tolist()).values() if count > 1)
    firsts = list(range(len(expected)))
    for batch in turned:
        middle = len(batch) // 2
        parts = [Part(0, 0, batch.slice(0, middle)), Part(1, 0, batch.slice(middle))]
        suspects = []
        for part in parts:
            own = hashed(part.table)
            suspects.append(Suspects.of(log, part, own, np.flatnonzero(among.find(own) >= 0)))
        for row in dedup.pairs(suspects).to_pylist():
            firsts[row["log_seq"]] = row["first_seq"]
    assert firsts == [first for _, first in expected]


def _seal(log: Log, batch: pa.Table, run: SeenRun, index: SeenIndex, batches: list[pa.Table]):
    return seal_deliveries(
        log,
        run,
        index.candidates(run),
        lambda places: batch.take(pa.array(places)),
        lambda seqs: _fetch(log, batches, seqs),
    )


def _by_dictionary(log: Log, rows: list[tuple[str, str, int]]) -> list[tuple[int, int]]:
    first: dict[object, tuple[int, tuple[str, str, int]]] = {}
    found = []
    for seq, row in enumerate(rows):
        at, content = first.setdefault(row[0] if log is SALES else row[:2], (seq, row))
        delivery = Delivery.FIRST if at == seq else Delivery.DUPLICATE if content == row else Delivery.CONFLICT
        found.append((int(delivery), at))
    return found


def _fetch(log: Log, batches: list[pa.Table], seqs):
    together = pa.concat_tables(batches)
    part = together.take(pa.array(list(seqs), pa.int64()))
    ids, contents = (encode_rows([part[n] for n in names]) for names in (log.id_columns, log.columns))
    return zip(part["log_seq"].to_pylist(), ids, contents, strict=True)


def test_an_id_delivered_as_two_contents_in_another_spelling_is_one_content():
    """Contents are compared as declared values, not as the bytes that landed."""
    first = moved("1", "lamp", 5, unit_price="1.50", occurred_at="2026-01-01T10:00:00Z", note="ignored")
    again = moved("1", "lamp", 5, unit_price=1.5, occurred_at="2026-01-01T11:00:00.000+01:00", country=None)
    days = {"2026-01-01": [first], "2026-01-02": [again, moved("1", "lamp", 5, unit_price="1.51")]}
    assert assert_replay_equal(stock, days) == [{"product_id": "lamp", "level": 5}]
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), Project("stock", Daily(dt.date(2026, 1, 1)), [stock]))
        for key, records in days.items():
            shop.land(f"dt={key}/a.jsonl", *records)
        engine = shop.engine()
        for _ in engine.sealing.seal():
            pass
        engine.build(stock, engine.chain.get())
        assert [outcome for _, outcome in outcomes(engine)] == ["applied", "duplicate", "conflict"]
