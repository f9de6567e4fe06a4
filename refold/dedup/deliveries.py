"""Deduplication: finds events that repeat an earlier event id, with the same content or with another.

Sealing looks up new ids among the hashes of all earlier ones (`refold.seal.seen_index`). If the hash of the content,
computed with another seed, is equal as well (128 bits in all), the event is a duplicate. Otherwise ids and contents are
compared byte for byte. Full replay finds repeats again from the ids alone, byte for byte and without stored data
(`refold.dedup.from_ids`), so it also finds events crafted to agree in both hashes.
The first delivery of an id counts. A later one is a duplicate if its declared columns are equal, else a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.canonical.encoding import Hashes, compiled, encode_rows
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.segment import encoded
from refold.log.snapshot import Snapshot

Seqs = npt.NDArray[np.int64]
Deliveries = npt.NDArray[np.uint8]


class Delivery(IntEnum):
    """The result of deduplication for one event; the values are those of `refold.rules.outcome.Outcome`.

    `EXCLUDED` is what a redaction makes of it, whatever it was before.
    """

    FIRST = 0
    DUPLICATE = 1
    CONFLICT = 2
    EXCLUDED = 5


SET_ASIDE = (Delivery.CONFLICT, Delivery.EXCLUDED)
"""What changes no row of a store. A duplicate only moves the position of the row that its first delivery made."""

REPEATS = pa.schema(
    [
        pa.field("log_partition", pa.int64(), False),
        pa.field("log_offset", pa.int64(), False),
        pa.field("log_seq", pa.int64(), False),
        pa.field("delivery", pa.uint8(), False),
        pa.field("first_seq", pa.int64(), False),
    ]
)
"""The stored result of deduplication at sealing: one row per event that is not a first delivery."""


@dataclass(frozen=True)
class SeenRun:
    """First deliveries: the hash of each id, the hash of its content, and its `log_seq`, in arrays of equal length."""

    hashes: Hashes
    contents: Hashes
    seqs: Seqs

    @classmethod
    def of(cls, log: Log, events: pa.Table) -> SeenRun:
        """The hashes of all given events, in their order."""
        contents = encoded(log, events).hashes(seed=1)
        return cls(event_ids.hashes_of(events, log.id_columns), contents, events["log_seq"].to_numpy())

    @classmethod
    def empty(cls) -> SeenRun:
        """No entries."""
        none = np.zeros(0, dtype=np.uint64)
        return cls(none, none, np.zeros(0, dtype=np.int64))

    @classmethod
    def joined(cls, runs: Sequence[SeenRun]) -> SeenRun:
        """The entries of some runs, at least one, one after the other."""
        columns = zip(*((run.hashes, run.contents, run.seqs) for run in runs), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def __len__(self) -> int:
        return len(self.hashes)

    @cached_property
    def by_hash(self) -> Seqs:
        """The places of the entries ordered by hash; entries with equal hashes keep their order."""
        bits = max(1, len(self).bit_length() - 2)
        ends, order = np.zeros((1 << bits) + 1, dtype=np.int64), np.empty(len(self), dtype=np.int64)
        if _order(self.hashes, np.uint64(64 - bits), ends, order):
            return order
        return np.argsort(self.hashes, kind="stable")

    def take(self, rows: Seqs) -> SeenRun:
        """The entries at some places, in that order."""
        return SeenRun(self.hashes[rows], self.contents[rows], self.seqs[rows])


def remembered_from(log: Log, snapshots: Sequence[Snapshot], ordinal: int) -> int:
    """The `log_seq` from which on ids are remembered when the snapshot of an ordinal is sealed; all before are others.

    `snapshots` are those before it, the oldest first; there may be more.
    """
    within = log.repeats_within
    return 0 if within is None or ordinal <= within else snapshots[ordinal - within].cut(log.name).seq_start


_TOGETHER_MAX = 64


@compiled
def _order(hashes, shift, ends, order):  # type: ignore[no-untyped-def]
    """Write the places of hashes in ascending order; returns False, without a result, where hashes are not well spread.

    Places are divided by the leading bits of their hashes into small groups, which are sorted by insertion.
    """
    for h in hashes:
        ends[(h >> shift) + 1] += 1
    for b in range(1, ends.size):
        if ends[b] > _TOGETHER_MAX:
            return False
        ends[b] += ends[b - 1]
    for i in range(hashes.size):
        b = hashes[i] >> shift
        order[ends[b]] = i
        ends[b] += 1
    start = 0
    for end in ends[:-1]:
        for i in range(start + 1, end):
            place, at = order[i], i
            while at > start and hashes[order[at - 1]] > hashes[place]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = place
        start = end
    return True


Fetch = Callable[[Sequence[int]], Iterable[tuple[int, bytes, bytes]]]
"""Given log_seqs of earlier events, yields (log_seq, encoded id, encoded content) for each."""


def seal_deliveries(
    log: Log, run: SeenRun, earlier: tuple[Seqs, SeenRun], rows_at: Callable[[Seqs], pa.Table], fetch: Fetch
) -> tuple[Deliveries, Seqs]:
    """Deduplicate new events against each other and against those before.

    `run` has the hashes of the new events, in `log_seq` order. `earlier` pairs places in it with earlier first
    deliveries that have the same hash (`refold.seal.seen_index.SeenIndex.candidates`). `rows_at` gives the declared
    columns of events at ascending places. Returns the delivery of each event and the `log_seq` of its first delivery,
    both of shape (events,).
    """
    deliveries, firsts = np.zeros(len(run), dtype=np.uint8), run.seqs.copy()
    rows, known = earlier
    same = known.contents == run.contents[rows]
    deliveries[rows[same]], firsts[rows[same]] = Delivery.DUPLICATE, known.seqs[same]
    order, ordered = run.by_hash, run.hashes[run.by_hash]
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    suspects = np.unique(np.concatenate([rows[~same], order[again], order[again + 1]]))
    del ordered, again
    suspects = suspects[deliveries[suspects] == Delivery.FIRST]
    if len(suspects) == 0:
        return deliveries, firsts
    part = rows_at(suspects)
    ids = list(encode_rows([part[name] for name in log.id_columns]))
    contents = list(encoded(log, part))
    wanted = np.unique(known.seqs[~same]).tolist()
    seen: dict[bytes, tuple[int, bytes]] = {i: (seq, content) for seq, i, content in fetch(wanted)} if wanted else {}
    for position, row in enumerate(suspects.tolist()):
        first = seen.setdefault(ids[position], (int(run.seqs[row]), contents[position]))
        if first[0] != run.seqs[row]:
            firsts[row] = first[0]
            deliveries[row] = Delivery.DUPLICATE if first[1] == contents[position] else Delivery.CONFLICT
    return deliveries, firsts
