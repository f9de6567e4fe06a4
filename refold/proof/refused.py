"""The event from which on a relation cannot be computed: found by halving the events that one snapshot added.

Reads only. The inputs of the relation are folded up to an event, from their states at the snapshot before, and the
query is run over them. That it refuses is `refold.stores.relating`'s decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from refold.dedup.deliveries import Deliveries
from refold.errors import DeclarationError, RuleError
from refold.log.declaration import Log
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder, deliveries_of
from refold.stores.declaration import Folded, Store
from refold.stores.folding import fold_events
from refold.stores.ledger import counted, with_outcomes
from refold.stores.state import State, published_rows

_Place = tuple[Log, int]
"""A log and a `log_seq`."""


def refused_from(objects: ObjectStore, chain: SnapshotChain, builder: Builder, store: Store, last: Snapshot) -> str:
    """The first event with which a relation cannot be computed, as a sentence.

    "" where there is none: it can be computed at `last`, or cannot without events. Raises Unproven, Damaged.
    """
    first = last
    for snapshot in reversed(chain.through(last.key)):
        if builder.find(store, snapshot) is not None:
            break
        first = snapshot
    probe = _Probe(objects, chain, builder, store, first)
    total = len(probe)
    if not probe.refuses(total) or probe.refuses(0):
        return ""
    low, high = 0, total
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if probe.refuses(middle) else (middle, high)
    return probe.event(low)


class _Probe:
    """A relation over the first events of a snapshot, which are taken log by log, each in the order of `log_seq`."""

    def __init__(
        self, objects: ObjectStore, chain: SnapshotChain, builder: Builder, store: Store, snapshot: Snapshot
    ) -> None:
        self._builder = builder
        self._store = store
        self._before = chain.get(snapshot.parent_key) if snapshot.parent_key is not None else None
        self._logs = list(dict.fromkeys(each.ledger.store.log for each in store.all_inputs if each.ledger is not None))
        self._events, self._deliveries, self._seqs = dict[str, pa.Table](), dict[str, Deliveries](), list[_Place]()
        for log in self._logs:
            reader = LogReader(objects, chain, log)
            self._events[log.name] = reader.events(snapshot)
            self._deliveries[log.name] = deliveries_of(reader, snapshot)
            self._seqs += [(log, seq) for seq in sorted(self._events[log.name]["log_seq"].to_pylist())]
        self._states: dict[str, pa.Table] = {}

    def __len__(self) -> int:
        return len(self._seqs)

    def refuses(self, count: int) -> bool:
        """Whether the relation cannot be computed after so many events."""
        taken = {log.name: seq for log, seq in self._seqs[:count]}
        try:
            self._rows(self._store, taken)
        except (RuleError, DeclarationError):
            return True
        return False

    def event(self, place: int) -> str:
        """An event, with what prints it."""
        log, seq = self._seqs[place]
        events = self._events[log.name]
        (row,) = events.filter(pc.equal(events["log_seq"], seq)).to_pylist()
        key = f"{', '.join(log.key_columns)} {log.key_of(row)!r}"
        at = f"{row['log_partition']}:{row['log_offset']}"
        return (
            f"It refuses from the event at log {log.name!r}, log partition {row['log_partition']}, offset "
            f"{row['log_offset']} (log_seq {seq}, {key}, landing {row['source_object']}:"
            f"{row['source_line']}) on; `refold log show {log.name} {at}` prints it."
        )

    def _rows(self, store: Store, taken: Mapping[str, int]) -> pa.Table:
        if store.ledger is not None:
            return published_rows(store.ledger.store, self._folded(store.ledger.store, taken)[0])
        ledger, rows = partial(self._ledger, taken=taken), partial(self._rows, taken=taken)
        tables = {source.name: source.read(ledger=ledger, rows=rows) for source in store.sources}
        return store.compute(self._builder.runner, tables)

    def _ledger(self, store: Folded, taken: Mapping[str, int]) -> pa.Table:
        new = self._folded(store, taken)[1]
        if self._before is None:
            return new
        return pa.concat_tables([self._builder.ledger_rows(store, self._before), new], promote_options="permissive")

    def _folded(self, store: Folded, taken: Mapping[str, int]) -> tuple[pa.Table, pa.Table]:
        """The state of a store after the events taken, and the ledger of these."""
        if store.name not in self._states:
            before = State(store) if self._before is None else self._builder.state_at(store, self._before)
            self._states[store.name] = before.table
        state, events = State(store, self._states[store.name]), self._events[store.log.name]
        mine = pc.less_equal(events["log_seq"], taken.get(store.log.name, -1))
        part = fold_events(state, events.filter(mine), self._deliveries[store.log.name][mine.to_numpy()])
        return state.table, counted(with_outcomes(store, events.filter(mine), part))
