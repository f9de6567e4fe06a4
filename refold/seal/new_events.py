"""The new events of a log while they are sealed: by log partition and offset, and across the log by `log_seq`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from refold.canonical.encoding import Hashes
from refold.dedup.deliveries import SeenRun, Seqs


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
