"""Deduplication for full replay: from the ids of the whole log alone, with nothing that sealing stored.

A first pass over the ids finds the hashes that occur more than once; their events are suspects. On the second pass,
snapshot by snapshot, ids and declared columns of the suspects are compared byte for byte. So a hash collision costs
time, never truth, and memory holds the hashes of the ids, or a share of them where they are spilled to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.encoding import EncodedRows, Hashes, compiled, encode_rows
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.repeats import REPEATS, Deliveries, Delivery
from refold.log.segment import LogReader, Part, plain
from refold.log.snapshot import Snapshot
from refold.parallel import each

_BUCKETS = 64
Rows = npt.NDArray[np.int64]


def repeated_hashes(hashes: Sequence[Hashes]) -> Hashes:
    """The hashes that occur more than once in all arrays together, ascending."""
    buckets: list[list[Hashes]] = [[] for _ in range(_BUCKETS)]
    for scattered, bounds in each(_scattered, hashes, [len(array) for array in hashes]):
        for bucket in range(_BUCKETS):
            buckets[bucket].append(scattered[bounds[bucket] : bounds[bucket + 1]])
    return np.concatenate(each(_repeated, buckets, [sum(map(len, arrays)) for arrays in buckets]))


def _scattered(hashes: Hashes) -> tuple[Hashes, Rows]:
    """The hashes by their top bits, and where each bucket begins."""
    bounds, out = np.zeros(_BUCKETS + 1, dtype=np.int64), np.empty_like(hashes)
    _scatter(hashes, bounds, out)
    return out, bounds


def _repeated(arrays: Sequence[Hashes]) -> Hashes:
    ordered = np.concatenate([np.zeros(0, dtype=np.uint64), *arrays])
    ordered.sort()
    again: Hashes = ordered[1:][ordered[1:] == ordered[:-1]]
    distinct: Hashes = np.unique(again)
    return distinct


class HashSet:
    """A set of hashes that many can be looked up in at once."""

    def __init__(self, hashes: Hashes) -> None:
        size = 1 << max(4, int(4 * len(hashes)).bit_length())
        self._table = np.zeros(size, dtype=np.uint64)
        self._zero = bool(len(hashes) and (hashes == 0).any())  # an empty place is 0 as well
        _insert(self._table, hashes)

    def has(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of some hashes are in the set; shape (hashes,)."""
        out = np.empty(len(hashes), dtype=np.bool_)
        _lookup(self._table, self._zero, hashes, out)
        return out


class ReplayDedup:
    """The delivery of every event of a log, snapshot by snapshot from the first on.

    Args:
        log: what the events are of.
        repeated: the hashes that occur more than once among the ids of all events that will be asked for.
        hashes: the hash they are of.
    """

    def __init__(
        self, log: Log, repeated: Hashes, hashes: Callable[[pa.ChunkedArray], Hashes] = event_ids.hashes
    ) -> None:
        self._log = log
        self._hashes = hashes
        self._repeated = HashSet(repeated)
        self._known = _Known(log)

    @classmethod
    def over(cls, reader: LogReader, snapshots: Sequence[Snapshot]) -> ReplayDedup:
        """For the events of snapshots, which are all from the first on; reads their ids. Raises Damaged."""
        name = reader.log.event_id
        by_snapshot = (reader.parts(snapshot, [name]) for snapshot in snapshots)
        found = [
            each(lambda part: event_ids.hashes(part.table[name]), parts, [len(part) for part in parts])
            for parts in by_snapshot
        ]
        return cls(reader.log, repeated_hashes([array for arrays in found for array in arrays]))

    def deliveries(self, parts: Sequence[Part]) -> list[Deliveries]:
        """The delivery of each event of the next snapshot's parts, which have `log_seq` and all declared columns."""
        found = [np.zeros(len(part), dtype=np.uint8) for part in parts]
        for deliveries, (rows, values, _) in zip(found, self._suspects(parts), strict=True):
            deliveries[rows] = values
        return found

    def repeats(self, parts: Sequence[Part]) -> pa.Table:
        """The same as sealing stores it: `refold.log.repeats.REPEATS`, one row per event that is no first delivery."""
        tables = [REPEATS.empty_table()]
        for part, (rows, values, firsts) in zip(parts, self._suspects(parts), strict=True):
            again = np.flatnonzero(values != Delivery.FIRST)
            seqs = part.table["log_seq"].to_numpy()[rows[again]]
            columns = [
                np.full(len(again), part.partition),
                part.start + rows[again],
                seqs,
                values[again],
                firsts[again],
            ]
            tables.append(pa.table(columns, schema=REPEATS))
        return pa.concat_tables(tables)

    def _suspects(self, parts: Sequence[Part]) -> list[tuple[Rows, Deliveries, Rows]]:
        """Of each part the rows whose ids have repeated hashes, their deliveries, and the `log_seq` of their firsts."""
        sizes, columns = [len(part) for part in parts], ["log_seq", *self._log.columns]
        suspects = each(self._suspects_of, parts, sizes)
        tables = [
            declared(self._log, part.table.select(columns).take(pa.array(rows)))
            for part, rows in zip(parts, suspects, strict=True)
        ]
        bounds = np.cumsum([0, *map(len, suspects)])
        deliveries, firsts = np.zeros(bounds[-1], dtype=np.uint8), np.zeros(bounds[-1], dtype=np.int64)
        if len(deliveries):
            together = pa.concat_tables(tables).combine_chunks()
            order = np.argsort(together["log_seq"].to_numpy())
            deliveries[order], firsts[order] = self._known.deliveries(together.take(pa.array(order)))
        ranges = [slice(low, high) for low, high in pairwise(bounds)]
        return [(rows, deliveries[r], firsts[r]) for rows, r in zip(suspects, ranges, strict=True)]

    def _suspects_of(self, part: Part) -> Rows:
        return np.flatnonzero(self._repeated.has(self._hashes(part.table[self._log.event_id])))


