"""Deduplication: which events repeat an event id seen before, with the same content or with another.

`SeenIndex` is what sealing uses: it looks up new ids among the hashes of all earlier ones. Where the hash of the
content, of another seed, agrees as well, an event is a duplicate: 128 bits in all. Where it does not, ids and contents
are compared byte for byte. Full replay finds repeats again, from the ids alone, with no stored help and byte for byte
(`refold.log.deduplication`), so two events that somebody crafts to agree in both hashes are found there.
The first delivery of an id stands. A later one is a duplicate if its declared columns are equal, else a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.encoding import Hashes, encode_rows
from refold.log import event_ids
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

SEEN = pa.schema(
    [pa.field(n, pa.uint64(), False) for n in ("hash", "content")] + [pa.field("log_seq", pa.int64(), False)]
)
"""The stored part of a seen index: hashes of ids and contents that a snapshot delivered first, in `log_seq` order."""


@dataclass(frozen=True)
class SeenRun:
    """First deliveries: the hash of each id, the hash of its content, its `log_seq`; arrays of one length."""

    hashes: Hashes
    contents: Hashes
    seqs: Seqs

    @classmethod
    def of(cls, log: Log, events: pa.Table) -> SeenRun:
        """The hashes of events, all of them, in their order."""
        contents = encode_rows([events[name] for name in log.columns], len(events)).hashes(seed=1)
        return cls(event_ids.hashes(events[log.event_id]), contents, events["log_seq"].to_numpy())

    @classmethod
    def of_table(cls, table: pa.Table) -> SeenRun:
        """Read back what `to_table` wrote."""
        return cls(*(table[name].to_numpy() for name in SEEN.names))

    def to_table(self) -> pa.Table:
        """The columns of SEEN."""
        return pa.table([self.hashes, self.contents, self.seqs], schema=SEEN)

    def __len__(self) -> int:
        return len(self.hashes)

    def take(self, rows: Seqs) -> SeenRun:
        """Some of the entries, in the order asked for."""
        return SeenRun(self.hashes[rows], self.contents[rows], self.seqs[rows])

    def append(self, other: SeenRun) -> SeenRun:
        """These entries, then the other ones."""
        hashes, contents = (
            np.concatenate(pair) for pair in ((self.hashes, other.hashes), (self.contents, other.contents))
        )
        return SeenRun(hashes, contents, np.concatenate([self.seqs, other.seqs]))


class SeenIndex:
    """The event ids of a log so far, as sorted runs of first deliveries."""

    def __init__(self) -> None:
        self._runs: list[SeenRun] = []

    def add(self, run: SeenRun) -> None:
        """Take in first deliveries; equal-sized runs are merged, so there are O(log n) of them."""
        run = run.take(np.argsort(run.hashes, kind="stable"))
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            merged = self._runs.pop().append(run)
            run = merged.take(np.argsort(merged.hashes, kind="stable"))
        self._runs.append(run)

    def candidates(self, hashes: Hashes) -> tuple[Seqs, SeenRun]:
        """Pairs of a row of `hashes` and an entry seen before that has the same hash."""
        rows, found = [np.zeros(0, dtype=np.int64)], SeenRun(_NO_HASHES, _NO_HASHES, np.zeros(0, dtype=np.int64))
        for run in self._runs:
            left, right = (np.searchsorted(run.hashes, hashes, side=side) for side in ("left", "right"))
            counts = right - left
            hits = np.flatnonzero(counts)
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts[hits]) - counts[hits], counts[hits])
            rows.append(np.repeat(hits, counts[hits]))
            found = found.append(run.take(np.repeat(left[hits], counts[hits]) + within))
        return np.concatenate(rows), found


_NO_HASHES: Hashes = np.zeros(0, dtype=np.uint64)
Fetch = Callable[[Sequence[int]], Iterable[tuple[int, bytes, bytes]]]
"""Given log_seqs of earlier events, yields (log_seq, encoded id, encoded content) for each."""


def seal_deliveries(
    log: Log, events: pa.Table, run: SeenRun, index: SeenIndex, fetch: Fetch
) -> tuple[Deliveries, Seqs]:
    """Deduplicate new events, in `log_seq` order, against each other and against `index`; `run` has their hashes.

    Returns the delivery of each event and the log_seq of its first delivery, both of shape (events,).
    """
    deliveries, firsts = np.zeros(len(events), dtype=np.uint8), run.seqs.copy()
    rows, earlier = index.candidates(run.hashes)
    same = earlier.contents == run.contents[rows]
    deliveries[rows[same]], firsts[rows[same]] = Delivery.DUPLICATE, earlier.seqs[same]
    _, inverse, counts = np.unique(run.hashes, return_inverse=True, return_counts=True)
    suspects = np.union1d(rows[~same], np.flatnonzero(counts[inverse] > 1))
    suspects = suspects[deliveries[suspects] == Delivery.FIRST]
    if len(suspects) == 0:
        return deliveries, firsts
    part = events.take(pa.array(suspects))
    ids = list(encode_rows([part[log.event_id]]))
    contents = list(encode_rows([part[name] for name in log.columns]))
    wanted = np.unique(earlier.seqs[~same]).tolist()
    seen: dict[bytes, tuple[int, bytes]] = {i: (seq, content) for seq, i, content in fetch(wanted)} if wanted else {}
    for position, row in enumerate(suspects.tolist()):
        first = seen.setdefault(ids[position], (int(run.seqs[row]), contents[position]))
        if first[0] != run.seqs[row]:
            firsts[row] = first[0]
            deliveries[row] = Delivery.DUPLICATE if first[1] == contents[position] else Delivery.CONFLICT
    return deliveries, firsts
