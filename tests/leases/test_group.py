"""Consumer groups: each log partition has one owner, whoever joins, leaves, dies or is paused."""

from __future__ import annotations

import pytest

from refold.errors import Fenced
from refold.leases.group import PartitionGroup
from refold.leases.leases import Leases
from refold.leases.register import ObjectRegister
from refold.storage.objects import ObjectStore
from tests.leases.clock import HandClock


class Members:
    """Members of one group of ten log partitions, whose clocks are moved together."""

    def __init__(self) -> None:
        self.objects = ObjectStore.open("memory://")
        self.clocks: list[HandClock] = []
        self.leases: list[Leases] = []

    def join(self) -> PartitionGroup:
        self.clocks.append(HandClock())
        own = Leases(
            ObjectRegister(self.objects), self.objects, holder=f"member {len(self.leases)}", seconds=10,
            clock=self.clocks[-1], renews=False,
        )  # fmt: skip
        self.leases.append(own)
        return PartitionGroup(own, "moves", 10)

    def later(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.seconds += seconds


@pytest.fixture
def members() -> Members:
    return Members()


def settled(*groups: PartitionGroup) -> list[int]:
    """How many log partitions each owns after all have rebalanced twice; each has one owner."""
    for _ in range(2):
        for group in groups:
            group.rebalance()
    owned = [partition for group in groups for partition in group.owned]
    assert sorted(owned) == list(range(10))
    return [len(group.owned) for group in groups]


def test_members_share_what_there_is(members: Members):
    """One has all; with a second and a third each has a share; one that leaves gives its own to the others."""
    first = members.join()
    assert settled(first) == [10]
    second, third = members.join(), members.join()
    assert sorted(settled(first, second)) == [5, 5]
    assert sorted(settled(first, second, third)) == [2, 4, 4]
    second.leave()
    assert sorted(settled(first, third)) == [5, 5]


def test_what_a_dead_member_owned_is_taken_once_it_is_silent(members: Members):
    """Not before its seconds are over, by the clocks of the others."""
    first, dead = members.join(), members.join()
    settled(first, dead)
    first.rebalance()
    assert len(first.owned) == 5
    members.later(11)
    assert settled(first) == [10]


def test_a_member_that_was_paused_writes_nothing_to_what_it_owned(members: Members):
    """And finds out at its next rebalancing what is left to it."""
    first, paused = members.join(), members.join()
    settled(first, paused)
    partition = paused.owned[0]
    first.rebalance()
    members.later(11)
    settled(first)
    own, others = members.leases[1], members.leases[0]
    with pytest.raises(Fenced, match="member 0 holds it"):
        own.commit(paused.lease_of(partition), f"offsets/{partition}", b"late")
    others.commit(first.lease_of(partition), f"offsets/{partition}", b"{}")
    assert members.objects.get(f"offsets/{partition}") == b"{}"
    assert sorted(settled(first, paused)) == [5, 5]
