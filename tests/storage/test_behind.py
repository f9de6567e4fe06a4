"""What is put soon is written beside what follows, and never missing where something relies on it.

On a real S3 server behind a proxy that refuses writes, and without one where only the order of events matters.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest

from refold.errors import Unavailable
from refold.storage.behind import Behind
from refold.storage.objects import ObjectStore
from refold.storage.probe import require_conditions
from tests.s3 import BUCKET, Proxy, s3, s3_address

__all__ = ["s3", "s3_address"]

RELYING: dict[str, Callable[[ObjectStore], object]] = {
    "sync": lambda store: store.sync("elsewhere"),
    "create": lambda store: store.create("names it", b""),
    "delete": lambda store: store.delete("other"),
    "get": lambda store: store.get("a"),
    "get_with_info": lambda store: store.get_with_info("a"),
    "get_ranges": lambda store: store.get_ranges("a", [(0, 1)]),
    "map": lambda store: store.map("a"),
    "exists": lambda store: store.exists("a"),
    "list": lambda store: store.list(),
    "top": lambda store: store.top(),
    "put again": lambda store: store.put_soon("a", b"again"),
}


@pytest.fixture
def store(s3: Proxy) -> ObjectStore:
    """A probed place on S3 whose requests are sent once."""
    found = ObjectStore.open(f"s3://{BUCKET}/{uuid.uuid4().hex}", retries_max=0)
    require_conditions(found)
    return found


@pytest.mark.parametrize("relying", RELYING)
def test_a_write_that_failed_is_done_again_where_something_relies_on_it(s3: Proxy, store: ObjectStore, relying: str):
    s3.plan("503", "PUT.*/a$")
    store.put_soon("a", b"content")
    RELYING[relying](store)
    store.sync()
    assert len(s3.hit) == 1
    assert store.get("a") == (b"again" if relying == "put again" else b"content")


@pytest.mark.parametrize("relying", ["sync", "create", "delete", "list"])
def test_a_write_that_cannot_be_done_is_an_error_every_time(s3: Proxy, store: ObjectStore, relying: str):
    s3.plan("503", "PUT.*/a$", times=1000)
    store.put_soon("a", b"content")
    for _ in range(2):
        with pytest.raises(Unavailable, match="Cannot write a"):
            RELYING[relying](store)
    s3.plan("503", "$^", times=0)
    store.create("names it", b"")  # also that it was not created before
    assert store.get("a") == b"content"


def test_many_objects_are_all_there_after_a_sync(store: ObjectStore):
    wanted = {f"many/{n:03d}": b"x" * (2 << 20 if n == 7 else n) for n in range(60)}
    for name, data in wanted.items():
        store.put_soon(name, data)
    store.sync()
    assert {info.name: store.get(info.name) for info in ObjectStore.list(store, "many")} == wanted


def test_writes_are_done_beside_each_other_and_no_more_than_sixteen():
    begun, go = threading.Semaphore(0), threading.Event()
    written = list[str]()

    def put(name: str, data: bytes) -> None:
        begun.release()
        assert go.wait(10)
        written.append(name)

    behind = Behind(put)
    for n in range(16):
        behind.put(str(n), b"")
    assert all(begun.acquire(timeout=10) for _ in range(16)), "all are under way at once"
    more = threading.Thread(target=lambda: behind.put("17th", b""))
    more.start()
    assert not begun.acquire(timeout=0.1) and not written
    go.set()
    more.join(10)
    behind.wait_all()
    assert sorted(written) == sorted([*map(str, range(16)), "17th"])


def test_an_object_that_is_put_twice_ends_as_the_second():
    written, slow = dict[str, bytes](), threading.Event()

    def put(name: str, data: bytes) -> None:
        if data == b"first":
            slow.wait(0.1)
        written[name] = data

    behind = Behind(put)
    behind.put("a", b"first")
    behind.put("a", b"second")
    behind.wait("a")
    assert written == {"a": b"second"}
