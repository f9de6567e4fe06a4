"""Consumer groups: processes that share the log partitions of a log, each owned by one of them at a time.

Every member holds a lease that says that it is there, and one for each log partition that it owns. Now and then it
calls `rebalance`, which gives up what is more than its share and takes what is free or whose owner is silent. What it
then does to a log partition it does under that lease: `Leases.commit` and `Leases.check` with the name of the lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from refold.errors import Unavailable
from refold.leases.lease import partition_lease
from refold.leases.leases import Leases


class PartitionGroup:
    """One member of the group of a log.

    Args:
        leases: of this process.
        log: the name of the log.
        partitions: how many log partitions it has.
    """

    def __init__(self, leases: Leases, log: str, partitions: int) -> None:
        self._leases, self._log, self._partitions = leases, log, partitions
        self._own: dict[int, ExitStack] = {}
        self._place: tuple[int, ExitStack] | None = None

    @property
    def owned(self) -> Sequence[int]:
        """The log partitions that this member took, ascending; whether it still has them shows at each write."""
        return sorted(self._own)

    def lease_of(self, partition: int) -> str:
        """The name of the lease of a log partition."""
        return partition_lease(self._log, partition)

    def rebalance(self) -> Sequence[int]:
        """Take up to a fair share of the log partitions, and give up what is more; returns those that are owned.

        Waits for nobody. Once all members have called it twice, every log partition has an owner, and no two members
        differ by more than the rest of the division.
        """
        self._let_go_of_lost()
        members = self._join()
        share = -(-self._partitions // members)
        for partition in self.owned[share:]:
            self._own.pop(partition).close()
        for partition in range(self._partitions):
            # Looked at although the share is full, so that a silent owner is known as such when it is not.
            free = partition not in self._own and self._leases.is_free(self.lease_of(partition))
            if free and len(self._own) < share:
                taken = self._try(self.lease_of(partition))
                if taken is not None:
                    self._own[partition] = taken
        return self.owned

    def leave(self) -> None:
        """Give everything up, so that others need not wait until it has expired."""
        for partition in self.owned:
            self._own.pop(partition).close()
        if self._place is not None:
            self._place[1].close()
            self._place = None

    def _let_go_of_lost(self) -> None:
        for partition in self.owned:
            if self._leases.is_lost(self.lease_of(partition)):
                self._own.pop(partition).close()
        if self._place is not None and self._leases.is_lost(self._member(self._place[0])):
            self._place[1].close()
            self._place = None

    def _join(self) -> int:
        """Hold a place in the group; returns how many members there are, this one included."""
        known = [name for name in self._leases.register.names() if name.startswith(self._member(0)[:-4])]
        others = {name for name in known if not self._leases.is_free(name)}
        place = 0
        while self._place is None:
            name = self._member(place)
            taken = None if name in others else self._try(name)
            if taken is not None:
                self._place = place, taken
            else:
                others.add(name)
            place += 1
        return len(others | {self._member(self._place[0])})

    def _member(self, place: int) -> str:
        return f"members/{self._log}/{place:04d}"

    def _try(self, name: str) -> ExitStack | None:
        stack = ExitStack()
        try:
            stack.enter_context(self._leases.holding(name, wait_seconds=0))
        except Unavailable:
            return None
        return stack
