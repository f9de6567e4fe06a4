"""Wrappers: every operation is passed on unchanged, and counted or logged."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import pytest

from refold.errors import Conflict, Damaged, NotFound
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import CountingStore, LoggingStore, Operation, WrapperStore, wrapped
from refold.testing.faulty_store import Faults

WRAPPERS = {
    "plain": lambda store: store,
    "wrapper": WrapperStore,
    "counting": CountingStore,
    "logging": LoggingStore,
    "faulty": lambda store: wrapped(WrapperStore, Faults().open)(store.location or store.url),
    "several": lambda store: WrapperStore(CountingStore(LoggingStore(store))),
}


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("place", ["memory://", "folder"])
def test_a_wrapped_store_is_like_the_store(tmp_path: Path, place: str, wrap: str):
    inner = ObjectStore.open(place if place == "memory://" else str(tmp_path))
    store = WRAPPERS[wrap](inner)
    assert (store.url, store.location) == (inner.url, inner.location)
    store.create("é/b", b"123")
    store.put("a", b"45")
    assert bytes(store.put_mapped("é/a", b"67")) == bytes(store.map("é/a")) == b"67"
    with pytest.raises(Conflict):
        store.create("a", b"other")
    assert (store.get("a"), store.exists("a"), store.exists("b")) == (b"45", True, False)
    assert [bytes(part) for part in store.get_ranges("é/b", [(1, 2), (0, 1)])] == [b"23", b"1"]
    assert [info.name for info in store.list()] == ["a", "é/a", "é/b"]
    assert [info.name for info in store.list("é")] == ["é/a", "é/b"]
    store.delete("a")
    for ask in (store.get, store.map, lambda name: store.get_ranges(name, [(0, 1)])):
        with pytest.raises((NotFound, Damaged)):
            ask("a")
    if place == "folder":
        (tmp_path / "é" / "pipe").symlink_to("/nonexistent")
        assert list(store.unlisted("é", {info.name for info in store.list("é")})) == ["é/pipe"]
        assert store.shorten(tmp_path / "search") == "search" and store.resolve("search") == tmp_path / "search"
        assert isinstance(store.map("é/a"), memoryview)
    else:
        assert store.shorten(tmp_path) == str(tmp_path) and store.resolve(str(tmp_path)) == tmp_path
        assert list(store.unlisted("é", ())) == []


def test_every_operation_that_a_store_can_replace_is_passed_on():
    """Else a wrapper would do what the interface does by default instead of what the wrapped store does."""
    derived = {"open", "create", "put_if", "delete_all", "list", "get_checked", "get_json"}
    operations = {name for name, _ in inspect.getmembers(ObjectStore, inspect.isfunction) if not name.startswith("_")}
    assert operations - derived == {name for name in vars(WrapperStore) if not name.startswith("_")} - {"around"}


def test_operations_and_bytes_are_counted(tmp_path: Path):
    store = CountingStore(ObjectStore.open(str(tmp_path)))
    store.create("a", b"1234")
    store.put_mapped("b", b"56")
    store.get("a")
    store.get_ranges("a", [(0, 1), (2, 2)])
    store.map("b")
    with pytest.raises(NotFound):
        store.get("c")
    store.list()
    store.delete("a")
    assert store.calls == {
        Operation.CREATE: 1,
        Operation.PUT: 1,
        Operation.GET: 2,
        Operation.GET_RANGES: 1,
        Operation.MAP: 1,
        Operation.LIST: 1,
        Operation.DELETE: 1,
    }
    assert (store.bytes_written, store.bytes_read, dict(store.reads)) == (6, 4 + 3 + 2, {"a": 2, "b": 1})


def test_operations_and_their_errors_are_logged(caplog: pytest.LogCaptureFixture):
    store = wrapped(LoggingStore)("memory://")
    with caplog.at_level(logging.DEBUG, "refold.storage.wrappers"):
        store.put("a", b"1234")
        store.get("a")
        with pytest.raises(NotFound):
            store.get("b")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" in ")[0].partition(" after")[0] for line in lines] == [
        "put a: 4 bytes",
        "get a: 4 bytes",
        "get b: NotFound",
    ]
