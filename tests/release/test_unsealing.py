"""Unsealing: the newest snapshots are given up whole, by nobody's accident, and their landing is sealed again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assets.stock import stock
from refold.errors import Conflict, FixInput, Unproven
from refold.log.compaction import Compactor, MergeLimits
from refold.rebuild import rebuild_all
from refold.release.unsealing import Unsealer
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import Operation, WrapperStore, wrapped
from tests.seal.sealing import STOCK_ONLY, ids, sealed
from tests.support import Shop, digests, levels, moved, seal_and_prove

DAYS = [f"2026-01-0{number}" for number in range(1, 5)]
UNSEALED = DAYS[1]


def landed(root: Path) -> Shop:
    shop = Shop(root, STOCK_ONLY)
    for number, day in enumerate(DAYS, 1):
        if number != 3:  # a day without events, of the same content as the day before
            shop.land(f"dt={day}/a.jsonl", moved(day, "lamp", number), moved(f"{day} b", "rug", -1))
    return shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Four days, all proven and published, of which the first alone is released."""
    shop = landed(tmp_path / "shop")
    rebuild_all(shop.engine(), DAYS[0])
    seal_and_prove(shop.engine())
    engine = shop.engine()
    for sink in stock.sinks:
        engine.publisher.publish(engine.project.store("stock"), sink, engine.chain.get())
    return shop


def unseal(shop: Shop, key: str = UNSEALED) -> list[str]:
    """Unseal from a key on; returns the objects that are missing in landing."""
    engine = shop.engine()
    unsealer = Unsealer(engine.objects, engine.chain)
    plan = unsealer.plan(key, [info.name for info in engine.landing().list()])
    unsealer.apply(plan)
    return list(plan.missing)


def damages(shop: Shop) -> list[str]:
    return [str(each) for each in shop.engine().audit_objects()]


def test_what_is_left_is_as_if_the_days_had_never_been_sealed(shop: Shop):
    assert unseal(shop) == []
    assert [*ids(shop)] == [DAYS[0]]
    assert damages(shop) == []
    assert {name.partition(" ")[0] for name in digests(shop.engine())} == {DAYS[0]}
    assert shop.engine().releaser.current().snapshot == DAYS[0]


def test_the_same_landing_gives_the_same_snapshots_again(shop: Shop):
    manifests, before = shop.files("snapshots"), digests(shop.engine())
    unseal(shop)
    rebuild_all(shop.engine())
    assert shop.files("snapshots") == manifests
    assert digests(shop.engine()) == before
    assert damages(shop) == []


def test_a_corrected_landing_is_sealed_as_if_it_had_always_been_so(shop: Shop, tmp_path: Path):
    for each in (shop, plain := landed(tmp_path / "plain")):
        if each is shop:
            unseal(shop)
        each.land(f"dt={DAYS[1]}/a.jsonl", moved("corrected", "lamp", 50))
        rebuild_all(each.engine())
    assert ids(shop) == ids(plain)
    assert digests(shop.engine()) == digests(plain.engine())
    assert levels(shop.engine()) == levels(plain.engine()) == {"lamp": 55, "rug": 0}
    assert damages(shop) == []


def test_a_compacted_log_is_unsealed_in_the_middle_of_a_segment(shop: Shop):
    engine = shop.engine()
    compactor = Compactor(engine.objects, engine.chain, engine.project.logs[0], MergeLimits(files_min=2))
    compactor.apply(compactor.plan())
    unseal(shop)
    shop.land(f"dt={DAYS[1]}/b.jsonl", moved("other", "lamp", 50))
    rebuild_all(shop.engine())
    engine = shop.engine()
    log = engine.project.logs[0]
    assert [found for _, each in engine.verify_log(log.name, engine.chain.get()) for found in each] == []
    compactor = Compactor(engine.objects, engine.chain, log, MergeLimits(files_min=2))
    assert compactor.apply(compactor.plan()).damaged == []
    assert levels(shop.engine()) == {"lamp": 57, "rug": 0}
    assert damages(shop) == []


def test_objects_that_are_gone_from_landing_are_named_before(shop: Shop):
    (shop.landing / "stock_events" / f"dt={DAYS[3]}" / "a.jsonl").unlink()
    assert unseal(shop) == [f"stock_events/dt={DAYS[3]}/a.jsonl"]
    assert [report.snapshot.key for report in sealed(shop)] == [DAYS[1]]


def test_what_was_released_stays_sealed(shop: Shop):
    rebuild_all(shop.engine())
    manifests = shop.files()
    with pytest.raises(FixInput, match=rf"release 2 of snapshot {DAYS[3]}.* rests on one of them"):
        unseal(shop)
    assert shop.files() == manifests


