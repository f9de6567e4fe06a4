"""Divergence: the first log offset after which stored and replayed content part, and why, as far as is known.

A comparison leaves one `Mark` per snapshot: the stored record, and the digests that replay found. From these the first
snapshot at which they part follows without reading anything. `refold.proof.locate` then finds the offset.
`refold.proof.prover` compares. This module holds the types alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from refold.log.declaration import POSITION
from refold.log.snapshot import Snapshot
from refold.stores.checkpoint import StateRecord
from refold.stores.ledger import LedgerPart

Row = Mapping[str, object]


@dataclass(frozen=True)
class Mark:
    """One store at one snapshot: what is stored, and what replay found.

    Attributes:
        snapshot: where.
        record: the stored record; None where there is none that can be read.
        state_digest, ledger_digest: by replay.
        sound: whether the record is by today's code, agrees with replay, and has a correct, readable ledger part.
    """

    snapshot: Snapshot
    record: StateRecord | None
    state_digest: str
    ledger_digest: str
    sound: bool

    @property
    def state_parted(self) -> bool:
        """Whether there is a record of other rows than replay has."""
        return self.record is not None and self.record.state_digest != self.state_digest

    @property
    def ledger_parted(self) -> bool:
        """Whether there is a record of other outcomes than replay has, here or before."""
        return self.record is not None and self.record.ledger_digest != self.ledger_digest


@dataclass(frozen=True)
class Replayed:
    """The result of replay at the first snapshot that differs: ledger part, and the rows of the state as a table."""

    part: LedgerPart
    rows: pa.Table


def first_parting(marks: Sequence[Mark]) -> int | None:
    """The place of the first mark at which state or ledger are not those of replay; None where all are.

    A ledger digest is chained over all before it, so ledgers that parted stay parted, and bisection finds where. States
    can part before that, while all outcomes still agree, and can agree again, as does a record that was changed alone:
    so the marks before are looked at one by one, which reads nothing.
    """
    known = [place for place, mark in enumerate(marks) if mark.record is not None]
    end = bisect_left(known, True, key=lambda place: marks[place].ledger_parted)
    before = (place for place in known[:end] if marks[place].state_parted or marks[place].ledger_parted)
    return next(before, known[end] if end < len(known) else None)


class Cause(StrEnum):
    """Why stored and replayed part."""

    CHECKPOINT = "checkpoint"
    DEDUPLICATION = "deduplication"
    EVENTS = "events"
    RULE = "rule"
    NOT_DETERMINISTIC = "not-deterministic"
    ROW = "row"


@dataclass(frozen=True)
class Divergence:
    """The first place at which stored and replayed differ, and why.

    Attributes:
        snapshot: the first snapshot at which they part.
        agrees: the snapshot before, at which they agree; None where it is the first.
        folded_from: the snapshot whose checkpoint the fold resumed from; None where it began at offset 0.
        cause: why; `ROW` where the evidence leaves it open.
        because: the cause in plain words, with the evidence.
        event: the first event after which they part, with key, id, position and the columns read; None where no
            event of the snapshot is to blame.
        not_before: the position before which they cannot have parted, where that is not the event's own.
        segment: the object that holds the event.
        stored_outcome, right_outcome: of the event.
        key: the key whose row is shown; None where no row differs.
        before, stored, right: its row before the snapshot, as stored, and as it should be; None for no row.
        keys: how many keys differ at this snapshot.
        buckets: the buckets of the digest tree in which they lie.
    """

    snapshot: str
    agrees: str | None
    folded_from: str | None = None
    cause: Cause = Cause.ROW
    because: str = ""
    event: Row | None = None
    not_before: Row | None = None
    segment: str | None = None
    stored_outcome: str = ""
    right_outcome: str = ""
    key: object = None
    before: Row | None = None
    stored: Row | None = None
    right: Row | None = None
    keys: int = 0
    buckets: Sequence[int] = field(default=(), repr=False)

    @property
    def exact(self) -> bool:
        """Whether the offset is known, and not only a range that holds it."""
        return self.event is not None and self.not_before is None

    def __str__(self) -> str:
        where = f"snapshot {self.snapshot}"
        if self.event is not None:
            where = f"{'' if self.exact else 'or before '}{place_of(self.event)}, {where}"
        return f"Stored and replayed part at {where}. {self.because}"

    def rows(self) -> list[tuple[str, str]]:
        """The facts that are known, as (name, value), for a table."""
        found = [
            ("agree until", f"snapshot {self.agrees}" if self.agrees else "the beginning"),
            ("part at", f"snapshot {self.snapshot}"),
            ("cause", f"{self.cause}: {self.because}"),
        ]
        if self.event is not None:
            found.append(("first wrong offset", place_of(self.event)))
            if self.not_before is not None:
                found.append(("not before", place_of(self.not_before)))
            found += [("segment", str(self.segment)), ("event", _shown(self.event, POSITION))]
            found.append(("outcome", f"stored {self.stored_outcome or 'unknown'}, by replay {self.right_outcome}"))
        if self.keys:
            found.append((f"key, 1 of {self.keys}", repr(self.key)))
            rows = {"row before": self.before, "row stored": self.stored, "row right": self.right}
            found += [(name, _shown(row)) for name, row in rows.items()]
        return [*found, ("folded again from", self.folded_from or "offset 0")]


def place_of(event: Row) -> str:
    """An event's position in words."""
    return f"log partition {event['log_partition']}, offset {event['log_offset']}, log_seq {event['log_seq']}"


def _shown(row: Row | None, without: Mapping[str, object] | None = None) -> str:
    if row is None:
        return "no row"
    return ", ".join(f"{name}={value!r}" for name, value in row.items() if name not in (without or {}))
