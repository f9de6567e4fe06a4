"""Compaction: fewer and larger segments, and not an identity, digest, answer or proof is another one."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets import PROJECT
from assets.stock import stock
from refold.base import parallel
from refold.diff.compare import Comparer
from refold.diff.shadow import Shadow
from refold.errors import Damaged
from refold.log.compaction import Merge, MergeLimits, Placed, merges_of
from refold.log.reader import LogReader
from refold.rules.outcome import Outcome
from refold.storage.wrappers import CountingStore
from refold.stores.ledger import LedgerPart
from tests.diff.variants import credit
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
from tests.support import Shop, digests, flip, levels, moved, outcomes, pieces, verify_reference
from tests.three_days import layout_of, write_layout


@pytest.fixture
def shop(sample: Shop, tmp_path: Path) -> Shop:
    """A copy of the sample."""
    return copied(sample, tmp_path / "shop")


def test_identities_digests_events_and_answers_are_the_same_and_objects_are_fewer(sample: Shop, shop: Shop):
    before = sample.engine()
    done = compact(shop)
    engine = shop.engine()
    assert (len(segments(before)), len(segments(engine))) == (80, 4)
    assert done.damaged == [] and done.files == 4 and len(done.layouts) == 20
    sizes = {name: (shop.store / name).stat().st_size for name in segments(engine)}
    assert done.size_bytes == sum(sizes.values())
    unchanged = ("snapshots", "states", "proofs", "logs/stock_events/repeats", "logs/stock_events/seen")
    for folder in unchanged:
        assert shop.files(folder) == sample.files(folder) != {}
    assert digests(engine) == digests(before)
    assert everything_read(engine) == everything_read(before)
    assert levels(engine) == levels(before)
    assert findings(shop) == []
    assert shop.engine().audit_objects() == []


def test_the_incremental_fold_full_replay_and_the_reference_agree_on_a_compacted_log(sample: Shop, shop: Shop):
    compact(shop)
    for folder in ("states", "proofs"):
        shutil.rmtree(shop.store / folder)
    engine = shop.engine()
    for log in engine.project.logs:
        for _ in engine.fold_history(log.name, engine.chain.get()):
            pass
    prove_everything(shop)
    folded = [store.name for store in PROJECT.folded]
    assert digests(shop.engine(), folded) == digests(sample.engine(), folded)
    assert verify_reference(shop.engine(), shop.engine().chain.get()) == []


def test_a_compacted_column_alone_is_read_and_checked_alone(shop: Shop):
    compact(shop)
    engine = shop.engine()
    reader, snapshot = LogReader(engine.objects, engine.chain, stock.log), engine.chain.get("2010-12-09")
    (file, *_) = reader.files(snapshot)
    path, piece = shop.store / file.name, file.pieces["quantity"]
    data = bytearray(path.read_bytes())
    data[piece.start + piece.size // 2] ^= 1
    path.write_bytes(data)
    pieces(reader, snapshot, ["event_id", "product_id"])
    with pytest.raises(Damaged, match=f"{file.name} is damaged in column 'quantity'"):
        pieces(reader, snapshot, ["quantity"])
    with pytest.raises(Damaged, match=f"{file.name} in .* is damaged: expected sha256"):
        reader.events(snapshot)


def test_history_in_order_reads_each_object_once(shop: Shop):
    compact(shop)
    engine = shop.engine()
    counting = CountingStore(engine.objects)
    reader = LogReader(counting, engine.chain, stock.log)
    for snapshot in engine.chain:
        pieces(reader, snapshot, ["product_id", "quantity"])
    assert counting.reads == dict.fromkeys(segments(engine), 1)


def test_dictionaries_of_a_slice_hold_its_own_texts_alone(sample: Shop, shop: Shop):
    """Else folding a day would look at every key of the year."""
    compact(shop)
    before, engine = sample.engine(), shop.engine()
    for snapshot in engine.chain:
        found, expected = (
            pieces(LogReader(each.objects, each.chain, stock.log), snapshot, ["product_id", "event_id", "quantity"])
            for each in (engine, before)
        )
        assert [part.table.to_pydict() for part in found] == [part.table.to_pydict() for part in expected]
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.table.schema.types == theirs.table.schema.types
            assert [len(chunk.dictionary) for chunk in mine.table["product_id"].chunks] == [
                len(theirs.table["product_id"].unique())
            ]


def test_what_is_sealed_afterwards_goes_on_from_a_compacted_log(sample: Shop, shop: Shop, tmp_path: Path):
    """With a damaged index of the ids seen, so that sealing must find them in the segments."""
    compact(shop)
    plain = copied(sample, tmp_path / "plain")
    known = next(iter(everything_read(sample.engine())["2010-12-08"]))
    for each in (shop, plain):
        for path in (each.store / "logs/stock_events/seen").rglob("*.*"):
            flip(path)
        again = moved(known["event_id"], known["product_id"], 1)
        each.land("dt=2010-12-27/late.jsonl", again, moved("new", known["product_id"], 1))
        list(each.engine().sealing.seal("2010-12-28"))
    chains = [each.engine().chain for each in (shop, plain)]
    assert [s.id for s in chains[0]] == [s.id for s in chains[1]]
    repeats = [chain.layout(chain.get("2010-12-27"), "stock_events").repeats for chain in chains]
    assert repeats[0] == repeats[1] is not None
    assert findings(shop) == []


def test_why_names_the_compacted_segment_of_every_event(shop: Shop):
    compact(shop)
    engine = shop.engine()
    snapshot = engine.chain.get()
    product = max(levels(engine).items(), key=lambda item: item[1])[0]
    steps = list(engine.explainer.why(stock, [product], snapshot))
    assert steps and {step.segment for step in steps} <= set(segments(engine))


def test_a_slip_is_located_in_the_compacted_segment(shop: Shop):
    compact(shop)
    engine = shop.engine()
    snapshot = engine.chain.get("2010-12-23")
    record = engine.builder.require(stock, snapshot)
    state = engine.builder.state_at(stock, snapshot)
    stored = engine.builder.checkpoints.ledger(record)
    assert stored is not None
    part = LedgerPart(stored.outcomes.copy(), stored.reasons)
    part.outcomes[len(part.outcomes) // 2] = Outcome.IGNORED
    before = engine.builder.require(stock, engine.chain.through(snapshot.key)[-2])
    engine.builder.checkpoints.save_state(state, snapshot.cut("stock_events"), part, before)
    engine = shop.engine()
    found = engine.prover.prove(stock, engine.chain.get("2010-12-23")).divergence
    assert found is not None and found.snapshot == snapshot.key
    assert found.segment in segments(engine)
    assert found.event is not None
    cut, offset = snapshot.cut("stock_events"), found.event["log_offset"]
    partition = found.event["log_partition"]
    assert cut.starts[partition] <= offset < cut.ends[partition]


def test_two_rules_compared_over_a_compacted_log_differ_as_they_did(sample: Shop, shop: Shop):
    compact(shop)
    told = []
    for engine in (sample.engine(), shop.engine()):
        snapshot = engine.chain.get()
        sides = [
            Shadow(label, engine.objects, engine.chain, snapshot, {"stock": store})
            for label, store in (("old", stock), ("new", credit))
        ]
        (found,) = Comparer(engine.chain, snapshot, *sides).compare(["stock"], 10**6)
        assert found.differs
        told.append((repr(found.rows), repr(found.outcomes)))
    assert told[0] == told[1]


# What is joined.


def test_a_rerun_changes_nothing(shop: Shop):
    compact(shop)
    before = shop.files()
    again = compact(shop)
    assert (again.layouts, again.damaged, again.files) == ([], [], 4)
    assert shop.files() == before


def test_a_dry_run_writes_nothing_and_tells_what_a_run_does(shop: Shop):
    before = shop.files()
    dry = shop.refold("log", "compact", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert shop.files() == before
    row = next(text for text in dry.output.splitlines() if text.split()[:1] == ["stock_events"]).split()
    assert row[1:3] == ["80", "4"]
    victim = compactor(shop.engine()).plan().merges[0].placed[0].file.name
    whole = (shop.store / victim).read_bytes()
    flip(shop.store / victim)
    broken = shop.refold("log", "compact")
    assert broken.exit_code == 1 and victim in broken.output
    (shop.store / victim).write_bytes(whole)
    done = shop.refold("log", "compact", "stock_events")
    assert done.exit_code == 0, done.output
    assert "product_changes" not in done.output
    row = next(text for text in done.output.splitlines() if text.split()[:1] == ["stock_events"]).split()
    assert row[1:3] == ["23", "4"], "three of four log partitions were compacted before"
    assert len(segments(shop.engine())) == 4
    assert shop.refold("log", "compact", "no_log").exit_code == 1


HISTORIES = st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=2, max_size=14)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=HISTORIES,
    stops=st.lists(st.integers(1, 14), max_size=3),
    most=st.integers(2, 60),
    least=st.integers(2, 5),
    threads=st.booleans(),
)
def test_any_history_compacted_at_any_time_is_the_same_log(
    tmp_path_factory: pytest.TempPathFactory,
    days: list[list[int]],
    stops: list[int],
    most: int,
    least: int,
    threads: bool,
):
    folder = tmp_path_factory.mktemp("any")
    plain, small = small_shop(folder / "plain", days), small_shop(folder / "small", days)
    keys = [(dt.date(2026, 1, 1) + dt.timedelta(days=n)).isoformat() for n in range(len(days))]
    if not any(days):
        return
    list(plain.engine().sealing.seal(keys[-1]))
    limits = MergeLimits(most, least)
    with pytest.MonkeyPatch.context() as patch:
        if threads:
            patch.setattr(parallel, "WORTH_THREADS", 0)
            patch.setattr(parallel, "cores", lambda: 3)
        for stop in [*sorted(stop for stop in stops if stop < len(days)), len(days)]:
            list(small.engine().sealing.seal(keys[stop - 1]))
            if len(small.engine().chain):
                assert compact(small, limits=limits).damaged == []
                assert compactor(small.engine(), limits=limits).plan().merges == [], "a rerun finds nothing to do"
        engine, before = small.engine(), plain.engine()
        assert [s.id for s in engine.chain] == [s.id for s in before.chain]
        assert everything_read(engine) == everything_read(before)
        for file in (f for s in engine.chain for f in engine.chain.layout(s, "stock_events").segments):
            assert file.is_whole or file.last - file.first <= most
        assert findings(small) == small.engine().audit_objects() == []
        for each in (engine, before):
            for _ in each.fold_history("stock_events", each.chain.get()):
                pass
        assert digests(small.engine()) == digests(plain.engine())
        assert outcomes(engine) == outcomes(before)
        prove_everything(small)
        assert verify_reference(small.engine(), small.engine().chain.get()) == []


class _File:
    """As much of a segment as the policy looks at."""

    def __init__(self, start: int, events: int) -> None:
        self.start = self.first = start
        self.end = self.last = start + events
        self.name = self.sha256 = f"{start} {events}"
        self.partition, self.size_bytes = 0, 100 * events
        self.pieces = {"": type("Piece", (), {"size": 0})}


def joined(sizes: list[int]) -> list[int]:
    """The sizes of segments after compaction."""
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    placed = [Placed(None, _File(start, size)) for start, size in zip(starts, sizes, strict=True)]
    merges: list[Merge] = list(merges_of(placed))
    left = [each.file for each in placed if not any(each in merge.placed for merge in merges)]
    spans = [(f.start, f.end - f.start) for f in left]
    spans += [(one.placed[0].file.start, sum(e.file.end - e.file.start for e in one.placed)) for one in merges]
    return [size for _, size in sorted(spans)]


def test_the_newest_segments_wait_and_complete_groups_stay():
    most, least = MergeLimits().events_max, MergeLimits().files_min
    assert joined([5] * (least - 1)) == [5] * (least - 1)
    assert joined([5] * least) == [5 * least]
    assert joined([most, *[5] * least, most]) == [most, 5 * least, most]
    assert joined([most // 8 + 1] * 8) == [most // 8 + 1] * 8, "too few fit into one"
    assert joined([1000, *[5] * least]) == [1000, 5 * least], "the large one is not written again for so few"


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=200))
def test_whatever_the_sizes_compaction_ends_at_once_and_keeps_all_events(sizes: list[int]):
    once = joined(sizes)
    assert sum(once) == sum(sizes)
    assert joined(once) == once
    assert max(once) <= max(MergeLimits().events_max, *sizes)


def test_compacted_day_by_day_an_event_is_rarely_written_again_and_few_segments_are_left():
    left: list[int] = []
    written = 0
    for _ in range(3000):
        before = [*left, 100]
        left = joined(before)
        written += sum(size for size in left if size not in before or left.count(size) > before.count(size))
    assert len(left) <= 60
    assert written <= 12 * 3000 * 100


def test_layouts_that_know_nothing_of_compaction_are_still_read(shop: Shop):
    """As those were written that have no `first` and `last`."""
    expected = everything_read(shop.engine())
    for snapshot in shop.engine().chain:
        path, logs = layout_of(shop, snapshot.key)
        for part in logs.values():
            for segment in part["segments"]:
                del segment["first"], segment["last"]
        write_layout(path, logs)
    assert everything_read(shop.engine()) == expected
    assert shop.engine().audit_objects() == []
    assert compact(shop).files == 4
    assert everything_read(shop.engine()) == expected
