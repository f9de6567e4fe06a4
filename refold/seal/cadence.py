"""The cadence of a project: which keys its snapshots have, and when the time of one is over. No I/O, no clock.

Keys are UTC: the day `2026-03-29` begins and ends at midnight UTC wherever events happen, so a clock change never makes
a day longer or a key ambiguous. The keys of a cadence have one length and sort as text.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from refold.errors import DeclarationError, FixInput

_GAP_MAX = 366
"""The most keys from the first folder in landing to the second where a project declares no start."""


class Cadence(ABC):
    """Consecutive periods of equal length, one snapshot each; `Daily` and `Hourly` are the two there are.

    A period is closed when it is over and its grace has passed. Markers in the landing of all logs close it earlier,
    but not before it has begun.
    """

    period: dt.timedelta
    """The time of one key."""
    unit: str
    """What a period is called in messages."""
    shape: str
    """What a key looks like in messages."""

    @property
    @abstractmethod
    def grace(self) -> dt.timedelta:
        """How long after the end of a period its folder may still fill."""

    @property
    @abstractmethod
    def first(self) -> str | None:
        """The first key; None for a project that begins at its first folder in landing."""

    @property
    @abstractmethod
    def stop(self) -> str | None:
        """The first key without a snapshot; None for a log without end."""

    @abstractmethod
    def beginning(self, key: str) -> Self:
        """The same cadence with another first key."""

    @abstractmethod
    def key(self, time: dt.datetime) -> str:
        """The key of the period that holds a time in UTC."""

    @abstractmethod
    def begins(self, key: str) -> dt.datetime:
        """When the period of a key begins, in UTC. Raises ValueError for text that is not a key."""

    def is_key(self, text: str) -> bool:
        """Whether a text is a key of this cadence's form, inside its range or not: not for a day no calendar has."""
        try:
            return self.key(self.begins(text)) == text
        except ValueError:
            return False

    def contains(self, key: str) -> bool:
        """Whether a text is the key of a snapshot of this cadence."""
        return self.is_key(key) and (self.first or key) <= key and (self.stop is None or key < self.stop)

    def started(self, sealed: str | None, folders: Iterable[str]) -> Cadence:
        """The cadence with a start: its own, else the first sealed key, else the first folder of landing, if any.

        Raises FixInput where that folder is far from the next, since every key between them would be sealed empty.
        """
        if self.first is not None:
            return self
        if sealed is not None:
            return self.beginning(sealed)
        keys = sorted(folder for folder in folders if self.contains(folder))
        if len(keys) > 1 and len(self.between(keys[0], keys[1])) > _GAP_MAX:
            raise FixInput(
                f"The project declares no start, and its first folder in landing, {keys[0]}, is more than {_GAP_MAX} "
                f"{self.unit}s before the next, {keys[1]}.",
                remedy="Declare the start, or move that folder out of landing.",
            )
        return self.beginning(keys[0]) if keys else self

    def keys(self, through: str) -> list[str]:
        """All keys from the first to `through`, inclusive, ascending. Raises FixInput outside the cadence."""
        self.require(through)
        return self.between(self.first or through, through)

    def between(self, first: str, last: str) -> list[str]:
        """All keys from one to another, both included, ascending; none where the second is earlier."""
        start = self.begins(first)
        count = (self.begins(last) - start) // self.period + 1
        return [self.key(start + n * self.period) for n in range(count)]

    def require(self, key: str) -> None:
        """Raise FixInput where a text is not the key of a snapshot of this cadence."""
        if not self.is_key(key):
            raise FixInput(
                f"{key!r} is not a snapshot key; expected {self.shape}.",
                remedy=f"The first is {self.first}." if self.first else "`refold log ls` lists those sealed.",
            )
        if not self.contains(key):
            raise FixInput(
                f"The key {key} is outside this project's snapshots, which run {self.range}.",
                remedy="Change the project's cadence, or the landing.",
            )

    @property
    def range(self) -> str:
        """From where to where the keys run, for messages."""
        start = f"from {self.first}" if self.first else "from the first folder in landing"
        if self.stop is None:
            return f"{start} on"
        return f"{start} to {self.key(self.begins(self.stop) - self.period)}"

    def following(self, key: str) -> str | None:
        """The key after a key; None where the cadence or the calendar ends."""
        try:
            after = self.key(self.begins(key) + self.period)
        except OverflowError:
            return None
        return None if self.stop is not None and after >= self.stop else after

    def begun(self, key: str, now: dt.datetime) -> bool:
        """Whether the period of a key has begun at `now`."""
        return now.astimezone(dt.UTC) >= self.begins(key)

    def closed(self, key: str, now: dt.datetime) -> bool:
        """Whether the period of a key is over at `now` and its grace has passed."""
        return now.astimezone(dt.UTC) - self.grace - self.period >= self.begins(key)

    def newest_closed(self, now: dt.datetime) -> str:
        """The last key that is closed at `now`, whether or not it is inside the cadence."""
        return self.key(now.astimezone(dt.UTC) - self.grace - self.period)

    def closes(self, key: str) -> str:
        """When a key closes, for messages."""
        try:
            return f"{self.begins(key) + self.period + self.grace:%Y-%m-%d %H:%M} UTC"
        except OverflowError:
            return "the end of the calendar"


