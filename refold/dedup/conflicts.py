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
_TOGETHER = 1000

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


def count_conflicts(reader: LogReader, snapshots: Iterable[Snapshot]) -> int:
    """How many sealed conflicts some snapshots have; no event is read. Raises Damaged."""
    found = filter(None, map(reader.repeats, snapshots))
    return sum(pc.sum(pc.equal(repeats["delivery"], int(Delivery.CONFLICT))).as_py() or 0 for repeats in found)


def rows_by_seq(tables: Iterable[pa.Table]) -> dict[int, dict[str, Any]]:
    """Events by `log_seq`."""
    return {row["log_seq"]: row for table in tables for row in table.to_pylist()}


@dataclass(frozen=True)
class NewDeliveries:
    """New events of a log after deduplication, before they are sealed.

    Attributes:
        log: the log.
        snapshot: the key of the snapshot that takes them in.
        days: landing folders, each with how many of the next events are of it; a folder may recur.
        seqs, deliveries, firsts: `log_seq`, the result of deduplication, and the `log_seq` of the first delivery;
            of shape (events,), in the order of `log_seq`.
        events_at: gives new and sealed events by ascending `log_seq`.
    """

    log: Log
    snapshot: str
    days: Sequence[tuple[str, int]]
    seqs: Seqs
    deliveries: Deliveries
    firsts: Seqs
    events_at: EventsAt

    def conflicts(self) -> Iterator[ConflictingDelivery]:
        """The conflicts among them, in the order of `log_seq`. Raises Damaged."""
        return self._at(np.flatnonzero(self.deliveries == Delivery.CONFLICT))

    def check(self) -> None:
        """Refuse them where the conflicts of a day pass the log's limits. Raises ConflictLimit with examples."""
        places = np.flatnonzero(self.deliveries == Delivery.CONFLICT)
        folders = np.array([day for day, _ in self.days])
        ends = np.cumsum([count for _, count in self.days])
        of = folders[np.searchsorted(ends, places, side="right")] if len(places) else folders[:0]
        for day in np.unique(of):
            mine, events = places[of == day], sum(count for folder, count in self.days if folder == day)
            if self.log.conflicts.passed(len(mine), events):
                raise self._limit(str(day), mine, events)

    def _at(self, places: Seqs) -> Iterator[ConflictingDelivery]:
        for start in range(0, len(places), _TOGETHER):
            some = places[start : start + _TOGETHER]
            rows = rows_by_seq(self.events_at(np.unique(np.concatenate([self.seqs[some], self.firsts[some]]))))
            for p in some:
                first, later = rows[int(self.firsts[p])], rows[int(self.seqs[p])]
                yield ConflictingDelivery.of(self.log, self.snapshot, first, later)

    def _limit(self, day: str, places: Seqs, events: int) -> ConflictLimit:
        log, limits, count = self.log, self.log.conflicts, len(places)
        shown = [each.text(log) for each in self._at(places[:_SHOWN])]
        shown += [f"… and {count - len(shown)} more"] if count > len(shown) else []
        return ConflictLimit(
            f"Log {log.name!r} was not sealed at snapshot {self.snapshot}: {count} of {events} new events of "
            f"{day or 'retries'} repeat an event id with other content (at most {limits.records_max} and "
            f"{limits.share_max:.1%} of a day are allowed):" + "".join(f"\n  {text}" for text in shown),
            remedy=f"\nIf these are different events, {', '.join(log.id_columns)!r} does not identify one: declare "
            "another event_id. If they are corrections of one event, only the first counts: raise the log's "
            f"ConflictLimits to accept that. `refold conflicts {log.name} --refused` lists all of them.",
        )
