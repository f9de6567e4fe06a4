"""The landing folder of a small homeware shop: made up, seeded, the same bytes on every machine.

Here live the landing's files and, apart from what made them, a plain loop over what was delivered that knows the
right answer (`SampleSummary`); the demo and the tests start from it. Nothing here uses Refold. The shop sells from
Sunday to Friday, is closed from 24 December to 3 January, and its tills and warehouse misbehave as real ones do:

- files are sent again in part, on the same day and days later, also for removals that had been refused;
- an id comes back with another quantity; two product ids differ only by case;
- popular products sell out before the next receipt; two are never in stock at all;
- some lines cannot be events: cut off, negative, without a key, of no known type, not a number;
- catalogue entries change price, are deleted and come back, and old changes are sent again;
- one till was offline: its file arrives in a folder that was closed long ago (`write_late`).

What the shop's systems send is `examples.shop_systems`; here it is packed into objects. Gzip files hold stored
blocks written here, since compressed bytes differ between versions of zlib.
"""

from __future__ import annotations

import datetime as dt
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from examples.shop_systems import Draws, Event, Line, Shop

START = dt.date(2010, 12, 1)
SEED, DAYS = 7, 182

_SATURDAY = 5


@dataclass(frozen=True)
class SampleSummary:
    """The expected answer for a landing folder, found by a plain loop over the deliveries in landing order.

    Attributes:
        objects: the number of landing objects, by log.
        records: stock records read, which is events plus quarantined; blank lines do not occur.
        outcomes: stock events by outcome: applied, duplicate, rejected, conflict.
        quarantined: (object name, line from 1, what is wrong), in landing order.
        levels: units on hand of every product that any event names, also of those never in stock.
        refused_again: duplicates whose first delivery had been rejected; a retry would change the levels.
        changes: catalogue changes by kind: create, update, delete, re-create, duplicate.
        catalogue: (description, unit price) of every product that is not deleted.
        closed_days: the days without a folder.
    """

    objects: Mapping[str, int]
    records: int
    outcomes: Mapping[str, int]
    quarantined: Sequence[tuple[str, int, str]]
    levels: Mapping[str, int]
    refused_again: int
    changes: Mapping[str, int]
    catalogue: Mapping[str, tuple[str, str]]
    closed_days: Sequence[str]

    @property
    def events(self) -> int:
        """All stock events, whatever became of them."""
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class Sample:
    """A whole sample in memory: objects by name, and the answers before and after the late ones are added."""

    objects: Mapping[str, bytes]
    summary: SampleSummary
    late_objects: Mapping[str, bytes]
    late_summary: SampleSummary


def write(folder: Path, *, seed: int = SEED, days: int = DAYS, scale: int = 1) -> SampleSummary:
    """Write the landing folder for `days` days from 2010-12-01 and return the expected answer.

    `scale` multiplies the sales of a day. A rerun writes the same bytes again.

    Raises FileExistsError where the folder holds a landing file of another origin; nothing is written then.
    """
    sample = generate(seed=seed, days=days, scale=scale)
    _write_objects(folder, sample.objects, known={*sample.objects, *sample.late_objects})
    return sample.summary


def write_late(folder: Path, *, seed: int = SEED, days: int = DAYS, scale: int = 1) -> SampleSummary:
    """Add to a folder that `write` made, once sealed, the late object and one more day; the answer then.

    Raises FileExistsError as `write` does.
    """
    sample = generate(seed=seed, days=days, scale=scale)
    _write_objects(folder, sample.late_objects, known={*sample.objects, *sample.late_objects})
    return sample.late_summary


