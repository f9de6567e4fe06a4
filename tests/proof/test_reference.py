"""The reference answers as reasoned by hand, and builds, full replay and the reference agree on whatever lands."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import PROJECT
from assets.logs import product_changes, stock_events
from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import (
    Daily,
    Log,
    Project,
    binary,
    boolean,
    date,
    decimal,
    enum,
    fold,
    ignore,
    int64,
    latest_by_key,
    reject,
    text,
    timestamp,
)
from refold.engine import Engine
from refold.errors import RuleError
from refold.log.snapshot import Snapshot
from refold.proof.reference import ReferenceBoundary, reference
from refold.proof.replay import replay
from refold.stores.declaration import Folded
from refold.testing.strategies import event_days
from tests.shop import ANY_CONFLICTS
from tests.support import Shop, changed, copy_landing, moved, verify_reference

START = dt.date(2026, 1, 1)


def folded_shop(root: Path, *stores: Folded) -> Shop:
    return Shop(root, Project("folded", Daily(START), [*stores] or [stock, product_catalog]))


def referenced(engine: Engine, store: Folded) -> list[tuple[Snapshot, ReferenceBoundary]]:
    """What the reference says of one store at every snapshot."""
    found = reference(engine.objects, engine.chain, store.log, [store], engine.chain.get())
    return [(snapshot, boundaries[store.name]) for snapshot, boundaries in found]


def built(engine: Engine) -> None:
    for log in engine.project.logs:
        for _ in engine.fold_history(log.name, engine.chain.get()):
            pass


def assert_three_agree(engine: Engine) -> None:
    """Build, full replay and reference have the same digests, outcomes and rows at every snapshot of every store."""
    built(engine)
    head = engine.chain.get()
    for log in engine.project.logs:
        stores = engine.stores_of(log.name)
        expected = reference(engine.objects, engine.chain, log, stores, head)
        replayed = replay(engine.objects, engine.chain, log, stores, head)
        for (snapshot, plain), (_, fast) in zip(expected, replayed, strict=True):
            for store in stores:
                record, want, again = engine.builder.require(store, snapshot), plain[store.name], fast[store.name]
                digests = (want.state_digest, want.ledger_digest)
                assert (record.state_digest, record.ledger_digest) == digests
                assert (again.state_digest, again.ledger_digest) == digests
                codes = [reason for *_, reason in want.outcomes]
                assert again.part.reasons.tolist() == codes
                assert by_key(store, again.state.table.to_pylist()) == want.rows
                stored = engine.builder.checkpoints.state(store, record)
                assert by_key(store, stored.table.to_pylist()) == want.rows
    assert verify_reference(engine, head) == []


def by_key(store: Folded, rows: list[dict[str, Any]]) -> dict[object, dict[str, Any]]:
    found = {store.log.key_of(row): row for row in rows}
    assert len(found) == len(rows)
    return found


def test_stock_is_folded_as_reasoned_by_hand(tmp_path: Path):
    """Remove 5 before add 10 is refused; a repeat changes the position alone, and a conflict nothing."""
    shop = folded_shop(tmp_path, stock)
    added, other = moved("1", "cup", 10), moved("1", "cup", 11)
    shop.land("dt=2026-01-01/a.jsonl", moved("0", "cup", -5), added, added, moved("2", "lid", -1))
    shop.land("dt=2026-01-02/a.jsonl", other, moved("3", "cup", -4), other)
    engine = shop.engine()
    list(engine.sealing.seal())
    (_, first), (_, second) = referenced(engine, stock)
    cup, lid = first.rows["cup"], first.rows["lid"]
    assert (cup["level"], cup["log_seq"], lid["level"], lid["log_seq"]) == (10, 2, 0, 3)
    assert sorted((seq, name, reason) for _, _, seq, name, reason in first.outcomes) == [
        (0, "rejected", 1),
        (1, "applied", 0),
        (2, "duplicate", 0),
        (3, "rejected", 1),
    ]
    assert (second.rows["cup"]["level"], second.rows["cup"]["log_offset"], second.rows["lid"]) == (6, 4, lid)
    assert [name for *_, name, _ in second.outcomes] == ["conflict", "applied", "conflict"]


def test_the_catalogue_is_folded_as_reasoned_by_hand(tmp_path: Path):
    """A delete leaves a tombstone; a key whose only event is a conflict has no row."""
    shop = folded_shop(tmp_path, product_catalog)
    shop.land(
        "product_changes/dt=2026-01-01/a.jsonl",
        *(changed(1, "c", "cup", "Cup", "1.5"), changed(2, "c", "lid"), changed(3, "d", "cup"), changed(3, "c", "jar")),
    )
    engine = shop.engine()
    list(engine.sealing.seal())
    ((_, found),) = referenced(engine, product_catalog)
    shown = {key: (row["description"], row["unit_price"], row["deleted"]) for key, row in found.rows.items()}
    assert shown == {"cup": (None, None, True), "lid": (None, None, False)}
    assert Counter(name for *_, name, _ in found.outcomes) == {"applied": 3, "conflict": 1}


def test_a_key_that_moves_to_another_log_partition_is_folded_by_snapshot(tmp_path: Path):
    """Within a snapshot sealing refuses it; `refold log verify` names it where a later snapshot tears a key apart."""
    shop = folded_shop(tmp_path, stock)
    shop.land("stock_events/dt=2026-01-01/partition=3/a.jsonl", moved("1", "cup", 5))
    shop.land("stock_events/dt=2026-01-02/partition=1/b.jsonl", moved("2", "cup", -2), moved("1", "cup", 5))
    engine = shop.engine()
    list(engine.sealing.seal())
    *_, (_, found) = referenced(engine, stock)
    assert (found.rows["cup"]["level"], found.rows["cup"]["log_partition"]) == (3, 1)
    assert_three_agree(engine)


@st.composite
def catalogue_days(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Catalogue changes with ids that repeat, in Debezium's envelope."""
    days = draw(event_days(product_changes, days_max=3, ids_max=8))
    return {
        day: [changed(e["lsn"], e["op"], e["product_id"], e["description"], e["unit_price"]) for e in events]
        for day, events in days.items()
    }


