"""Sealed events put aside or erased: what no longer counts or is gone, and what stays as it was."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from assets import PROJECT
from refold import PLACE, ConflictLimits, Daily, Delta, Sql, int64, open_release
from refold.engine import Engine
from refold.errors import Conflict, Damaged, FixInput, NotFound, RefusedLanding, RuleError
from refold.incremental.carried import carried_at
from refold.log.compaction import Compactor, MergeLimits
from refold.log.reader import LogReader
from refold.log.redactions import Redaction
from refold.log.snapshot import SnapshotChain
from refold.proof.by_reference import reference_verdicts
from refold.rebuild.phases import rebuild_all
from refold.release.releaser import utc_now
from refold.repair.garbage import remove_unreferenced
from refold.seal.against_landing import LandingComparison
from refold.storage.names import ObjectKind
from refold.stores.recheck import Recheck
from tests import shop
from tests.shop import DAYS, move
from tests.support import Shop, moved

STRICT = ConflictLimits()
AT = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
OWN: dict[str, Any] = {"reason": "a mistake", "by": "shop keeper", "at": AT}
SINKS = {"on_hand": [Sql("on_hand"), Delta("levels")], "last_move": [Sql("last_move")], "turnover": [Sql("turnover")]}
KEYS = ("cup", "Alice Sample", "nut")


@pytest.fixture
def house(tmp_path: Path) -> Shop:
    """Three days of three keys, rebuilt and released; the first event of every day is delivered twice."""
    made = Shop(tmp_path, shop.little(SINKS))
    for number, day in enumerate(DAYS[:3]):
        events = [move(f"{day} {n}", key, 10 + number) for n, key in enumerate(KEYS)]
        shop.land(made.landing, "moves", day, [*events, events[0]])
    rebuild_all(made.engine())
    return made


def redact(house: Shop, key: str = "Alice Sample", *, erase: bool = True, columns: tuple[str, ...] = ()) -> Redaction:
    engine = house.engine()
    redactor = engine.redactor("moves")
    chosen = redactor.with_values(["product"], [key], erase=erase)
    made = redactor.erasing(chosen, columns, **OWN) if erase else redactor.excluding(chosen, **OWN)
    redactor.commit(made)
    moved = list(house.engine().moved_by(made, chosen.keys))
    assert [list(each.others) for each in moved] == [[], [], []]
    assert {each.store.name: list(each.keys or ()) for each in moved} == {
        "on_hand": [key], "last_move": [key], "turnover": [key]
    }  # fmt: skip
    return made


def levels(house: Shop) -> dict[str, int]:
    return {row["product"]: row["level"] for row in open_release(str(house.store)).sql("on_hand").to_pylist()}


def sound(house: Shop) -> Engine:
    """An engine of a house whose log, objects, proofs and sinks are all as they should be, by the reference as well."""
    engine = house.engine()
    last = engine.chain.get()
    assert [f for log in engine.project.logs for _, found in engine.verify_log(log.name, last) for f in found] == []
    assert engine.audit_objects() == []
    assert not any(each.differences for each in engine.served.check())
    folded = engine.project.folded
    verdicts = reference_verdicts(engine.objects, engine.chain, engine.builder, folded, last)
    assert [verdict.differences for verdict in verdicts] == [[]] * len(folded)
    return engine


@pytest.mark.parametrize("erase", [False, True])
def test_redacted_events_no_longer_count_and_nothing_else_moves(house: Shop, erase: bool):
    before = house.engine().chain
    made = redact(house, erase=erase)
    rebuild_all(house.engine())
    assert levels(house) == {"cup": 33, "nut": 33}
    engine = sound(house)
    assert [a.id != b.id for a, b in zip(before, engine.chain, strict=True)] == [True, True, True]
    assert [a.sha256 for a in before] == [b.sha256 for b in engine.chain]
    assert (made.events, str(made)) == (
        3,
        f"redaction 1 of 2026-03-01T00:00:00Z by shop keeper {'erased' if erase else 'excluded'} 3 events: a mistake",
    )
    ledger = engine.builder.ledger_rows(engine.project.folded[0], engine.chain.get())
    assert set(ledger["product"].to_pylist()) == {"cup", "nut"}


def test_one_event_is_put_aside_with_its_other_deliveries_and_earlier_snapshots_stay(house: Shop):
    before = house.engine().chain
    redactor = house.engine().redactor("moves")
    redactor.commit(redactor.excluding(redactor.with_values(["id"], [f"{DAYS[1]} 0"]), **OWN))
    rebuild_all(house.engine())
    assert levels(house) == {"cup": 22, "nut": 33, "Alice Sample": 33}
    assert [a.id != b.id for a, b in zip(before, sound(house).chain, strict=True)] == [False, True, True]
    with pytest.raises(NotFound, match="each that is sealed is excluded already"):
        house.engine().redactor("moves").with_values(["id"], [f"{DAYS[1]} 0"])


def test_the_log_goes_on_after_a_redaction_and_names_it_in_the_next_snapshot(house: Shop):
    redact(house)
    shop.land(house.landing, "moves", DAYS[3], [move("new", "cup", 1), move(f"{DAYS[0]} 2", "nut", 10)])
    rebuild_all(house.engine())
    assert levels(house) == {"cup": 34, "nut": 33}
    sound(house)
    [record] = (house.store / "snapshots" / "redactions").iterdir()
    record.unlink()
    engine = house.engine()
    found = [f.message for _, found in engine.verify_log("moves", engine.chain.get()) for f in found]
    assert any(text.startswith("expected the identity") for text in found)


def test_columns_are_erased_and_their_events_still_count(house: Shop):
    made = redact(house, columns=("quantity",))
    rebuild_all(house.engine())
    assert levels(house)["Alice Sample"] == 3  # the least that the column admits, three times
    sound(house)
    assert not made.excludes
    with pytest.raises(FixInput, match="The columns product of log 'moves' cannot be erased by themselves"):
        redactor = house.engine().redactor("moves")
        redactor.erasing(redactor.with_values(["product"], ["cup"]), ["product"], **OWN)


def stored_values(house: Shop) -> str:
    """All that is in store and database, Parquet decompressed, as one text."""
    found = []
    for path in sorted(each for each in house.root.rglob("*") if each.is_file() and "landing" not in each.parts):
        if path.suffix == ".parquet":
            found.append(json.dumps(pq.read_table(path).to_pylist(), default=str))
        elif path.suffix == ".db":
            with sqlite3.connect(path) as connection:
                found.append("\n".join(connection.iterdump()))
        else:
            found.append(path.read_bytes().decode(errors="replace"))
    return "\n".join(found)


@pytest.mark.parametrize("aside", [False, True])
def test_erased_values_are_gone_from_everything_that_is_stored_once_it_is_pruned(house: Shop, aside: bool):
    """Also those of an event that was put aside before."""
    assert "Alice" in stored_values(house)
    if aside:
        engine = house.engine()
        redactor = engine.redactor("moves")
        (place,) = redactor.with_values(["product"], ["Alice Sample"]).places[DAYS[1]][:1]
        redactor.commit(redactor.excluding(redactor.at(place), **OWN))
        rebuild_all(house.engine())
    redact(house)
    rebuild_all(house.engine())
    engine = house.engine()
    engine.pruner.apply(engine.pruner.plan(1, 0.0))
    engine.thinner.apply(engine.thinner.plan(utc_now()))
    remove_unreferenced(engine.objects, utc_now() + dt.timedelta(days=2))
    assert "Alice" not in stored_values(house)
    assert "cup" in stored_values(house)
    rebuild_all(house.engine())
    assert levels(house) == {"cup": 33, "nut": 33}
    sound(house)


@pytest.mark.parametrize("erase", [False, True])
def test_relations_go_on_from_partial_aggregates_without_what_was_redacted(house: Shop, erase: bool):
    """Whole computation and the reference agree on the day after; the erased name is in no partial that counts."""
    house = house.declared(recheck=Recheck(snapshots=1, whole_every=100))
    shop.land(house.landing, "moves", DAYS[3], [move("more", "Alice Sample", 2)])
    rebuild_all(house.engine())
    assert "Alice" in carried(house)
    redact(house, erase=erase)
    rebuild_all(house.engine())
    for day, events in ((DAYS[4], [move("new", "cup", 1)]), ("2026-01-06", [move("late", "Alice Sample", 2)])):
        assert "Alice" not in carried(house)
        shop.land(house.landing, "moves", day, events)
        rebuild_all(house.engine())
    engine = sound(house)
    snapshot, turnover = engine.chain.get(), engine.project.store("turnover")
    [(_, proof)] = engine.prover.proofs.sound(engine.builder.require(turnover, snapshot).claim)
    assert proof.rests_on is not None, "it began at offset 0"
    whole = turnover.compute(engine.builder.runner, engine.builder.tables(turnover, snapshot))
    assert engine.rows(turnover, snapshot).equals(whole)
    assert {row["product"]: row["moved"] for row in whole.to_pylist()} == {"cup": 34, "nut": 33, "Alice Sample": 2}


def carried(house: Shop) -> str:
    """The partial aggregates from which the next rebuild goes on, as text."""
    engine = house.engine()
    turnover = engine.project.store("turnover")
    found = carried_at(engine.objects, engine.builder, engine.prover.proofs, turnover, engine.chain.get())
    return json.dumps({name: table.to_pylist() for name, table in (found or {}).items()}, default=str)


def test_a_rollback_does_not_bring_back_what_was_erased(house: Shop):
    redact(house)
    rebuild_all(house.engine())
    with pytest.raises(NotFound, match="without what was erased since: redaction 1"):
        house.engine().releaser.rollback()


def test_an_erased_event_that_lands_again_stops_its_log(house: Shop):
    redact(house)
    shop.land(house.landing, "moves", DAYS[3], [move(f"{DAYS[0]} 1", "Alice Sample", 10)])
    strict = replace(house, project=shop.little(SINKS, moves=replace(shop.moves, conflicts=STRICT)))
    with pytest.raises(RefusedLanding, match=r"2026-01-01 1"):
        rebuild_all(strict.engine())


def test_compacted_segments_are_erased_in_every_snapshot_that_they_hold(house: Shop):
    engine = house.engine()
    compactor = Compactor(engine.objects, engine.chain, engine.project.log("moves"), MergeLimits(files_min=2))
    assert compactor.apply(compactor.plan()).files < 6
    redactor = house.engine().redactor("moves")
    redactor.commit(redactor.erasing(redactor.with_values(["id"], [f"{DAYS[1]} 1"]), **OWN))
    rebuild_all(house.engine())
    assert levels(house) == {"cup": 33, "nut": 33, "Alice Sample": 22}
    sound(house)
    engine = house.engine()
    compactor = Compactor(engine.objects, engine.chain, engine.project.log("moves"), MergeLimits(files_min=2))
    compactor.apply(compactor.plan())
    sound(house)
    remove_unreferenced(house.engine().objects, utc_now() + dt.timedelta(days=2))
    sound(house)


def test_a_compaction_that_knew_nothing_of_a_redaction_does_not_undo_it(house: Shop):
    engine = house.engine()
    compactor = Compactor(engine.objects, engine.chain, engine.project.log("moves"), MergeLimits(files_min=2))
    plan = compactor.plan()
    redact(house)
    compactor.apply(plan)
    rebuild_all(house.engine())
    assert levels(house) == {"cup": 33, "nut": 33}
    sound(house)


def test_two_redactions_at_once_are_one_after_the_other(house: Shop):
    one, other = house.engine().redactor("moves"), house.engine().redactor("moves")
    made = [r.excluding(r.with_values(["product"], [key]), **OWN) for r, key in ((one, "cup"), (other, "nut"))]
    one.commit(made[0])
    with pytest.raises(Conflict, match="Another process recorded redaction 1"):
        other.commit(made[1])
    assert [each.reason for each in SnapshotChain(house.engine().objects).redactions] == ["a mistake"]
    rebuild_all(house.engine())
    redact(house, "nut", erase=False)
    rebuild_all(house.engine())
    assert levels(house) == {"Alice Sample": 33}
    sound(house)


def test_a_record_that_is_changed_afterwards_is_told_from_the_one_that_was_made(house: Shop):
    made = redact(house)
    rebuild_all(house.engine())
    [record] = (house.store / "snapshots" / "redactions").iterdir()
    whole = record.read_bytes()
    record.write_bytes(whole.replace(b"shop keeper", b"nobody else"))
    with pytest.raises(Damaged, match=r"redactions/00000001\.json is damaged"):
        house.engine()
    record.write_bytes(replace(made, by="nobody else").to_bytes())  # with a sum of its own
    assert ObjectKind.RELEASE in {damage.kind for damage in house.engine().audit_objects()}
    record.unlink()
    assert ObjectKind.RELEASE in {damage.kind for damage in house.engine().audit_objects()}
    record.with_name("00000002.json").write_bytes(whole)
    with pytest.raises(Damaged, match="does not continue the ones before"):
        house.engine()
    record.with_name("00000002.json").unlink()
    record.write_bytes(whole)
    sound(house)


def test_a_segment_that_is_changed_without_a_record_is_damage(house: Shop):
    engine = house.engine()
    redactor = engine.redactor("moves")
    made = redactor.erasing(redactor.with_values(["product"], ["Alice Sample"]), **OWN)  # and no record
    last = engine.chain.get()
    layout = made.layout(last.key)
    assert layout is not None
    engine.chain.replace_layout(last, {"moves": layout})
    engine = house.engine()
    found = [f.message for _, found in engine.verify_log("moves", last) for f in found]
    assert any(text.startswith("expected content") for text in found)


def test_landing_is_compared_without_what_was_erased(house: Shop):
    redact(house)
    engine = house.engine()
    comparison = LandingComparison(engine.landing(), engine.objects, engine.chain, engine.project.log("moves"))
    found = [comparison.compare(snapshot) for snapshot in engine.chain]
    assert [(each.findings, each.events, each.left) for each in found] == [([], 3, 1)] * 3


def test_events_whose_key_is_in_their_id_are_erased_in_id_and_key(tmp_path: Path):
    by_place = replace(shop.moves, event_id=PLACE, columns={n: c for n, c in shop.moves.columns.items() if n != "id"})
    made = Shop(tmp_path, shop.little({"on_hand": [Sql("on_hand")]}, moves=by_place))
    for day in DAYS[:2]:
        events = [{k: v for k, v in move("", key, 5).items() if k != "id"} for key in (*KEYS, KEYS[1])]
        shop.land(made.landing, "moves", day, events)
    rebuild_all(made.engine())
    redactor = made.engine().redactor("moves")
    chosen = redactor.with_values(["product"], ["Alice Sample"])
    redactor.commit(redactor.erasing(chosen, **OWN))
    rebuild_all(made.engine())
    assert levels(made) == {"cup": 10, "nut": 10}
    sound(made)
    events = LogReader(made.engine().objects, made.engine().chain, by_place).events(made.engine().chain.get())
    assert sorted(events["product"].to_pylist()) == ["cup", "erased:5", "erased:7", "nut"]


def test_a_poisoned_event_is_put_aside_and_its_store_follows(tmp_path: Path):
    """F3: a sealed event that a rule fails on can be excluded, knowingly."""

    def on_hand(row: shop.Level, event: Any):
        """Fails on one quantity."""
        return row._replace(level=row.level + 1000 // (event.quantity - 666))

    made = Shop(tmp_path, shop.little({"on_hand": [Sql("on_hand")], "last_move": [Sql("last_move")]}, rule=on_hand))
    shop.land(made.landing, "moves", DAYS[0], [move("a", "cup", 667), move("b", "nut", 666), move("c", "cup", 667)])
    with pytest.raises(RuleError, match="'on_hand' was held back"):
        rebuild_all(made.engine())
    redactor = made.engine().redactor("moves")
    redactor.commit(redactor.excluding(redactor.with_values(["id"], ["b"]), **OWN))
    rebuild_all(made.engine())
    assert levels(made) == {"cup": 2000}
    sound(made)


@pytest.mark.parametrize("missing", ["reason", "by"])
def test_nothing_is_redacted_by_nobody_or_for_no_reason(house: Shop, missing: str):
    redactor = house.engine().redactor("moves")
    with pytest.raises(FixInput, match=f"found no {missing}"):
        redactor.excluding(redactor.with_values(["product"], ["cup"]), **{**OWN, missing: " "})


def test_the_command_shows_what_it_would_do_does_it_and_lists_it(tmp_path: Path):
    made = Shop(tmp_path, PROJECT.with_cadence(Daily(dt.date(2026, 1, 1))))
    for day, count in (("2026-01-01", 5), ("2026-01-02", 6)):
        made.land(f"dt={day}/a.jsonl", moved(f"{day} 1", "lamp", count), moved(f"{day} 2", "desk", count))
    made.land("product_changes/dt=2026-01-01/a.jsonl")
    rebuild_all(made.engine())
    words = ("log", "redact", "stock_events", "--key", "lamp", "--erase", "--reason", "asked", "--by", "the shop")
    shown = made.refold(*words)
    assert shown.exit_code == 0 and "Nothing was changed" in shown.output and "2 events" in shown.output, shown.output
    assert all(f"dt={day}/a.jsonl" in shown.output for day in ("2026-01-01", "2026-01-02"))
    assert "remove it from landing" in " ".join(shown.output.split())
    assert made.engine().chain.redactions == []
    done = made.refold(*words, "--yes")
    assert done.exit_code == 0 and "every store proven again" in done.output, done.output
    again = made.refold(*words)
    assert again.exit_code == 1 and "none is sealed" in again.output
    listed = made.refold("log", "redactions")
    assert "1 redactions" in listed.output and "asked" in listed.output and "the shop" in listed.output
    place = next(f"{p}:{o}" for cut in made.engine().chain.redactions[0].cuts.values() for p, o in cut.places)
    event = made.refold("log", "show", "stock_events", place)
    assert "redaction 1 of" in event.output and "asked" in event.output
    assert made.refold("log", "redact", "stock_events", "--reason", "x", "--by", "y").exit_code == 2


def test_what_came_through_quarantine_is_named_with_the_objects_that_keep_its_bytes(tmp_path: Path):
    made = Shop(tmp_path, shop.little({"on_hand": [Sql("on_hand")]}))
    shop.land(made.landing, "moves", DAYS[0], [move("a", "cup", 1), move("b", "nut", 5000)])
    rebuild_all(made.engine())
    wider = replace(shop.moves, columns={**shop.moves.columns, "quantity": int64(1, 10_000)})
    later = replace(made, project=shop.little({"on_hand": [Sql("on_hand")]}, moves=wider))
    assert len(later.engine().retry_quarantine()["moves"]) == 1
    shop.land(made.landing, "moves", DAYS[1], [move("c", "cup", 1)])
    rebuild_all(later.engine())
    chosen = later.engine().redactor("moves").with_values(["product"], ["nut"])
    [name] = chosen.sources
    assert (made.store / name).exists()
    [landed] = later.engine().redactor("moves").with_values(["id"], ["a"]).sources
    assert (made.landing / landed).exists()
