"""Full replay: fold a log from offset 0, with no checkpoint and no stored deduplication, and say what is there.

One pass over the events yields state and ledger at every snapshot boundary. Duplicates are found from the ids alone.
What is done with the result, comparing it with what was built, is `refold.proof`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from refold.log.declaration import Log
from refold.log.repeats import ReplayDedup, group_repeated_ids
from refold.log.segment import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage import ObjectStore
from refold.stores.declaration import Folded
from refold.stores.folding import columns_to_read, fold_events
from refold.stores.ledger import EMPTY_DIGEST, NO_EVENTS, LedgerPart
from refold.stores.state import State


@dataclass(frozen=True)
class Boundary:
    """What replay found for one store at one snapshot. `state` goes on changing; read it before the next boundary.

    `part` holds the outcomes of the snapshot's events, `outcomes` how many there were of each from offset 0.
    """

    store: Folded
    state: State
    state_digest: str
    ledger_digest: str
    outcomes: Mapping[str, int]
    part: LedgerPart
    events: pa.Table


def replay(
    objects: ObjectStore, chain: SnapshotChain, log: Log, stores: Sequence[Folded], through: Snapshot
) -> Iterator[tuple[Snapshot, Mapping[str, Boundary]]]:
    """Fold stores of one log from offset 0 through a snapshot; yields every boundary, oldest first, by store name.

    Raises Damaged where a segment is, and RuleError where a rule fails.
    """
    reader = LogReader(objects, chain, log)
    snapshots = chain.through(through.key)
    dedup = ReplayDedup(log, _repeated_ids(reader, snapshots))
    needed = {name for store in stores for name in columns_to_read(store)} | set(log.columns)
    columns = [name for name in log.schema.names if name in needed]
    states = {store.name: State(store) for store in stores}
    ledgers = dict.fromkeys(states, EMPTY_DIGEST)
    outcomes = dict.fromkeys(states, NO_EVENTS.counts())
    for snapshot in snapshots:
        events = reader.events(snapshot, columns)
        deliveries = dedup.deliveries(events)
        found = {}
        for store in stores:
            part = fold_events(states[store.name], events, deliveries)
            ledgers[store.name] = part.digest(ledgers[store.name], snapshot.logs[log.name])
            outcomes[store.name] = {name: n + outcomes[store.name][name] for name, n in part.counts().items()}
            state = states[store.name]
            found[store.name] = Boundary(
                store, state, state.digest(), ledgers[store.name], outcomes[store.name], part, events
            )
        yield snapshot, found


def _repeated_ids(reader: LogReader, snapshots: Sequence[Snapshot]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    id_column = reader.log.event_id
    tables = [reader.events(snapshot, ["log_seq", id_column]) for snapshot in snapshots]
    events = pa.concat_tables(tables)
    return group_repeated_ids(events[id_column], events["log_seq"].to_numpy())
