"""A log is made again with another number of log partitions: the same events, in the same order by key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refold import Daily, Names, Project
from refold.errors import Conflict, Damaged, FixInput
from refold.log.reader import LogReader
from refold.log.snapshot import SnapshotChain
from refold.seal.repartition import Repartition
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import Operation
from refold.testing.faulty_store import Crash, Effect, Faults
from tests.stores.highest import PROJECT, largest
from tests.support import Shop, moved, seal_and_prove, verify_reference

DAYS = {
    "2026-01-01": [moved(str(n), f"p{n % 9}", 1 + n % 5) for n in range(40)] + [moved("3", "p3", 4)],
    "2026-01-02": [],
    "2026-01-03": [moved(str(n), f"p{n % 11}", 1 + n % 7) for n in range(30, 70)] + ["{"],
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Three days, sealed in four log partitions; with repeats, conflicts, quarantine and an empty day."""
    shop = Shop(tmp_path_factory.mktemp("repartition"), PROJECT)
    for key, events in DAYS.items():
        shop.land(f"dt={key}/a.jsonl", *events)
    seal_and_prove(shop.engine())
    return shop


def into(shop: Shop, root: Path, partitions: int, *, stop_after: int | None = None) -> ObjectStore:
    target = ObjectStore.open(str(root))
    if stop_after is not None:
        faults = Faults()
        faults.plan([Operation.PUT, Operation.CREATE], Effect.CRASH, after=stop_after)
        target = faults.open(str(root))
    engine = shop.engine()
    work = Repartition(engine.objects, engine.chain, target, engine.project.log("stock_events"), partitions)
    assert [each.snapshot for each in work.run()] == list(DAYS)
    assert work.verify() == []
    return target


def test_every_key_has_the_same_events_in_the_same_order(shop: Shop, tmp_path: Path):
    """Counted by a plain walk along both logs."""
    before = shop.files()
    target = into(shop, tmp_path / "new", 7)
    engine, log = shop.engine(), shop.engine().project.log("stock_events")
    found = []
    for objects, chain, partitions in (
        (engine.objects, engine.chain, 4),
        (target, SnapshotChain(target), 7),
    ):
        by_key: dict[str, list[tuple[object, ...]]] = {}
        places = set()
        for snapshot in chain:
            events = LogReader(objects, chain, replace(log, partitions=partitions)).events(snapshot).to_pylist()
            for event in sorted(events, key=lambda each: (each["log_partition"], each["log_offset"])):
                by_key.setdefault(event["product_id"], []).append(
                    tuple(v for name, v in event.items() if name not in ("log_partition", "log_offset"))
                )
                places.add((event["product_id"], event["log_partition"]))
        assert len(places) == len(by_key) == 11
        assert {partition for _, partition in places} <= set(range(partitions))
        found.append(by_key)
    assert found[0] == found[1]
    assert shop.files() == before


def test_stores_come_to_the_same_rows_and_outcomes_there(shop: Shop, tmp_path: Path):
    into(shop, tmp_path / "store", 7)
    log = replace(largest.log, partitions=7)
    store = replace(largest, log=log)
    new = Shop(tmp_path, Project("highest", Daily(PROJECT.cadence.start), [store]), landing_folder=shop.landing)
    seal_and_prove(new.engine())
    rows, outcomes = [], []
    for each, declared in ((shop, largest), (new, store)):
        engine = each.engine()
        head = engine.chain.get()
        rows.append(engine.rows(declared, head).select(["product_id", "quantity", "log_seq"]).to_pylist())
        outcomes.append(engine.builder.require(declared, head).outcomes)
        assert verify_reference(engine, head) == []
    assert rows[0] == rows[1]
    assert outcomes[0] == outcomes[1]


def test_stopped_at_any_write_it_goes_on(shop: Shop, tmp_path: Path):
    whole = into(shop, tmp_path / "whole", 2)
    names = [info.name for info in whole.list()]
    for writes in range(len(names)):
        place = tmp_path / str(writes)
        with pytest.raises(Crash):
            into(shop, place, 2, stop_after=writes)
        again = into(shop, place, 2)
        assert {name: again.get(name) for name in names} == {name: whole.get(name) for name in names}