@dataclass(frozen=True)
class Daily(Cadence):
    """One snapshot a day, from midnight to midnight UTC, under keys such as `2026-01-31`.

    Attributes:
        start: the first day; None to begin at the first folder in landing. Dagster needs one.
        end: the first day without a snapshot; None for a log without end.
        grace_hours: how long after midnight UTC a day's folder may still fill before the day is sealed.

    >>> Daily(dt.date(2026, 1, 30)).keys("2026-02-01")
    ['2026-01-30', '2026-01-31', '2026-02-01']
    """

    start: dt.date | None = None
    end: dt.date | None = None
    grace_hours: int = 2

    period = dt.timedelta(days=1)
    unit = "day"
    shape = "a day as YYYY-MM-DD"

    @property
    def grace(self) -> dt.timedelta:
        """The grace as a duration."""
        return dt.timedelta(hours=self.grace_hours)

    @property
    def first(self) -> str | None:
        """The start as a key."""
        return self.start.isoformat() if self.start else None

    @property
    def stop(self) -> str | None:
        """The end as a key."""
        return self.end.isoformat() if self.end else None

    def beginning(self, key: str) -> Self:
        """The same with another start."""
        return replace(self, start=dt.date.fromisoformat(key))

    def key(self, time: dt.datetime) -> str:
        """The date."""
        return time.date().isoformat()

    def begins(self, key: str) -> dt.datetime:
        """Midnight UTC."""
        return dt.datetime.combine(dt.date.fromisoformat(key), dt.time(), dt.UTC)


@dataclass(frozen=True)
class Hourly(Cadence):
    """One snapshot an hour, of UTC, under keys such as `2026-01-31T05`; its logs need folders of hours.

    Attributes:
        start: the first hour, whole and aware; None to begin at the first folder in landing. Dagster needs one.
        end: the first hour without a snapshot, likewise; None for a log without end.
        grace_minutes: how long after an hour its folder may still fill before the hour is sealed.

    Raises DeclarationError for a start or end that is naive or not a whole hour.

    >>> Hourly(dt.datetime(2026, 1, 31, 22, tzinfo=dt.UTC)).keys("2026-02-01T00")
    ['2026-01-31T22', '2026-01-31T23', '2026-02-01T00']
    """

    start: dt.datetime | None = None
    end: dt.datetime | None = None
    grace_minutes: int = 15

    period = dt.timedelta(hours=1)
    unit = "hour"
    shape = "an hour of UTC as YYYY-MM-DDTHH"

    def __post_init__(self) -> None:
        given = {"start": self.start, "end": self.end}
        faults = [
            f"expected {name} to be a whole hour with its time zone, found {time.isoformat()}"
            for name, time in given.items()
            if time is not None and (time.tzinfo is None or time.astimezone(dt.UTC) != self._whole(time))
        ]
        if faults:
            raise DeclarationError("Hourly", faults)

    @staticmethod
    def _whole(time: dt.datetime) -> dt.datetime:
        return time.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)

    @property
    def grace(self) -> dt.timedelta:
        """The grace as a duration."""
        return dt.timedelta(minutes=self.grace_minutes)

    @property
    def first(self) -> str | None:
        """The start as a key."""
        return self.key(self.start) if self.start else None

    @property
    def stop(self) -> str | None:
        """The end as a key."""
        return self.key(self.end) if self.end else None

    def beginning(self, key: str) -> Self:
        """The same with another start."""
        return replace(self, start=self.begins(key))

    def key(self, time: dt.datetime) -> str:
        """The date and the hour of UTC."""
        return time.astimezone(dt.UTC).isoformat(timespec="hours").partition("+")[0]

    def begins(self, key: str) -> dt.datetime:
        """The hour's first instant."""
        return dt.datetime.strptime(key, "%Y-%m-%dT%H").replace(tzinfo=dt.UTC)
