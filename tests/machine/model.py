"""What must be so, kept in plain Python: the log, what became of each event, every store's rows, and what is served.

Nothing here knows Refold. The log follows from what was landed: objects in the order of their names' bytes, lines in
order, log partitions by Kafka's murmur2 of the key. Slow and short on purpose; `tests.machine.machine` drives it
beside the engine and compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Record = Mapping[str, Any]
Outcome = tuple[int, int, int, str, int]
"""Log partition, offset, log_seq, the outcome's name, the reason's code or 0."""

PARTITIONS = 2


def partition_of(key: str) -> int:
    """Kafka's default partition of a key: its murmur2 (Austin Appleby, public domain), made positive."""
    data, m, most = key.encode(), 0x5BD1E995, 2**32 - 1
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & most
        k = (k ^ k >> 24) * m & most
        h = (h * m & most) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & most
    h = (h ^ h >> 13) * m & most
    h ^= h >> 15
    return (h & 0x7FFFFFFF) % PARTITIONS


@dataclass(frozen=True)
class Event:
    """One sealed event: its record, its position, and where it landed (object, line from 1)."""

    record: Record
    partition: int
    offset: int
    seq: int
    source: tuple[str, int]

    @property
    def place(self) -> tuple[int, int, int]:
        return self.partition, self.offset, self.seq

    @property
    def product(self) -> str:
        return str(self.record["product"])

    @property
    def quantity(self) -> int:
        return int(self.record["quantity"])


@dataclass(frozen=True)
class Day:
    """One snapshot as it must be.

    Attributes:
        key: its key.
        objects: the landing objects it took in, in order, with whether they were late.
        events: its events in the order (log partition, offset).
        quarantined: how many of its records cannot be events.
        ends: the end offset of each log partition.
        outcomes: by store, what became of its events, in their order.
        rows: by store, the rows of its state by key, tombstones included, without the key column's name.
        tally: the relation's rows by (product, outcome).
    """

    key: str
    objects: Sequence[tuple[str, bool]] = ()
    events: Sequence[Event] = ()
    quarantined: int = 0
    ends: Sequence[int] = (0,) * PARTITIONS
    outcomes: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Record]] = field(default_factory=dict)
    tally: Mapping[tuple[str, str], Record] = field(default_factory=dict)

    def published(self, store: str) -> list[Record]:
        """What readers of a store are given, by key bytes."""
        if store == "tally":
            return [self.tally[key] for key in sorted(self.tally, key=lambda k: (k[0].encode(), k[1].encode()))]
        rows = [row for key, row in sorted(self.rows[store].items(), key=lambda item: item[0].encode())]
        return [{n: v for n, v in row.items() if n != "deleted"} for row in rows if not row.get("deleted")]


class LogModel:
    """The landing, and the days that were sealed from it."""

    def __init__(self) -> None:
        self.landed: dict[str, list[Record | str]] = {}
        self.days: list[Day] = []
        self._seen: dict[str, Event] = {}
        self._levels: dict[str, int] = {}
        self._last: dict[str, int | None] = {}

    def land(self, name: str, lines: Sequence[Record | str]) -> None:
        """An object appears in landing; a text is a line that cannot be an event."""
        assert name not in self.landed
        self.landed[name] = list(lines)

    @property
    def records(self) -> list[Record]:
        """All records that were ever landed and are events, in the order they landed."""
        return [line for lines in self.landed.values() for line in lines if not isinstance(line, str)]

    def unsealed(self, through: str) -> list[str]:
        """The objects in folders up to a key that no day holds, in the order that sealing takes them."""
        sealed = {name for day in self.days for name, _ in day.objects}
        names = [name for name in self.landed if name not in sealed and _folder(name) <= through]
        return sorted(names, key=str.encode)

    def seal(self, key: str) -> Day:
        """Seal one day."""
        before = self.days[-1] if self.days else Day("", rows={"on_hand": {}, "last_move": {}})
        names = self.unsealed(key)
        offsets, start, events = list(before.ends), sum(before.ends), list[Event]()
        for name, number, line in self._lines(names):
            if not isinstance(line, str):
                partition = partition_of(str(line["product"]))
                events.append(Event(line, partition, offsets[partition], start + len(events), (name, number)))
                offsets[partition] += 1
        bad = sum(isinstance(line, str) for _, _, line in self._lines(names))
        outcomes, rows = self._fold(events, before)
        day = Day(
            key=key,
            objects=[(name, _folder(name) <= before.key) for name in names],
            events=sorted(events, key=lambda event: event.place),
            quarantined=bad,
            ends=offsets,
            outcomes={store: sorted(found) for store, found in outcomes.items()},
            rows=rows,
        )
        self.days.append(replace(day, tally=self._tally([*self.days, day])))
        return self.days[-1]

    def _lines(self, names: Sequence[str]) -> Iterator[tuple[str, int, Record | str]]:
        for name in names:
            for number, line in enumerate(self.landed[name], start=1):
                yield name, number, line

    def _fold(
        self, events: Sequence[Event], before: Day
    ) -> tuple[dict[str, list[Outcome]], dict[str, dict[str, Record]]]:
        outcomes: dict[str, list[Outcome]] = {"on_hand": [], "last_move": []}
        rows = {store: dict(found) for store, found in before.rows.items()}
        for event in events:
            stock, last = self._apply(event)
            outcomes["on_hand"].append((*event.place, stock, 1 if stock == "rejected" else 0))
            outcomes["last_move"].append((*event.place, last, 0))
            if stock == "conflict":
                continue
            place = dict(zip(("log_partition", "log_offset", "log_seq"), event.place, strict=True))
            key, last_quantity = event.product, self._last.get(event.product)
            rows["on_hand"][key] = {"product": key, "level": self._levels.get(key, 0), **place}
            rows["last_move"][key] = {
                "product": key, "quantity": last_quantity, "deleted": last_quantity is None, **place
            }  # fmt: skip
        return outcomes, rows

    def _apply(self, event: Event) -> tuple[str, str]:
        """What becomes of an event in both stores."""
        record, key, quantity = event.record, event.product, event.quantity
        first = self._seen.setdefault(record["id"], event)
        if first is not event:
            again = "duplicate" if first.record == record else "conflict"
            return again, again
        self._last[key] = None if record["kind"] == "drop" else quantity
        level = self._levels.get(key, 0)
        if record["kind"] == "drop":
            return "ignored", "applied"
        if record["kind"] == "remove" and quantity > level:
            return "rejected", "applied"
        self._levels[key] = level + (quantity if record["kind"] == "add" else -quantity)
        return "applied", "applied"

    def _tally(self, days: Sequence[Day]) -> dict[tuple[str, str], Record]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for day in days:
            for event, (*_, outcome, _reason) in zip(day.events, day.outcomes["on_hand"], strict=True):
                names = {"product": event.product, "outcome": outcome}
                row = found.setdefault((event.product, outcome), {**names, "events": 0, "units": 0})
                row["events"] += 1
                row["units"] += event.quantity
        last = days[-1].rows
        found = {names: row for names, row in found.items() if names[0] in last["on_hand"]}
        for (product, _), row in found.items():
            row["level"] = last["on_hand"][product]["level"]
            row["last"] = last["last_move"][product]["quantity"]
        return found


def _folder(name: str) -> str:
    return name.split("/")[1].removeprefix("dt=")