class _Known:
    """The first deliveries so far, of those ids alone that are suspects: id, content and `log_seq`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ids = pa.array([], log.columns[log.event_id].arrow)
        self._contents = EncodedRows(np.zeros(0, dtype=np.uint8), np.zeros(1, dtype=np.int64))
        self._seqs = np.zeros(0, dtype=np.int64)

    def deliveries(self, events: pa.Table) -> tuple[Deliveries, Rows]:
        """The delivery of events given in `log_seq` order, and the `log_seq` of their firsts; the firsts are kept."""
        ids, seqs = events[self._log.event_id].combine_chunks(), events["log_seq"].to_numpy()
        contents = encode_rows([events[name] for name in self._log.columns], len(events))
        codes = ids.dictionary_encode().indices.to_numpy()
        _, firsts = np.unique(codes, return_index=True)
        known = pc.fill_null(pc.index_in(ids, value_set=self._ids), -1).to_numpy(zero_copy_only=False)
        first = np.where(known >= 0, known, len(self._ids) + firsts[codes]).astype(np.int64)
        result = np.empty(len(events), dtype=np.uint8)
        both = self._contents.append(contents)
        _compare(both.data, both.offsets, len(self._ids), first, result)
        first_seqs = np.concatenate([self._seqs, seqs])[first]
        new = np.sort(firsts[known[firsts] < 0])
        self._ids = pa.concat_arrays([self._ids, ids.take(pa.array(new))])
        self._contents = self._contents.append(contents.take(new))
        self._seqs = np.concatenate([self._seqs, seqs[new]])
        return result, first_seqs


def declared(log: Log, events: pa.Table) -> pa.Table:
    """Events of a part with their columns in the types that the log declares."""
    names = events.column_names
    columns = [event_ids.as_text(events[n]) if n == log.event_id else plain(events[n]) for n in names]
    return pa.table(columns, names=names).cast(pa.schema([log.schema.field(n) for n in names]))


@compiled
def _scatter(hashes, bounds, out):  # type: ignore[no-untyped-def]
    for h in hashes:
        bounds[(h >> np.uint64(58)) + np.uint64(1)] += 1
    for bucket in range(bounds.size - 1):
        bounds[bucket + 1] += bounds[bucket]
    cursor = bounds[:-1].copy()
    for h in hashes:
        bucket = h >> np.uint64(58)
        out[cursor[bucket]] = h
        cursor[bucket] += 1


@compiled
def _insert(table, hashes):  # type: ignore[no-untyped-def]
    mask = np.uint64(table.size - 1)
    for h in hashes:
        if h == 0:
            continue
        place = (h ^ (h >> np.uint64(32))) & mask
        while table[place] != 0 and table[place] != h:
            place = (place + np.uint64(1)) & mask
        table[place] = h


@compiled
def _lookup(table, zero, hashes, out):  # type: ignore[no-untyped-def]
    mask = np.uint64(table.size - 1)
    for i in range(hashes.size):
        h = hashes[i]
        if h == 0:
            out[i] = zero
            continue
        place = (h ^ (h >> np.uint64(32))) & mask
        while table[place] != 0 and table[place] != h:
            place = (place + np.uint64(1)) & mask
        out[i] = table[place] == h


@compiled
def _compare(data, offsets, before, first, result):  # type: ignore[no-untyped-def]
    """Row before + i against row first[i]: 0 where it is itself the first, 1 where the bytes are equal, else 2."""
    for i in range(first.size):
        mine, other = before + i, first[i]
        if mine == other:
            result[i] = 0
            continue
        p, q, end = offsets[mine], offsets[other], offsets[mine + 1]
        same = end - p == offsets[other + 1] - q
        while same and p < end:
            same = data[p] == data[q]
            p += 1
            q += 1
        result[i] = 1 if same else 2
