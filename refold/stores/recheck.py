"""What a rebuild looks at again of what was proven before, and how often it proves everything from offset 0.

A proof stands as long as the content it is about stands. So a rebuild proves what is new, from the proven state before
it, looks at the newest snapshot again, and at a few older ones in turn; the newest proof says where the next turn
begins. This module holds the arithmetic; `refold.proof.standing` finds out what is proven.
"""

from __future__ import annotations

from dataclasses import dataclass

from refold.errors import DeclarationError


@dataclass(frozen=True)
class Course:
    """Which places of a history of one store are looked at; a place is the ordinal of a snapshot.

    Attributes:
        new: the first place that is proven, to the end of history; 0 where all is proven from offset 0.
        again: the older places that are looked at again.
        proven: how many snapshots, from the first on, are proven.
        whole_at: how many snapshots there were when all was proven from offset 0 the last time.
    """

    new: int
    again: range
    proven: int
    whole_at: int

    @property
    def whole(self) -> bool:
        """Whether everything is proven from offset 0."""
        return self.new == 0


@dataclass(frozen=True)
class Recheck:
    """How much of what was proven a rebuild looks at again. `refold verify` always looks at all of it.

    Attributes:
        snapshots: how many older snapshots a rebuild with a new snapshot looks at again, in turn; all of them where
            there are no more. It reads their objects and, from the nearest checkpoint on, replays their events.
        whole_every: after how many snapshots everything is proven from offset 0 again.

    >>> Recheck(snapshots=2, whole_every=100).course(count=50, proven=49, turn=4, whole_at=1)
    Course(new=49, again=range(4, 6), proven=49, whole_at=1)
    >>> Recheck(snapshots=2, whole_every=100).course(count=101, proven=100, turn=4, whole_at=1).whole
    True

    Raises DeclarationError where either is less than 1.
    """

    snapshots: int = 16
    whole_every: int = 100

    def __post_init__(self) -> None:
        given = {"snapshots": self.snapshots, "whole_every": self.whole_every}
        faults = [f"{name} is {value}; expected a whole number of at least 1" for name, value in given.items()
                  if value < 1]  # fmt: skip
        if faults:
            raise DeclarationError("Recheck", faults)

    def course(self, count: int, proven: int, turn: int, whole_at: int) -> Course:
        """What to look at in a history of `count` snapshots, of which the first `proven` are proven.

        `turn` is the place at which the turn goes on, `whole_at` how many snapshots there were when all was proven
        from offset 0.
        """
        if not proven or count - 1 <= self.snapshots or count - whole_at >= self.whole_every:
            return Course(0, range(0), proven, count)
        new = min(proven, count - 1)
        start = turn if turn < new else 0
        return Course(new, range(start, min(start + self.snapshots, new)), proven, whole_at)

    def __str__(self) -> str:
        """For people."""
        return (
            f"the newest snapshot and {self.snapshots} older ones in turn at every new snapshot, "
            f"everything from offset 0 every {self.whole_every} snapshots"
        )
