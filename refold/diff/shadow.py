"""A shadow: what stores are at a snapshot by their declarations alone, folded from offset 0 into memory.

Nothing is written, and nothing that was built is read: only the sealed log. Two shadows over the same snapshot are
compared by `refold.diff.compare`; `refold.diff.remote` is a shadow in another process, over another source tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.base.progress import track
from refold.canonical.encoding import encode_rows
from refold.diff.described import Described, described, folded_behind
from refold.errors import NotDeterministic
from refold.explain.events import RunningRows, events_behind, matching_events
from refold.log.declaration import Log
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.replay import Boundary, replay
from refold.storage.objects import ObjectStore
from refold.stores.declaration import DELETED, Folded, Store
from refold.stores.ledger import LedgerPart, counted, with_outcomes
from refold.stores.relating import RelationRunner
from refold.stores.state import State, keys_of, published_rows

Places = npt.NDArray[np.int64]

_EMPTY = np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True)
class Folding:
    """What became of a folded store's log, by one side, in the order (snapshot, log partition, offset).

    Attributes:
        outcomes, reasons: codes, one per event; `texts` names the reasons.
        snapshots, marks: per key that a snapshot touched, the snapshot's ordinal and a hash of the key's row after it.
    """

    outcomes: npt.NDArray[np.uint8]
    reasons: npt.NDArray[np.uint8]
    texts: Mapping[int, str]
    snapshots: npt.NDArray[np.int64]
    marks: npt.NDArray[np.uint64]


class Side(Protocol):
    """One of the two declarations that are compared, at one snapshot; see `Shadow` for what each method does."""

    @property
    def label(self) -> str:
        """The name of the side, for people."""

    def describe(self) -> Mapping[str, Described]:
        """The declarations of the side."""

    def fold(self, columns: Mapping[str, Sequence[str]]) -> Callable[[], None]:
        """Begin to fold; the returned function ends it."""

    def rows(self, name: str) -> pa.Table:
        """The published rows."""

    def folding(self, name: str) -> Folding:
        """Outcomes and marks."""

    def running(self, name: str, through: str, events: Places, touched: Places) -> pa.Table:
        """The events of some keys."""

    def why(self, name: str, key: Sequence[str]) -> Mapping[str, pa.Table]:
        """The events behind a row."""


class Shadow:
    """Stores at a snapshot, in this process.

    Args:
        label: whose declarations these are, for people.
        stores: the stores by the names they are compared under.
    """

    def __init__(
        self, label: str, objects: ObjectStore, chain: SnapshotChain, snapshot: Snapshot, stores: Mapping[str, Store]
    ) -> None:
        self.label = label
        self._objects = objects
        self._chain = chain
        self._snapshot = snapshot
        self._last = snapshot.key
        self._stores = dict(stores)
        self._runner = RelationRunner()
        self._folds: dict[str, _Fold] = {}
        self._tables: dict[str, pa.Table] = {}

    def describe(self) -> Mapping[str, Described]:
        """Every store by name; nothing is folded for it."""
        return self._described

    @cached_property
    def _described(self) -> Mapping[str, Described]:
        return {name: described(store, self._name_of) for name, store in self._stores.items()}

    def fold(self, columns: Mapping[str, Sequence[str]]) -> Callable[[], None]:
        """Fold stores through the snapshot in one pass per log; `columns` are, by store, those of its state to mark.

        Nothing happens until the returned function is called, since this process has other work first.

        Raises, from that function, RuleError where a rule fails, NotDeterministic, and Damaged where a segment is.
        """

        def work() -> None:
            for log, stores in self._by_log(columns).items():
                folds = {name: _Fold(store, columns[name]) for name, store in stores.items()}
                self._folds |= folds
                boundaries = replay(self._objects, self._chain, log, list(stores.values()), self._snapshot)
                for snapshot, found in track(boundaries, f"shadow {log.name}", self._snapshot.ordinal + 1, _events_of):
                    for fold in folds.values():
                        fold.take(snapshot, found[fold.store.name])

        return work

    def rows(self, name: str) -> pa.Table:
        """What readers of a store would be given: declared columns, sorted by key. Its folded inputs must be folded.

        Raises DeclarationError or RuleError where a query fails.
        """
        return self._table(self._stores[name])

    def folding(self, name: str) -> Folding:
        """Outcomes and marks of a store that was folded."""
        return self._folds[name].folding()

    def running(self, name: str, through: str, events: Places, touched: Places) -> pa.Table:
        """All events up to a snapshot of some keys that it touched, in log order, with the row after each.

        The keys are those of the snapshot's events at the places `events`, in the order (log partition, offset), and
        those at the places `touched` among the snapshot's marks.

        Columns: snapshot, log_partition, log_offset, log_seq, origin, event (what the fold reads, key and event id),
        outcome, reason, after (null before a key's first event that counts).
        """
        fold = self._folds[name]
        names = fold.store.log.key_columns
        reader = LogReader(self._objects, self._chain, fold.store.log)
        snapshot = self._chain.get(through)
        added = keys_of(reader.events(snapshot, names), names)
        marked = fold.marked_keys(snapshot)
        chosen = [added.take(pa.array(events)).unique(), marked.take(pa.array(touched)).cast(added.type)]
        keys = pa.concat_arrays(chosen).unique()
        return self._events(fold, lambda each: each.filter(pc.is_in(keys_of(each, names), keys)), through, running=True)

    def why(self, name: str, key: Sequence[str]) -> Mapping[str, pa.Table]:
        """The events behind the row of a key, given as text, by folded store; columns as those of `running`.

        `after` is null throughout where the key is not that of the folded store.

        Raises FixInput where the key has another number of parts, or cannot be followed through a query.
        """
        found = {}
        for store, wanted in events_behind(self._stores[name], key):
            fold = self._folds[self._name_of(store)]
            match = _matcher(store, wanted)
            running = wanted.keys() == set(store.log.key_columns)
            found[self._name_of(store)] = self._events(fold, match, self._last, running=running)
        return found

    def _name_of(self, store: Store) -> str:
        """The name a store is compared under, else its own."""
        return next((name for name, each in self._stores.items() if each is store), store.name)

    def _by_log(self, names: Mapping[str, object]) -> dict[Log, dict[str, Folded]]:
        every = {self._name_of(each): each for store in self._stores.values() for each in folded_behind(store)}
        found: dict[Log, dict[str, Folded]] = {}
        for name, store in every.items():
            if name in names and name not in self._folds:
                found.setdefault(store.log, {})[name] = store
        return found

    def _table(self, store: Store) -> pa.Table:
        name = self._name_of(store)
        if name not in self._tables:
            self._tables[name] = self._folds[name].published if store.ledger is not None else self._computed(store)
        return self._tables[name]

    def _computed(self, store: Store) -> pa.Table:
        tables = {each.name: each.read(ledger=self._ledger_table, rows=self._table) for each in store.sources}
        return store.compute(self._runner, tables)

    def _ledger_table(self, store: Folded) -> pa.Table:
        name = store.ledger.name
        if name not in self._tables:
            fold = self._folds[self._name_of(store)]
            self._tables[name] = pa.concat_tables([events for _, events in self._ledger(fold, self._last)])
        return self._tables[name]

    def _ledger(self, fold: _Fold, through: str) -> Iterator[tuple[Snapshot, pa.Table]]:
        """The events of every snapshot up to one with their outcomes, oldest first."""
        reader = LogReader(self._objects, self._chain, fold.store.log)
        for snapshot, part in zip(self._chain.through(through), fold.parts, strict=False):
            yield snapshot, counted(with_outcomes(fold.store, reader.events(snapshot), part))

    def _events(self, fold: _Fold, match: Callable[[pa.Table], pa.Table], through: str, *, running: bool) -> pa.Table:
        parts = []
        for snapshot, events in self._ledger(fold, through):
            found = match(events)
            parts.append(found.append_column("snapshot", pa.repeat(pa.scalar(snapshot.key), len(found))))
        return _told(fold.store, pa.concat_tables(parts).combine_chunks(), running=running)


class _Fold:
    """One folded store as replay goes on: the outcomes of every snapshot, the marks, the rows at the end."""

    def __init__(self, store: Folded, columns: Sequence[str]) -> None:
        self.store = store
        self.parts: list[LedgerPart] = []
        self._state: State | None = None
        self._columns = list(columns)
        self._marks: list[npt.NDArray[np.uint64]] = []
        self._ordinals: list[npt.NDArray[np.int64]] = []
        self._rows: dict[int, npt.NDArray[np.int32]] = {}

    def take(self, snapshot: Snapshot, boundary: Boundary) -> None:
        """Keep what is needed of one boundary."""
        if boundary.unstable:
            raise NotDeterministic(boundary.unstable)
        self.parts.append(boundary.part)
        self._state = state = boundary.state
        cut = snapshot.cut(self.store.log.name)
        if cut.events:  # a row carries the position of the last event of its key
            rows = np.flatnonzero(state.table["log_seq"].to_numpy() >= cut.seq_start)
            touched = state.table.select(self._columns).take(pa.array(rows))
            self._marks.append(encode_rows(touched.columns, len(rows)).hashes())
            self._ordinals.append(np.full(len(rows), snapshot.ordinal, dtype=np.int64))
            self._rows[snapshot.ordinal] = rows.astype(np.int32)

    def marked_keys(self, snapshot: Snapshot) -> pa.Array:
        """The keys that have a mark at a snapshot, in the order of the marks."""
        assert self._state is not None
        rows = self._rows.get(snapshot.ordinal, np.zeros(0, dtype=np.int32))  # a key keeps its row
        keys = self._state.table.select(self.store.log.key_columns).take(pa.array(rows))
        return keys_of(keys, self.store.log.key_columns).combine_chunks()

    @property
    def published(self) -> pa.Table:
        """What readers would be given at the last boundary."""
        assert self._state is not None
        return published_rows(self.store, self._state.table)

    def folding(self) -> Folding:
        return Folding(
            outcomes=np.concatenate([_EMPTY, *(part.outcomes for part in self.parts)]),
            reasons=np.concatenate([_EMPTY, *(part.reasons for part in self.parts)]),
            texts=self.store.reasons,
            snapshots=np.concatenate([np.zeros(0, dtype=np.int64), *self._ordinals]),
            marks=np.concatenate([np.zeros(0, dtype=np.uint64), *self._marks]),
        )


def _events_of(item: tuple[Snapshot, Mapping[str, Boundary]]) -> int:
    return len(next(iter(item[1].values())).part.outcomes)


def _matcher(store: Folded, wanted: Mapping[str, str]) -> Callable[[pa.Table], pa.Table]:
    return lambda events: matching_events(store, events, wanted)


def _told(store: Folded, events: pa.Table, *, running: bool) -> pa.Table:
    """The events as `Shadow.running` gives them."""
    log = store.log
    ids, dated = [name for name in log.id_columns if name in log.columns], [log.event_time] if log.event_time else []
    shown = dict.fromkeys([*ids, *log.key_columns, *dated, *store.columns_read])
    lines = pc.cast(events["source_line"], pa.string())
    return pa.table(
        {
            **{name: events[name] for name in ("snapshot", "log_partition", "log_offset", "log_seq")},
            "origin": pc.binary_join_element_wise(events["source_object"], lines, ":"),
            "event": events.select(list(shown)).to_struct_array(),
            "outcome": events["outcome"],
            "reason": events["reason"],
            "after": _after(store, events) if running else pa.nulls(len(events)),
        }
    )


def _after(store: Folded, events: pa.Table) -> pa.Array:
    """The row after each event as Arrow holds it; null before the first of its key that counts."""
    if len(events) == 0:
        return pa.nulls(0)
    mark = [(DELETED, pa.bool_())] if store.deletes else []
    fields = [(name, column.arrow) for name, column in store.values.items()]
    return pa.array(RunningRows(store).after(events), pa.struct([*fields, *mark]))
