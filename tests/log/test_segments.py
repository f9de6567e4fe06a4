"""Many small segments, ids as text beside ids as 16 bytes, and threads: all of it changes how, and never what."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from assets.stock import stock
from refold.base import parallel
from refold.errors import Damaged
from refold.log import event_ids, segment
from refold.log.reader import LogReader
from refold.rebuild import rebuild_all
from refold.storage.names import ObjectKind, kind_of
from refold.storage.wrappers import Operation, WrapperStore, wrapped
from refold.stores.ledger import LedgerPart
from tests.seal.sealing import STOCK_ONLY
from tests.support import Shop, digests, levels, moved, outcomes, pieces, verify_reference

T = TypeVar("T")
DAYS = ["2026-01-01", "2026-01-02"]
NAMES = [str(uuid.UUID(int=7 * n)) for n in range(60)]
NAMES[40], NAMES[41] = "no uuid", NAMES[41].upper()  # so that some segments of a log partition hold ids as text


def land(shop: Shop) -> None:
    for number, day in enumerate(DAYS):
        mine = range(30 * number, 30 * number + 30)
        events = [moved(NAMES[n], f"product {n % 5}", 1 + n) for n in mine]
        again = [moved(NAMES[n], f"product {n % 5}", 1 + n) for n in (0, 3, 40, 41) if n in mine or n < 30 * number]
        conflict = [moved(NAMES[5], "product 0", 999)] if number else []
        shop.land(f"dt={day}/a.jsonl", *events, *again, *conflict)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of three events, and a thread for whatever there is to do."""
    monkeypatch.setattr(segment, "SEGMENT_EVENTS", 3)
    monkeypatch.setattr(parallel, "WORTH_THREADS", 0)
    monkeypatch.setattr(parallel, "cores", lambda: 3)


@pytest.fixture
def plain(tmp_path: Path) -> Shop:
    """The same events in one segment for each log partition and day, folded by one thread."""
    shop = Shop(tmp_path / "plain", STOCK_ONLY)
    land(shop)
    rebuild_all(shop.engine())
    return shop


@pytest.fixture
def shop(plain: Shop, tmp_path: Path, small_segments: None) -> Shop:
    shop = Shop(tmp_path / "small", STOCK_ONLY)
    land(shop)
    rebuild_all(shop.engine())
    return shop


def test_identities_and_digests_do_not_depend_on_segments_or_threads(plain: Shop, shop: Shop):
    assert digests(shop.engine()) == digests(plain.engine())
    files = [len(list((each.store / "logs/stock_events/segments").rglob("*.parquet"))) for each in (plain, shop)]
    assert files[0] <= 8 < files[1]


def test_levels_and_outcomes_are_those_of_a_loop(shop: Shop):
    expected = Counter()
    for n in range(60):
        expected[f"product {n % 5}"] += 1 + n
    assert levels(shop.engine()) == expected
    found = Counter(outcome for _, outcome in outcomes(shop.engine()))
    assert found == {"applied": 60, "duplicate": 6, "conflict": 1}
    assert verify_reference(shop.engine(), shop.engine().chain.get()) == []


def test_a_log_partition_may_hold_ids_in_both_forms(shop: Shop):
    engine = shop.engine()
    reader, snapshot = LogReader(engine.objects, engine.chain, stock.log), engine.chain.get()
    files = engine.chain.layout(snapshot, stock.log.name).segments
    kinds = {reader._read(file, ["event_id"]).schema.field("event_id").type for file in files}
    assert event_ids.STORED in kinds and len(kinds) == 2
    parts = pieces(reader, snapshot, ["event_id", "log_seq"])
    found = [name for part in parts for name in event_ids.as_text(part.table["event_id"]).to_pylist()]
    assert found == reader.events(snapshot, ["event_id"])["event_id"].to_pylist()


def test_a_column_alone_is_read_and_checked_alone(plain: Shop):
    engine = plain.engine()
    reader, snapshot = LogReader(engine.objects, engine.chain, stock.log), engine.chain.get()
    file = max(engine.chain.layout(snapshot, stock.log.name).segments, key=lambda each: each.end - each.start)
    path, piece = plain.store / file.name, file.pieces["quantity"]
    data = bytearray(path.read_bytes())
    data[piece.start + piece.size // 2] ^= 1
    path.write_bytes(data)
    reader.segment(file, ["event_id", "product_id"])
    with pytest.raises(Damaged, match="damaged in column 'quantity'"):
        reader.segment(file, ["quantity"])
    with pytest.raises(Damaged, match="is damaged: expected sha256"):
        reader.segment(file)


def part(*codes: int) -> LedgerPart:
    return LedgerPart(np.array(codes, dtype=np.uint8), np.zeros(len(codes), dtype=np.uint8))


def test_ledger_parts_of_other_lengths_differ_at_the_first_event_that_does():
    assert part(0, 1, 3).first_difference(part(0, 1, 3)) is None
    assert part(0, 1, 3).first_difference(part(1, 1)) == 0
    assert part(0, 1).first_difference(part(0, 1, 3)) == part(0, 1, 3).first_difference(part(0, 1)) == 2


def test_a_stored_ledger_part_with_an_outcome_too_many_is_told(plain: Shop):
    engine = plain.engine()
    snapshots = list(engine.chain)
    records = [engine.builder.require(stock, snapshot) for snapshot in snapshots]
    state = engine.builder.checkpoints.state(stock, records[1])
    stored = engine.builder.checkpoints.ledger(records[1])
    longer = LedgerPart(np.append(stored.outcomes, stored.outcomes[:1]), np.append(stored.reasons, stored.reasons[:1]))
    cut = snapshots[1].cut(stock.log.name)
    engine.builder.checkpoints.save_state(state, cut, longer, records[0])
    verdict = plain.engine().prover.prove(stock, snapshots[1])
    assert not verdict.passed
    assert any("after its last event" in difference.where for difference in verdict.differences)


def test_why_reads_the_segments_that_hold_the_key_and_of_the_others_the_key_alone(shop: Shop, plain: Shop):
    read: list[tuple[Operation, str]] = []

    class Noting(WrapperStore):
        def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
            if kind_of(name) == ObjectKind.SEGMENT:
                read.append((operation, name))
            return call()

    engine = replace(shop, open_store=wrapped(Noting)).engine()
    steps = list(engine.explainer.why(stock, ["product 3"], engine.chain.get()))
    assert {name for operation, name in read if operation == Operation.GET} == {step.segment for step in steps}
    assert len({name for _, name in read}) > len({step.segment for step in steps})
    others = plain.engine()
    same = list(others.explainer.why(stock, ["product 3"], others.chain.get()))
    assert [(step.log_seq, step.outcome, step.after) for step in steps] == [
        (step.log_seq, step.outcome, step.after) for step in same
    ]
    assert len(steps) > 10
