"""Conflicts: deliveries that repeat an event id with other content, listed with both contents, and limited at sealing.

The first delivery of an id counts, so every conflict is an event that no store sees. A log therefore allows none unless
it declares how many (`refold.log.declaration.ConflictLimits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.dedup.deliveries import Deliveries, Delivery, Seqs
from refold.errors import ConflictLimit
from refold.log.declaration import Log
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot

_SHOWN = 5

EventsAt = Callable[[Seqs], Iterable[pa.Table]]


@dataclass(frozen=True)
class ConflictingDelivery:
    """Two deliveries of one event id with different contents.

    Attributes:
        log: the log.
        snapshot: the key of the snapshot that the later one is in.
        first, later: the two events: position, provenance and declared columns.
        columns: the declared columns in which they differ, in declared order.
    """

    log: str
    snapshot: str
    first: Mapping[str, Any]
    later: Mapping[str, Any]
    columns: Sequence[str]

    @classmethod
    def of(cls, log: Log, snapshot: str, first: Mapping[str, Any], later: Mapping[str, Any]) -> ConflictingDelivery:
        """Compare two events of a log."""
        return cls(log.name, snapshot, first, later, [name for name in log.columns if first[name] != later[name]])

    def text(self, log: Log) -> str:
        """One line: the id, and both places with the values that differ."""
        return (
            f"{', '.join(log.id_columns)} {log.id_of(self.first)!r}: {self._side(log, self.first)}, then "
            f"{self._side(log, self.later)}"
        )

    def _side(self, log: Log, event: Mapping[str, Any]) -> str:
        values = ", ".join(f"{name} {event[name]!r}" for name in self.columns)
        return f"{event['source_object']} {log.decoder.unit} {event['source_line']} ({values})"


def conflicts_of(reader: LogReader, snapshots: Iterable[Snapshot]) -> Iterator[ConflictingDelivery]:
    """The sealed conflicts of some snapshots, in the order of `log_seq` within each. Raises Damaged."""
    for snapshot in snapshots:
        repeats = reader.repeats(snapshot)
        if repeats is None:
            continue
        found = repeats.filter(pc.equal(repeats["delivery"], int(Delivery.CONFLICT))).sort_by("log_seq")
        seqs, firsts = found["log_seq"].to_pylist(), found["first_seq"].to_pylist()
        rows = rows_by_seq(reader.at(sorted({*seqs, *firsts})))
        for seq, first in zip(seqs, firsts, strict=True):
            yield ConflictingDelivery.of(reader.log, snapshot.key, rows[first], rows[seq])


def rows_by_seq(tables: Iterable[pa.Table]) -> dict[int, dict[str, Any]]:
    """Events by `log_seq`."""
    return {row["log_seq"]: row for table in tables for row in table.to_pylist()}


def check_conflicts(log: Log, key: str, seqs: Seqs, deliveries: Deliveries, firsts: Seqs, events_at: EventsAt) -> None:
    """Refuse new events of which more than the log's limit are conflicts.

    `seqs`, `deliveries` and `firsts` are of shape (events,); `events_at` gives new and sealed events by ascending
    `log_seq`. Raises ConflictLimit with examples.
    """
    places = np.flatnonzero(deliveries == Delivery.CONFLICT)
    limits, count = log.conflicts, len(places)
    if count <= limits.records_max and count <= limits.share_max * len(seqs):
        return
    some = places[:_SHOWN]
    rows = rows_by_seq(events_at(np.unique(np.concatenate([seqs[some], firsts[some]]))))
    shown = [ConflictingDelivery.of(log, key, rows[int(firsts[p])], rows[int(seqs[p])]) for p in some]
    more = f"\n  … and {count - len(shown)} more" if count > len(shown) else ""
    raise ConflictLimit(
        f"Snapshot {key} was not sealed: {count} of {len(seqs)} new events of log {log.name!r} repeat an event id with "
        f"other content (allowed {limits.records_max} and {limits.share_max:.1%}):\n  "
        + "\n  ".join(each.text(log) for each in shown)
        + more,
        remedy=f"\nIf these are different events, {', '.join(log.id_columns)!r} does not identify one: declare another "
        "event_id. If they are corrections of one event, only the first counts: raise the log's ConflictLimits to "
        "accept that.",
    )
