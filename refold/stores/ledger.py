"""The ledger: what became of every event of a store's log, one outcome per event, chained by digests.

A ledger part belongs to one snapshot and is in the order (log partition, offset) of its events.

Its digest, version 1, frozen: before the first event it is the sha256 of `refold ledger 1\\n`. A snapshot that adds no
event leaves it as it is. One that adds some makes it the sha256 of `refold ledger 1\\n`; the digest before, as 64
hexadecimal digits; the offset ranges added, as JSON `[[start, …],[end, …]]` by log partition without spaces; the
outcomes of its events, one byte each (`refold.rules.outcome.Outcome`); and their reason codes, one byte each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.encoding import compiled, text_buffers
from refold.log.snapshot import LogCut
from refold.rules.outcome import Outcome
from refold.storage.objects import canonical_json

if TYPE_CHECKING:
    from refold.stores.declaration import Folded

Codes = npt.NDArray[np.uint8]

_SCHEMA = pa.schema([pa.field(name, pa.binary(), False) for name in ("outcomes", "reasons")])
_BLOCK = 1 << 20
EMPTY_DIGEST = hashlib.sha256(b"refold ledger 1\n").hexdigest()
"""The digest of the ledger before the first event."""


@dataclass(frozen=True)
class LedgerPart:
    """The outcomes and reason codes of the events one snapshot added, in the order (log partition, offset)."""

    outcomes: Codes
    reasons: Codes

    def digest(self, before: str, cut: LogCut) -> str:
        """The digest of the ledger up to here, from the one before; unchanged where no event was added."""
        if len(self.outcomes) == 0:
            return before
        ranges = canonical_json([list(cut.starts), list(cut.ends)])
        found = hashlib.sha256(b"refold ledger 1\n" + before.encode() + ranges)
        for codes in (self.outcomes, self.reasons):
            found.update(np.ascontiguousarray(codes).data)
        return found.hexdigest()

    def counts(self) -> dict[str, int]:
        """How many events had each outcome, by its lower-case name; 0 for those that did not occur, but `excluded`."""
        found = np.zeros(256, dtype=np.int64)
        _count(self.outcomes, found)
        every = {outcome.name.lower(): int(found[outcome]) for outcome in Outcome}
        return {name: n for name, n in every.items() if n or name != "excluded"}

    def counted(self, before: Mapping[str, int]) -> dict[str, int]:
        """How many events had each outcome up to here, from those before."""
        own = self.counts()
        return {name: before.get(name, 0) + own.get(name, 0) for name in {**own, **before}}

    def outcome_text(self, place: int) -> str:
        """The outcome at a place in words, with its reason code."""
        return outcome_text(*self.codes(place)) if place < len(self.outcomes) else NO_OUTCOME

    def codes(self, place: int) -> tuple[int, int]:
        """The outcome and the reason code at a place."""
        return int(self.outcomes[place]), int(self.reasons[place])

    def to_table(self) -> pa.Table:
        """Columns outcomes and reasons: the codes as bytes, 1,048,576 events a row, the last row with what is left.

        Parquet would make four bytes and a dictionary of each code, and take five times as long.
        """
        columns = [_blocks(codes) for codes in (self.outcomes, self.reasons)]
        return pa.table(columns, schema=_SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> LedgerPart:
        """Read back what `to_table` wrote."""
        columns = (text_buffers(table[name].combine_chunks()) for name in _SCHEMA.names)
        return cls(*(data[starts[0] : starts[-1]] for data, starts in columns))

    def first_difference(self, other: LedgerPart) -> int | None:
        """The place of the first event whose outcome or reason differs; None where all are equal.

        Where one part is the beginning of the other, the place after its last event.
        """
        if np.array_equal(self.outcomes, other.outcomes) and np.array_equal(self.reasons, other.reasons):
            return None
        n = min(len(self.outcomes), len(other.outcomes))
        differ = (self.outcomes[:n] != other.outcomes[:n]) | (self.reasons[:n] != other.reasons[:n])
        places = np.flatnonzero(differ)
        return int(places[0]) if len(places) else n


NO_OUTCOME = "no outcome"


def outcome_text(code: int, reason: int) -> str:
    """An outcome in words, with its reason code.

    >>> outcome_text(3, 1), outcome_text(9, 0)
    ('rejected (reason 1)', 'outcome 9')
    """
    name = Outcome(code).name.lower() if code in list(Outcome) else f"outcome {code}"
    return f"{name} (reason {reason})" if reason else name


NO_EVENTS = LedgerPart(np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.uint8))


@compiled
def _count(codes, found):  # type: ignore[no-untyped-def]
    for code in codes:
        found[code] += 1


def _blocks(codes: Codes) -> pa.Array:
    return pa.array([codes[at : at + _BLOCK].tobytes() for at in range(0, len(codes), _BLOCK)], pa.binary())


def counted(ledger: pa.Table) -> pa.Table:
    """A ledger without the events that a redaction put aside."""
    return ledger.filter(pc.not_equal(ledger["outcome"], Outcome.EXCLUDED.name.lower()))


def with_outcomes(store: Folded, events: pa.Table, part: LedgerPart) -> pa.Table:
    """Events with `event_date` (where the log has an event time), `outcome` and `reason` as text."""
    names = pa.array([outcome.name.lower() for outcome in Outcome])
    reasons = pa.array([store.reasons.get(code) for code in range(256)], pa.string())
    table = events.append_column("outcome", names.take(pa.array(part.outcomes)))
    table = table.append_column("reason", reasons.take(pa.array(part.reasons)))
    time = store.log.event_time
    if time is not None:
        table = table.append_column("event_date", pc.cast(events[time], pa.timestamp("us")).cast(pa.date32()))
    return table.combine_chunks()
