"""How large landing may be: what a log refuses before or while it is read, so that no object takes all memory or time.

A decoder enforces the bounds of one object while it decodes, sealing those of a snapshot. Whether a record is bad is
not decided here: a decoder has its own, smaller limit of a record's length, beyond which it is quarantined.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from refold.errors import DeclarationError, UnreadableObject


@dataclass(frozen=True)
class LandingBounds:
    """The most that one landing object, and one snapshot of one log, may hold; more is refused, and nothing is lost.

    Attributes:
        object_bytes_max: bytes of an object, as it is stored and, by themselves, decompressed.
        object_records_max: records of an object, blank lines included.
        object_seconds_max: seconds to read and decode an object, looked at after each piece of it. It decides whether
            an object is refused now, never what it is read as.
        record_bytes_max: bytes of one record.
        snapshot_bytes_max: bytes of the objects that a snapshot takes in, stored and, by themselves, decompressed.
        snapshot_records_max: their records.

    How deep a JSON record may be nested is fixed (64 levels); a deeper one is quarantined.

    Raises DeclarationError where one of them is not positive.
    """

    object_bytes_max: int = 1 << 30
    object_records_max: int = 1 << 24
    object_seconds_max: int = 3600
    record_bytes_max: int = 64 << 20
    snapshot_bytes_max: int = 1 << 36
    snapshot_records_max: int = 1 << 28

    def __post_init__(self) -> None:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        faults = [f"{name} is {value}; expected at least 1" for name, value in values.items() if value < 1]
        if faults:
            raise DeclarationError("LandingBounds", faults)

    def too_large(self, name: str, found: str, bound: str, unit: str) -> UnreadableObject:
        """The error for an object of which more was found than a bound allows."""
        return UnreadableObject(
            f"Expected at most {getattr(self, bound):,} {unit} in the object {name}, found {found}.",
            remedy=f"Deliver it in smaller objects, or raise {bound} in the log's LandingBounds; "
            "nothing of it was sealed.",
        )

    def too_slow(self, name: str, seconds: float) -> UnreadableObject:
        """The error for an object that takes longer to read and decode than a bound allows."""
        return UnreadableObject(
            f"Expected to read the object {name} in at most {self.object_seconds_max:,} seconds, found it unfinished "
            f"after {seconds:,.0f}.",
            remedy="Run again where the store or this machine was slow; otherwise deliver it in smaller objects, or "
            "raise object_seconds_max in the log's LandingBounds. Nothing of it was sealed.",
        )


DEFAULT_BOUNDS = LandingBounds()
