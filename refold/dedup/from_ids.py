"""Deduplication for full replay: which events repeat an id, exactly, from the ids of the whole log alone.

Which 64-bit hashes occur more than once says `refold.dedup.repeated_hashes`; the events that have them are suspects.
Snapshot by snapshot the ids of the suspects are compared byte for byte, so a hash collision costs time, never truth,
and memory holds the suspects' first deliveries alone. Whether a repeat is a duplicate or a conflict is told by contents
(`refold.dedup.rereader`). Nothing that sealing stored is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.encoding import EncodedRows, Hashes, compiled
from refold.dedup.deliveries import REPEATS, Seqs
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.reader import Part, plain

Rows = npt.NDArray[np.int64]
_GROUP_BITS = 2
PAIRS = pa.schema([field for field in REPEATS if field.name != "delivery"])
"""Which event repeats which, as `REPEATS` has it, of which it is not known yet whether the contents are the same."""


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
        """The events at some places of a part, which has ids and `log_seq`, and whose hashes are `hashes`."""
        some = part.table.select([log.event_id, "log_seq"]).take(pa.array(places))
        ids, seqs = event_ids.canonical(some[log.event_id]), some["log_seq"].to_numpy()
        return cls(part.partition, part.offsets(places), seqs, hashes[places], ids)

    @classmethod
    def joined(cls, partition: int, pieces: Sequence[Suspects]) -> Suspects:
        """Those of the pieces of a log partition, one after the other."""
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
        """The memory they take."""
        return sum(column.nbytes for column in (self.offsets, self.seqs, self.hashes, self.ids.data, self.ids.offsets))


_NONE = np.zeros(0, dtype=np.int64)


class ReplayDedup:
    """Finds the repeats of a log, snapshot by snapshot from the first on, among all events whose ids may be repeated.

    The first deliveries so far are parted by the top bits of their hashes, so that threads settle them at once. Where
    it is known how many there will be, `expected` saves making room again and again.
    """

    def __init__(self, expected: int = 0) -> None:
        self._known = [_Known(expected >> _GROUP_BITS) for _ in range(1 << _GROUP_BITS)]

    def pairs(self, suspects: Sequence[Suspects]) -> pa.Table:
        """The repeats of the next snapshot with the `log_seq` of their firsts: `PAIRS`, by log partition and offset."""
        seqs = np.concatenate([_NONE, *(mine.seqs for mine in suspects)])
        firsts = np.empty(len(seqs), dtype=np.int64)
        if len(seqs):
            hashes = np.concatenate([mine.hashes for mine in suspects])
            ids = EncodedRows.joined([mine.ids for mine in suspects])
            order = np.argsort(seqs, kind="stable")  # quick, where log partitions are few runs
            group_of = (hashes[order] >> np.uint64(64 - _GROUP_BITS)).astype(np.uint8)

            def settle(group: int) -> None:
                mine = order[group_of == group]
                firsts[mine] = self._known[group].firsts_of(hashes[mine], seqs[mine], ids.take(mine))

            each(settle, range(len(self._known)), [len(seqs)] * len(self._known))
        partitions = np.repeat([mine.partition for mine in suspects], [len(mine) for mine in suspects])
        offsets = np.concatenate([_NONE, *(mine.offsets for mine in suspects)])
        again = firsts != seqs
        return pa.table([column[again] for column in (partitions, offsets, seqs, firsts)], schema=PAIRS)


class _Known:
    """The first deliveries so far of those ids alone that are suspects, in a hash table of their own.

    Of each it holds the hash of the id, its `log_seq`, and the bytes of the id, one after the other.
    """

    def __init__(self, expected: int) -> None:
        self._count = 0
        self._hashes = np.zeros(expected, dtype=np.uint64)
        self._seqs = np.zeros(expected, dtype=np.int64)
        self._starts = np.zeros(expected + 1, dtype=np.int64)
        self._ids = np.zeros(0, dtype=np.uint8)
        self._table = np.zeros(1 << max(4, (2 * expected).bit_length()), dtype=np.int32)

    def firsts_of(self, hashes: Hashes, seqs: Seqs, ids: EncodedRows) -> Seqs:
        """The `log_seq` of the first delivery of each event, given in that order; those that are firsts are kept."""
        self._make_room(len(seqs), len(ids.data))
        firsts = np.empty(len(seqs), dtype=np.int64)
        self._count = _settle(
            hashes, seqs, ids.data, ids.offsets,
            self._count, self._table, self._hashes, self._seqs, self._starts, self._ids,
            firsts,
        )  # fmt: skip
        return firsts

    def _make_room(self, events: int, size: int) -> None:
        needed = self._count + events
        for name, length in (("_hashes", needed), ("_seqs", needed), ("_starts", needed + 1),
                             ("_ids", int(self._starts[self._count]) + size)):  # fmt: skip
            array = getattr(self, name)
            if len(array) < length:  # by an eighth at least, so that all growing costs no more than some copies
                more = max(length, len(array) * 9 // 8) - len(array)
                setattr(self, name, np.concatenate([array, np.zeros(more, array.dtype)]))
        if len(self._table) < 2 * needed:
            self._table = np.zeros(1 << (2 * needed).bit_length(), dtype=np.int32)
            _place_all(self._table, self._hashes[: self._count])


def declared(log: Log, events: pa.Table) -> pa.Table:
    """Events of a part with their columns in the types that the log declares."""
    names = events.column_names
    columns = [event_ids.as_text(events[n]) if n == log.event_id else plain(events[n]) for n in names]
    return pa.table(columns, names=names).cast(pa.schema([log.schema.field(n) for n in names]))


@compiled
def _place_all(table, hashes):  # type: ignore[no-untyped-def]
    """Enter the hashes into a table of their places plus one, 0 where there is none."""
    mask = np.uint64(table.size - 1)
    for i in range(hashes.size):
        place = (hashes[i] ^ (hashes[i] >> np.uint64(32))) & mask
        while table[place] != 0:
            place = (place + np.uint64(1)) & mask
        table[place] = i + 1


@compiled
def _settle(  # type: ignore[no-untyped-def]
    hashes, seqs, ids, starts, count, table, known_hashes, known_seqs, known_starts, known_ids, firsts
):
    """The `log_seq` of the first delivery of each id; returns how many are known afterwards."""
    mask = np.uint64(table.size - 1)
    for i in range(hashes.size):
        start, size = starts[i], starts[i + 1] - starts[i]
        place = (hashes[i] ^ (hashes[i] >> np.uint64(32))) & mask
        known = -1
        while table[place] != 0 and known < 0:
            k = table[place] - 1
            q = known_starts[k]
            if known_hashes[k] == hashes[i] and known_starts[k + 1] - q == size:
                same, j = True, 0
                while same and j < size:
                    same = known_ids[q + j] == ids[start + j]
                    j += 1
                if same:
                    known = k
            place = (place + np.uint64(1)) & mask
        if known >= 0:
            firsts[i] = known_seqs[known]
            continue
        table[place] = count + 1
        known_hashes[count], known_seqs[count] = hashes[i], seqs[i]
        q = known_starts[count]
        for j in range(size):
            known_ids[q + j] = ids[start + j]
        known_starts[count + 1] = q + size
        firsts[i] = seqs[i]
        count += 1
    return count
