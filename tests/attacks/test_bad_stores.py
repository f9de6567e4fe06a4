"""Stores that fail, answer late, lag, cut or lie, at any operation of sealing, building, proving and releasing.

Whatever a store does, a rebuild ends well or with an error of Refold's own, and nothing wrong is served. Once the store
works again, a rebuild ends as if nothing had happened; only what a store lost or damaged after it had confirmed a write
may remain, and then it is named.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refold import BulkNdjson, Sql, open_release
from refold.errors import RefoldError, UnsafeStore
from refold.rebuild import rebuild_all
from refold.storage.objects import ObjectStore, OpenStore, sha256_hex
from refold.storage.wrappers import CountingStore, Operation
from refold.testing.faulty_store import Effect, Faults
from tests import shop
from tests.s3 import BUCKET, Proxy, s3, s3_address
from tests.support import Shop

__all__ = ["s3", "s3_address"]

PROJECT = shop.little({"on_hand": [Sql("on_hand")], "last_move": [BulkNdjson("moves")]})
DAYS = shop.DAYS[:2]
READS = (Operation.GET, Operation.GET_RANGES, Operation.MAP, Operation.EXISTS)
CHANGES = (Operation.PUT, Operation.CREATE, Operation.DELETE)


@dataclass(frozen=True)
class Fault:
    """An effect on an operation, for a number of times, and where it begins: a share of all such operations."""

    operation: Operation
    effect: Effect
    begins: float
    times: int


def faults_of(effects: Mapping[Effect, tuple[Operation, ...]]) -> st.SearchStrategy[list[Fault]]:
    """Up to four faults; each effect happens to the operations that it is given."""
    pairs = st.sampled_from([(operation, effect) for effect, each in effects.items() for operation in each])
    times = st.integers(1, 4) | st.just(50)
    fault = st.builds(lambda pair, begins, times: Fault(*pair, begins, times), pairs, st.floats(0, 0.99), times)
    return st.lists(fault, min_size=1, max_size=4)


def landed(root: Path) -> Shop:
    """Two days with rejected and repeated events, and a bad record."""
    small = Shop(root, PROJECT)
    for number, day in enumerate(DAYS):
        for kind, quantity in (("add", number + 1), ("remove", 2)):
            event = {"id": f"{number}{kind}", "product": "nut", "quantity": quantity, "kind": kind}
            small.land(
                f"moves/dt={day}/{kind}.jsonl", event, event, "{", {**event, "id": f"{number}x", "product": kind}
            )
    return small


@contextmanager
def a_shop() -> Iterator[Shop]:
    root = Path(tempfile.mkdtemp())
    try:
        yield landed(root)
    finally:
        shutil.rmtree(root)


def served(small: Shop) -> tuple[str, Sequence[object]] | None:
    """The snapshot and rows that readers get; None before the first release."""
    if not small.files("releases"):
        return None
    opened = open_release(str(small.store), database=small.database_url, search_folder=small.settings.search_folder)
    return opened.snapshot, [opened.sql("on_hand").to_pylist(), opened.documents("moves").to_pylist()]


class Expected(NamedTuple):
    """What a store that works holds in the end: manifests, what is served of each day, and operations by kind."""

    manifests: Mapping[str, str]
    rows: Mapping[str, Sequence[object]]
    calls: Mapping[Operation, int]


@cache
def expected() -> Expected:
    rows, calls = {}, Counter[Operation]()
    with a_shop() as small:
        for day in DAYS:
            store = CountingStore(ObjectStore.open(str(small.store)))
            rebuild_all(replace(small, open_store=on_store(small, lambda _, store=store: store)).engine(), day)
            calls += store.calls
            found = served(small)
            assert found is not None and found[0] == day
            rows[day] = found[1]
        return Expected(small.files("snapshots"), rows, calls)


def on_store(small: Shop, open_store: Callable[[str], ObjectStore]) -> OpenStore:
    """Opens the store in another way, and landing as usual."""

    def opened(url: str, *, must_exist: bool = False) -> ObjectStore:
        return open_store(url) if url == str(small.store) else ObjectStore.open(url, must_exist=must_exist)

    return opened


def rebuild(small: Shop) -> bool:
    """Rebuild and release each day; returns whether that ended well. Only errors of Refold's own are expected."""
    try:
        for day in DAYS:
            rebuild_all(small.engine(), day)
    except RefoldError as error:
        assert str(error)
        return False
    return True


def badly(small: Shop, faults: Faults, planned: Sequence[Fault]) -> Shop:
    """The shop on a store with some faults; landing has none."""
    for fault in planned:
        after = int(fault.begins * expected().calls[fault.operation])
        faults.plan(fault.operation, fault.effect, after=after, times=fault.times)
    return replace(small, open_store=on_store(small, faults.open))


