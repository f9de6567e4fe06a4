"""What is kept of a lease, and how it changes: pure functions from one record to the next.

Every change is one compare-and-swap of the whole record, so that of two processes that change it at once one fails and
reads again. Safety rests on that alone; clocks only decide when somebody else tries to take it.

A commit is decided in the lease before it is made: the record names the object and its bytes (`pending`). Whoever takes
the lease next first makes what is pending, which is a write-once creation of known bytes. So a holder that was paused
between deciding and writing writes what is there already, and one that was paused before it finds that its swap fails.
`tests/leases/test_model.py` searches all interleavings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Duty(StrEnum):
    """What is done by one process at a time, in the order in which a process takes several."""

    SEAL = "seal"
    PRUNE = "prune"
    PUBLISH = "publish"


def order_of(name: str) -> tuple[int, str]:
    """The order in which leases are taken, duties last. Who takes them in one order never deadlocks."""
    duties = list(Duty)
    return (1 + duties.index(Duty(name)) if name in duties else 0, name)


@dataclass(frozen=True)
class Pending:
    """A commit that is decided: the object to create, and its bytes as UTF-8 text."""

    name: str
    text: str


@dataclass(frozen=True)
class LeaseRecord:
    """The state of one lease.

    Attributes:
        token: rises by one whenever somebody takes it; the fencing token of its holder.
        holder: who holds it, unlike any other process; "" for nobody.
        seconds: how long the holder may be silent before others take it, by their own clocks.
        beat: how often this holder has renewed it, so that no two records are equal.
        pending: what the holder has decided to create and may not have created yet.
        since: when it was taken, by the clock of the holder, for people only.
        former: who held it before it was given up or broken.
        note: why and by whom it was broken; "" where it was not.
    """

    token: int = 0
    holder: str = ""
    seconds: float = 0
    beat: int = 0
    pending: Pending | None = None
    since: str = ""
    former: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The body of its record."""
        names = ("token", "holder", "seconds", "beat", "since", "former", "note")
        body = {name: getattr(self, name) for name in names}
        return body | ({"pending": [self.pending.name, self.pending.text]} if self.pending else {})

    @classmethod
    def from_json(cls, body: Mapping[str, Any] | None) -> LeaseRecord:
        """The record of a body; that of a free lease where there is none."""
        values = dict(body or {})
        pending = values.pop("pending", None)
        return cls(**values, pending=Pending(*pending) if pending else None)


def taken(record: LeaseRecord, holder: str, seconds: float, since: str = "") -> LeaseRecord:
    """The record after somebody takes a lease; what was pending must have been made."""
    return LeaseRecord(record.token + 1, holder, seconds, 0, None, since)


def renewed(record: LeaseRecord, *, settled: bool) -> LeaseRecord:
    """The record after its holder renews it; `settled`: what was pending is made, or can never be."""
    return replace(record, beat=record.beat + 1, pending=None if settled else record.pending)


def deciding(record: LeaseRecord, pending: Pending) -> LeaseRecord:
    """The record after its holder decides a commit; what was pending before must have been made."""
    return replace(record, beat=record.beat + 1, pending=pending)


def freed(record: LeaseRecord, note: str = "") -> LeaseRecord:
    """The record after it is given up, or broken with a note; what was pending must have been made."""
    return replace(record, holder="", beat=record.beat + 1, pending=None, former=record.holder, note=note)


def holds(record: LeaseRecord, holder: str, token: int) -> bool:
    """Whether a record is that of a holder's own lease."""
    return record.holder == holder and record.token == token
