"""Deduplication of one log while it is sealed: new events against each other and against all sealed ones.

`refold.dedup.deliveries` compares; here is what it needs of the log, the seen index, and what is stored of the result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from refold.base.memory import release_memory
from refold.canonical.encoding import encode_rows
from refold.dedup.conflicts import NewDeliveries
from refold.dedup.deliveries import REPEATS, Delivery, SeenRun, Seqs, remembered_from, seal_deliveries
from refold.errors import Damaged
from refold.log.declaration import Log
from refold.log.layout import SeenFile
from refold.log.reader import LogReader
from refold.log.segment import SEGMENT_EVENTS, encoded, to_parquet
from refold.log.snapshot import SnapshotChain
from refold.seal.decoding import DecodedObject
from refold.seal.new_events import NewEvents
from refold.seal.seen_again import seen_index
from refold.seal.seen_index import SeenIndex, Words, newest_seen, sorted_entries
from refold.storage.content import StoredObject, put_content
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore

_log = logging.getLogger("refold")

Candidates = tuple[Seqs, SeenRun]
"""Pairs of a place among new events and an entry of the seen index with the same hash."""


class Deduplication:
    """Finds repeats among the new events of a log, snapshot by snapshot.

    Args:
        objects, chain: where the log is, and its snapshots.
    """

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self._objects = objects
        self._chain = chain
        self._log = log
        self._reader = LogReader(objects, chain, log)
        self._opened: SeenIndex | None = None

    def run(self, new: NewEvents) -> tuple[SeenRun, Candidates]:
        """The hashes of new events, and pairs of a place among them and an entry of the seen index with that hash."""
        run = new.run()
        try:
            return run, self._index.candidates(run, self._since)
        except Damaged as error:
            self._compute_again(error)
            return run, self._index.candidates(run, self._since)

    def found(
        self,
        key: str,
        objects: Sequence[DecodedObject],
        new: NewEvents,
        run: SeenRun,
        earlier: Candidates,
    ) -> NewDeliveries:
        """The new events of some objects, in their order, with what deduplication finds. Raises Damaged."""
        start = self._seq_end
        deliveries, firsts = seal_deliveries(
            self._log, run, earlier, lambda places: new.at(start + places), self._fetch
        )
        days = [(decoded.item.folder, decoded.events) for decoded in objects]
        return NewDeliveries(self._log, key, days, run.seqs, deliveries, firsts, partial(self._events_at, new))

    def store(
        self, key: str, objects: Sequence[DecodedObject], new: NewEvents, taken: list[tuple[SeenRun, Candidates]]
    ) -> tuple[StoredObject | None, list[SeenFile]]:
        """Store the repeats among new events, and the seen index with their first deliveries.

        `taken` has what `run` returned; it is emptied, so that its memory can be freed.

        Raises ConflictLimit where a day has more conflicts than the log allows; then nothing is stored.
        """
        run, earlier = taken.pop()
        found = self.found(key, objects, new, run, earlier)
        found.check()
        firsts, repeats = found.deliveries == Delivery.FIRST, self._store_repeats(found, new)
        del earlier, found  # they take as much memory as the entries, and the run as well
        entries = sorted_entries(run, firsts)
        del run
        if len(new) >= SEGMENT_EVENTS:
            release_memory()
        return repeats, self._store_seen(entries, new.seq_start + len(new))

    def _store_seen(self, entries: Words, seq_end: int) -> list[SeenFile]:
        try:
            self._index.add(entries, seq_end, self._since)
        except Damaged as error:
            self._compute_again(error)
            self._index.add(entries, seq_end, self._since)
        return self._index.store(self._objects, self._log.name)

    @property
    def _seq_end(self) -> int:
        head = self._chain.head
        return head.cut(self._log.name).seq_end if head else 0

    @property
    def _since(self) -> int:
        return remembered_from(self._log, list(self._chain), len(self._chain))

    @property
    def _index(self) -> SeenIndex:
        if self._opened is None:
            files = newest_seen(self._chain, self._log.name)[1]
            self._opened = SeenIndex.open(self._objects, files, self._seq_end, self._since)
        return self._opened

    def _compute_again(self, error: Damaged) -> None:
        _log.warning("%s Computing the seen index again from all segments.", error)
        self._opened = seen_index(self._reader, self._chain)

    def _store_repeats(self, found: NewDeliveries, new: NewEvents) -> StoredObject | None:
        tables = [REPEATS.empty_table()]  # not on import: pyarrow imports pandas then
        repeated = found.deliveries != Delivery.FIRST
        for partition in range(len(new.starts)):
            offsets, seqs = new.places_of(partition, repeated)
            rows = seqs - new.seq_start
            columns = [np.full(len(rows), partition), offsets, seqs, found.deliveries[rows], found.firsts[rows]]
            tables.append(pa.table(columns, schema=REPEATS))
        repeats = pa.concat_tables(tables)
        if not len(repeats):
            return None
        return put_content(self._objects, ObjectKind.REPEATS, to_parquet(repeats), log=self._log.name)

    def _events_at(self, new: NewEvents, seqs: Seqs) -> Iterator[pa.Table]:
        """New and sealed events by `log_seq`, which rises."""
        yield from self._reader.at(seqs[seqs < new.seq_start].tolist())
        yield new.at(seqs[seqs >= new.seq_start])

    def _fetch(self, seqs: Sequence[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """Ids and contents of sealed events, for the exact comparison of candidates."""
        for events in self._reader.at(seqs):
            ids = encode_rows([events[name] for name in self._log.id_columns])
            contents = encoded(self._log, events)
            yield from zip(events["log_seq"].to_pylist(), ids, contents, strict=True)
