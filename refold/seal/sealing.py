"""Which keys are sealed, and when: what has landed up to a key, and what is due at a time.

How one key is sealed is `refold.seal.sealer`. A sealer lists landing once; each call here opens a new one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile

from refold.base.progress import track
from refold.log.declaration import Log
from refold.log.snapshot import SnapshotChain
from refold.seal.cadence import Daily
from refold.seal.refusal import DryRun
from refold.seal.sealer import Sealer, SealReport
from refold.storage.objects import ObjectStore


class Sealing:
    """Seals a project's logs as far as landing and the cadence allow.

    Args:
        open_landing: opens landing as it is now; not called where everything asked for is sealed.
        objects, chain: where snapshots are stored, and those that are.
        logs, cadence: what is sealed, and under which keys.
    """

    def __init__(
        self,
        open_landing: Callable[[], ObjectStore],
        objects: ObjectStore,
        chain: SnapshotChain,
        logs: Sequence[Log],
        cadence: Daily,
    ) -> None:
        self._open_landing = open_landing
        self._objects = objects
        self._chain = chain
        self._logs = logs
        self._cadence = cadence

    def sealer(self) -> Sealer:
        """A sealer over landing as it is now; make a new one after an error. Raises NotFound, FixInput."""
        return Sealer(self._open_landing(), self._objects, self._chain, self._logs)

    def seal(self, through: str | None = None) -> Iterator[SealReport]:
        """Seal every key up to `through` (None: the last folder in landing), oldest first; sealed keys are skipped.

        Landing is not opened where `through` is sealed already.
        """
        self._chain.refresh()
        if through is not None and through in self._chain:
            return
        sealer = self.sealer()
        keys = self.unsealed(sealer, through)
        if keys is not None:
            yield from track(sealer.seal(keys), "seal", len(keys), lambda report: report.snapshot.events)

    def dry_run(self, key: str | None = None) -> list[DryRun]:
        """What sealing a key would make of what waits, by log; nothing is stored.

        `key` is that of the next snapshot if not given; where none is to be sealed, the newest: what waits came late.
        Raises NotFound where there is no landing.
        """
        self._chain.refresh()
        sealer = self.sealer()
        key = key or next(iter(self.unsealed(sealer) or []), self._chain.head.key if self._chain.head else None)
        return sealer.dry_run(key) if key else []

    def unsealed(self, sealer: Sealer, through: str | None = None) -> list[str] | None:
        """The keys up to `through` (None: the last folder in landing) that are not sealed; None where nothing landed.

        Raises FixInput where a folder or `through` lies outside the cadence.
        """
        folders = sealer.folders()
        last = through or max(folders, default=None)
        if last is None:
            return None
        if folders:
            self._cadence.keys(folders[0])
        return self._unsealed(last)

    def _unsealed(self, last: str) -> list[str]:
        return [key for key in self._cadence.keys(last) if key not in self._chain]

    def due(self, now: dt.datetime, sealer: Sealer | None = None) -> dict[str, list[str]]:
        """The keys to seal at `now` (UTC), in order, each with the names of the objects that wait for it.

        A key is due when its time and grace have passed, or when landing marks its folder complete, and all keys
        before it are sealed or due. Objects that came late into sealed folders wait for the next key.
        """
        sealer = sealer or self.sealer()
        pending = sealer.pending()
        late = self._late(pending)
        last = self._last_open(pending, has_late=bool(late))
        keys = self._unsealed(last) if last else []
        due = takewhile(lambda key: self._cadence.closed(key, now) or sealer.complete(key), keys)
        return {key: [*(late if key == keys[0] else []), *pending.get(key, [])] for key in due}

    def _late(self, pending: Mapping[str, Sequence[str]]) -> list[str]:
        """The objects that came into folders after these were sealed, and retries, sorted.

        A retry waits like a late object, and is never recorded as one.
        """
        head = self._chain.head
        return sorted(name for folder, names in pending.items() if head and folder <= head.key for name in names)

    def _last_open(self, pending: Mapping[str, Sequence[str]], *, has_late: bool) -> str | None:
        """The last key for which an object waits; late ones wait for the key after the newest snapshot, if any."""
        head = self._chain.head
        ahead = [folder for folder in pending if head is None or folder > head.key]
        following = self._cadence.following(head.key if head else None) if has_late else None
        return max([*ahead, *([following] if following else [])], default=None)
