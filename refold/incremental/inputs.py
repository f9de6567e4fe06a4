"""What relations read, followed from snapshot to snapshot: the rows of each source now, and those that changed.

A folded store is followed by the rows that its checkpoints changed, and must have the digest of its record at every
snapshot; a ledger by its parts, whose digests are chained. So what is followed is what was proven. Where a checkpoint
was thinned, its store is followed again from the next one that has rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.encoding import Hashes
from refold.canonical.hash_table import HashTable
from refold.log.snapshot import Snapshot
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import DELETED, Folded, LedgerOf, Source
from refold.stores.ledger import EMPTY_DIGEST
from refold.stores.state import KeyedRows, State, equal_rows, hashes_by, published_rows

Fields = tuple[pa.Field, ...]


class Input(Protocol):
    """One source, followed from snapshot to snapshot."""

    @property
    def changed(self) -> Sequence[pa.Table]:
        """The rows that left or came at the last snapshot that was followed, as published."""

    def whole(self) -> pa.Table:
        """All rows as published, in no order."""

    def within(self, partitions: HashTable, by: Fields) -> pa.Table:
        """The rows whose values in some columns have a hash among these."""


class Keyed:
    """Keyed rows as an input."""

    def __init__(self, rows: KeyedRows) -> None:
        self.rows = rows
        self.changed: Sequence[pa.Table] = ()

    def whole(self) -> pa.Table:
        """All rows."""
        return self.rows.table

    def within(self, partitions: HashTable, by: Fields) -> pa.Table:
        """The rows whose values in some columns have a hash among these."""
        places = np.flatnonzero(partitions.find(self.rows.hashes_by(by)) >= 0)
        return self.rows.table.take(pa.array(places))

    def upsert(self, table: pa.Table) -> None:
        """Replace or add rows by key; they have changed."""
        places = self.rows.locate(table)
        before = self.rows.table.take(pa.array(places[places >= 0]))
        self.rows.put(places, table)
        self.changed = (before, table.select(self.rows.schema.names))


class StateInput:
    """A folded store followed by its checkpoints."""

    def __init__(self, builder: Builder, store: Folded) -> None:
        self._builder = builder
        self._store = store
        self._record: StateRecord | None = None
        self._seq = 0
        self._keyed = Keyed(State(store))
        self.changed: Sequence[pa.Table] = ()

    def follow(self, snapshot: Snapshot) -> bool:
        """Go on to a snapshot; False where the rows there were thinned, and nothing was followed. Raises Damaged."""
        record = self._builder.require(self._store, snapshot)
        before, self.changed = self._record, ()
        if before is not None and before.inputs == record.inputs:
            return True
        if record.thinned:
            return False
        checkpoints, state = self._builder.checkpoints, self._state
        tables = [checkpoints.stored(record.changes)] if record.changes is not None else []
        if record.base is not None and (before is None or before.base != record.base):
            tables.insert(0, checkpoints.stored(record.base))
        for table in tables:
            self._take(table.filter(pc.greater_equal(table["log_seq"], self._seq)))
        if state.digest() != record.state_digest:
            self._take(self._differing(checkpoints.state(self._store, record).table))
            checkpoints.require_digest(record, state.digest())
        self._record, self._seq = record, snapshot.cut(self._store.log.name).seq_end
        return True

    @property
    def _state(self) -> KeyedRows:
        return self._keyed.rows

    def _take(self, table: pa.Table) -> None:
        if len(table):
            self._keyed.upsert(table)
            self.changed = (*self.changed, *map(self._published, self._keyed.changed))

    def _differing(self, table: pa.Table) -> pa.Table:
        """The rows of a state that are not those that were followed."""
        places = self._state.locate(table)
        known = np.flatnonzero(places >= 0)
        rows = table.select(self._state.schema.names).cast(self._state.schema)
        new = np.ones(len(table), dtype=np.bool_)
        new[known] = ~equal_rows(self._state.table.take(pa.array(places[known])), rows.take(pa.array(known)))
        return rows.filter(pa.array(new))

    def _published(self, table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(table[DELETED])) if self._store.deletes else table

    def whole(self) -> pa.Table:
        """All rows as published, sorted."""
        return published_rows(self._store, self._state.table)

    def within(self, partitions: HashTable, by: Fields) -> pa.Table:
        """The rows whose values in some columns have a hash among these."""
        return self._published(self._keyed.within(partitions, by)).select(list(self._store.columns))


class LedgerInput:
    """A ledger followed by its parts; it only grows."""

    def __init__(self, builder: Builder, store: Folded) -> None:
        self._builder = builder
        self._store = store
        self._digest = EMPTY_DIGEST
        self._parts = list[pa.Table]()
        self._starts = [0]
        self._hashes = dict[Fields, tuple[int, Hashes]]()
        self.changed: Sequence[pa.Table] = ()

    def begin(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot without its rows, which nothing reads."""
        self._digest = self._builder.require(self._store, snapshot).ledger_digest

    def follow(self, snapshot: Snapshot) -> bool:
        """Go on to the next snapshot. Raises Damaged."""
        part, self._digest = self._builder.ledger_part(self._store, snapshot, self._digest)
        self._builder.require_ledger_digest(self._store, snapshot, self._digest)
        self.changed = (part,) if len(part) else ()
        if len(part):
            self._parts.append(part)
            self._starts.append(self._starts[-1] + len(part))
        return True

    def whole(self) -> pa.Table:
        """All rows, in the order of the log's snapshots."""
        return pa.concat_tables(self._parts) if self._parts else LedgerOf(self._store).table.empty_table()

    def within(self, partitions: HashTable, by: Fields) -> pa.Table:
        """The rows whose values in some columns have a hash among these."""
        places = np.flatnonzero(partitions.find(self._hashed(by)) >= 0)
        parts = np.searchsorted(self._starts, places, side="right") - 1
        found = [
            self._parts[part].take(pa.array(places[parts == part] - self._starts[part])) for part in np.unique(parts)
        ]
        return pa.concat_tables(found) if found else LedgerOf(self._store).table.empty_table()

    def _hashed(self, by: Fields) -> Hashes:
        """The hashes of all rows by some columns; those that are new are hashed now."""
        done, hashes = self._hashes.get(by, (0, np.zeros(0, dtype=np.uint64)))
        count = self._starts[-1]
        if done < len(self._parts):
            if count > len(hashes):
                hashes = np.concatenate([hashes, np.zeros(max(count, 2 * len(hashes)) - len(hashes), dtype=np.uint64)])
            for place in range(done, len(self._parts)):
                hashes[self._starts[place] : self._starts[place + 1]] = hashes_by(self._parts[place], by)
            self._hashes[by] = len(self._parts), hashes
        return hashes[:count]


def input_of(builder: Builder, source: Source) -> StateInput | LedgerInput:
    """The input that follows a source: the rows or the ledger of a folded store."""
    store = source.store
    assert isinstance(store, Folded)
    return LedgerInput(builder, store) if isinstance(source, LedgerOf) else StateInput(builder, store)
