"""Which keys are sealed, and when: what is due at a time, and what in landing waits, and for what.

How one key is sealed is `refold.seal.sealer`. A sealer lists landing once; each call here opens a new one. The time is
handed in; commands, sensors and jobs that hand in the same time seal the same keys.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile

from refold.base.progress import track
from refold.errors import Damaged, FixInput
from refold.log.declaration import Log
from refold.log.snapshot import SnapshotChain
from refold.seal.cadence import Cadence
from refold.seal.refusal import DryRun
from refold.seal.report import SealReport
from refold.seal.sealer import Sealer
from refold.storage.objects import ObjectStore

_SHOWN = 20


class Waits(StrEnum):
    """Why something in landing is not sealed yet; the values are the words of messages."""

    DUE = "it is due"
    OPEN = "it is not over"
    LATE = "it landed late"
    FUTURE = "it is in the future"
    BEFORE = "it is before the project's start"
    AFTER = "it is after the project's end"
    IMPOSSIBLE = "no calendar has it"
    UNKNOWN = "no log of this project has that name"


@dataclass(frozen=True)
class Waiting:
    """A place in landing of which something is not sealed yet.

    Attributes:
        place: the folder, the log first; ends in `/`, except for an object beside the folders of the logs.
        objects: how many objects wait there; 0 for a place that no log reads.
        why: the reason.
        until: what it waits for, as a sentence.
    """

    place: str
    objects: int
    why: Waits
    until: str

    @property
    def is_usual(self) -> bool:
        """Whether it is sealed in time by itself; somebody should know of all others."""
        return self.why in (Waits.DUE, Waits.OPEN, Waits.LATE)

    def __str__(self) -> str:
        count = f" ({self.objects} object{'s' if self.objects > 1 else ''})" if self.objects else ""
        return f"{self.place}{count} waits: {self.why}. {self.until}"


def shortened(waiting: Sequence[Waiting]) -> list[str]:
    """What waits as lines, at most twenty and how many more."""
    more = [f"… and {len(waiting) - _SHOWN} more places wait."] if len(waiting) > _SHOWN else []
    return [*map(str, waiting[:_SHOWN]), *more]


class Sealing:
    """Seals a project's logs as far as landing, the cadence and the time allow.

    Args:
        open_landing: opens landing as it is now; not called where everything asked for is sealed.
        objects, chain: where snapshots are stored, and those that are.
        logs, cadence: what is sealed, and under which keys.
        now: the time, aware, at which keys are over or not.
        memory_limit_mb: how much memory sealing may use; None is half of the machine's memory.
    """

    def __init__(
        self,
        open_landing: Callable[[], ObjectStore],
        objects: ObjectStore,
        chain: SnapshotChain,
        logs: Sequence[Log],
        cadence: Cadence,
        now: dt.datetime,
        memory_limit_mb: int | None = None,
    ) -> None:
        self._open_landing = open_landing
        self._objects = objects
        self._chain = chain
        self._logs = logs
        self._cadence = cadence
        self._now = now
        self._memory_limit_mb = memory_limit_mb
        self._sealer: Sealer | None = None

    def sealer(self) -> Sealer:
        """A sealer over landing as it is now; make a new one after an error. Raises NotFound, FixInput, Damaged."""
        landing, limit = self._open_landing(), self._memory_limit_mb
        sealer = Sealer(landing, self._objects, self._chain, self._logs, self._cadence, limit)
        self._refuse_stray_head(sealer.cadence)
        return sealer

    def _refuse_stray_head(self, cadence: Cadence) -> None:
        """Refuse a newest snapshot of the future that leaves out keys: nothing would be sealed before its time."""
        *_, before, head = [None, None, *self._chain]
        if before is None or head is None or cadence.begun(head.key, self._now):
            return
        expected = cadence.following(before.key)
        if expected != head.key:
            raise Damaged(
                f"The newest snapshot, {head.name}, is in the future and does not follow {before.key}: expected "
                f"{expected or 'none'}. Nothing could be sealed before {head.key} is over.",
                remedy=f"If it was not sealed on purpose, give it up: `refold log unseal {head.key} --yes`.",
            )

    def seal(self, through: str | None = None, *, only_due: bool = False) -> Iterator[SealReport]:
        """Seal the keys that `keys` gives, oldest first; sealed keys are skipped.

        Landing is not opened where `through` is sealed already. Raises FixInput where `only_due` and one is not due.
        """
        self._chain.refresh()
        if through is not None and through in self._chain:
            return
        self._sealer = sealer = self.sealer()
        keys = self.keys(sealer, through)
        early = self.early(sealer, keys)
        if early and only_due:
            raise FixInput(
                f"The {sealer.cadence.unit} {early[0]} is not over, and is sealed after "
                f"{sealer.cadence.closes(early[0])}.",
                remedy=f"Wait, or ask for it by name: `refold rebuild --through {early[-1]}`.",
            )
        for report in track(sealer.seal(keys), "seal", len(keys), lambda report: report.snapshot.events):
            yield replace(report, early=report.snapshot.key in early)

    def dry_run(self, key: str | None = None) -> list[DryRun]:
        """What sealing a key would make of what waits, by log; nothing is stored.

        `key` is that of the next snapshot if not given; where none is to be sealed, the newest: what waits came late.
        Raises NotFound where there is no landing.
        """
        self._chain.refresh()
        sealer = self.sealer()
        key = key or next(iter(self.due(sealer)), self._chain.head.key if self._chain.head else None)
        return sealer.dry_run(key) if key else []

    def left(self) -> list[Waiting]:
        """What in landing is not sealed, as the last `seal` found it, else as it is now. Raises NotFound, FixInput."""
        return self.waiting(self._sealer or self.sealer(), ())

    def keys(self, sealer: Sealer, through: str | None = None) -> list[str]:
        """The keys to seal, ascending: those due, or where a key is named, all up to it, over or not.

        Raises FixInput where `through` is outside the cadence, or before the newest snapshot without being sealed.
        """
        if through is None:
            return list(self.due(sealer))
        sealer.cadence.require(through)
        head = self._chain.head
        if head is not None and through < head.key and through not in self._chain:
            raise FixInput(
                f"The key {through} is before the first snapshot {next(iter(self._chain)).key} and can no longer be "
                f"sealed: what is in its folder enters the next snapshot, as late.",
                remedy="To seal it under its own key, unseal all snapshots first: see `refold log unseal --help`.",
            )
        return self._after_head(sealer, through)

    def _after_head(self, sealer: Sealer, last: str) -> list[str]:
        """The keys after the newest snapshot up to a key."""
        head = self._chain.head
        first = sealer.cadence.following(head.key) if head else sealer.cadence.first or last
        return sealer.cadence.between(first, last) if first else []

    def early(self, sealer: Sealer, keys: Sequence[str]) -> list[str]:
        """Those of some keys that are not due yet: they are sealed only where they are asked for by name."""
        return [key for key in keys if not self._is_due(key, sealer)]

    def due(self, sealer: Sealer) -> dict[str, list[str]]:
        """The keys to seal now, in order, each with the names of the objects that wait for it.

        A key is due when its time and grace have passed, or when it has begun and landing marks its folder complete,
        all keys before it are sealed or due, and an object waits for it or for a later one that is due. Objects that
        came late into sealed folders, and retries, wait for the first key after the newest snapshot.
        """
        pending, head = sealer.pending(), self._chain.head
        late = sorted(name for folder in pending if head and folder <= head.key for name in pending[folder])
        first = sealer.cadence.following(head.key) if head else None
        ahead = [f for f in pending if f and (head is None or f > head.key) and self._cadence.begun(f, self._now)]
        wanted = {*ahead, *([first] if first and late else [])}
        keys = self._after_head(sealer, max(wanted)) if wanted else []
        due = list(takewhile(lambda key: self._is_due(key, sealer), keys))
        while due and due[-1] not in wanted:
            due.pop()
        return {key: [*(late if key == due[0] else []), *pending.get(key, [])] for key in due}

    def _is_due(self, key: str, sealer: Sealer) -> bool:
        marked = self._cadence.begun(key, self._now) and sealer.complete(key)
        return marked or self._cadence.closed(key, self._now)

    def waiting(self, sealer: Sealer, keys: Sequence[str]) -> list[Waiting]:
        """Everything in landing that is still not sealed once some keys are, by place.

        Together with what is sealed this is all of landing, but for markers and hidden objects.
        """
        found: dict[tuple[str, str], int] = {}
        for item in sealer.unsealed():
            taken = keys and item.folder <= keys[-1] and (not item.folder or sealer.cadence.contains(item.folder))
            if not taken:
                place = item.name.rpartition("/")[0] + "/", item.folder
                found[place] = found.get(place, 0) + 1
        places = [self._waits(*place, count, sealer, keys) for place, count in sorted(found.items())]
        return [*places, *self._unknown()]

    def _waits(self, place: str, key: str, count: int, sealer: Sealer, keys: Sequence[str]) -> Waiting:
        cadence, head = sealer.cadence, self._chain.head
        newest = keys[-1] if keys else head.key if head else None
        if key and not cadence.is_key(key):
            why, until = Waits.IMPOSSIBLE, f"Expected {cadence.shape}; move it to the folder where it belongs."
        elif key and cadence.first is not None and key < cadence.first:
            why, until = Waits.BEFORE, f"Move the start, {cadence.first}, back, or the folder out of landing."
        elif key and cadence.stop is not None and key >= cadence.stop:
            why, until = Waits.AFTER, f"The cadence runs {cadence.range}; move its end, or the folder out of landing."
        elif newest is not None and key <= newest:
            why, until = Waits.LATE, self._following(cadence, newest)
        elif not cadence.begun(key, self._now):
            why, until = Waits.FUTURE, f"It is sealed after {cadence.closes(key)}."
        elif cadence.closed(key, self._now):
            why, until = Waits.DUE, "The next rebuild seals it, or says why its log is refused."
        else:
            why, until = Waits.OPEN, f"The {cadence.unit} closes on {cadence.closes(key)}."
        return Waiting(place, count, why, until)

    def _following(self, cadence: Cadence, newest: str) -> str:
        """When late objects are sealed, as a sentence."""
        following = cadence.following(newest)
        if following is None:
            return "It is never sealed: the cadence has ended."
        when = "in the next rebuild" if cadence.closed(following, self._now) else f"after {cadence.closes(following)}"
        return f"It is sealed with {following}, {when}."

    def _unknown(self) -> Iterator[Waiting]:
        known = {log.folder.partition("/")[0] + "/" for log in self._logs}
        for place in self._open_landing().top() if "/" not in known else ():
            if place not in known and not place.startswith(("_", ".")):
                yield Waiting(place, 0, Waits.UNKNOWN, "Declare a store of that log, or move it out of landing.")
