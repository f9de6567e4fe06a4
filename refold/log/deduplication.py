"""Deduplication for full replay: which events repeat an id, exactly, from the ids of the whole log alone.

Which 64-bit hashes occur more than once says `refold.log.repeated_hashes`; the events that have them are suspects.
Snapshot by snapshot the ids of the suspects are compared byte for byte, so a hash collision costs time, never truth,
and memory holds the suspects' first deliveries alone. A repeat is a duplicate where its declared columns are those of
the first delivery, byte for byte, else a conflict. Nothing that sealing stored is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.encoding import EncodedRows, Hashes, compiled
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.reader import Part, plain
from refold.log.repeated_hashes import HashSet
from refold.log.repeats import REPEATS, Deliveries, Delivery
from refold.parallel import each

Rows = npt.NDArray[np.int64]
_GROUP_BITS = 2
UNKNOWN = 3
"""The delivery of a repeat whose content, or whose first delivery's, was not given."""


@dataclass(frozen=True)
class Suspects:
    """Events of one log partition whose ids may be repeated, ascending: offsets, `log_seq`, ids' hashes and bytes.

    `contents` are the canonical bytes of their declared columns; a row of no bytes is one that was not read.
    """

    partition: int
    offsets: Rows
    seqs: Rows
    hashes: Hashes
    ids: EncodedRows
    contents: EncodedRows

    @classmethod
    def of(cls, log: Log, part: Part, hashes: Hashes, places: Rows) -> Suspects:
        """The events at some places of a part, which has ids and `log_seq`, and whose hashes are `hashes`."""
        some = part.table.select([log.event_id, "log_seq"]).take(pa.array(places))
        ids, seqs = event_ids.canonical(some[log.event_id]), some["log_seq"].to_numpy()
        return cls(part.partition, part.offsets(places), seqs, hashes[places], ids, _nothing(len(places)))

    @classmethod
    def joined(cls, partition: int, pieces: Sequence[Suspects]) -> Suspects:
        """Those of the pieces of a log partition, one after the other."""
        if len(pieces) == 1:
            return pieces[0]
        offsets = np.concatenate([_NONE, *(piece.offsets for piece in pieces)])
        seqs = np.concatenate([_NONE, *(piece.seqs for piece in pieces)])
        hashes = np.concatenate([_NONE.view(np.uint64), *(piece.hashes for piece in pieces)])
        ids, contents = (EncodedRows.joined(found) for found in ([p.ids for p in pieces], [p.contents for p in pieces]))
        return cls(partition, offsets, seqs, hashes, ids, contents)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size_bytes(self) -> int:
        """The memory they take."""
        columns = (self.offsets, self.seqs, self.hashes, self.ids.data, self.ids.offsets, self.contents.data)
        return sum(column.nbytes for column in columns) + self.contents.offsets.nbytes

    def among(self, repeated: HashSet) -> Suspects:
        """Those whose hashes are in a set."""
        places = np.flatnonzero(repeated.has(self.hashes))
        if len(places) == len(self):
            return self
        ids, contents = self.ids.take(places), self.contents.take(places)
        return Suspects(self.partition, self.offsets[places], self.seqs[places], self.hashes[places], ids, contents)


_NONE = np.zeros(0, dtype=np.int64)


def _nothing(rows: int) -> EncodedRows:
    return EncodedRows(np.zeros(0, dtype=np.uint8), np.zeros(rows + 1, dtype=np.int64))


class ReplayDedup:
    """Finds the repeats of a log, snapshot by snapshot from the first on, among all events whose ids may be repeated.

    The first deliveries so far are parted by the top bits of their hashes, so that threads settle them at once. Where
    it is known how many there will be, `expected` saves making room again and again.
    """

    def __init__(self, expected: int = 0) -> None:
        self._known = [_Known(expected >> _GROUP_BITS) for _ in range(1 << _GROUP_BITS)]

    def repeats(self, suspects: Sequence[Suspects]) -> pa.Table:
        """The repeats of the next snapshot: `refold.log.repeats.REPEATS`, in the order (log partition, offset).

        Their delivery is `UNKNOWN` where a content is missing that would have to be compared.
        """
        seqs = np.concatenate([_NONE, *(mine.seqs for mine in suspects)])
        deliveries, firsts = np.empty(len(seqs), dtype=np.uint8), np.empty(len(seqs), dtype=np.int64)
        if len(seqs):
            hashes = np.concatenate([mine.hashes for mine in suspects])
            ids, contents = (
                EncodedRows.joined(found) for found in ([s.ids for s in suspects], [s.contents for s in suspects])
            )
            order = np.argsort(seqs, kind="stable")  # quick, where log partitions are few runs
            group_of = (hashes[order] >> np.uint64(64 - _GROUP_BITS)).astype(np.uint8)

            def settle(group: int) -> None:
                mine = order[group_of == group]
                found = self._known[group].settle(hashes[mine], seqs[mine], ids.take(mine), contents.take(mine))
                deliveries[mine], firsts[mine] = found

            each(settle, range(len(self._known)), [len(seqs)] * len(self._known))
        partitions = np.repeat([mine.partition for mine in suspects], [len(mine) for mine in suspects])
        offsets = np.concatenate([_NONE, *(mine.offsets for mine in suspects)])
        again = deliveries != Delivery.FIRST
        columns = [column[again] for column in (partitions, offsets, seqs, deliveries, firsts)]
        return pa.table(columns, schema=REPEATS)


