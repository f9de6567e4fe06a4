"""Deduplication for full replay: finds the events that repeat an id, exactly, from the ids of the whole log alone.

`refold.dedup.repeated_hashes` reports hashes that occur more than once; the events that have them are suspects. The ids
of suspects are compared byte for byte, snapshot by snapshot. So a hash collision costs time but changes no result, and
memory holds only the first deliveries of suspects. `refold.dedup.rereader` compares contents to tell duplicates from
conflicts. This module uses nothing that sealing stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.encoding import EncodedRows, Hashes
from refold.canonical.hash_table import FirstRows
from refold.dedup.deliveries import REPEATS
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.reader import Part

Rows = npt.NDArray[np.int64]
_GROUP_BITS = 2
PAIRS = pa.schema([field for field in REPEATS if field.name != "delivery"])
"""The columns of `REPEATS` without `delivery`: contents are not compared yet."""


@dataclass(frozen=True)
class Suspects:
    """Events of one log partition whose ids may be repeated, ascending: offsets, `log_seq`, ids' hashes and bytes."""

    partition: int
    offsets: Rows
    seqs: Rows
    hashes: Hashes
    ids: EncodedRows

    @classmethod
    def of(cls, log: Log, part: Part, hashes: Hashes, places: Rows) -> Suspects:
        """The events at some places of a part, which has ids and `log_seq`; `hashes` are those of all its ids."""
        some = part.table.select([*log.id_columns, "log_seq"]).take(pa.array(places))
        ids, seqs = event_ids.canonical_of(some, log.id_columns), some["log_seq"].to_numpy()
        return cls(part.partition, part.offsets(places), seqs, hashes[places], ids)

    @classmethod
    def joined(cls, partition: int, pieces: Sequence[Suspects]) -> Suspects:
        """The suspects of all pieces of one log partition, one after the other."""
        if len(pieces) == 1:
            return pieces[0]
        offsets = np.concatenate([_NONE, *(piece.offsets for piece in pieces)])
        seqs = np.concatenate([_NONE, *(piece.seqs for piece in pieces)])
        hashes = np.concatenate([_NONE.view(np.uint64), *(piece.hashes for piece in pieces)])
        return cls(partition, offsets, seqs, hashes, EncodedRows.joined([piece.ids for piece in pieces]))

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size_bytes(self) -> int:
        """Their size in memory, in bytes."""
        return sum(column.nbytes for column in (self.offsets, self.seqs, self.hashes, self.ids.data, self.ids.offsets))


_NONE = np.zeros(0, dtype=np.int64)


class ReplayDedup:
    """Finds the repeats among the suspects of a log, snapshot by snapshot from the first one on.

    First deliveries are divided by the top bits of their hashes, so that several threads can work at once.

    Args:
        expected: how many distinct ids there will be, if that is known; it saves growing the hash tables.
    """

    def __init__(self, expected: int = 0) -> None:
        self._firsts = [FirstRows(expected >> _GROUP_BITS) for _ in range(1 << _GROUP_BITS)]
        self._bounded: dict[bytes, int] = {}

    def pairs(self, suspects: Sequence[Suspects], since: int | None = None) -> pa.Table:
        """The repeats of the next snapshot with the `log_seq` of their firsts: `PAIRS`, by log partition and offset.

        Where the log remembers ids for some snapshots only, `since` is the `log_seq` from which on, at each snapshot.
        """
        seqs = np.concatenate([_NONE, *(mine.seqs for mine in suspects)])
        firsts = np.empty(len(seqs), dtype=np.int64)
        if len(seqs):
            hashes = np.concatenate([mine.hashes for mine in suspects])
            ids = EncodedRows.joined([mine.ids for mine in suspects])
            order = np.argsort(seqs, kind="stable")  # fast, since each log partition is sorted already
            group_of = (hashes[order] >> np.uint64(64 - _GROUP_BITS)).astype(np.uint8)

            def settle(group: int) -> None:
                mine = order[group_of == group]
                firsts[mine] = self._firsts[group].numbers(hashes[mine], ids.take(mine), seqs[mine])

            if since is None:
                each(settle, range(len(self._firsts)), [len(seqs)] * len(self._firsts))
            else:
                for place in order.tolist():
                    firsts[place] = self._first_since(ids.row(place), int(seqs[place]), since)
        partitions = np.repeat([mine.partition for mine in suspects], [len(mine) for mine in suspects])
        offsets = np.concatenate([_NONE, *(mine.offsets for mine in suspects)])
        again = firsts != seqs
        return pa.table([column[again] for column in (partitions, offsets, seqs, firsts)], schema=PAIRS)

    def _first_since(self, own: bytes, seq: int, since: int) -> int:
        """The first delivery of an id that is remembered, which may be this one."""
        first = self._bounded.get(own, -1)
        if first < since:
            self._bounded[own] = first = seq
        return first


def declared(log: Log, events: pa.Table) -> pa.Table:
    """The events of a part with columns of the declared types."""
    names = events.column_names
    columns = [event_ids.as_text(events[name]) for name in names]
    return pa.table(columns, names=names).cast(pa.schema([log.schema.field(n) for n in names]))
