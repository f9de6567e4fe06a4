"""Leases: one holder, expiry by the waiter's own clock, takeover, and a former holder that cannot write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from refold.errors import CommitUnknown, Conflict, Damaged, Fenced, FixInput, NotFound, Unavailable
from refold.leases.lease import Duty
from refold.leases.leases import Leases
from refold.leases.register import ObjectRegister
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import Operation, WrapperStore
from refold.testing.faulty_store import Crash, Effect, Faults
from tests.leases.clock import HandClock


class Two:
    """Two processes that share a store with faults, each with a clock of its own."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.objects = self.faults.open("memory://")
        self.clocks = HandClock(), HandClock()
        self.first, self.second = (
            Leases(ObjectRegister(self.objects), self.objects, holder=name, clock=clock, renews=False, wait_seconds=60)
            for name, clock in zip(("first", "second"), self.clocks, strict=True)
        )


@pytest.fixture
def two() -> Two:
    return Two()


def test_a_lease_has_one_holder_and_the_other_says_who(two: Two):
    """A holder that renews is waited for as long as was asked, and no longer."""
    lease = two.first.acquire("seal")
    two.clocks[1].sleep = _renewing(two.clocks[1], lease.renew)  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="first holds it with token 1"):
        two.second.acquire("seal")
    assert 60 <= two.clocks[1].seconds < 62


def _renewing(clock: HandClock, renew):
    def sleep(seconds: float) -> None:
        HandClock.sleep(clock, seconds)
        renew()

    return sleep


@pytest.mark.parametrize("skew", [0.1, 1, 10])
def test_a_silent_holder_is_followed_and_cannot_write(two: Two, skew: float):
    """However fast the waiter's clock goes; the loser says who won, and every later write is refused too."""
    two.clocks[1].skew = skew
    old = two.first.acquire("publish")
    new = two.second.acquire("publish")
    assert (old.token, new.token) == (1, 2)
    for write in (lambda: old.commit("releases/1", b"first"), old.check, old.renew):
        with pytest.raises(Fenced, match="second holds it with token 2"):
            write()
    assert not two.objects.exists("releases/1")
    new.commit("releases/1", b"second")
    assert two.objects.get("releases/1") == b"second"
    old.release()
    new.check()


def test_what_was_decided_is_made_before_the_lease_is_taken(two: Two):
    """A holder that was paused between deciding and writing finds its own bytes there."""
    old = two.first.acquire("publish")
    two.faults.plan(Operation.CREATE, Effect.FAIL, names="releases/1")
    with pytest.raises(Unavailable):
        old.commit("releases/1", b"first")
    assert not two.objects.exists("releases/1")
    new = two.second.acquire("publish")
    assert two.objects.get("releases/1") == b"first"
    two.objects.create("releases/1", b"first")  # the paused holder goes on
    new.commit("releases/2", b"second")


@pytest.mark.parametrize("effect", [Effect.LOSE_ANSWER, Effect.FAIL, Effect.LATE])
def test_a_swap_whose_answer_is_lost_is_found_out(two: Two, effect: Effect):
    """Whether it was done or not, or is done later: the holder goes on, and nothing is decided twice."""
    lease = two.first.acquire("publish")
    two.faults.plan((Operation.CREATE, Operation.GET), effect, names="leases/", times=2)
    for _ in range(3):
        try:
            lease.commit("releases/1", b"first")
        except (Unavailable, CommitUnknown):
            continue
        break
    assert two.objects.get("releases/1") == b"first"
    lease.commit("releases/2", b"second")
    lease.release()
    assert two.second.acquire("publish").token == 2


def test_a_commit_that_conflicts_does_not_stay_pending(two: Two):
    """Another one exists under that name; the lease goes on, and who follows is not stopped."""
    two.objects.create("releases/1", b"other")
    lease = two.first.acquire("publish")
    with pytest.raises(Conflict):
        lease.commit("releases/1", b"first")
    lease.commit("releases/2", b"first")
    lease.release()
    assert two.objects.get("releases/1") == b"other"
    two.second.acquire("publish").check()


