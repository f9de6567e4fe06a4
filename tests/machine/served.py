"""What readers must be served, kept in plain Python: the series of the pointer, and what each sink holds.

The law of release, rollback and prune written a second time, over the places of days in history instead of versions:
the code never changes here, so a day has one version in every sink. Nothing here knows Refold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Held = frozenset[tuple[str, int]]
"""What sinks hold: pairs of a sink's title and the place of a day."""

Shown = tuple[int | None, int | None]
"""The places of the days that the SQL views and the export show; None before the first release."""


@dataclass(frozen=True)
class Served:
    """One number of the pointer.

    Attributes:
        number: from 1.
        day: the place of the day that it serves.
        back_to: the number whose content it serves again, where it is a rollback.
        left: the highest place that a rollback left and that nothing has passed since.
        moves: whether it moved readers; a prune does not.
    """

    number: int
    day: int
    back_to: int | None = None
    left: int | None = None
    moves: bool = True


class Refused(Exception):
    """The law does not allow it; `kind` is the kind of error that must be told."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class ServedModel:
    """The pointer's series, and what the sinks hold and show.

    Attributes:
        series: every number, oldest first.
        held: what the sinks hold whole.
        shown: what those see who do not ask the pointer.
        retiring: what a prune that was killed has given up and not dropped.
    """

    titles: Sequence[str]
    series: list[Served] = field(default_factory=list)
    held: Held = frozenset()
    shown: Shown = (None, None)
    retiring: Held = frozenset()

    @property
    def current(self) -> Served | None:
        """What is served; None before the first release."""
        return self.series[-1] if self.series else None

    def whole(self, day: int) -> bool:
        """Whether every sink holds a day."""
        return all((title, day) in self.held for title in self.titles)

    def release(self, day: int, ready: bool, again: bool = False) -> Served | None:
        """The number that a release of a day makes; None where it changes nothing. Raises Refused.

        `ready` says whether all stores are proven at that day.
        """
        current = self.current
        if current is not None and current.day > day:
            return None
        if not ready or not self.whole(day):
            raise Refused("unproven")
        if current is not None and current.day == day:
            return None
        if current is not None and current.left is not None and day <= current.left and not again:
            raise Refused("fix-input")
        self._refuse_retiring(day)
        return Served(len(self.series) + 1, day)

    def roll_back(self, number: int | None) -> Served | None:
        """The number that a rollback makes (None: to what was served before). Raises Refused."""
        current = self.current
        if current is None:
            raise Refused("not-found")
        old = self._before(current) if number is None else self._numbered(number)
        if old.day == current.day:
            return None
        self._refuse_retiring(old.day)
        if not self.whole(old.day):
            raise Refused("not-found")
        left = max(current.day, -1 if current.left is None else current.left)
        return Served(
            len(self.series) + 1, old.day, back_to=old.back_to or old.number, left=left if old.day < left else None
        )

    def _before(self, current: Served) -> Served:
        origin = current.back_to or current.number
        for old in reversed(self.series):
            if old.number < origin and old.moves and old.day != current.day:
                return old
        raise Refused("not-found")

    def _numbered(self, number: int) -> Served:
        if not 1 <= number <= len(self.series):
            raise Refused("not-found")
        return self.series[number - 1]

    def _refuse_retiring(self, day: int) -> None:
        if any((title, day) in self.retiring for title in self.titles):
            raise Refused("conflict")

    def prune(self, keep: int, begun: Held) -> tuple[Served | None, Held]:
        """The number that a prune makes, with an age of no time, and what it drops; an unfinished one is finished.

        `begun` is what sinks hold, also in part.
        """
        current = self.current
        if current is None:
            return None, frozenset()
        moved = [served for served in reversed(self.series) if served.moves]
        kept = {served.day for served in moved[:keep]}
        ever = {served.day for served in moved}
        old = {(title, day) for title, day in begun if day not in kept and (day in ever or day < current.day)}
        given_up = frozenset(old) - self.retiring
        if not given_up:
            return None, self.retiring
        number = Served(len(self.series) + 1, current.day, current.back_to, current.left, moves=False)
        return number, given_up | self.retiring
