"""How many bad records and conflicts a day of a log may have before sealing stops."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuarantineLimits:
    """How much of a day of one log may be quarantined; sealing stops where one of these is passed.

    A day is what a snapshot takes in of one landing folder, so objects that land late count by themselves.

    Attributes:
        share_max: a share (0 to 1) of the records of the day, and of their bytes.
        records_max, bytes_max: a number of records, and of their bytes.
        records_min, bytes_min: so many may be any share of a small day.
    """

    share_max: float = 0.05
    records_max: int = 1000
    records_min: int = 3
    bytes_max: int = 64 << 20
    bytes_min: int = 1 << 20

    def passed_anyhow(self, records: int, size_bytes: int) -> bool:
        """Whether so many bad records, and their bytes, are too many whatever else the day holds."""
        return records > self.records_max or size_bytes > self.bytes_max

    def passed(self, records: int, of_records: int, size_bytes: int, of_bytes: int) -> bool:
        """Whether so many bad records, and their bytes, are too many; `of_bytes` is 0 where it is not known."""
        share = self.share_max * of_bytes if of_bytes else size_bytes
        return _passed(records, self.records_min, self.share_max * of_records, self.records_max) or _passed(
            size_bytes, self.bytes_min, share, self.bytes_max
        )


@dataclass(frozen=True)
class ConflictLimits:
    """How many new events of a day of one log may repeat an event id with other content; by default none.

    No store takes the values of such events, since the first delivery of an id counts. Sealing stops where one of these
    is passed; a day is the same as in `QuarantineLimits`.

    Attributes:
        records_max: a number of events.
        share_max: a share (0 to 1) of the new events of the day.
        records_min: so many may be any share of a small day.
    """

    records_max: int = 0
    share_max: float = 1.0
    records_min: int = 0

    def passed(self, records: int, of_records: int) -> bool:
        """Whether so many conflicts among so many events are too many."""
        return _passed(records, self.records_min, self.share_max * of_records, self.records_max)


def _passed(found: int, least: int, share: float, most: int) -> bool:
    return found > most or (found > least and found > share)


USUAL_QUARANTINE, NO_CONFLICTS = QuarantineLimits(), ConflictLimits()
"""The limits of a log that declares none."""
