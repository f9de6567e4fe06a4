"""The new events of a log while they are sealed: by log partition and offset, and across the log by `log_seq`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.encoding import Hashes
from refold.dedup.deliveries import SeenRun, Seqs
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.segment import encoded, stored_ids
from refold.seal.decoding import DecodedObject
from refold.storage.objects import sha256_hex


@dataclass(frozen=True)
class NewEvents:
    """The new events of one log partition, by offset: the digest of their content, and what they are found by.

    `stored_ids` are their ids as segments have them, `ids` and `contents` the hashes of a seen run.
    """

    events: pa.Table
    stored_ids: pa.ChunkedArray | None
    content: str
    ids: Hashes
    contents: Hashes

    def __len__(self) -> int:
        return len(self.events)

    @property
    def seqs(self) -> Seqs:
        """The `log_seq` of each event."""
        return np.asarray(self.events["log_seq"].to_numpy())


def order_events(log: Log, objects: Sequence[DecodedObject], starts: Sequence[int], seq_start: int) -> list[NewEvents]:
    """The new events of each log partition, in landing order, from the offsets `starts` and from a `log_seq` on."""
    first_seqs = np.cumsum([seq_start, *(len(decoded.rows) for decoded in objects)])
    rows = [sum(len(decoded.places.get(p, ())) for decoded in objects) for p in range(len(starts))]
    order = partial(_ordered, log, objects, first_seqs)
    return each(lambda item: order(*item), list(enumerate(starts)), rows)


def _ordered(log: Log, objects: Sequence[DecodedObject], first_seqs: Seqs, partition: int, start: int) -> NewEvents:
    """The new events of one log partition from an offset on; `first_seqs` are the `log_seq` at which objects begin."""
    mine = [
        decoded.rows_of(partition).append_column("log_seq", pa.array(first + decoded.places[partition]))
        for first, decoded in zip(first_seqs[:-1], objects, strict=True)
        if partition in decoded.places
    ]
    events = log.schema.empty_table()
    if mine:
        found = pa.concat_tables(mine).unify_dictionaries()
        found = found.append_column("log_offset", pa.array(np.arange(start, start + len(found))))
        events = found.select(log.schema.names).cast(log.schema).combine_chunks()
    rows = encoded(log, events)
    ids = stored_ids(log, events)
    hashes = event_ids.hashes_of(events, log.id_columns) if ids is None else event_ids.hashes(ids)
    return NewEvents(events, ids, sha256_hex(rows.data.data), hashes, rows.hashes(seed=1))


def run_of(parts: Sequence[NewEvents], seq_start: int, seq_end: int) -> SeenRun:
    """The hashes of all new events, in the order of `log_seq`."""
    ids, contents = (np.empty(seq_end - seq_start, dtype=np.uint64) for _ in range(2))
    for part in parts:
        ids[part.seqs - seq_start], contents[part.seqs - seq_start] = part.ids, part.contents
    return SeenRun(ids, contents, np.arange(seq_start, seq_end))


def rows_at(parts: Sequence[NewEvents], seqs: Seqs) -> pa.Table:
    """The events with some `log_seq`, which rise, in their order."""
    found = []
    for part in parts:
        places = np.searchsorted(part.seqs, seqs)
        here = places < len(part.seqs)
        here[here] = part.seqs[places[here]] == seqs[here]
        found.append(part.events.take(pa.array(places[here])))
    return pa.concat_tables(found).sort_by("log_seq")
