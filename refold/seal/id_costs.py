"""What remembering the ids of a log costs: the bytes of its seen index, and how long a look-up takes here and now."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from refold.dedup.deliveries import SeenRun, remembered_from
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.reader import LogReader
from refold.log.snapshot import SnapshotChain
from refold.seal.seen_index import SeenIndex, newest_seen
from refold.storage.names import ObjectKind, folder_of
from refold.storage.objects import ObjectStore

_SAMPLE = 1_000_000


@dataclass(frozen=True)
class IdCosts:
    """Costs of the ids of one log.

    Attributes:
        events: how many are sealed.
        remembered: how many ids the index holds.
        size_bytes: of the index.
        looked_up: how many ids of the newest snapshot with events were looked up to measure it.
        seconds: how long that took, of CPU time of this process.
    """

    events: int
    remembered: int
    size_bytes: int
    looked_up: int
    seconds: float

    @property
    def bytes_per_million(self) -> float:
        """Bytes of the index for a million remembered ids."""
        return 1e6 * self.size_bytes / self.remembered if self.remembered else 0.0

    @property
    def seconds_per_million(self) -> float:
        """Seconds to look up a million ids, where so many or fewer were looked up."""
        return 1e6 * self.seconds / self.looked_up if self.looked_up else 0.0


def id_costs(objects: ObjectStore, chain: SnapshotChain, log: Log) -> IdCosts | None:
    """Measure them; None where nothing is sealed. Writes nothing. Raises Damaged."""
    snapshot, files = newest_seen(chain, log.name)
    if snapshot is None or not snapshot.cut(log.name).events:
        return None
    since = remembered_from(log, list(chain), snapshot.ordinal)
    index = SeenIndex.open(objects, files, snapshot.cut(log.name).seq_end, since)
    events = LogReader(objects, chain, log).events(snapshot, [*log.id_columns]).slice(0, _SAMPLE)
    hashes = event_ids.hashes_of(events, log.id_columns)
    run = SeenRun(hashes, hashes, np.arange(len(hashes)))
    index.candidates(run)  # the first one compiles, and maps the index
    began = time.process_time()
    index.candidates(run)
    seconds = time.process_time() - began
    names = {file.name for file in files}
    infos = objects.list(folder_of(ObjectKind.SEEN_IDS, log=log.name))
    size_bytes = sum(info.size_bytes for info in infos if info.name in names)
    return IdCosts(snapshot.cut(log.name).seq_end, len(index), size_bytes, len(hashes), seconds)
