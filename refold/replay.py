"""Full replay: fold a log from offset 0, with no checkpoint and no stored deduplication, and say what is there.

One pass over the events yields state and ledger at every snapshot boundary. Duplicates are found from the ids alone.
Every rule is run twice over the same rows and events, so that one that is not deterministic is found even where what
is stored happens to agree; by it a compiled fold takes a fifth longer, an interpreted one twice as long.
What is done with the result, comparing it with what was built, is `refold.proof`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from refold.errors import Damaged, NotDeterministic
from refold.log.declaration import Log
from refold.log.repeats import Deliveries, ReplayDedup
from refold.log.segment import LogReader, content_digest, repeated_ids
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
    `unstable` says, as a sentence, that the rule gave two results for the same events; "" where it did not.
    """

    store: Folded
    state: State
    state_digest: str
    ledger_digest: str
    outcomes: Mapping[str, int]
    part: LedgerPart
    events: pa.Table
    unstable: str = ""


def replay(
    objects: ObjectStore, chain: SnapshotChain, log: Log, stores: Sequence[Folded], through: Snapshot
) -> Iterator[tuple[Snapshot, Mapping[str, Boundary]]]:
    """Fold stores of one log from offset 0 through a snapshot; yields every boundary, oldest first, by store name.

    Raises Damaged where a segment is, and RuleError where a rule fails.
    """
    reader = LogReader(objects, chain, log)
    snapshots = chain.through(through.key)
    dedup = ReplayDedup(log, repeated_ids(reader, snapshots))
    needed = {name for store in stores for name in columns_to_read(store)} | set(log.columns)
    columns = [name for name in log.schema.names if name in needed]
    states = {store.name: State(store) for store in stores}
    ledgers = dict.fromkeys(states, EMPTY_DIGEST)
    outcomes = dict.fromkeys(states, NO_EVENTS.counts())
    for snapshot in snapshots:
        events = reader.events(snapshot, columns)
        _require_content(log, snapshot, events)
        deliveries = dedup.deliveries(events)
        found = {}
        for store in stores:
            part, unstable = _fold_twice(states[store.name], events, deliveries)
            ledgers[store.name] = part.digest(ledgers[store.name], snapshot.cut(log.name))
            outcomes[store.name] = {name: n + outcomes[store.name][name] for name, n in part.counts().items()}
            state = states[store.name]
            found[store.name] = Boundary(
                store, state, state.digest(), ledgers[store.name], outcomes[store.name], part, events, unstable
            )
        yield snapshot, found


def _fold_twice(state: State, events: pa.Table, deliveries: Deliveries) -> tuple[LedgerPart, str]:
    try:
        return fold_events(state, events, deliveries, twice=True), ""
    except NotDeterministic as error:
        return fold_events(state, events, deliveries), str(error)


def _require_content(log: Log, snapshot: Snapshot, events: pa.Table) -> None:
    """The events must be those the snapshot's identity was made of. Raises Damaged."""
    places = events["log_partition"].to_numpy()
    for partition, expected in enumerate(snapshot.cut(log.name).content):
        bounds = np.searchsorted(places, [partition, partition + 1])
        found = content_digest(log, events.slice(bounds[0], bounds[1] - bounds[0]))
        if found != expected:
            raise Damaged(
                f"The events of log {log.name!r}, snapshot {snapshot.key}, log partition {partition} are not those "
                f"that were sealed: expected content {expected}, found {found}.",
                remedy="Run `refold log verify`, and restore the segments or the layout from a copy.",
            )