def test_what_cannot_be_is_refused(shop: Shop, tmp_path: Path):
    engine = shop.engine()
    into(shop, tmp_path / "three", 3)
    target = ObjectStore.open(str(tmp_path / "three"))
    log = engine.project.log("stock_events")
    with pytest.raises(Conflict, match="Give the new generation a place of its own"):
        list(Repartition(engine.objects, engine.chain, target, log, 5).run())
    named = Shop(tmp_path / "named", PROJECT)
    named.land("stock_events/dt=2026-01-01/partition=0/a.jsonl", *(moved(str(n), f"p{n}", 1) for n in range(9)))
    engine = named.engine()
    for _ in engine.sealing.seal():
        pass
    target = ObjectStore.open(str(tmp_path / "none"))
    with pytest.raises(
        FixInput, match=r"takes log partitions from the names of landing: .*partition=0/a.jsonl names 0"
    ):
        list(Repartition(engine.objects, engine.chain, target, log, 2).run())


def test_log_partitions_that_landing_names_are_dealt_out_anew_and_later_events_with_them(tmp_path: Path):
    """By a layout that does not take them from names; what comes later follows the same keys."""
    named = Shop(tmp_path / "named", PROJECT)

    def land(day: int) -> None:
        for partition in range(4):
            events = [moved(f"{day} {n}", f"p{n}", 1 + n % 3) for n in range(12) if n % 4 == partition]
            named.land(f"stock_events/dt=2026-01-0{day}/partition={partition}/a.jsonl", *events)

    land(1)
    for _ in named.engine().sealing.seal():
        pass
    log = replace(largest.log, layout=Names("dt={date}/partition={any}/{any}"))
    free = replace(PROJECT, stores=[replace(largest, log=log)])
    target = ObjectStore.open(str(tmp_path / "new" / "store"))
    engine = replace(named, project=free).engine()
    list(Repartition(engine.objects, engine.chain, target, log, 2).run())
    land(2)
    dealt = replace(log, partitions=2)
    project = replace(PROJECT, stores=[replace(largest, log=dealt)])
    new = Shop(tmp_path / "new", project, landing_folder=named.landing)
    afresh = Shop(tmp_path / "afresh", project, landing_folder=named.landing)
    found = []
    for each in (new, afresh):
        seal_and_prove(each.engine())
        engine = each.engine()
        head = engine.chain.get()
        assert (len(engine.chain), verify_reference(engine, head)) == (2, [])
        assert [text for _, findings in engine.verify_log("stock_events", head) for text in findings] == []
        rows = engine.rows(project.stores[0], head).select(["product_id", "quantity"]).sort_by("product_id")
        found.append((head.cut("stock_events").events, rows))
    assert found[0] == found[1]
    assert found[0][0] == 12


def test_a_key_that_is_in_two_log_partitions_is_not_dealt_out(tmp_path: Path):
    """Its events have no order that could be kept."""
    named = Shop(tmp_path / "named", PROJECT)
    for day, partition in ((1, 0), (2, 3)):
        named.land(f"stock_events/dt=2026-01-0{day}/partition={partition}/a.jsonl", moved(str(day), "lamp", 1))
    for _ in named.engine().sealing.seal():
        pass
    log = replace(largest.log, layout=Names("dt={date}/partition={any}/{any}"))
    engine = replace(named, project=replace(PROJECT, stores=[replace(largest, log=log)])).engine()
    with pytest.raises(Damaged, match=r"cannot be dealt out anew, since it is not whole: .*lamp"):
        list(Repartition(engine.objects, engine.chain, ObjectStore.open(str(tmp_path / "new")), log, 2).run())


def test_the_command(shop: Shop, tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.stores.highest:PROJECT"\n')
    words = ["log", "repartition", "stock_events", "--partitions", "9", "--into", str(tmp_path / "new")]
    done = shop.refold(*words, project=tmp_path)
    assert (done.exit_code, "3 snapshots, 81 events of log stock_events" in done.output) == (0, True), done.output