def is_right(small: Shop) -> bool:
    """Whether everything is as a store that works holds it, and the audit finds nothing."""
    ends = small.files("snapshots") == expected().manifests and served(small) == (DAYS[-1], expected().rows[DAYS[-1]])
    return ends and small.engine().audit_objects() == []


def require_right(small: Shop) -> None:
    """What is served is right, if anything is."""
    found = served(small)
    assert found is None or found[1] == expected().rows[found[0]]


EACH = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
UNANSWERED = (Effect.FAIL, Effect.LOSE_ANSWER, Effect.LATE, Effect.SLOW, Effect.RESEND)
HONEST = {effect: tuple(Operation) for effect in UNANSWERED} | {
    Effect.STALE: (Operation.LIST,),
    Effect.SKIP: (*READS, Operation.LIST),
    Effect.CUT: READS,
    Effect.FLIP: READS,
}
"""What a store may do that keeps what it confirmed: answers are lost, late, old or damaged."""

LYING = {
    Effect.SKIP: CHANGES,
    Effect.CUT: (Operation.PUT, Operation.CREATE),
    Effect.FLIP: (Operation.PUT, Operation.CREATE),
}
"""What a store may do that confirms what it does not keep."""


@EACH
@given(faults_of(HONEST))
@example([Fault(Operation.CREATE, Effect.FAIL, 0.9, 1)])
@example([Fault(Operation.CREATE, Effect.LATE, 0, 50)])
@example([Fault(Operation.CREATE, Effect.LOSE_ANSWER, 0, 50)])
@example([Fault(Operation.LIST, Effect.STALE, 0.05, 50)])
def test_answers_that_are_lost_late_old_or_damaged_delay_a_rebuild_and_change_nothing(planned: Sequence[Fault]):
    """F10, and its kind."""
    with a_shop() as small:
        faults = Faults(pause_seconds=0.001)
        bad = badly(small, faults, planned)
        for _ in range(2):
            assert not rebuild(bad) or is_right(small), faults.happened
            require_right(small)
        faults.clear()
        assert rebuild(small), faults.happened
        assert is_right(small), faults.happened


@EACH
@given(faults_of(LYING))
def test_what_a_store_confirms_and_does_not_keep_is_never_served_and_is_named(planned: Sequence[Fault]):
    with a_shop() as small:
        faults = Faults()
        rebuild(badly(small, faults, planned))
        faults.clear()
        try:
            require_right(small)
            rebuild(small)
            require_right(small)
            assert is_right(small) or small.engine().audit_objects(), faults.happened
        except RefoldError as error:
            assert str(error), "it is named"


@pytest.mark.parametrize("after", [0, 1])
def test_a_store_that_overwrites_what_exists_is_refused_before_anything_is_sealed(after: int):
    """F5, whatever the store; with `after`, it begins to lie once the probe is there."""
    with a_shop() as small:
        faults = Faults(probed=True)
        faults.plan(Operation.CREATE, Effect.OVERWRITE, after=after, times=None)
        bad = replace(small, open_store=on_store(small, faults.open))
        with pytest.raises(UnsafeStore):
            rebuild_all(bad.engine())
        assert small.files("snapshots") == {}
        faults.clear()
        assert rebuild(bad) and is_right(small)


# On a real S3 server


def on_s3(small: Shop) -> tuple[Shop, str]:
    """The shop with its store in a bucket, and the URL of that."""
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    return replace(small, open_store=on_store(small, lambda _: ObjectStore.open(url))), url


def test_answers_of_s3_that_are_lost_again_and_again_are_not_noticed(s3: Proxy):
    """F10, from end to end."""
    with a_shop() as small:
        remote, url = on_s3(small)
        s3.plan("drop", "GET|PUT|POST|DELETE", 10**6, every=7)
        rebuild_all(remote.engine(), DAYS[-1])
        assert len(s3.hit) > 5
        s3.plan("none", "GET", 0)
        objects = ObjectStore.open(url)
        names = [info.name for info in objects.list("snapshots")]
        assert {name: sha256_hex(objects.get(name)) for name in names} == expected().manifests
        opened = open_release(url, database=small.database_url, search_folder=small.settings.search_folder)
        found = [opened.sql("on_hand").to_pylist(), opened.documents("moves").to_pylist()]
        assert (opened.snapshot, found) == (DAYS[-1], expected().rows[DAYS[-1]])


def test_nothing_is_sealed_on_an_s3_that_ignores_conditions(s3: Proxy):
    """F5, from end to end."""
    with a_shop() as small:
        remote, url = on_s3(small)
        s3.plan("unconditional", "PUT", 10**6)
        with pytest.raises(UnsafeStore, match="If-None-Match"):
            rebuild_all(remote.engine())
        assert ObjectStore.open(url).list("snapshots") == ObjectStore.open(url).list("releases") == []
