"""The steps on the way from landing to readers, as a stage runs them in a process that may be killed. Not a test."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

from refold.base import kernel_cache
from refold.engine import Engine
from refold.log import compaction
from refold.release.anchor import Anchor
from refold.release.anchor_check import check_anchor
from refold.release.anchor_places import AnchorPlace, open_place
from refold.release.releaser import Releaser
from refold.release.retention import Pruner
from refold.release.unsealing import Unsealer
from refold.repair.repair_objects import repair_objects
from refold.stores import thinning
from tests.failpoints.shop import DAYS, NOW, Shop

OLD, NEW, NEXT = 1, 2, 3
"""Days: what is served before, what a stage works on, and what follows it."""

LONG_AFTER = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
"""When whatever nothing names is old enough to be removed."""


def opened(shop: Shop) -> Engine:
    """An engine whose releases tell a fixed time, so that equal ones have equal bytes."""
    engine = shop.engine()
    engine.releaser = Releaser(
        engine.project, engine.objects, engine.prover, engine.publisher, clock=lambda: NOW, by=lambda: "the test"
    )
    return engine


def link_landing(shop: Shop) -> None:
    """All copies read one landing, since a snapshot tells the identity of the files that it was made of."""
    Path("landing").symlink_to(Path("../../landing").resolve())


def seal(shop: Shop, day: int = NEW) -> None:
    for _ in opened(shop).sealing.seal(DAYS[day]):
        pass


def unseal(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    if DAYS[day] in engine.chain:
        unsealer = Unsealer(engine.objects, engine.chain)
        unsealer.apply(unsealer.plan(DAYS[day], ()))


def redact(shop: Shop) -> None:
    """Erase the first price of a product, which a later one has replaced."""
    engine = opened(shop)
    if not engine.chain.redactions:
        redactor = engine.redactor("prices")
        chosen = redactor.with_values(["id"], ["0 bolt"])
        redactor.commit(redactor.erasing(chosen, reason="a test", by="the test", at=NOW))
    for day in range(OLD, NEW + 1):
        build(shop, day)
        prove(shop, day)


def build(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for log in engine.project.logs:
        for _ in engine.fold_history(log.name, snapshot):
            pass
    for _ in engine.relate_history(snapshot):  # builds; what it reads is proven in the next stage
        pass


def prove(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for log in engine.project.logs:
        for _, verdicts in engine.prove_history(log.name, snapshot):
            assert all(verdict.passed for verdict in verdicts.values())
    for _, verdicts in engine.relate_history(snapshot):
        assert all(verdict.passed for verdict in verdicts.values())


def publish(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for store in engine.project.in_order:
        for sink in store.sinks:
            engine.publisher.publish(store, sink, snapshot)


def check(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for store in engine.project.in_order:
        assert all(result.passed for result in engine.publisher.check_expectations(store, snapshot))


def release(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    engine.releaser.release(engine.chain.get(DAYS[day]))


def freed(work: Callable[[Shop], object]) -> Callable[[Shop], None]:
    """The next run, once somebody has broken the leases of the one that was killed."""

    def again(shop: Shop) -> None:
        leases = shop.engine().leases
        assert leases is not None
        for each in leases.shown():
            if each.record.holder or each.damage:
                leases.break_lease(each.name, "it was killed", "the test")
        work(shop)

    return again


class BothPlaces:
    """An anchor in a folder and in a database at once, so that one stage is killed at the writes of both."""

    place = "both"

    def __init__(self) -> None:
        self.all: list[AnchorPlace] = [open_place("anchor"), open_place("sqlite:///data/anchor.db")]

    def count(self) -> int:
        return min(each.count() for each in self.all)

    def get(self, number: int) -> bytes:
        return self.all[0].get(number)

    def add(self, number: int, entry: bytes) -> None:
        for each in self.all:
            each.add(number, entry)


def release_anchored(shop: Shop) -> None:
    engine = opened(shop)
    anchor = Anchor(engine.objects, BothPlaces(), engine.project.name)
    engine.releaser.pointer.anchor = anchor
    engine.releaser.release(engine.chain.get(DAYS[NEW]))


def release_anchored_again(shop: Shop) -> None:
    """The next run; afterwards each release is confirmed once, in both places."""
    release_anchored(shop)
    engine, both = opened(shop), BothPlaces()
    anchor = Anchor(engine.objects, both, engine.project.name)
    entries = [entry.release for entry in anchor.entries() if entry.confirmed]
    numbers = engine.releaser.pointer.numbers()
    assert entries == numbers[-len(entries) :] and len(entries) in (1, 2), (entries, numbers)
    assert check_anchor(anchor, engine.chain, engine.objects) == []
    assert [both.all[1].get(n) for n in range(1, both.count() + 1)] == [both.get(n) for n in range(1, both.count() + 1)]
    assert len({each.count() for each in both.all}) == 1


def in_turn(shop: Shop, day: int, *steps: Callable[[Shop, int], None]) -> None:
    for step in steps:
        step(shop, day)


def everything(shop: Shop, *days: int) -> None:
    """All of it for some days, one after the other."""
    for day in days:
        for step in (seal, build, prove, publish, check, release):
            step(shop, day)


def roll_back(shop: Shop) -> None:
    opened(shop).releaser.rollback(OLD + 1)


def prune(shop: Shop) -> None:
    engine = opened(shop)
    engine.pruner = Pruner(engine.project, engine.releaser, engine.publisher, clock=lambda: NOW)
    thinning.RECENT = 1  # so that three days are a long history
    engine.prune(*engine.plan_prune(1, 0, LONG_AFTER), LONG_AFTER)


def compact(shop: Shop) -> None:
    limits = compaction.MergeLimits(files_min=2)  # so that three days are many
    for log in shop.engine().project.logs:
        engine = opened(shop)
        compactor = compaction.Compactor(engine.objects, engine.chain, log, limits)
        assert compactor.apply(compactor.plan()).damaged == []


def retry(shop: Shop) -> None:
    opened(shop).retry_quarantine()


def mend(shop: Shop) -> None:
    """Repair until nothing differs: what a sink should hold is not known before the state is sound again."""
    for _ in range(3):
        engine = opened(shop)
        snapshot = engine.chain.get(DAYS[NEW])
        drifts = [engine.drifts.find(store, snapshot) for store in engine.project.in_order]
        if not any(drift.differences for drift in drifts):
            return
        assert all(engine.drifts.repair(drift).passed for drift in drifts)
    raise AssertionError([str(difference) for drift in drifts for difference in drift.differences])


def mend_served(shop: Shop) -> None:
    """As a rebuild begins: what is served wrongly is published again, sink by sink."""
    engine = opened(shop)
    for store in engine.project.in_order:
        for sink in store.sinks:
            engine.served.repair(store, sink)
    mend(shop)


def mend_and_publish(shop: Shop) -> None:
    """A version of which a killed repair left nothing is no difference; it is published again before it is released."""
    mend(shop)
    publish(shop)


def mend_objects(shop: Shop) -> None:
    assert repair_objects(lambda: opened(shop), opened(shop).audit_objects()) == []


def repair_all(shop: Shop) -> None:
    """As `refold repair`: objects, then what each sink serves."""
    repair_objects(lambda: opened(shop), opened(shop).audit_objects())
    engine = opened(shop)
    for store in engine.project.in_order:
        for sink in store.sinks:
            engine.served.repair(store, sink)


def check_again(shop: Shop) -> None:
    engine = opened(shop)
    store = engine.project.store("on_hand")
    assert not all(result.passed for result in engine.publisher.check_expectations(store, engine.chain.get(DAYS[NEW])))


def compile_anew(shop: Shop) -> None:
    """Keep a compiled kernel in a cache folder of the shop's own, where a killed process left half of it."""
    os.environ["NUMBA_CACHE_DIR"] = str(Path("cache").resolve())
    file = kernel_cache.cache_folder() / "fold-1.kernel"
    if not file.exists():
        kernel_cache._write(file, b"compiled")
        file.write_bytes(file.read_bytes()[:20])
    if kernel_cache._read(file) is None:
        kernel_cache._write(file, b"compiled")
    assert kernel_cache._read(file) == b"compiled"
