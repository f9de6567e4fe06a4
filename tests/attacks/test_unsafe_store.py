"""A store that ignores the conditions of writes is refused before anything depends on it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from refold.errors import FixInput, UnsafeStore
from refold.storage.names import PROBE
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import CountingStore, Operation, WrapperStore
from tests.s3 import BUCKET, Proxy, s3, s3_address

__all__ = ["s3", "s3_address"]


@pytest.fixture
def url() -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.mark.parametrize(
    ("ignored", "said"),
    [
        ("unconditional", r"creating an object that exists .* and replacing .*If-Match\)"),
        ("If-None-Match", r"refuse creating an object that exists \(If-None-Match: \*\) at"),
        ("If-Match", r"refuse replacing an object that has another entity tag \(If-Match\) at"),
    ],
)
def test_an_s3_that_ignores_conditions_is_refused_before_anything_is_written_once(
    s3: Proxy, url: str, ignored: str, said: str
):
    """F5: a released snapshot was overwritten without an error, and half of the events were served."""
    s3.plan(ignored, "PUT", 99)
    store = ObjectStore.open(url)
    for _ in range(2):
        with pytest.raises(UnsafeStore, match=said) as refused:
            store.create("snapshots/2026-01-01.json", b"{}")
        assert isinstance(refused.value, FixInput) and refused.value.remedy
    assert [info.name for info in store.list()] == [PROBE]


def test_an_s3_that_ignores_conditions_would_let_one_overwrite_another(s3: Proxy, url: str):
    """What the probe is for, and that the proxy of these tests is such a store."""
    one, other = ObjectStore.open(url), ObjectStore.open(url)
    s3.plan("unconditional", "PUT", 99)
    one.try_create("a", b"one")
    other.try_create("a", b"other")
    assert one.get("a") == b"other"


def test_an_s3_that_honours_conditions_is_probed_once_by_a_process(s3: Proxy, url: str):
    for number in range(2):
        store = CountingStore(ObjectStore.open(url))
        store.create(f"{number}", b"")
        assert store.calls == {Operation.CREATE: 4 - number * 3}
    assert s3.hit == []
    assert [info.name for info in ObjectStore.open(url).list()] == ["0", "1", PROBE]


class Another(WrapperStore):
    """The same store in the eyes of another process."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.probe_key = uuid.uuid4().hex


def test_another_process_finds_the_probe_and_writes_nothing(s3: Proxy, url: str):
    ObjectStore.open(url).create("a", b"")
    before = ObjectStore.open(url).list()
    store = CountingStore(Another(ObjectStore.open(url)))
    store.create("b", b"")
    assert store.calls == {Operation.CREATE: 3}
    after = [info for info in ObjectStore.open(url).list() if info.name != "b"]
    assert after == before and s3.hit == []


@pytest.mark.parametrize("place", ["memory://", "folder"])
def test_stores_of_this_machine_are_not_probed(tmp_path: Path, place: str):
    store = CountingStore(ObjectStore.open(place if place == "memory://" else str(tmp_path)))
    store.create("a", b"")
    assert store.calls == {Operation.CREATE: 1} and [info.name for info in store.list()] == ["a"]
