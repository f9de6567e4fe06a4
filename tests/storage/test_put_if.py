"""Pointers that are replaced only where they are what was read: in memory, a local folder, and a real S3 server."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refold.errors import CommitUnknown, Conflict, Unavailable
from refold.storage.objects import ObjectStore
from refold.storage.probe import PROBE
from refold.storage.wrappers import Operation
from refold.testing.faulty_store import Effect, Faults
from tests.s3 import BUCKET, Proxy, s3, s3_address

__all__ = ["s3", "s3_address"]
NAME = "search/bulk/offers/released.json"


@pytest.fixture(params=["memory", "folder", "S3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "S3":
        request.getfixturevalue("s3")
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"
    return "memory://" if request.param == "memory" else str(tmp_path)


def test_a_pointer_is_replaced_where_it_is_what_was_read_and_nowhere_else(url: str):
    store = ObjectStore.open(url)
    with pytest.raises(Conflict):
        store.put_if(NAME, b"2", b"1")
    assert not store.exists(NAME), "nothing is created where something was expected"
    store.put_if(NAME, b"1", None)
    store.put_if(NAME, b"1", None)
    with pytest.raises(Conflict):
        store.put_if(NAME, b"2", None)
    store.put_if(NAME, b"2", b"1")
    store.put_if(NAME, b"2", b"1")
    with pytest.raises(Conflict, match=NAME):
        store.put_if(NAME, b"3", b"1")
    assert store.get(NAME) == b"2"
    assert {info.name for info in store.list()} - {PROBE} == {NAME}


def test_of_many_that_replace_the_same_one_succeeds(url: str):
    """Each adds one to what it read; those that fail read again. Nothing is lost."""
    first = ObjectStore.open(url)
    first.put_if(NAME, b"0 nobody", None)
    stores = [first if url == "memory://" else ObjectStore.open(url) for _ in range(4)]

    def add(place: int) -> None:
        done = 0
        while done < 10:
            former = stores[place].get(NAME)
            number = int(former.split()[0]) + 1
            try:
                stores[place].put_if(NAME, f"{number} {place} {done}".encode(), former)
            except Conflict:
                continue
            done += 1

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(add, range(len(stores))))
    assert first.get(NAME).split()[0] == b"40"


def test_a_lost_answer_is_read_back(s3: Proxy):
    store = ObjectStore.open(f"s3://{BUCKET}/{uuid.uuid4().hex}", retries_max=0)
    store.put_if(NAME, b"1", None)
    s3.plan("drop", "PUT")
    store.put_if(NAME, b"2", b"1")
    assert len(s3.hit) == 1 and store.get(NAME) == b"2"
    s3.plan("503", "PUT")
    with pytest.raises(Unavailable):
        store.put_if(NAME, b"3", b"2")
    assert store.get(NAME) == b"2"


@pytest.mark.parametrize("effect", [Effect.FAIL, Effect.LATE, Effect.LOSE_ANSWER, Effect.RESEND])
def test_whatever_happens_to_the_request_it_is_done_once_or_not_at_all(effect: Effect):
    faults = Faults()
    store = faults.open("memory://")
    store.put_if(NAME, b"1", None)
    faults.plan(Operation.PUT, effect)
    try:
        store.put_if(NAME, b"2", b"1")
    except (Unavailable, CommitUnknown):
        assert effect in (Effect.FAIL, Effect.LATE)
    else:
        assert store.get(NAME) == b"2"
    former = store.get(NAME)
    store.put_if(NAME, b"3", former)
    faults.clear()
    assert store.get(NAME) == b"3", "a request that is done late replaces nothing newer"
