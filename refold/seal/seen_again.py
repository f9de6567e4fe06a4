"""The seen index computed again from the segments, where it is lost or damaged."""

from __future__ import annotations

import numpy as np

from refold.dedup.deliveries import SeenRun, remembered_from
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.seal.seen_index import SeenIndex, sorted_entries


def seen_index(reader: LogReader, chain: SnapshotChain) -> SeenIndex:
    """The seen index of the whole sealed log, computed from segments and repeats. Raises Damaged."""
    index = SeenIndex()
    for snapshot in chain:
        cut = snapshot.cut(reader.log.name)
        if cut.events:
            since = remembered_from(reader.log, list(chain), snapshot.ordinal)
            index.add(sorted_entries(_first_deliveries(reader, snapshot)), cut.seq_end, since)
    return index


def _first_deliveries(reader: LogReader, snapshot: Snapshot) -> SeenRun:
    repeats = reader.repeats(snapshot)
    again = repeats["log_seq"].to_numpy() if repeats is not None else np.zeros(0, dtype=np.int64)
    events = reader.events(snapshot, ["log_seq", *reader.log.columns]).sort_by("log_seq").combine_chunks()
    run = SeenRun.of(reader.log, events)
    return run.take(np.flatnonzero(~np.isin(run.seqs, again)))
