"""The faulty store: what is planned happens, once and where it was planned, and nothing else."""

from __future__ import annotations

import pytest

from refold.errors import NotFound, Unavailable
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
