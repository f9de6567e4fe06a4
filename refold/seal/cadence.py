"""The cadence of a project: which keys its snapshots have, and when the time of one is over. No I/O, no clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from refold.errors import FixInput


@dataclass(frozen=True)
class Daily:
    """One snapshot a day, closed when the day and a grace have passed or when landing marks it complete.

    Attributes:
        start: the first day.
        end: the first day without a snapshot; None for a log without end.
        grace_hours: how long after midnight UTC a day's folder may still fill before a sensor closes it.
    """

    start: dt.date
    end: dt.date | None = None
    grace_hours: int = 2

    def keys(self, through: str) -> list[str]:
        """All keys from the start to `through`, inclusive, ascending. Raises FixInput outside the cadence."""
        try:
            last = dt.date.fromisoformat(through)
        except ValueError:
            raise FixInput(
                f"{through!r} is not a snapshot key; expected a day as YYYY-MM-DD.",
                remedy=f"The first is {self.start}.",
            ) from None
        if last < self.start or (self.end is not None and last >= self.end):
            until = f"to {self.end - dt.timedelta(days=1)}" if self.end else "on"
            raise FixInput(
                f"The key {through} is outside this project's snapshots, which run from {self.start} {until}.",
                remedy="Change the project's cadence, or the landing.",
            )
        return [(self.start + dt.timedelta(days=n)).isoformat() for n in range((last - self.start).days + 1)]

    def contains(self, key: str) -> bool:
        """Whether a key is a snapshot of this cadence."""
        day = dt.date.fromisoformat(key)
        return self.start <= day and (self.end is None or day < self.end)

    def following(self, key: str | None) -> str | None:
        """The key after a key (None: the first one); None where the cadence has ended."""
        day = self.start if key is None else dt.date.fromisoformat(key) + dt.timedelta(days=1)
        return None if self.end is not None and day >= self.end else day.isoformat()

    def closed(self, key: str, now: dt.datetime) -> bool:
        """Whether a key's time is over at `now` (UTC), grace included."""
        midnight = dt.datetime.combine(dt.date.fromisoformat(key), dt.time(), dt.UTC)
        return now >= midnight + dt.timedelta(days=1, hours=self.grace_hours)
