"""Repeats of one snapshot found again, at a cost by its events: against each other and against the seen index.

For a replay that goes on from a proven state. It uses nothing that sealing stored of the repeats themselves; the seen
index, a cache with sums, says where earlier ids are, and the events there are compared byte for byte. A replay from
offset 0 does not use that index either (`refold.dedup.from_ids`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from refold.canonical.encoding import encode_rows
from refold.dedup.deliveries import Deliveries, SeenRun, remembered_from, seal_deliveries
from refold.errors import Damaged, NotFound
from refold.log.reader import LogReader
from refold.log.segment import encoded
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.seal.seen_again import seen_index
from refold.seal.seen_index import SeenIndex, newest_seen
from refold.storage.objects import ObjectStore
from refold.stores.building import stored_deliveries

_log = logging.getLogger("refold")


class RepeatsAgain:
    """Finds the repeats of single snapshots of a log again.

    Where a log remembers ids for some snapshots only, that is done for its newest snapshot; after a redaction, whose
    events have other contents now, not at all. What sealing stored is taken there.
    """

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, reader: LogReader) -> None:
        self._objects = objects
        self._chain = chain
        self._reader = reader
        self._opened: SeenIndex | None = None

    def deliveries(self, snapshot: Snapshot) -> list[Deliveries]:
        """The delivery of each event of a snapshot, by log partition with events. Raises Damaged."""
        log, cut = self._reader.log, snapshot.cut(self._reader.log.name)
        forgotten = log.repeats_within is not None and snapshot != self._chain.head
        if not cut.events or self._chain.redactions or forgotten:
            return stored_deliveries(self._reader, snapshot)
        names = list(dict.fromkeys(["log_offset", "log_seq", *log.columns, *log.id_columns]))
        events = self._reader.events(snapshot, names).sort_by("log_seq").combine_chunks()
        run, since = SeenRun.of(log, events), remembered_from(log, list(self._chain), snapshot.ordinal)
        rows, known = self._index(since).candidates(run, since)
        earlier = np.flatnonzero(known.seqs < cut.seq_start)
        found, _ = seal_deliveries(
            log,
            run,
            (rows[earlier], known.take(earlier)),
            lambda places: events.take(pa.array(places)),
            self._fetch,
        )
        order = np.lexsort((events["log_offset"].to_numpy(), events["log_partition"].to_numpy()))
        counts = np.subtract(cut.ends, cut.starts)
        return [part for part in np.split(found[order], np.cumsum(counts)[:-1]) if len(part)]

    def _index(self, since: int) -> SeenIndex:
        if self._opened is None:
            newest, files = newest_seen(self._chain, self._reader.log.name)
            end = newest.cut(self._reader.log.name).seq_end if newest is not None else 0
            try:
                self._opened = SeenIndex.open(self._objects, files, end, since)
            except (Damaged, NotFound) as error:
                _log.warning("%s Computing the seen index again from all segments.", error)
                self._opened = seen_index(self._reader, self._chain)
        return self._opened

    def _fetch(self, seqs: Sequence[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """Ids and contents of earlier events, for the exact comparison of candidates."""
        log = self._reader.log
        for events in self._reader.at(seqs):
            ids = encode_rows([events[name] for name in log.id_columns])
            yield from zip(events["log_seq"].to_pylist(), ids, encoded(log, events), strict=True)
