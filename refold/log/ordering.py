"""How events were delivered: out of order, twice or not, by the numbers of their producers; and too late.

A producer numbers its events from `first` on, without gaps. What is compared with that is the order of the log, by
`log_seq`, which is the order of delivery. Nothing is refused here: events that come out of order are events. Comes
after `reader`; `refold log order` and the check `order` show what is found.
"""

from __future__ import annotations

import datetime as dt
import json
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.base.progress import track
from refold.log.declaration import Log, Numbered
from refold.log.reader import LogReader, plain
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore
from refold.types import ColumnKind


class OrderFault(StrEnum):
    """How a delivery differs from what its producer numbered."""

    OUT_OF_ORDER = "out-of-order"
    REPEATED = "repeated"
    MISSING = "missing"
    LATE = "late"


@dataclass(frozen=True)
class OrderFinding:
    """One number, or a range of them, that was not delivered in its turn; or an event later than `late_max` allows.

    Attributes:
        snapshot: the one that has the delivery; of missing numbers, the one with the delivery that skipped them.
        producer: the producer, and where numbers are of version vectors the key.
        first, last: the numbers.
        where: log partition, offset and landing record of that delivery.
        time: the event time of one that is late, which has no producer and numbers here.
    """

    fault: OrderFault
    snapshot: str
    producer: str
    first: int
    last: int
    where: str
    time: str = ""

    def __str__(self) -> str:
        if self.fault is OrderFault.LATE:
            return f"event time {self.time} is later than late_max allows, at {self.where}"
        numbers = f"{self.first:,}" if self.first == self.last else f"{self.first:,} to {self.last:,}"
        how = {
            OrderFault.OUT_OF_ORDER: "came after a higher number, at",
            OrderFault.REPEATED: "was delivered before, and again at",
            OrderFault.MISSING: "had not been delivered by the end; skipped at",
        }[self.fault]
        return f"{self.producer}: number {numbers} {how} {self.where}"


@dataclass
class _Producer:
    """What was delivered of one producer: all numbers below `next` but those in `gaps`, by their first number."""

    next: int
    gaps: dict[int, tuple[int, str, str]] = field(default_factory=dict)
    _firsts: list[int] = field(default_factory=list)

    def skip(self, number: int, snapshot: str, where: str) -> None:
        """Take the next number, or a higher one; those between are missing from then on."""
        if number > self.next:
            self._open(self.next, number - 1, snapshot, where)
        self.next = max(self.next, number + 1)

    def fill(self, number: int) -> bool:
        """Take a number out of the gap that has it; whether one has."""
        place = bisect_right(self._firsts, number) - 1
        first = self._firsts[place] if place >= 0 else number + 1
        if first > number or self.gaps[first][0] < number:
            return False
        del self._firsts[place]
        last, snapshot, where = self.gaps.pop(first)
        if first < number:
            self._open(first, number - 1, snapshot, where)
        if number < last:
            self._open(number + 1, last, snapshot, where)
        return True

    def _open(self, first: int, last: int, snapshot: str, where: str) -> None:
        insort(self._firsts, first)
        self.gaps[first] = (last, snapshot, where)


