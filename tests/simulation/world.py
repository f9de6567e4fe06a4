"""What the actors share: an object store, a table that readers read, what landed, and what must hold. Not a test.

The right answers are computed here from what landed, by a plain loop that knows nothing of Refold.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from refold.errors import Conflict, Fenced, NotFound, Unavailable
from refold.leases.fenced_store import COMMITS
from refold.leases.lease import LeaseRecord
from refold.leases.leases import Leases
from refold.leases.register import ObjectRegister
from refold.release.pointer import Pointer
from refold.storage.names import kind_of
from refold.storage.objects import ObjectInfo, ObjectStore, written_first
from refold.testing.faulty_store import Crash, Effect
from tests.simulation.scheduler import Scheduler, Violation

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
Rows = dict[str, int]


class Safeguard(StrEnum):
    """What can be switched off."""

    FENCING = "fencing"
    CONDITIONAL_PUT = "conditional put"
    DEDUPLICATION = "deduplication"
    ORDER = "order"
    READ_BACK = "read-back"


@dataclass(frozen=True)
class Event:
    """One event: units added to a product, or removed, which is rejected below zero."""

    sequence: int
    product: str
    quantity: int

    def to_json(self) -> list[object]:
        return [self.sequence, self.product, self.quantity]


def fold(rows: Rows, events: Iterable[Sequence[object]]) -> Rows:
    """The rows after some events, as the builders compute them."""
    found = dict(rows)
    for _, product, quantity in events:
        level = found.get(str(product), 0) + int(str(quantity))
        found[str(product)] = level if level >= 0 else found.get(str(product), 0)
    return found


class Memory(ObjectStore):
    """Objects in a dictionary, with nothing between them and their caller. Watches what is written once."""

    url, location = "memory://simulated", None

    def __init__(self, *, conditional: bool) -> None:
        self.objects: dict[str, bytes] = {}
        self._conditional = conditional
        self.watch: World | None = None

    def get(self, name: str) -> bytes:
        if name not in self.objects:
            raise NotFound(f"Expected the object {name}, found none.")
        return self.objects[name]

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        return [memoryview(self.get(name))[start : start + size] for start, size in ranges]

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = data

    def try_create(self, name: str, data: bytes) -> None:
        if name in self.objects and self._conditional:
            raise written_first(name, self.url)
        if self.watch is not None:
            self.watch.created(name, data)
        self.objects[name] = data

    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        if self.objects.get(name) != former:
            raise written_first(name, self.url)
        self.objects[name] = data

    def exists(self, name: str) -> bool:
        return name in self.objects

    def delete(self, name: str) -> None:
        if name in self.objects and kind_of(name) in COMMITS:
            raise Violation(f"the commit {name} was removed")
        self.objects.pop(name, None)

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        below = f"{prefix}/" if prefix else ""
        return [ObjectInfo(name, len(data), "") for name, data in self.objects.items() if name.startswith(below)]


@dataclass
class Table:
    """A sink whose writes are atomic and carry a token: versions side by side, and which one readers see."""

    scheduler: Scheduler
    fenced: bool
    versions: dict[str, Rows] = field(default_factory=dict)
    served: tuple[int, str] | None = None
    seen: int = 0

    def publish(self, version: str, rows: Rows, token: int) -> None:
        def write() -> None:
            self.versions[version] = dict(list(rows.items())[:-1] if self.scheduler.tears() else rows)

        self._write(write, token)

    def release(self, version: str, number: int, token: int) -> None:
        def write() -> None:
            if version not in self.versions:
                raise NotFound(f"no version {version}")
            if self.served is not None and number < self.served[0]:
                raise Violation(f"readers were taken back from release {self.served[0]} to {number}")
            self.served = number, version

        self._write(write, token)

    def drop(self, version: str, token: int) -> None:
        def write() -> None:
            if self.served is not None and self.served[1] == version:
                raise Conflict(f"{version} is served")
            self.versions.pop(version, None)

        self._write(write, token)

    def read(self, version: str) -> Rows | None:
        self.scheduler.befall()
        return self.versions.get(version)

    def look(self) -> tuple[int, Rows] | None:
        """The number and rows that readers see, at one moment."""
        self.scheduler.befall()
        if self.served is None:
            return None
        number, version = self.served
        if version not in self.versions:
            raise Violation(f"what release {number} serves is gone")
        return number, self.versions[version]

    def _write(self, write, token: int) -> None:
        effect = self.scheduler.befall()
        if effect is Effect.CRASH:
            raise Crash
        if effect in (Effect.FAIL, Effect.LATE):
            raise Unavailable("the table does not answer")
        for _ in range(2 if effect is Effect.RESEND else 1):
            if self.fenced and token < self.seen:
                raise Fenced(f"token {token} after {self.seen}")
            self.seen = max(self.seen, token)
            write()
        if effect is Effect.CRASH_AFTER:
            raise Crash
        if effect is Effect.LOSE_ANSWER:
            raise Unavailable("the answer of the table was lost")


class World:
    """One run's store, table and landing, and the checks of it."""

    def __init__(self, scheduler: Scheduler, without: Safeguard | None) -> None:
        self.scheduler, self.without = scheduler, without
        self.objects = Memory(conditional=without is not Safeguard.CONDITIONAL_PUT)
        self.objects.watch = self
        self.table = Table(scheduler, fenced=without is not Safeguard.FENCING)
        self.leases: dict[str, Leases] = {}
        self.unnamed_since: dict[str, float] = {}
        self.deliveries, self.expected = landed(scheduler.seed)

    def created(self, name: str, data: bytes) -> None:
        """Check a creation that has an effect: a commit is that of the newest holder, and nothing is written twice."""
        kind = kind_of(name)
        if kind not in COMMITS:
            return
        if self.objects.objects.get(name, data) != data:
            raise Violation(f"{name} was overwritten")
        duty = COMMITS[kind]
        newest = LeaseRecord.from_json(ObjectRegister(self.objects).read(duty).body)
        pending = newest.pending is not None and (newest.pending.name, newest.pending.text) == (name, data.decode())
        actor = self.scheduler.current
        own = self.leases[actor.name].token(duty) if actor is not None and actor.name in self.leases else None
        if not pending and own != newest.token:
            raise Violation(f"{name} was written with token {own} after {newest.token} was given")

    def day_of(self, number: int) -> int:
        """The day of a release, as its record says."""
        return Pointer(self.objects).get(number).ordinal

    def check_read(self, number: int, rows: Mapping[str, int]) -> None:
        """What a reader sees is all of one day."""
        day = self.day_of(number)
        if dict(rows) != self.expected[day]:
            raise Violation(
                f"a reader of release {number} saw {dict(rows)}, expected {self.expected[day]} of {DAYS[day]}"
            )


def landed(seed: int) -> tuple[list[list[Event]], list[Rows]]:
    """What is delivered each day, out of order and with repeats, and the right rows after each day."""
    own, sequence = random.Random(f"{seed} landing"), 0
    events: list[list[Event]] = []
    deliveries: list[list[Event]] = []
    expected: list[Rows] = []
    rows: Rows = {}
    for _ in DAYS:
        today = []
        for _ in range(4):
            sequence += 1
            today.append(Event(sequence, own.choice("ab"), own.choice((10, 5, -5, -10))))
        events.append(today)
        for event in today:
            level = rows.get(event.product, 0) + event.quantity
            rows[event.product] = level if level >= 0 else rows.get(event.product, 0)
        expected.append(dict(rows))
        repeats = own.sample([each for day in events for each in day], 2)
        delivered = [*today, *repeats]
        own.shuffle(delivered)
        deliveries.append(delivered)
    return deliveries, expected