def test_everything_is_unsealed_where_nothing_was_released(tmp_path: Path):
    shop = landed(tmp_path)
    seal_and_prove(shop.engine())
    unseal(shop, DAYS[0])
    assert (ids(shop), damages(shop)) == ({}, [])
    rebuild_all(shop.engine())
    assert [*ids(shop)] == DAYS


class Hooked(WrapperStore):
    """Calls a function before every removal, with how many there were and the name."""

    hook: Callable[[int, str], None] = lambda number, name: None
    removals = 0

    def around(self, operation: Operation, name: str, size_bytes: int, call):
        if operation is Operation.DELETE:
            type(self).hook(self.removals, name)
            self.removals += 1
        return super().around(operation, name, size_bytes, call)


def hooked(shop: Shop, hook: Callable[[int, str], None]) -> Shop:
    """The shop through a store that calls the hook before every removal."""
    found = type("Found", (Hooked,), {"hook": staticmethod(hook)})
    return replace(shop, open_store=wrapped(found, ObjectStore.open))


def test_a_kill_before_any_removal_leaves_whole_snapshots_and_a_rerun_ends_it(shop: Shop, tmp_path: Path):
    counted: list[str] = []
    copy = Shop(tmp_path / "counted", STOCK_ONLY)
    shutil.copytree(shop.root, copy.root)
    unseal(hooked(copy, lambda number, name: counted.append(name)))
    assert [name for name in counted if name.startswith("snapshots")] == [
        f"snapshots/{day}.json" for day in reversed(DAYS[1:])
    ]
    for stop in range(len(counted)):

        def kill(number: int, name: str, stop: int = stop) -> None:
            if number == stop:
                raise KeyboardInterrupt

        killed = Shop(tmp_path / str(stop), STOCK_ONLY)
        shutil.copytree(shop.root, killed.root)
        with pytest.raises(KeyboardInterrupt):
            unseal(hooked(killed, kill))
        assert DAYS[: len(ids(killed))] == [*ids(killed)]
        assert killed.engine().releaser.current().snapshot == DAYS[0]
        unseal(killed)
        assert ([*ids(killed)], damages(killed)) == ([DAYS[0]], [])


def test_a_sealer_and_a_releaser_that_read_before_are_refused(shop: Shop):
    sealer, releaser = shop.engine(), shop.engine()
    before = shop.engine().releaser.current()
    shop.land("dt=2026-01-05/a.jsonl", moved("5", "lamp", 1))
    newest = releaser.chain.get()
    unseal(shop)
    with pytest.raises(Conflict, match=f"The snapshot {DAYS[3]} was unsealed"):
        list(sealer.sealing.seal("2026-01-05"))
    with pytest.raises((Conflict, Unproven)):
        releaser.releaser.release(newest)
    assert ([*ids(shop)], shop.engine().releaser.current()) == ([DAYS[0]], before)
    rebuild_all(shop.engine())
    assert [*ids(shop)] == [*DAYS, "2026-01-05"]


def test_a_sealer_at_the_same_moment_is_named(shop: Shop):
    shop.land("dt=2026-01-05/a.jsonl", moved("5", "lamp", 1))

    def race(number: int, name: str) -> None:
        if name == f"snapshots/{DAYS[3]}.json":
            list(shop.engine().sealing.seal("2026-01-05"))

    with pytest.raises(Conflict, match=r"used one of them: snapshots/2026-01-05\.json"):
        unseal(hooked(shop, race))
    (shop.store / "snapshots" / "2026-01-05.json").unlink()  # as the message says
    rebuild_all(shop.engine())
    assert [*ids(shop)] == [*DAYS, "2026-01-05"]


def test_a_releaser_at_the_same_moment_is_named(shop: Shop):
    def race(number: int, name: str) -> None:
        if number == 0:
            rebuild_all(shop.engine())

    with pytest.raises(Conflict, match=f"used one of them: release 2 of snapshot {DAYS[3]}"):
        unseal(hooked(shop, race))
    list(shop.engine().sealing.seal())  # as the message says
    rebuild_all(shop.engine())
    assert damages(shop) == []


def test_the_command_shows_what_it_would_do_and_does_it_when_told(shop: Shop):
    (shop.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.seal.sealing:STOCK_ONLY"\n')
    shown = shop.refold("log", "unseal", UNSEALED, project=shop.root)
    assert (shown.exit_code, "To be unsealed: 3 snapshots" in shown.output) == (0, True)
    assert "Nothing was changed" in shown.output
    assert [*ids(shop)] == DAYS
    done = shop.refold("log", "unseal", UNSEALED, "--yes", project=shop.root)
    assert (done.exit_code, "Unsealed 3 snapshots" in done.output) == (0, True)
    assert [*ids(shop)] == [DAYS[0]]
    refused = shop.refold("log", "unseal", DAYS[0], "--yes", project=shop.root)
    assert (refused.exit_code, "rests on one of them" in refused.output) == (1, True)
