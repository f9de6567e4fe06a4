"""Deduplication: which events repeat an event id seen before, with the same content or with another.

Two ways that share nothing but the definition. `SeenIndex` is what sealing uses: it looks up new ids among the
hashes of all earlier ones and compares candidates exactly, so a hash collision costs time, never truth.
`find_repeats` is what full replay uses: an exact pass over all ids, with no stored help.
The first delivery of an id stands. A later one is a duplicate if its declared columns are equal, else a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.encoding import Hashes, encode_rows
from refold.log.declaration import Log

Seqs = npt.NDArray[np.int64]
Deliveries = npt.NDArray[np.uint8]


class Delivery(IntEnum):
    """What deduplication says of one event; the values are those of `refold.rules.outcome.Outcome`."""

    FIRST = 0
    DUPLICATE = 1
    CONFLICT = 2


REPEATS = pa.schema(
    [
        pa.field("log_partition", pa.int64(), False),
        pa.field("log_offset", pa.int64(), False),
        pa.field("log_seq", pa.int64(), False),
        pa.field("delivery", pa.uint8(), False),
        pa.field("first_seq", pa.int64(), False),
    ]
)
"""The stored result of deduplication at sealing: one row per event that is no first delivery."""

SEEN = pa.schema([pa.field("hash", pa.uint64(), False), pa.field("log_seq", pa.int64(), False)])
"""The stored part of a seen index: the hashes of the ids that a snapshot delivered first, in the order of `log_seq`."""


class SeenIndex:
    """The event ids of a log so far, as sorted runs of (hash, log_seq) of first deliveries."""

    def __init__(self) -> None:
        self._runs: list[tuple[Hashes, Seqs]] = []

    def add(self, hashes: Hashes, seqs: Seqs) -> None:
        """Take in first deliveries; equal-sized runs are merged, so there are O(log n) of them."""
        order = np.argsort(hashes, kind="stable")
        run = (hashes[order], seqs[order])
        while self._runs and len(self._runs[-1][0]) <= 2 * len(run[0]):
            older = self._runs.pop()
            merged = np.concatenate([older[0], run[0]])
            order = np.argsort(merged, kind="stable")
            run = (merged[order], np.concatenate([older[1], run[1]])[order])
        self._runs.append(run)

    def candidates(self, hashes: Hashes) -> tuple[Seqs, Seqs]:
        """Pairs (index into `hashes`, log_seq seen before) whose hashes are equal."""
        rows, seqs = [], []
        for run_hashes, run_seqs in self._runs:
            left = np.searchsorted(run_hashes, hashes, side="left")
            right = np.searchsorted(run_hashes, hashes, side="right")
            for row in np.flatnonzero(right > left):
                rows.append(np.full(right[row] - left[row], row, dtype=np.int64))
                seqs.append(run_seqs[left[row] : right[row]])
        empty = np.zeros(0, dtype=np.int64)
        return (np.concatenate(rows), np.concatenate(seqs)) if rows else (empty, empty)


Fetch = Callable[[Sequence[int]], Iterable[tuple[int, bytes, bytes]]]
"""Given log_seqs of earlier events, yields (log_seq, encoded id, encoded content) for each."""


def seal_deliveries(
    log: Log, events: pa.Table, hashes: Hashes, index: SeenIndex, fetch: Fetch
) -> tuple[Deliveries, Seqs]:
    """Deduplicate new events, in `log_seq` order, against each other and against `index`.

    Returns the delivery of each event and the log_seq of its first delivery, both of shape (events,).
    """
    seqs = events["log_seq"].to_numpy()
    deliveries = np.zeros(len(events), dtype=np.uint8)
    firsts = seqs.copy()
    rows, earlier = index.candidates(hashes)
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    suspects = np.union1d(np.unique(rows), np.flatnonzero(counts[inverse] > 1))
    if len(suspects) == 0:
        return deliveries, firsts
    part = events.take(pa.array(suspects))
    ids = list(encode_rows([part[log.event_id]]))
    contents = list(encode_rows([part[name] for name in log.columns]))
    seen: dict[bytes, tuple[int, bytes]] = {i: (seq, content) for seq, i, content in fetch(np.unique(earlier).tolist())}
    for position, row in enumerate(suspects.tolist()):
        first = seen.setdefault(ids[position], (int(seqs[row]), contents[position]))
        if first[0] != seqs[row]:
            firsts[row] = first[0]
            deliveries[row] = Delivery.DUPLICATE if first[1] == contents[position] else Delivery.CONFLICT
    return deliveries, firsts


def group_repeated_ids(ids: pa.ChunkedArray, seqs: Seqs) -> Seqs:
    """For every event the number of its id where the id occurs more than once, else -1.

    `ids` and `seqs` run alike, in any order that covers log_seq 0 to n - 1; the result is indexed by log_seq.
    Exact: Arrow's hash table compares the bytes of ids, not a hash alone.
    """
    groups = np.full(len(seqs), -1, dtype=np.int64)
    if len(seqs):
        wide = ids.cast(pa.large_string()) if pa.types.is_string(ids.type) else ids
        codes = pa.concat_arrays(wide.chunks).dictionary_encode().indices.to_numpy()
        counts = np.bincount(codes)
        groups[seqs] = np.where(counts[codes] > 1, codes, -1)
    return groups


class ReplayDedup:
    """Deduplication from the ids alone, for a pass from offset 0: memory holds only the content of repeated ids."""

    def __init__(self, log: Log, groups: Seqs) -> None:
        self._log = log
        self._groups = groups
        self._firsts: dict[int, bytes] = {}

    def deliveries(self, events: pa.Table) -> Deliveries:
        """The delivery of each event of the next snapshot, given in (log partition, offset) order; shape (events,)."""
        seqs = events["log_seq"].to_numpy()
        result = np.zeros(len(events), dtype=np.uint8)
        rows = np.flatnonzero(self._groups[seqs] >= 0)
        rows = rows[np.argsort(seqs[rows], kind="stable")]
        if len(rows) == 0:
            return result
        part = events.take(pa.array(rows))
        contents = encode_rows([part[name] for name in self._log.columns])
        for row, content in zip(rows.tolist(), contents, strict=True):
            group = int(self._groups[seqs[row]])
            first = self._firsts.setdefault(group, content)
            if first is not content:
                result[row] = Delivery.DUPLICATE if first == content else Delivery.CONFLICT
        return result
