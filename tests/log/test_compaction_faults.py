"""Compaction under damage, kills and others at the same time; and the removal of the segments it has superseded."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from assets.stock import stock
from refold.errors import Conflict
from refold.log.compaction import MergeLimits
from refold.log.reader import LogReader
from refold.log.segment import write_segment
from refold.log.snapshot import Snapshot
from refold.repair.garbage import GRACE_HOURS, find_unreferenced, remove_unreferenced
from refold.storage.names import kind_of
from refold.storage.wrappers import WRITES, Operation
from refold.testing.faulty_store import Crash, Effect, Faults
from tests.log.compacting import (
    compact,
    compactor,
    copied,
    everything_read,
    findings,
    prove_everything,
    segments,
    small_shop,
)
from tests.seal.sealing import STOCK_ONLY
from tests.support import Shop, flip

THREE = MergeLimits(files_min=3)
LATER = dt.datetime.now(dt.UTC) + dt.timedelta(hours=GRACE_HOURS + 1)


@pytest.fixture
def shop(sample: Shop, tmp_path: Path) -> Shop:
    """A copy of the sample."""
    return copied(sample, tmp_path / "shop")


# Damage, kills, and others at the same time.


def test_a_damaged_segment_keeps_its_run_as_it_is_and_is_named(sample: Shop, shop: Shop):
    victim = segments(shop.engine())[0]
    flip(shop.store / victim)
    done = compact(shop)
    assert [str(error).count(victim) for error in done.damaged] == [1]
    partition = int(victim.split("/")[3])
    for snapshot in shop.engine().chain:
        mine, theirs = (
            [f for f in each.engine().chain.layout(snapshot, "stock_events").segments if f.partition == partition]
            for each in (shop, sample)
        )
        assert mine == theirs
    assert done.files == 20 + 3
    (shop.store / victim).write_bytes((sample.store / victim).read_bytes())
    assert compact(shop).files == 4
    assert findings(shop) == []


def test_segments_with_right_hashes_that_are_not_what_was_sealed_are_not_joined(shop: Shop):
    engine = shop.engine()
    snapshot = engine.chain.get("2010-12-09")
    layout = engine.chain.layout(snapshot, "stock_events")
    (file, *others) = layout.segments
    log = engine.project.log("stock_events")
    events = LogReader(engine.objects, engine.chain, log).segment(file).drop_columns(["log_partition"])
    wrong = events.set_column(
        events.column_names.index("quantity"),
        events.schema.field("quantity"),
        [[value + 1 for value in events["quantity"].to_pylist()]],
    )
    false = write_segment(engine.objects, log, file.partition, wrong.cast(log.schema))
    layouts = {name: engine.chain.layout(snapshot, name) for name in snapshot.logs}
    layouts["stock_events"] = replace(layout, segments=[false, *others])
    engine.chain.replace_layout(snapshot, layouts)
    done = compact(shop)
    (error,) = done.damaged
    assert "not those that were sealed" in str(error) and snapshot.key in str(error)
    assert done.files == 20 + 3


def test_a_segment_that_reads_back_otherwise_is_not_named(shop: Shop):
    before = shop.files("layouts")
    faults = Faults()
    faults.plan(Operation.PUT, Effect.CUT, "/segments/", times=None)
    done = compact(replace(shop, open_store=faults.open))
    assert len(done.damaged) == 4 and done.layouts == []
    assert shop.files("layouts") == before


def test_a_damaged_compacted_segment_is_named_once(sample: Shop, shop: Shop):
    compact(shop)
    victim = segments(shop.engine())[0]
    sound = (shop.store / victim).read_bytes()
    flip(shop.store / victim)
    (damage,) = shop.engine().audit_objects()
    assert (damage.kind, damage.name) == ("segment", victim) and "copy" in damage.remedy
    found = findings(shop)
    assert found and all(check == "segment-hash" and victim in message for check, _, message in found)
    (shop.store / victim).unlink()
    assert [each.name for each in shop.engine().audit_objects()] == [victim]
    (shop.store / victim).write_bytes(sound)
    assert shop.engine().audit_objects() == []


def killed(shop: Shop, moment: int) -> None:
    """Compact, and die before the next write after so many."""
    faults = Faults()
    faults.plan(WRITES, Effect.CRASH, after=moment)
    with pytest.raises(Crash):
        compact(replace(shop, open_store=faults.open), limits=THREE)


def test_killed_before_any_write_all_layouts_are_valid_and_the_next_run_completes_it(tmp_path: Path):
    """Two compactions, so that also what was compacted before is joined again."""
    start = small_shop(tmp_path / "start", [[0, 1, 2, 3]] * 10)
    list(start.engine().sealing.seal("2026-01-04"))
    assert compact(start, limits=THREE).layouts
    list(start.engine().sealing.seal())
    whole = Shop(tmp_path / "whole", STOCK_ONLY)
    shutil.copytree(start.root, whole.root)
    writes = len(compact(whole, limits=THREE).layouts) + len(
        set(segments(whole.engine())) - set(segments(start.engine()))
    )
    assert writes >= 12
    expected = everything_read(start.engine())
    for moment in range(writes):
        shop = Shop(tmp_path / f"{moment}", STOCK_ONLY)
        shutil.copytree(start.root, shop.root)
        killed(shop, moment)
        assert everything_read(shop.engine()) == expected
        assert shop.engine().audit_objects() == []
        assert compact(shop, limits=THREE).damaged == []
        assert shop.files() == whole.files()


def test_of_two_at_once_one_wins_and_the_other_says_who(sample: Shop, shop: Shop):
    one, other = compactor(shop.engine()), compactor(shop.engine())
    plan = one.plan()
    plans = replace(plan, merges=plan.merges[:1]), other.plan()
    done = one.apply(plans[0])
    with pytest.raises(Conflict, match="by another process") as failure:
        other.apply(plans[1])
    assert done.layouts[0] in str(failure.value) and "Run again" in failure.value.remedy
    other.apply(other.plan())
    assert other.plan().merges == [], "and completes it when it runs again"
    assert everything_read(shop.engine()) == everything_read(sample.engine())


def test_two_at_once_that_do_the_same_both_succeed(sample: Shop, shop: Shop):
    one, other = compactor(shop.engine()), compactor(shop.engine())
    plans = one.plan(), other.plan()
    assert one.apply(plans[0]) == other.apply(plans[1])
    assert other.plan().merges == []
    assert everything_read(shop.engine()) == everything_read(sample.engine())


def test_a_layout_that_is_mended_meanwhile_is_not_overwritten(shop: Shop):
    compactor_ = compactor(shop.engine())
    plan = compactor_.plan()
    engine = shop.engine()
    snapshot = plan.merges[0].snapshots[3]
    layouts = {name: engine.chain.layout(snapshot, name) for name in snapshot.logs}
    layouts["stock_events"] = replace(layouts["stock_events"], repeats=None)
    engine.chain.replace_layout(snapshot, layouts)
    with pytest.raises(Conflict):
        compactor_.apply(plan)
    assert shop.engine().chain.layout(snapshot, "stock_events").repeats is None
    assert compact(shop).files == 4
    assert shop.engine().chain.layout(snapshot, "stock_events").repeats is None


# Removing superseded segments.


def superseded(shop: Shop, now: dt.datetime = LATER) -> dict[str, str]:
    """Segments that only older layouts name, and why they are left."""
    return {f.name: f.why for f in find_unreferenced(shop.engine().objects, now) if f.superseded}


def remove(shop: Shop, now: dt.datetime = LATER) -> list[str]:
    return [name for name in remove_unreferenced(shop.engine().objects, now) if kind_of(name) == "segment"]


def test_superseded_segments_go_after_a_day_and_no_other(sample: Shop, shop: Shop):
    old = set(segments(sample.engine()))
    assert superseded(shop) == {}
    compact(shop)
    assert set(superseded(shop)) == old and set(superseded(shop).values()) == {""}
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=GRACE_HOURS - 1)
    assert all("younger" in why for why in superseded(shop, soon).values())
    assert remove(shop, soon) == []
    assert set(remove(shop)) == old
    assert remove(shop) == [] and superseded(shop) == {}
    assert set(shop.files("logs/stock_events/segments")) == set(segments(shop.engine()))
    assert findings(shop) == shop.engine().audit_objects() == []
    assert everything_read(shop.engine()) == everything_read(sample.engine())
    prove_everything(shop)


def test_the_grace_counts_from_the_layout_and_not_from_the_old_segment(shop: Shop):
    compact(shop)
    long_ago = (LATER - dt.timedelta(days=90)).timestamp()
    for name in superseded(shop):
        os.utime(shop.store / name, (long_ago, long_ago))
    assert remove(shop, dt.datetime.now(dt.UTC)) == []
    (why,) = {why.partition(" superseded")[2] for why in superseded(shop, dt.datetime.now(dt.UTC)).values()}
    assert why == f" it and is younger than {GRACE_HOURS} hours"


def test_nothing_goes_whose_place_was_taken_by_what_is_damaged(shop: Shop):
    compact(shop)
    victim = segments(shop.engine())[0]
    sound = (shop.store / victim).read_bytes()
    flip(shop.store / victim)
    partition = victim.split("/")[3]
    kept = {name: why for name, why in superseded(shop).items() if why}
    assert len(kept) == 20 and all(f"/{partition}/" in name and victim in why for name, why in kept.items())
    removed = remove(shop)
    assert len(removed) == 60 and not any(f"/{partition}/" in name for name in removed)
    (shop.store / victim).write_bytes(sound)
    assert len(remove(shop)) == 20


def test_nothing_goes_while_a_layout_cannot_be_read(shop: Shop):
    compact(shop)
    path = next(path for path in sorted((shop.store / "layouts").rglob("00000001.json")))
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b'"first":0', b'"first":1', 1))
    assert path.read_bytes() != sound
    assert set(superseded(shop).values()) == {"a layout cannot be read"}
    assert remove(shop) == []


def test_what_half_a_run_overtook_goes_and_what_it_left_stays(sample: Shop, shop: Shop):
    killed(shop, 4 + 7)
    assert len(remove(shop)) == 4 * 7
    assert everything_read(shop.engine()) == everything_read(sample.engine())
    compact(shop)
    assert len(remove(shop)) == 4 * 13
    assert everything_read(shop.engine()) == everything_read(sample.engine())


def test_who_still_reads_by_an_old_layout_is_told_to_run_again_and_then_can(sample: Shop, shop: Shop):
    engine = shop.engine()
    snapshots: list[Snapshot] = list(engine.chain)
    verifier = shop.engine()
    for each in (engine, verifier):
        for snapshot in snapshots:
            each.chain.layout(snapshot, "stock_events")
    compact(shop)
    reader = LogReader(engine.objects, engine.chain, stock.log)
    busy = next(s for s in snapshots if s.cut("stock_events").events)
    assert len(reader.events(busy)), "old segments are there as long as nothing is pruned"
    remove(shop)
    with pytest.raises(Conflict, match=r"was replaced by layouts/.*/00000001\.json") as failure:
        reader.events(busy)
    assert failure.value.kind == "conflict" and "Run again" in failure.value.remedy
    assert reader.events(busy).to_pylist() == everything_read(sample.engine())[busy.key]
    with pytest.raises(Conflict):
        list(verifier.verify_log("stock_events", verifier.chain.get()))
