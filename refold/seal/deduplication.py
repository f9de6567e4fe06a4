"""Deduplication of one log while it is sealed: new events against each other and against all sealed ones.

`refold.dedup.deliveries` compares; here is what it needs of the log, the seen index, and what is stored of the result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from refold.canonical.encoding import encode_rows
from refold.dedup.conflicts import NewDeliveries
from refold.dedup.deliveries import REPEATS, Delivery, SeenRun, Seqs, seal_deliveries
from refold.errors import Damaged
from refold.log.declaration import Log
from refold.log.layout import SeenFile
from refold.log.reader import LogReader
from refold.log.segment import encoded, to_parquet
from refold.log.snapshot import SnapshotChain
from refold.seal.decoding import DecodedObject
from refold.seal.new_events import NewEvents, rows_at, run_of
from refold.seal.seen_index import SeenIndex, newest_seen, seen_index
from refold.storage.content import StoredObject, put_content
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore

_log = logging.getLogger("refold")


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

    def run(self, parts: Sequence[NewEvents]) -> tuple[SeenRun, tuple[Seqs, SeenRun]]:
        """The new events, and pairs of a place among them and an entry of the seen index with the same hash."""
        run = run_of(parts, self._seq_end, self._seq_end + sum(map(len, parts)))
        try:
            return run, self._index.candidates(run)
        except Damaged as error:
            self._compute_again(error)
            return run, self._index.candidates(run)

    def found(
        self,
        key: str,
        objects: Sequence[DecodedObject],
        parts: Sequence[NewEvents],
        run: SeenRun,
        earlier: tuple[Seqs, SeenRun],
    ) -> NewDeliveries:
        """The new events of some objects, in their order, with what deduplication finds. Raises Damaged."""
        start = self._seq_end
        deliveries, firsts = seal_deliveries(
            self._log, run, earlier, lambda places: rows_at(parts, start + places), self._fetch
        )
        days = np.repeat([decoded.item.folder for decoded in objects], [len(decoded.rows) for decoded in objects])
        return NewDeliveries(self._log, key, days, run.seqs, deliveries, firsts, partial(self._events_at, parts))

    def store(
        self, new: NewDeliveries, run: SeenRun, parts: Sequence[NewEvents]
    ) -> tuple[StoredObject | None, list[SeenFile]]:
        """Store the repeats among the new events, and the seen index with their first deliveries."""
        firsts = run.take(run.by_hash[new.deliveries[run.by_hash] == Delivery.FIRST])
        seq_end = self._seq_end + len(run)
        try:
            self._index.add(firsts, seq_end)
        except Damaged as error:
            self._compute_again(error)
            self._index.add(firsts, seq_end)
        return self._store_repeats(new, parts), self._index.store(self._objects, self._log.name)

    @property
    def _seq_end(self) -> int:
        head = self._chain.head
        return head.cut(self._log.name).seq_end if head else 0

    @property
    def _index(self) -> SeenIndex:
        if self._opened is None:
            self._opened = SeenIndex.open(self._objects, newest_seen(self._chain, self._log.name)[1], self._seq_end)
        return self._opened

    def _compute_again(self, error: Damaged) -> None:
        _log.warning("%s Computing the seen index again from all segments.", error)
        self._opened = seen_index(self._reader, self._chain)

    def _store_repeats(self, new: NewDeliveries, parts: Sequence[NewEvents]) -> StoredObject | None:
        tables = [REPEATS.empty_table()]  # not on import: pyarrow imports pandas then
        for partition, part in enumerate(parts):
            rows = part.seqs - self._seq_end
            again = np.flatnonzero(new.deliveries[rows] != Delivery.FIRST)
            where, found = part.events["log_offset"].to_numpy()[again], new.deliveries[rows[again]]
            columns = [np.full(len(again), partition), where, part.seqs[again], found, new.firsts[rows[again]]]
            tables.append(pa.table(columns, schema=REPEATS))
        repeats = pa.concat_tables(tables)
        if not len(repeats):
            return None
        return put_content(self._objects, ObjectKind.REPEATS, to_parquet(repeats), log=self._log.name)

    def _events_at(self, parts: Sequence[NewEvents], seqs: Seqs) -> Iterator[pa.Table]:
        """New and sealed events by `log_seq`, which rises."""
        yield from self._reader.at(seqs[seqs < self._seq_end].tolist())
        yield rows_at(parts, seqs[seqs >= self._seq_end])

    def _fetch(self, seqs: Sequence[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """Ids and contents of sealed events, for the exact comparison of candidates."""
        for events in self._reader.at(seqs):
            ids = encode_rows([events[name] for name in self._log.id_columns])
            contents = encoded(self._log, events)
            yield from zip(events["log_seq"].to_pylist(), ids, contents, strict=True)