@settings(deadline=None, max_examples=15)
@given(event_days(stock_events, days_max=3), catalogue_days(), st.lists(st.booleans(), min_size=3, max_size=3))
def test_build_replay_and_reference_agree_on_whatever_lands(
    moves: Mapping[str, list[Any]], changes: Mapping[str, list[Any]], late: list[bool]
):
    """Sealed and built day by day, part of a day landing late in the first day's folder."""
    with tempfile.TemporaryDirectory(prefix="refold-") as folder:
        shop = folded_shop(Path(folder))
        for number, day in enumerate(sorted(moves.keys() | changes.keys())):
            where = "2026-01-01" if late[number] else day
            shop.land(f"stock_events/dt={day}/a.jsonl", *moves.get(day, [])[::2])
            shop.land(f"stock_events/dt={where}/late-{number}.jsonl", *moves.get(day, [])[1::2])
            shop.land(f"product_changes/dt={day}/a.jsonl", *changes.get(day, []))
            list(shop.engine().sealing.seal(day))
            built(shop.engine())
        assert_three_agree(shop.engine())


class Mood(Enum):
    GLAD = "glad"
    SAD = "sad"


everything = Log(
    "everything",
    key="k",
    event_id="id",
    conflicts=ANY_CONFLICTS,
    columns={
        "id": int64(0),
        "k": text(),
        "mood": enum(Mood, null=True),
        "amount": decimal(20, 6, null=True),
        "day": date(null=True),
        "at": timestamp(null=True),
        "flag": boolean(null=True),
        "raw": binary(null=True),
        "number": int64(-100, 100, null=True),
        "note": text(null=True),
    },
)


class Seen(NamedTuple):
    mood: Mood = Mood.GLAD
    total: decimal(38, 6) = Decimal("0")
    day: dt.date | None = None
    at: dt.datetime | None = None
    flag: bool = False
    raw: bytes = b""
    number: int = 7
    note: str | None = None


class No(IntEnum):
    SAD = 200
    BIG = 9