def generate(*, seed: int = SEED, days: int = DAYS, scale: int = 1) -> Sample:
    """Make a whole sample in memory; at least 7 days, so that there is an old folder to be late for."""
    if days < 7 or scale < 1:
        raise ValueError(f"Expected at least 7 days and a scale of at least 1, found days={days}, scale={scale}.")
    shop, answer = Shop(Draws(seed), scale), _Answer()
    calendar = [START + dt.timedelta(days=n) for n in range(days)]
    trading = [day for day in calendar if _trades(day)]
    objects: dict[str, bytes] = {}
    for number, day in enumerate(trading):
        objects |= _day_objects(shop, answer, number, day)
    closed = [day.isoformat() for day in calendar if not _trades(day)]
    summary = answer.summary(objects, closed)

    late_day = trading[len(trading) * 3 // 5]
    late_objects = _pack(answer, late_day, "stock_events", 90, [shop.offline_till(late_day)], stored=False)
    extra = next(day for n in range(30) if _trades(day := START + dt.timedelta(days=days + n)))
    late_objects |= _day_objects(shop, answer, len(trading), extra)
    skipped = [(calendar[-1] + dt.timedelta(days=n)).isoformat() for n in range(1, (extra - calendar[-1]).days)]
    return Sample(objects, summary, late_objects, answer.summary({**objects, **late_objects}, closed + skipped))


def _trades(day: dt.date) -> bool:
    return day.weekday() != _SATURDAY and not ((day.month, day.day) >= (12, 24) or (day.month, day.day) <= (1, 3))


@dataclass
class _Answer:
    """The right answer, by a plain loop over lines in landing order; it knows nothing of how they were made."""

    first: dict[str, Event] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    levels: dict[str, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    quarantined: list[tuple[str, int, str]] = field(default_factory=list)
    refused_again: int = 0
    seen_changes: set[int] = field(default_factory=set)
    ever_listed: set[str] = field(default_factory=set)
    catalogue: dict[str, tuple[str, str]] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)

    def stock_event(self, event: Event) -> str:
        """What becomes of one stock event."""
        event_id, product_id, quantity = str(event["event_id"]), str(event["product_id"]), int(event["quantity"] or 0)
        level = self.levels.setdefault(product_id, 0)
        if event_id in self.first:
            if event != self.first[event_id]:
                return "conflict"
            self.refused_again += event_id in self.rejected and quantity <= level
            return "duplicate"
        self.first[event_id] = event
        if event["event_type"] == "add":
            self.levels[product_id] = level + quantity
        elif quantity > level:
            self.rejected.add(event_id)
            return "rejected"
        else:
            self.levels[product_id] = level - quantity
        return "applied"

    def change(self, change: Event) -> str:
        """What becomes of one catalogue change."""
        lsn, product_id = int(change["lsn"] or 0), str(change["product_id"])
        if lsn in self.seen_changes:
            return "duplicate"
        self.seen_changes.add(lsn)
        if change["op"] == "d":
            del self.catalogue[product_id]
            return "delete"
        self.catalogue[product_id] = (str(change["description"]), str(change["unit_price"]))
        if change["op"] == "u":
            return "update"
        again = product_id in self.ever_listed
        self.ever_listed.add(product_id)
        return "re-create" if again else "create"

    def take(self, log: str, name: str, lines: Sequence[Line]) -> None:
        """Take the lines of one object."""
        for number, line in enumerate(lines, start=1):
            if line.event is None:
                self.quarantined.append((name, number, line.wrong))
            elif log == "stock_events":
                self.outcomes[self.stock_event(line.event)] += 1
            else:
                self.changes[self.change(line.event)] += 1

    def summary(self, objects: Mapping[str, bytes], closed: Sequence[str]) -> SampleSummary:
        """The answer so far."""
        return SampleSummary(
            objects=dict(Counter(name.split("/")[0] for name in objects)),
            records=self.outcomes.total() + len(self.quarantined),
            outcomes=dict(self.outcomes),
            quarantined=tuple(self.quarantined),
            levels=dict(self.levels),
            refused_again=self.refused_again,
            changes=dict(self.changes),
            catalogue=dict(self.catalogue),
            closed_days=tuple(closed),
        )


def _day_objects(shop: Shop, answer: _Answer, number: int, day: dt.date) -> dict[str, bytes]:
    """The objects of one trading day, taken into the answer in landing order."""
    changes, lines = shop.changes(number, day), shop.day(number, day)
    objects = _pack(answer, day, "product_changes", 0, [changes] if changes else [], stored=False)
    parts = 2 + number % 3
    cuts = [len(lines) * part // parts for part in range(parts + 1)]
    chunks = [lines[start:end] for start, end in pairwise(cuts)]
    return objects | _pack(answer, day, "stock_events", 0, chunks, stored=number % 2 == 1)


def _pack(
    answer: _Answer, day: dt.date, log: str, first_part: int, chunks: Sequence[list[Line]], *, stored: bool
) -> dict[str, bytes]:
    """Objects of one folder, numbered from `first_part`; every second one as gzip where `stored`."""
    objects = {}
    for part, lines in enumerate(chunks, start=first_part):
        data = "".join(line.text + "\n" for line in lines).encode()
        zipped = stored and part % 2 == 0
        name = f"{log}/dt={day.isoformat()}/part-{part:05d}.jsonl{'.gz' if zipped else ''}"
        answer.take(log, name, lines)
        objects[name] = gzip_stored(data) if zipped else data
    return objects


def gzip_stored(data: bytes) -> bytes:
    """Data as a gzip file of stored blocks (RFC 1951, 3.2.4): no compressor, so the same bytes everywhere.

    >>> import gzip
    >>> gzip.decompress(gzip_stored(b"add 10"))
    b'add 10'
    """
    size_max = 65535
    blocks = [data[at : at + size_max] for at in range(0, len(data), size_max)] or [b""]
    body = b"".join(
        struct.pack("<BHH", block_number == len(blocks), len(block), len(block) ^ 0xFFFF) + block
        for block_number, block in enumerate(blocks, start=1)
    )
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return header + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _write_objects(folder: Path, objects: Mapping[str, bytes], known: set[str]) -> None:
    """Write objects below a folder, each whole or not at all, since a sensor may be watching."""
    strange = [
        name
        for log in ("stock_events", "product_changes")
        for path in sorted(folder.glob(f"{log}/dt=*/*"))
        if (name := path.relative_to(folder).as_posix()) not in known
        or (name in objects and path.read_bytes() != objects[name])
    ]
    if strange:
        raise FileExistsError(
            f"Expected {folder} to be empty or to hold this sample, found {len(strange)} other files, the first "
            f"{strange[0]}. Choose another folder, or remove this one and what was sealed from it."
        )
    for name, data in objects.items():
        path, unseen = folder / name, folder / f".{name.replace('/', '-')}"
        path.parent.mkdir(parents=True, exist_ok=True)
        unseen.write_bytes(data)
        unseen.replace(path)
