"""The faulty store: what is planned happens, once and where it was planned, and nothing else."""

from __future__ import annotations

import time

import pytest

from refold.errors import Damaged, NotFound, Unavailable, UnsafeStore
from refold.storage.wrappers import WRITES, Operation
from refold.testing.faulty_store import Crash, Effect, Faults

GET, PUT, CREATE, DELETE = Operation.GET, Operation.PUT, Operation.CREATE, Operation.DELETE


def test_an_operation_fails_after_so_many_of_its_kind_and_name():
    faults = Faults()
    faults.plan(PUT, Effect.FAIL, "^logs/", after=1, times=2)
    store = faults.open("memory://")
    store.put("logs/0", b"")
    store.put("other", b"")
    for name in ("logs/1", "logs/2"):
        with pytest.raises(Unavailable, match="planned fault"):
            store.put(name, b"")
    store.put("logs/3", b"")
    assert [info.name for info in store.list()] == ["logs/0", "logs/3", "other"]
    assert faults.happened == [(PUT, "logs/1", Effect.FAIL), (PUT, "logs/2", Effect.FAIL)]


@pytest.mark.parametrize(("effect", "written"), [(Effect.CRASH, False), (Effect.CRASH_AFTER, True)])
def test_a_crash_leaves_what_was_written_before(effect: Effect, written: bool):
    faults = Faults()
    faults.plan(WRITES, effect, after=2)
    store = faults.open("memory://")
    store.put("a", b"")
    store.create("b", b"")
    with pytest.raises(Crash):
        store.put("c", b"")
    assert store.exists("c") == written and not issubclass(Crash, Exception)


@pytest.mark.parametrize("write", ["put", "create", "put_mapped"])
def test_a_body_is_cut_on_its_way_there(write: str):
    faults = Faults()
    faults.plan(WRITES, Effect.CUT)
    store = faults.open("memory://")
    getattr(store, write)("a", b"1234")
    assert store.get("a") == b"12"


def test_a_body_is_cut_on_its_way_back():
    faults = Faults()
    store = faults.open("memory://")
    store.put("a", b"1234")
    faults.plan([GET, Operation.GET_RANGES, Operation.MAP], Effect.CUT, times=3)
    assert (store.get("a"), store.get_ranges("a", [(0, 4), (1, 2)]), store.map("a")) == (b"12", [b"12", b"2"], b"12")
    assert store.get("a") == b"1234"


def test_listings_come_in_any_order_and_are_sorted_by_the_store():
    faults = Faults(shuffle=1)
    store = faults.open("memory://")
    names = [f"{number:02d}" for number in range(20)]
    for name in names:
        store.put(name, b"")
    scanned = [info.name for info in store.scan("")]
    assert scanned != names and sorted(scanned) == names
    assert [info.name for info in store.list()] == names


def test_faults_are_shared_by_all_stores_and_forgotten_on_request(tmp_path):
    faults = Faults()
    faults.plan(GET, Effect.FAIL, after=1, times=None)
    stores = [faults.open(str(tmp_path / name)) for name in "ab"]
    for store, error in zip(stores, (NotFound, Unavailable), strict=True):
        with pytest.raises(error):
            store.get("x")
    faults.clear()
    with pytest.raises(NotFound):
        stores[0].get("x")


def test_what_is_late_is_done_before_the_operation_after_the_next():
    faults = Faults()
    faults.plan(PUT, Effect.LATE)
    store = faults.open("memory://")
    with pytest.raises(Unavailable):
        store.put("a", b"1")
    assert not store.exists("a")
    assert store.exists("a") and store.get("a") == b"1"


def test_what_is_late_is_done_when_faults_are_forgotten_and_its_errors_reach_nobody():
    faults = Faults()
    store = faults.open("memory://")
    faults.plan(CREATE, Effect.LATE, times=2)
    for data in (b"1", b"2"):
        with pytest.raises(Unavailable):
            store.try_create("a", data)
    faults.clear()
    assert store.get("a") == b"1"


def test_skipped_writes_change_nothing_and_skipped_reads_find_nothing():
    faults = Faults()
    store = faults.open("memory://")
    store.put("a", b"1")
    faults.plan(list(Operation), Effect.SKIP, times=9)
    store.put("b", b"")
    store.create("b", b"")
    store.delete("a")
    assert store.put_mapped("b", b"2") == b"2"
    assert (store.exists("a"), store.list(), store.top()) == (False, [], [])
    with pytest.raises(NotFound):
        store.get("a")
    with pytest.raises(Damaged):
        store.map("a")
    assert (store.get("a"), store.top(), len(faults.happened)) == (b"1", ["a"], 9)


def test_a_bit_is_flipped_on_the_way_there_and_on_the_way_back():
    faults = Faults()
    store = faults.open("memory://")
    faults.plan(PUT, Effect.FLIP)
    store.put("a", b"1234")
    assert store.get("a") == b"1224"
    faults.plan([GET, Operation.GET_RANGES], Effect.FLIP, times=3)
    assert (store.get("a"), store.get_ranges("a", [(0, 1), (3, 1)])) == (b"1234", [b"0", b"5"])
    assert store.get_with_info("a")[0] == b"1234" and store.get("a") == b"1224"


def test_a_create_overwrites_and_a_probed_store_is_refused_for_it():
    for probed in (False, True):
        faults = Faults(probed=probed)
        store = faults.open("memory://")
        store.create("a", b"1")
        faults.plan(CREATE, Effect.OVERWRITE, times=None)
        store.try_create("a", b"2")
        assert store.get("a") == b"2"
        if probed:
            with pytest.raises(UnsafeStore):
                faults.open("memory://").create("a", b"3")


def test_a_stale_listing_is_that_of_the_last_time():
    faults = Faults()
    store = faults.open("memory://")
    store.put("x/a", b"")
    assert [info.name for info in store.list("x")] == ["x/a"]
    store.put("x/b", b"")
    store.delete("x/a")
    faults.plan(Operation.LIST, Effect.STALE, times=2)
    assert [info.name for info in store.list("x")] == ["x/a"]
    assert store.list("y") == []
    assert [info.name for info in store.list("x")] == ["x/b"]


def test_a_slow_store_pauses():
    faults = Faults(pause_seconds=0.05)
    faults.plan(GET, Effect.SLOW)
    store = faults.open("memory://")
    store.put("a", b"1")
    began = time.perf_counter()
    assert store.get("a") == b"1" and time.perf_counter() - began >= 0.05
