"""Answers that are lost: a write of ours is success, one of others a conflict, and what cannot be known is said so.

On a real S3 server behind a proxy that does the write and drops the answer, and with the faulty store that users get.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refold.errors import CommitUnknown, Conflict, FixInput, RefoldError, Retry, Unavailable
from refold.storage.objects import ObjectStore
from refold.storage.probe import require_conditions
from refold.storage.wrappers import CountingStore, Operation
from refold.testing.faulty_store import Effect, Faults
from tests.s3 import BUCKET, Proxy, s3, s3_address

__all__ = ["s3", "s3_address"]

CREATE, GET, PUT, DELETE = Operation.CREATE, Operation.GET, Operation.PUT, Operation.DELETE


@pytest.fixture
def url(s3: Proxy) -> str:  # the place is probed through it
    """A place on S3 that was probed, so that every PUT after it is of the test."""
    found = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    require_conditions(ObjectStore.open(found))
    return found


@pytest.fixture(params=[5, 0], ids=["sent again", "sent once"])
def store(request: pytest.FixtureRequest, s3: Proxy, url: str) -> ObjectStore:
    return ObjectStore.open(url, retries_max=request.param)


# On S3


def test_a_create_whose_answer_is_lost_is_success(s3: Proxy, store: ObjectStore):
    """F10: what a process had written itself was reported as written by another one."""
    s3.plan("drop", "PUT")
    with pytest.raises((Conflict, Unavailable)):
        store.try_create("a", b"mine")
    assert len(s3.hit) == 1, "what the library reports of a write that succeeded"
    s3.plan("drop", "PUT")
    store.create("b", b"mine")
    assert len(s3.hit) == 1 and store.get("b") == b"mine"


@pytest.mark.parametrize("effect", ["none", "drop", "503"])
def test_a_create_where_others_wrote_is_a_conflict(s3: Proxy, store: ObjectStore, effect: str):
    store.create("a", b"others'")
    s3.plan(effect, "PUT", 1 if effect != "none" else 0)
    with pytest.raises(Conflict, match="by another process first"):
        store.create("a", b"mine")
    assert store.get("a") == b"others'" and len(s3.hit) == (effect != "none")


def test_a_create_that_was_not_done_is_unavailable(s3: Proxy, store: ObjectStore):
    s3.plan("503", "PUT", 9)
    with pytest.raises(Unavailable, match="503"):
        store.create("a", b"mine")
    s3.plan("503", "PUT", 0)
    assert not store.exists("a")
    store.create("a", b"mine")


def test_a_create_that_cannot_be_read_back_is_unknown_and_done_again(s3: Proxy, store: ObjectStore):
    s3.plan("drop", "PUT|GET", 99)
    with pytest.raises(CommitUnknown) as unknown:
        store.create("a", b"mine")
    s3.plan("drop", "PUT|GET", 0)
    assert unknown.value.kind == "commit-unknown" and isinstance(unknown.value, Retry) and unknown.value.remedy
    assert store.get("a") == b"mine", "here it was written"
    store.create("a", b"mine")


def test_a_put_whose_answer_is_lost_is_read_back(s3: Proxy, store: ObjectStore):
    s3.plan("drop", "PUT")
    store.put("a", b"1")
    assert len(s3.hit) == 1 and store.get("a") == b"1"


def test_a_put_that_was_not_done_is_unavailable(s3: Proxy, url: str):
    store = ObjectStore.open(url, retries_max=0)
    store.put("a", b"1")
    for data in (b"2", b"22"):
        s3.plan("503", "PUT")
        with pytest.raises(Unavailable, match="503"):
            store.put("a", data)
        assert len(s3.hit) == 1 and store.get("a") == b"1"


def test_a_put_that_cannot_be_read_back_is_unavailable_and_can_be_repeated(s3: Proxy, url: str):
    store = ObjectStore.open(url, retries_max=0)
    s3.plan("drop", "PUT|GET", 2)
    with pytest.raises(Unavailable, match="Cannot write a"):
        store.put("a", b"1")
    assert len(s3.hit) == 2 and store.get("a") == b"1", "here it was written"
    store.put("a", b"1")


def test_a_delete_whose_answer_is_lost_is_done_and_can_be_repeated(s3: Proxy, url: str):
    for retries in (5, 0):
        store = ObjectStore.open(url, retries_max=retries)
        store.put("a", b"1")
        s3.plan("drop", "POST|DELETE")
        try:
            store.delete("a")
            assert retries
        except Unavailable:
            assert not retries
        assert len(s3.hit) == 1 and not store.exists("a")
        store.delete("a")


def test_a_body_that_ends_early_is_never_taken_for_the_object(s3: Proxy, store: ObjectStore):
    data = bytes(range(256)) * 4096
    store.put("a", data)
    s3.plan("cut", "GET")
    try:
        assert store.get("a") == data
    except Unavailable:
        assert store.get("a") == data
    assert len(s3.hit) == 1


@pytest.mark.parametrize("effect", ["none", "drop"])
def test_of_eight_racers_on_s3_one_wins(s3: Proxy, url: str, effect: str):
    """With lost answers, too; each racer writes other bytes."""
    stores = [ObjectStore.open(url) for _ in range(8)]
    for number in range(3):
        s3.plan(effect, "PUT", 4 if effect != "none" else 0)
        _race(stores, f"a{number}")
        assert len(s3.hit) == (4 if effect != "none" else 0)


def test_wrong_credentials_are_refused_without_being_shown(s3: Proxy, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    store = ObjectStore.open(url)
    for work in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: store.create("a", b"")):
        with pytest.raises(FixInput, match="access denied") as refused:
            work()
        assert "wrong-secret" not in str(refused.value) and "permissions" in refused.value.remedy


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_exist_is_no_outage():
    with pytest.raises(FixInput, match="the bucket does not exist") as refused:
        ObjectStore.open("s3://no-such-bucket/a").list()
    assert "bucket" in refused.value.remedy


# With the faulty store


@pytest.fixture(params=["memory://", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.param if request.param == "memory://" else str(tmp_path)


@pytest.mark.parametrize("effect", [Effect.LOSE_ANSWER, Effect.RESEND])
def test_what_becomes_of_a_create_is_settled_once_above_all_wrappers(place: str, effect: Effect):
    faults = Faults()
    store = CountingStore(faults.open(place))
    faults.plan(CREATE, effect)
    store.create("a", b"mine")
    assert store.get("a") == b"mine" and faults.happened == [(CREATE, "a", effect)]
    assert store.calls == {CREATE: 1, GET: 2}, "it was read back once"
    faults.plan(CREATE, effect)
    with pytest.raises(Conflict):
        store.create("a", b"other")
    assert store.get("a") == b"mine"


@pytest.mark.parametrize(
    ("creating", "reading", "error"),
    [
        (Effect.FAIL, None, Unavailable),
        (Effect.FAIL, Effect.FAIL, CommitUnknown),
        (Effect.LOSE_ANSWER, Effect.FAIL, CommitUnknown),
        (Effect.RESEND, Effect.FAIL, CommitUnknown),
    ],
)
def test_what_is_known_of_a_create_is_said(
    place: str, creating: Effect, reading: Effect | None, error: type[Exception]
):
    faults = Faults()
    store = faults.open(place)
    faults.plan(CREATE, creating)
    if reading:
        faults.plan(GET, reading)
    with pytest.raises(error) as failure:
        store.create("a", b"mine")
    assert type(failure.value) is error
    assert store.exists("a") == (creating is not Effect.FAIL)
    store.create("a", b"mine")
    assert store.get("a") == b"mine"


@pytest.mark.parametrize("effect", [Effect.LOSE_ANSWER, Effect.RESEND])
@pytest.mark.parametrize("operation", [PUT, DELETE])
def test_other_writes_are_done_when_their_answer_is_lost(place: str, operation: Operation, effect: Effect):
    faults = Faults()
    store = faults.open(place)
    store.put("a", b"0")
    work: Callable[[], None] = (lambda: store.put("a", b"1")) if operation is PUT else (lambda: store.delete("a"))
    faults.plan(operation, effect)
    if effect is Effect.LOSE_ANSWER:
        with pytest.raises(Unavailable):
            work()
    else:
        work()
    assert [info.size_bytes for info in store.list()] == ([1] if operation is PUT else [])
    assert operation is DELETE or store.get("a") == b"1"
    work()


@pytest.mark.parametrize("effect", [None, Effect.LOSE_ANSWER, Effect.RESEND])
def test_of_eight_racers_one_wins(place: str, effect: Effect | None):
    faults = Faults()
    if effect:
        faults.plan(CREATE, effect, times=None)
    store = faults.open(place)
    for number in range(20):
        _race([store] * 8, f"a{number}")


def _race(stores: list[ObjectStore], name: str) -> None:
    """All write at once, each other bytes; one wins, the others find a conflict, and the winner's bytes are there."""

    def write(number: int) -> RefoldError | None:
        try:
            stores[number].create(name, b"%d" % number)
        except RefoldError as error:
            return error
        return None

    with ThreadPoolExecutor(len(stores)) as pool:
        ends = list(pool.map(write, range(len(stores))))
    assert {type(end) for end in ends if end} == {Conflict}
    assert [number for number, end in enumerate(ends) if end is None] == [int(stores[0].get(name))]


def test_a_file_that_was_created_and_not_synced_is_no_success(tmp_path: Path):
    """Its bytes are there when they are read back, and would be gone after a power cut."""
    local = type(ObjectStore.open(str(tmp_path)))

    class Full(local):
        def sync(self, folder: str = "") -> None:
            if self.exists("a"):
                raise Unavailable("The disk is full.", remedy="Make room.")
            super().sync(folder)

    store = Full(tmp_path)
    with pytest.raises(Unavailable, match="full"):
        store.create("a", b"1")
    assert store.get("a") == b"1"