@fold(everything, version=1)
def seen(row: Seen, event):
    """Every type and every outcome."""
    if event.flag is None:
        return ignore()
    if event.mood == Mood.SAD and event.note is not None:
        return reject(No.SAD)
    if event.number is not None and event.number > 90:
        return reject(No.BIG)
    amount = event.amount if event.amount is not None else Decimal("0.5")
    return row._replace(
        mood=event.mood if event.mood is not None else row.mood,
        total=row.total + amount * Decimal("1.0"),
        day=event.day,
        at=event.at,
        flag=event.flag,
        raw=event.raw if event.raw is not None else b"none",
        number=row.number + (event.number if event.number is not None else 0),
        note=event.note,
    )


latest = latest_by_key(
    everything,
    "latest",
    version=1,
    columns={name: everything.columns[name] for name in ("mood", "amount", "at", "raw")},
)


@settings(deadline=None, max_examples=15)
@given(event_days(everything, days_max=2, events_max=12))
def test_build_replay_and_reference_agree_on_every_type_and_outcome(days: Mapping[str, list[Any]]):
    with tempfile.TemporaryDirectory(prefix="refold-") as folder:
        shop = folded_shop(Path(folder), seen, latest)
        for day, events in days.items():
            shop.land(f"everything/dt={day}/a.jsonl", *events)
        engine = shop.engine()
        list(engine.sealing.seal())
        assert engine.quarantine() == []
        assert_three_agree(engine)


@fold(stock_events, version=1)
def picky(row: Seen, event):
    """Raises, or answers what no row may hold."""
    if event.quantity == 7:
        return row._replace(number=row.number // 0)
    if event.quantity == 8:
        return row._replace(number=row.number + 2**63)
    return row


@pytest.mark.parametrize(("quantity", "expected"), [(7, "raised ZeroDivisionError"), (8, "answered Seen")])
def test_a_rule_that_fails_is_told_with_its_event(tmp_path: Path, quantity: int, expected: str):
    shop = folded_shop(tmp_path, picky)
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "cup", 1), moved("2", "cup", quantity))
    engine = shop.engine()
    list(engine.sealing.seal())
    with pytest.raises(RuleError, match=rf"picky.*{expected}.*offset 1 \(log_seq 1\)"):
        referenced(engine, picky)
    with pytest.raises(RuleError):
        built(engine)


@pytest.fixture(scope="module")
def torture(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The hostile shop, sealed and built, with what is expected of it."""
    shop = Shop(tmp_path_factory.mktemp("torture"), PROJECT.with_cadence(Daily(dt.date(2026, 2, 1))))
    copy_landing(shared_data / "torture" / "landing", shop.landing)
    engine = shop.engine()
    list(engine.sealing.seal())
    built(engine)
    expected = json.loads((shared_data / "torture" / "expected.json").read_text())["first"]
    return SimpleNamespace(shop=shop, expected=expected)


def test_the_reference_equals_what_is_built_on_torture(torture: SimpleNamespace):
    engine = torture.shop.engine()
    verdicts = engine.compare_with_reference(engine.project.folded, engine.chain.get())
    assert [(v.store.name, v.events, v.passed, list(v.differences)) for v in verdicts] == [
        ("stock", torture.expected["summary"]["events"], True, []),
        ("product_catalog", verdicts[1].events, True, []),
    ]


def test_the_reference_equals_the_expected_answers_on_torture(torture: SimpleNamespace):
    """Answers that came about without Refold."""
    found = referenced(torture.shop.engine(), stock)
    names = Counter(name for _, boundary in found for *_, name, _ in boundary.outcomes)
    summary = torture.expected["summary"]
    assert names == {name: summary[name] for name in ("applied", "rejected", "duplicate", "conflict")}
    assert {key: row["level"] for key, row in found[-1][1].rows.items()} == torture.expected["stock"]
    catalogue = referenced(torture.shop.engine(), product_catalog)[-1][1].rows
    live = {key: (row["description"], row["unit_price"]) for key, row in catalogue.items() if not row["deleted"]}
    assert live == {
        row["product_id"]: (row["description"], row["unit_price"] and Decimal(row["unit_price"]))
        for row in torture.expected["catalog"]
    }
