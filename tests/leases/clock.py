"""A clock that moves when it is told to, or when somebody sleeps. Not a test."""

from __future__ import annotations

import datetime as dt


class HandClock:
    """A clock moved by hand; `skew` is how fast it goes."""

    def __init__(self, skew: float = 1.0) -> None:
        self.seconds, self.skew = 0.0, skew

    def monotonic(self) -> float:
        return self.seconds * self.skew

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds / self.skew

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds)
