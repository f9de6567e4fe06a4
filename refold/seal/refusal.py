"""What sealing refuses of a log: too much of it, or too much quarantine; and in a dry run everything it would refuse.

Conflicts are counted in `refold.dedup.conflicts`; `refold.seal.sealer` decides what becomes of the other logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from refold.dedup.conflicts import ConflictingDelivery, NewDeliveries
from refold.dedup.deliveries import Delivery
from refold.errors import QuarantineLimit, RefusedLanding
from refold.landing.decoder import BadRecord
from refold.landing.listing import LandingObject
from refold.log.declaration import Log
from refold.log.quarantine import Quarantined
from refold.seal.decoding import DecodedObject


@dataclass(frozen=True)
class DryRun:
    """What sealing would make of the objects that wait for a snapshot of one log; nothing of it is stored.

    Attributes:
        log: the log.
        snapshot: the key of the snapshot that would take them in.
        objects: how many wait.
        errors: why it would be refused; none where it would be sealed.
        bad: the records that would be quarantined, each with the name of its object, in the order of sealing.
        new: the new events, of the objects that can be read.
    """

    log: Log
    snapshot: str
    objects: int
    errors: Sequence[RefusedLanding]
    bad: Sequence[tuple[str, BadRecord]]
    new: NewDeliveries | None

    def quarantined(self) -> list[Quarantined]:
        """The bad records as they would be in quarantine."""
        return [Quarantined(self.snapshot, self.log.name, name, record) for name, record in self.bad]

    def conflicts(self) -> Iterator[ConflictingDelivery]:
        """The conflicts among the new events, in the order of `log_seq`."""
        return self.new.conflicts() if self.new else iter(())

    def count_conflicts(self) -> int:
        """How many there are; no event is read."""
        return int((self.new.deliveries == Delivery.CONFLICT).sum()) if self.new else 0


def bad_records(objects: Sequence[DecodedObject]) -> list[tuple[str, BadRecord]]:
    """The bad records, each with the name of its object, in order."""
    return [(decoded.item.name, record) for decoded in objects for record in decoded.bad]


def check_size(log: Log, key: str, items: Iterable[LandingObject]) -> None:
    """Refuse objects by the sizes that landing lists, before any is read. Raises RefusedLanding."""
    size_bytes = sum(item.info.size_bytes for item in items)
    if size_bytes > log.bounds.snapshot_bytes_max:
        raise _too_much(log, key, "snapshot_bytes_max", f"objects of {size_bytes:,} bytes")


def within_limits(log: Log, key: str, objects: Iterable[DecodedObject]) -> list[DecodedObject]:
    """The objects that a snapshot takes in; none is taken any more once it is certain that they are refused.

    Raises:
        QuarantineLimit: a day holds more bad records than the log allows.
        RefusedLanding: all of them hold more than the bounds of the log allow.
    """
    taken, days, bounds = list[DecodedObject](), dict[str, _Day](), log.bounds
    records = plain_bytes = 0
    for decoded in objects:
        taken.append(decoded)
        day = days.setdefault(decoded.item.folder, _Day(decoded.item.folder))
        day.add(decoded)
        if log.quarantine.passed_anyhow(len(day.bad), day.bad_bytes):
            raise _limit(log, key, day, " read so far")
        records, plain_bytes = records + decoded.read, plain_bytes + decoded.plain_bytes
        if records > bounds.snapshot_records_max:
            raise _too_much(log, key, "snapshot_records_max", "more records")
        if plain_bytes > bounds.snapshot_bytes_max:
            raise _too_much(log, key, "snapshot_bytes_max", "more plain bytes")
    for _, day in sorted(days.items()):
        if log.quarantine.passed(len(day.bad), day.read, day.bad_bytes, day.plain_bytes):
            raise _limit(log, key, day, "")
    return taken


@dataclass
class _Day:
    """What was read of one day."""

    name: str
    bad: list[tuple[str, BadRecord]] = field(default_factory=list)
    bad_bytes: int = 0
    read: int = 0
    plain_bytes: int = 0

    def add(self, decoded: DecodedObject) -> None:
        self.bad += bad_records([decoded])
        self.bad_bytes += sum(len(record.raw) for record in decoded.bad)
        self.read += decoded.read
        self.plain_bytes += decoded.plain_bytes


def _too_much(log: Log, key: str, bound: str, found: str) -> RefusedLanding:
    return RefusedLanding(
        f"Log {log.name!r} was not sealed at snapshot {key}: expected at most {getattr(log.bounds, bound):,} "
        f"({bound}) in all objects that wait for it, found {found}.",
        remedy=f"Raise {bound} in the log's LandingBounds, or move some objects away until the next snapshot.",
    )


def _limit(log: Log, key: str, day: _Day, so_far: str) -> QuarantineLimit:
    limits, reasons = log.quarantine, Counter(record.reason for _, record in day.bad)
    name, first = day.bad[0]
    return QuarantineLimit(
        f"Log {log.name!r} was not sealed at snapshot {key}: {len(day.bad)} of {day.read} records ({day.bad_bytes:,} "
        f"of {day.plain_bytes:,} bytes){so_far} of {day.name or 'retries'} cannot be events (at most "
        f"{limits.share_max:.1%}, {limits.records_max} records and {limits.bytes_max:,} bytes are allowed); "
        + ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
        + f". The first is {name} {log.decoder.unit} {first.number}: {first.detail}",
        reasons=reasons,
        remedy="Correct the landing or the declaration, or raise the log's QuarantineLimits. "
        f"`refold quarantine ls {log.name} --refused` lists those that were read.",
    )


def joined(errors: Sequence[RefusedLanding]) -> RefusedLanding:
    """One error that says all."""
    if len(errors) == 1:
        return errors[0]
    return RefusedLanding("\n".join(str(error) for error in errors))
