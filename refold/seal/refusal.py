"""What sealing refuses of a log: too much quarantine, and in a dry run all that stands in its way.

Conflicts are counted in `refold.dedup.conflicts`; `refold.seal.sealer` decides what becomes of the other logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from refold.dedup.conflicts import ConflictingDelivery, NewDeliveries
from refold.dedup.deliveries import Delivery
from refold.errors import QuarantineLimit, RefusedLanding
from refold.landing.decoder import BadRecord
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


def check_quarantine(log: Log, key: str, objects: Sequence[DecodedObject]) -> None:
    """Refuse objects of which a day holds more bad records than the log allows. Raises QuarantineLimit."""
    for day, found in groupby(sorted(objects, key=_day), _day):
        mine = list(found)
        bad, read = bad_records(mine), sum(decoded.read for decoded in mine)
        size = sum(len(record.raw) for _, record in bad)
        of_bytes = sum(decoded.plain_bytes for decoded in mine)
        if log.quarantine.passed(len(bad), read, size, of_bytes):
            raise _limit(log, key, day, bad, f"{len(bad)} of {read} records ({size:,} of {of_bytes:,} bytes)")


def _day(decoded: DecodedObject) -> str:
    return decoded.item.folder


def _limit(log: Log, key: str, day: str, bad: Sequence[tuple[str, BadRecord]], found: str) -> QuarantineLimit:
    limits, reasons = log.quarantine, Counter(record.reason for _, record in bad)
    name, first = bad[0]
    return QuarantineLimit(
        f"Log {log.name!r} was not sealed at snapshot {key}: {found} of {day or 'retries'} cannot be events (at "
        f"most {limits.share_max:.1%}, {limits.records_max} records and {limits.bytes_max:,} bytes are allowed); "
        + ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
        + f". The first is {name} {log.decoder.unit} {first.number}: {first.detail}",
        reasons=reasons,
        remedy="Correct the landing or the declaration, or raise the log's QuarantineLimits. "
        f"`refold quarantine ls {log.name} --refused` lists all of them.",
    )


def joined(errors: Sequence[RefusedLanding]) -> RefusedLanding:
    """One error that says all."""
    if len(errors) == 1:
        return errors[0]
    return RefusedLanding("\n".join(str(error) for error in errors))