class OrderCheck:
    """Follows the deliveries of a log that `has_order`, snapshot by snapshot. `begins` is that of its cadence."""

    def __init__(
        self, objects: ObjectStore, chain: SnapshotChain, log: Log, begins: Callable[[str], dt.datetime]
    ) -> None:
        self._reader, self._chain, self._log, self._begins = LogReader(objects, chain, log), chain, log, begins
        self._producers: dict[str, _Producer] = {}
        self._found: list[OrderFinding] = []
        self._taken = 0

    def through(self, snapshot: Snapshot) -> list[OrderFinding]:
        """All findings up to a snapshot, which is not before that of an earlier call; the missing numbers last.

        Raises Damaged, Conflict as reading does.
        """
        snapshots = self._chain.through(snapshot.key)[self._taken :]
        for each in track(snapshots, f"order {self._log.name}", len(snapshots), lambda s: s.cut(self._log.name).events):
            self._found += self._take(each)
            self._taken += 1
        return [*self._found, *self.missing()]

    def _take(self, snapshot: Snapshot) -> list[OrderFinding]:
        """What the next snapshot delivered out of order, again or too late, in the order of delivery."""
        log, numbered = self._log, self._log.numbered
        names = ["log_offset", "log_seq", "source_object", "source_line"]
        names += [numbered.producer, numbered.number, *log.key_columns] if numbered else []
        names += [log.event_time] if log.late_max is not None and log.event_time is not None else []
        events = self._reader.events(snapshot, list(dict.fromkeys(names))).sort_by("log_seq")
        found = list(self._late(snapshot, events))
        if numbered is None:
            return [finding for _, finding in found]
        producers, numbers = self._numbers(events, numbered)
        order = np.argsort(producers.codes, kind="stable")
        ends = np.searchsorted(producers.codes[order], np.arange(len(producers.names) + 1))
        for code, name in enumerate(producers.names):
            mine = order[ends[code] : ends[code + 1]]
            producer = self._producers.setdefault(name, _Producer(numbered.first))
            found += self._follow(name, producer, snapshot, events, mine, numbers[mine])
        return [finding for _, finding in sorted(found, key=lambda each: each[0])]

    def _late(self, snapshot: Snapshot, events: pa.Table) -> Iterator[tuple[int, OrderFinding]]:
        if self._log.late_max is None or not len(events):
            return
        times = events[self._log.event_time]
        oldest = pa.scalar(self._begins(snapshot.key) - self._log.late_max, times.type)
        late = pc.fill_null(pc.less(times, oldest), False)
        for place in np.flatnonzero(late.to_numpy()).tolist():
            time = str(times[place].as_py())
            yield place, OrderFinding(OrderFault.LATE, snapshot.key, "", 0, 0, _where(events, place), time)

    def missing(self) -> list[OrderFinding]:
        """The numbers below the highest of each producer that no snapshot so far delivered."""
        return [
            OrderFinding(OrderFault.MISSING, snapshot, name, first, last, where)
            for name, producer in sorted(self._producers.items())
            for first, (last, snapshot, where) in sorted(producer.gaps.items())
        ]

    def _numbers(self, events: pa.Table, numbered: Numbered) -> tuple[_Coded, npt.NDArray[np.int64]]:
        """The producer of each event, and its number."""
        texts = [str(each) for each in plain(events[numbered.producer]).to_pylist()]
        values = plain(events[numbered.number]).to_pylist()
        if self._log.columns[numbered.number].kind is ColumnKind.VERSION_VECTOR:
            values = [json.loads(value).get(name, 0) for value, name in zip(values, texts, strict=True)]
            keys = [self._log.key_of(row) for row in events.select(list(self._log.key_columns)).to_pylist()]
            texts = [f"{name} of {key!r}" for name, key in zip(texts, keys, strict=True)]
        names = sorted(set(texts))
        place = {name: code for code, name in enumerate(names)}
        codes = np.array([place[name] for name in texts], dtype=np.int64)
        return _Coded(names, codes), np.array(values, dtype=np.int64)

    def _follow(
        self,
        name: str,
        producer: _Producer,
        snapshot: Snapshot,
        events: pa.Table,
        places: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
    ) -> Iterator[tuple[int, OrderFinding]]:
        if len(numbers) and np.array_equal(numbers, np.arange(producer.next, producer.next + len(numbers))):
            producer.next += len(numbers)  # in turn, as nearly always
            return
        for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
            where = _where(events, place) if number != producer.next else ""
            if number >= producer.next:
                producer.skip(number, snapshot.key, where)
                continue
            fault = OrderFault.OUT_OF_ORDER if producer.fill(number) else OrderFault.REPEATED
            yield place, OrderFinding(fault, snapshot.key, name, number, number, where)


@dataclass(frozen=True)
class _Coded:
    """Names, and for each event the place of its own."""

    names: Sequence[str]
    codes: npt.NDArray[np.int64]


def _where(events: pa.Table, place: int) -> str:
    (row,) = events.slice(place, 1).to_pylist()
    origin = f"{row['source_object']} record {row['source_line']}"
    return f"log partition {row['log_partition']}, offset {row['log_offset']} ({origin})"