class _Known:
    """The first deliveries so far of those ids alone that are suspects, in a hash table of their own.

    Of each it holds the hash of the id, its `log_seq`, and the bytes of id and content, one after the other.
    """

    def __init__(self, expected: int) -> None:
        self._count = 0
        self._hashes = np.zeros(expected, dtype=np.uint64)
        self._seqs = np.zeros(expected, dtype=np.int64)
        self._id_sizes = np.zeros(expected, dtype=np.int32)
        self._starts = np.zeros(expected + 1, dtype=np.int64)
        self._data = np.zeros(0, dtype=np.uint8)
        self._table = np.zeros(1 << max(4, (2 * expected).bit_length()), dtype=np.int32)

    def settle(self, hashes: Hashes, seqs: Rows, ids: EncodedRows, contents: EncodedRows) -> tuple[Deliveries, Rows]:
        """The delivery of events given in `log_seq` order, and the `log_seq` of their firsts; the firsts are kept."""
        self._make_room(len(seqs), len(ids.data) + len(contents.data))
        deliveries, firsts = np.empty(len(seqs), dtype=np.uint8), np.empty(len(seqs), dtype=np.int64)
        self._count = _settle(
            hashes, seqs, ids.data, ids.offsets, contents.data, contents.offsets,
            self._count, self._table, self._hashes, self._seqs, self._id_sizes, self._starts, self._data,
            deliveries, firsts,
        )  # fmt: skip
        return deliveries, firsts

    def _make_room(self, events: int, size: int) -> None:
        needed = self._count + events
        for name, length in (("_hashes", needed), ("_seqs", needed), ("_id_sizes", needed), ("_starts", needed + 1),
                             ("_data", int(self._starts[self._count]) + size)):  # fmt: skip
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
    hashes, seqs, ids, id_offsets, contents, offsets,
    count, table, known_hashes, known_seqs, known_id_sizes, known_starts, known_data,
    deliveries, firsts,
):  # fmt: skip
    """Deliveries (0 first, 1 same content, 2 another, 3 unknown) and first `log_seq`; returns how many are known."""
    mask = np.uint64(table.size - 1)
    for i in range(hashes.size):
        start, size, id_start, id_size = (
            offsets[i],
            offsets[i + 1] - offsets[i],
            id_offsets[i],
            id_offsets[i + 1] - id_offsets[i],
        )
        place = (hashes[i] ^ (hashes[i] >> np.uint64(32))) & mask
        known = -1
        while table[place] != 0 and known < 0:
            k = table[place] - 1
            if known_hashes[k] == hashes[i] and known_id_sizes[k] == id_size:
                same, q, j = True, known_starts[k], 0
                while same and j < id_size:
                    same = known_data[q + j] == ids[id_start + j]
                    j += 1
                if same:
                    known = k
            place = (place + np.uint64(1)) & mask
        if known >= 0:
            q = known_starts[known] + id_size
            known_size = known_starts[known + 1] - q
            same, j = known_size == size, 0
            while same and j < size:
                same = known_data[q + j] == contents[start + j]
                j += 1
            firsts[i] = known_seqs[known]
            deliveries[i] = 3 if size == 0 or known_size == 0 else (1 if same else 2)
            continue
        table[place] = count + 1
        known_hashes[count], known_seqs[count], known_id_sizes[count] = hashes[i], seqs[i], id_size
        q = known_starts[count]
        for j in range(id_size):
            known_data[q + j] = ids[id_start + j]
        for j in range(size):
            known_data[q + id_size + j] = contents[start + j]
        known_starts[count + 1] = q + id_size + size
        deliveries[i], firsts[i] = 0, seqs[i]
        count += 1
    return count
