"""In which order the events of each producer were delivered, where they are numbered: what came late, twice or not.

A producer numbers its events from `first` on, without gaps. What is compared with that is the order of the log, by
`log_seq`, which is the order of delivery. Nothing is refused here: events that come out of order are events. Comes
after `reader`; `refold log order` and the check `order` show what is found.
"""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.log.declaration import Log
from refold.log.reader import LogReader, plain
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore
from refold.types import ColumnKind


class OrderFault(StrEnum):
    """How a delivery differs from what its producer numbered."""

    OUT_OF_ORDER = "out-of-order"
    REPEATED = "repeated"
    MISSING = "missing"


@dataclass(frozen=True)
class OrderFinding:
    """One number, or a range of them, that was not delivered in its turn.

    Attributes:
        snapshot: the one that has the delivery; of missing numbers, the one with the delivery that skipped them.
        producer: the producer, and where numbers are of version vectors the key.
        first, last: the numbers.
        where: log partition, offset and landing record of that delivery.
    """

    fault: OrderFault
    snapshot: str
    producer: str
    first: int
    last: int
    where: str

    def __str__(self) -> str:
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
    """Follows the numbers of the producers of a log that declares `numbered`, snapshot by snapshot, oldest first."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        assert log.numbered is not None, "the log declares numbers"
        self._reader, self._log, self._numbered = LogReader(objects, chain, log), log, log.numbered
        self._producers: dict[str, _Producer] = {}
        self.events = 0

    def take(self, snapshot: Snapshot) -> list[OrderFinding]:
        """What the next snapshot delivered out of order or again. Raises Damaged, Conflict as reading does."""
        log, numbered = self._log, self._numbered
        names = ["log_offset", "log_seq", "source_object", "source_line", numbered.producer, numbered.number]
        by_vector = log.columns[numbered.number].kind is ColumnKind.VERSION_VECTOR
        more = log.key_columns if by_vector else ()
        events = self._reader.events(snapshot, list(dict.fromkeys([*names, *more]))).sort_by("log_seq")
        self.events += len(events)
        producers, numbers = self._numbers(events, by_vector=by_vector)
        found: list[tuple[int, OrderFinding]] = []
        order = np.argsort(producers.codes, kind="stable")
        ends = np.searchsorted(producers.codes[order], np.arange(len(producers.names) + 1))
        for code, name in enumerate(producers.names):
            mine = order[ends[code] : ends[code + 1]]
            producer = self._producers.setdefault(name, _Producer(numbered.first))
            found += self._follow(name, producer, snapshot, events, mine, numbers[mine])
        return [finding for _, finding in sorted(found, key=lambda each: each[0])]

    def missing(self) -> list[OrderFinding]:
        """The numbers below the highest of each producer that no snapshot so far delivered."""
        return [
            OrderFinding(OrderFault.MISSING, snapshot, name, first, last, where)
            for name, producer in sorted(self._producers.items())
            for first, (last, snapshot, where) in sorted(producer.gaps.items())
        ]

    def _numbers(self, events: pa.Table, *, by_vector: bool) -> tuple[_Coded, npt.NDArray[np.int64]]:
        """The producer of each event, and its number."""
        texts = [str(each) for each in plain(events[self._numbered.producer]).to_pylist()]
        values = plain(events[self._numbered.number]).to_pylist()
        if by_vector:
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


def order_of(objects: ObjectStore, chain: SnapshotChain, log: Log, snapshots: Sequence[Snapshot]) -> list[OrderFinding]:
    """All findings over snapshots given oldest first, from the first one on; the missing numbers last."""
    check = OrderCheck(objects, chain, log)
    return [*(finding for snapshot in snapshots for finding in check.take(snapshot)), *check.missing()]