class Soon(WrapperStore):
    """A store that writes what is `put_soon` at the next `sync` only."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.waiting: dict[str, bytes] = {}

    def put_soon(self, name: str, data: bytes) -> None:
        self.waiting[name] = data

    def sync(self, folder: str = "") -> None:
        for name, data in self.waiting.items():
            self._inner.put(name, data)


def test_what_a_commit_names_is_there_before_it_is_decided(two: Two):
    """Or whoever takes the lease would make a commit that names what its holder never wrote."""
    own = Soon(two.objects)
    register = ObjectRegister(ObjectStore.open("memory://"))
    dying, following = (
        Leases(register, objects, holder=name, clock=clock, renews=False)
        for name, objects, clock in zip(("dying", "following"), (own, two.objects), two.clocks, strict=True)
    )
    lease = dying.acquire("seal")
    own.put_soon("segment", b"events")
    two.faults.plan(Operation.CREATE, Effect.CRASH, names="snapshots/1")
    with pytest.raises(Crash):
        lease.commit("snapshots/1", b"names the segment")
    following.acquire("seal")
    assert two.objects.get("snapshots/1") == b"names the segment"
    assert two.objects.get("segment") == b"events"


def test_leases_are_taken_in_one_order_and_held_once(two: Two):
    """Sealing, pruning, publishing; a nested holder takes none again, and gives none up early."""
    names = (Duty.PUBLISH, Duty.SEAL, Duty.PRUNE)
    with two.first.holding(*names):
        assert [two.first.token(name) for name in names] == [1, 1, 1]
        with two.first.holding(Duty.SEAL):
            two.first.check(Duty.SEAL)
        two.first.check(Duty.SEAL)
    assert two.first.token(Duty.SEAL) is None
    with pytest.raises(NotFound):
        two.first.check(Duty.SEAL)
    with two.second.holding(*names):
        assert two.second.token(Duty.SEAL) == 2


def test_two_that_want_each_others_lease_do_not_wait_for_each_other(two: Two):
    """The one that comes out of order does not wait at all."""
    with two.first.holding(Duty.PUBLISH), two.second.holding(Duty.SEAL):
        with pytest.raises(Unavailable, match="second holds it"), two.first.holding(Duty.SEAL):
            pass
        assert two.clocks[0].seconds == 0


def test_a_broken_lease_fences_its_holder(two: Two):
    """At once, without waiting; who and why are recorded, and neither may be left out."""
    lease = two.first.acquire("seal")
    for reason, by in (("", "Ada"), ("it hangs", " ")):
        with pytest.raises(FixInput):
            two.second.break_lease("seal", reason, by)
    assert two.second.break_lease("seal", "it hangs", "Ada").holder == "first"
    with pytest.raises(Fenced, match="by Ada: it hangs"):
        lease.commit("snapshots/1", b"first")
    (shown,) = two.second.shown()
    assert (shown.record.holder, shown.record.note, shown.age_seconds) == ("", "by Ada: it hangs", None)
    with pytest.raises(NotFound):
        two.second.break_lease("seal", "it hangs", "Ada")
    assert two.second.acquire("seal").token == 2
    assert two.clocks[1].seconds == 0


class Overtaken(ObjectRegister):
    """A register in which something happens right before the first swap."""

    def __init__(self, objects: ObjectStore, first: Callable[[], object]) -> None:
        super().__init__(objects)
        self.first: Callable[[], object] | None = first

    def swap(self, name: str, version: int, body: Mapping[str, Any]) -> bool:
        first, self.first = self.first, None
        if first is not None:
            first()
        return super().swap(name, version, body)


@pytest.mark.parametrize("commits", [False, True], ids=["renews", "commits"])
def test_a_holder_that_goes_on_while_its_lease_is_broken_does_not_keep_it(two: Two, commits: bool):
    lease = two.first.acquire("seal")
    meanwhile = partial(lease.commit, "snapshots/1", b"first") if commits else lease.renew
    breaker = Leases(Overtaken(two.objects, meanwhile), two.objects, holder="third", renews=False)
    assert breaker.break_lease("seal", "it hangs", "Ada").holder == "first"
    with pytest.raises(Fenced, match="by Ada: it hangs"):
        lease.renew()
    assert two.objects.exists("snapshots/1") == commits


def test_a_lease_that_another_process_took_while_it_was_broken_stays_with_it(two: Two):
    lease = two.first.acquire("seal")

    def handed_on() -> None:
        lease.release()
        assert two.second.acquire("seal").token == 2

    breaker = Leases(Overtaken(two.objects, handed_on), two.objects, holder="third", renews=False)
    with pytest.raises(Conflict, match="changed meanwhile"):
        breaker.break_lease("seal", "it hangs", "Ada")
    assert two.second.shown()[0].record.holder == "second"


def test_a_damaged_lease_stops_everybody_until_it_is_broken(two: Two):
    """Nobody guesses who holds it, and the next token is higher than any before."""
    lease = two.first.acquire("seal")
    lease.renew()
    two.objects.put("leases/seal/00000000000000000002.json", b"torn")
    with pytest.raises(Damaged, match="refold locks break"):
        two.second.acquire("seal")
    two.second.break_lease("seal", "damaged", "Ada")
    assert two.second.acquire("seal").token > lease.token


def test_leases_are_shown_with_holder_age_and_token(two: Two):
    two.first.acquire("seal")
    two.clocks[1].seconds = 12
    (shown,) = two.second.shown()
    assert (shown.name, shown.record.holder, shown.record.token, shown.age_seconds) == ("seal", "first", 1, 12)


def test_a_running_holder_renews_and_is_not_followed():
    """With real clocks: the lease outlives its seconds as long as its holder runs."""
    objects = ObjectStore.open("memory://")
    register = ObjectRegister(objects)
    first = Leases(register, objects, holder="first", seconds=0.3)
    second = Leases(register, objects, holder="second", wait_seconds=1)
    with first.holding(Duty.SEAL):
        with pytest.raises(Unavailable, match="first holds it"):
            second.acquire(Duty.SEAL)
        first.check(Duty.SEAL)
    assert second.acquire(Duty.SEAL).token == 2
