"""The new events of a log while they are sealed: by log partition and offset, and across the log by `log_seq`.

Comes after `decoding`, which gives rows, and before `deduplication` and `refold.log.segment`. Rows are held in
memory up to a limit and in a temporary file beyond it, so that a snapshot may be larger than memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.encoding import Hashes
from refold.dedup.deliveries import SeenRun, Seqs
from refold.dedup.spill import Kept
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.segment import encoded

Partitions = npt.NDArray[np.int16]
"""The log partition of each of some events."""

TOGETHER_EVENTS = 1 << 14
"""How many events, of one object or of several, are ordered together."""


class _Piece(NamedTuple):
    """Some events of one log partition, kept under their first `log_seq`."""

    first_seq: int
    last_seq: int


class NewEvents:
    """The new events of a log, added in landing order; each gets the next `log_seq` and the next offset.

    Besides the rows, 18 bytes of each event are held in memory.

    Args:
        starts: the offset from which each log partition goes on.
        seq_start: the `log_seq` of the first event.
        memory_bytes: the most memory for rows.
        together_events: about how many events are ordered together.
    """

    def __init__(
        self,
        log: Log,
        starts: Sequence[int],
        seq_start: int,
        memory_bytes: int,
        together_events: int = TOGETHER_EVENTS,
    ) -> None:
        self.starts = list(starts)
        self.seq_start = seq_start
        self._log = log
        self._together_events = together_events
        self._kept = Kept[pa.Table](memory_bytes, lambda table: table.nbytes)
        self._waiting: list[tuple[pa.Table, Partitions]] = []
        self._waiting_events = 0
        self._pieces: list[list[_Piece]] = [[] for _ in starts]
        self._ends = list(starts)
        self._digests = [hashlib.sha256() for _ in starts]
        self._partitions = [np.zeros(0, dtype=np.int16)]
        self._hashes = [(np.zeros(0, dtype=np.uint64),) * 2]

    def add(self, rows: pa.Table, partitions: Partitions) -> None:
        """Take in the next events, with declared columns, `source_object` and `source_line`."""
        self._waiting.append((rows, partitions))
        self._waiting_events += len(rows)
        if self._waiting_events >= self._together_events:
            self._order()

    def __len__(self) -> int:
        return sum(self.ends) - sum(self.starts)

    @property
    def ends(self) -> list[int]:
        """The offset after the last event of each log partition."""
        self._order()
        return self._ends

    @property
    def content(self) -> list[str]:
        """The `content_digest` of each log partition."""
        self._order()
        return [digest.hexdigest() for digest in self._digests]

    def run(self) -> SeenRun:
        """The hashes of all events, in the order of `log_seq`; to be called once, since they are not kept."""
        self._order()
        ids, contents = (np.concatenate(column) for column in zip(*self._hashes, strict=True))
        self._hashes.clear()
        return SeenRun(ids, contents, np.arange(self.seq_start, self.seq_start + len(ids)))

    def places_of(self, partition: int, chosen: npt.NDArray[np.bool_]) -> tuple[Seqs, Seqs]:
        """Offset and `log_seq` of the chosen events of a log partition; `chosen` has one for each `log_seq`."""
        self._order()
        mine = np.flatnonzero(np.concatenate(self._partitions) == partition)
        places = np.flatnonzero(chosen[mine])
        return self.starts[partition] + places, self.seq_start + mine[places]

    def tables(self, partition: int) -> Iterator[pa.Table]:
        """The events of a log partition by offset, in tables of the log's schema."""
        self._order()
        for piece in self._pieces[partition]:
            yield self._declared(self._kept[partition, piece.first_seq])

    def at(self, seqs: Seqs) -> pa.Table:
        """The events with some `log_seq`, which rise, in their order."""
        self._order()
        found = [self._log.schema.empty_table()]
        for partition, pieces in enumerate(self._pieces):
            for piece in pieces:
                low, high = np.searchsorted(seqs, [piece.first_seq, piece.last_seq + 1])
                if low == high:
                    continue
                table = self._kept[partition, piece.first_seq]
                there = np.isin(table["log_seq"].to_numpy(), seqs[low:high])
                found.append(self._declared(table.filter(pa.array(there))))
        return pa.concat_tables(found).sort_by("log_seq")

    def _declared(self, table: pa.Table) -> pa.Table:
        if table.schema == self._log.schema:
            return table
        return table.unify_dictionaries().select(self._log.schema.names).cast(self._log.schema).combine_chunks()

    def _order(self) -> None:
        """Give the waiting events their places, and keep them by log partition."""
        if not self._waiting_events:
            return
        partitions = np.concatenate([where for _, where in self._waiting])
        rows = pa.concat_tables([rows for rows, _ in self._waiting]).unify_dictionaries().combine_chunks()
        self._waiting, self._waiting_events = [], 0
        start = self.seq_start + sum(map(len, self._partitions))
        rows = rows.append_column("log_seq", pa.array(np.arange(start, start + len(rows))))
        ids, contents = (np.empty(len(rows), dtype=np.uint64) for _ in range(2))
        order = np.argsort(partitions, kind="stable")
        bounds = np.searchsorted(partitions[order], np.arange(len(self.starts) + 1)).tolist()
        work = [(n, order[low:high]) for n, (low, high) in enumerate(pairwise(bounds)) if low < high]

        def place(partition: int, mine: Seqs) -> pa.Table:
            table, ids[mine], contents[mine] = self._placed(rows, partition, mine)
            return table

        found = each(lambda item: place(*item), work, [len(mine) for _, mine in work])
        for (partition, mine), table in zip(work, found, strict=True):
            piece = _Piece(start + int(mine[0]), start + int(mine[-1]))
            self._pieces[partition].append(piece)
            self._kept.keep((partition, piece.first_seq), table)
        self._partitions.append(partitions)
        self._hashes.append((ids, contents))

    def _placed(self, rows: pa.Table, partition: int, mine: Seqs) -> tuple[pa.Table, Hashes, Hashes]:
        """The next events of a log partition with their offsets, and the hashes of their ids and contents."""
        table = rows.take(pa.array(mine)) if len(mine) < len(rows) else rows
        start = self._ends[partition]
        self._ends[partition] += len(mine)
        table = table.append_column("log_offset", pa.array(np.arange(start, start + len(mine))))
        events = self._declared(table)
        content = encoded(self._log, events)
        self._digests[partition].update(content.data.data)
        return table, event_ids.hashes_of(events, self._log.id_columns), content.hashes(seed=1)
