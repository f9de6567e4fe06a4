"""Checkpoints: states, ledger parts and results stored per store, code version and position of the inputs.

A state is stored as a base, which holds all rows, and the rows that changed since that base. A new base is
written once the changes written since the last one add up to more rows than the state has, so that all changes
together cost no more than the bases, and reading a state never takes more than two objects. Any checkpoint but the
newest can give up its rows (`refold.stores.thinning`) and keeps its digests and its ledger part.

A checkpoint is always checked: its bytes must have the sha256 in its record, and its rows the digest. Otherwise it is
`Damaged`, and the caller folds from an earlier one. Its name follows from its inputs and its content from the snapshots
before it, so computing the same position again, even at the same time elsewhere, writes the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.digest import table_digest
from refold.canonical.encoding import Hashes
from refold.errors import Damaged
from refold.log.segment import from_parquet, to_parquet
from refold.log.snapshot import LogCut
from refold.storage.content import StoredObject, put_content
from refold.storage.names import ObjectKind, folder_of, name_of
from refold.storage.objects import ObjectStore, sha256_hex
from refold.storage.records import read_record, record_bytes
from refold.storage.shapes import plain_value, typed
from refold.stores.declaration import Folded, Store
from refold.stores.ledger import EMPTY_DIGEST, LedgerPart
from refold.stores.state import (
    REMOVED,
    Result,
    Rows,
    State,
    key_hashes,
    replace_rows,
    sort_by,
    with_mark,
    without_removed,
)
from refold.types import Schema, describe


@dataclass(frozen=True)
class StateRecord:
    """A store at one position of its inputs.

    Attributes:
        store, code_version: the store, and the version of its code that computed the state.
        inputs: the identity of what it was computed from: the log's cut, or the digests of a relation's inputs.
        state_digest: the digest of its rows, tombstones included.
        ledger_digest: the digest of its ledger; "" for a relation, which has none.
        rows: rows of the state, tombstones included.
        outcomes: how many events had each outcome, from offset 0; empty for a relation.
        base: the object that holds all rows, here or at an earlier position; None where the rows were thinned.
        changes: the object that holds the rows which replace or join those of an earlier base; None where the base
            is the state.
        changes_since_base: rows in all the changes written since the base, these included.
        ledger: the object that holds the ledger part of its snapshot; None where no event was added.
    """

    store: str
    code_version: str
    inputs: str
    state_digest: str
    ledger_digest: str
    rows: int
    outcomes: Mapping[str, int]
    base: StoredObject | None
    changes: StoredObject | None
    changes_since_base: int
    ledger: StoredObject | None

    @property
    def thinned(self) -> bool:
        """Whether the rows were dropped; only a fold from an earlier checkpoint restores them."""
        return self.base is None

    @property
    def objects(self) -> list[StoredObject]:
        """The objects that hold the rows and the ledger part, in the order base, changes, ledger."""
        return [stored for stored in (self.base, self.changes, self.ledger) if stored is not None]

    @property
    def claim(self) -> dict[str, str]:
        """The claim that a proof must state, word for word, to cover this state."""
        names = ("store", "code_version", "inputs", "state_digest", "ledger_digest")
        return {name: getattr(self, name) for name in names}

    @property
    def data_version(self) -> str:
        """A short name of content: equal for equal rows and ledger."""
        return sha256_hex((self.state_digest + self.ledger_digest).encode())[:20]


_WAITING_MAX, _WAITING_BYTES_MAX = 256, 16_000_000
"""How many records wait for what they name, and its size; a kill costs as much folding again at most."""


def name_of_state(body: Mapping[str, Any]) -> str:
    """The name that a state record with some body must have. Raises Damaged where it is not the body of one."""
    record = _parse(body)
    return record_name(record.store, record.code_version, record.inputs)


def record_name(store: str, code_version: str, inputs: str) -> str:
    """The name of a state record."""
    return name_of(ObjectKind.STATE_RECORD, store=store, code_version=code_version, inputs=inputs)


class Checkpoints:
    """Reads and writes the state records of a project."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[str, StateRecord] = {}
        self._waiting: dict[str, StateRecord] = {}
        self._waiting_bytes, self._grouped = 0, False

    def find(self, store: Store, inputs: str) -> StateRecord | None:
        """The record of a store at a position; None where it was never built. Raises Damaged."""
        name = record_name(store.name, store.code_version, inputs)
        if name not in self._known:
            record = self.read(name)
            if record is None:
                return None
            if (record.store, record.inputs) != (store.name, inputs):
                raise Damaged(
                    f"The record {name} belongs elsewhere: expected store {store.name!r} at inputs {inputs}, "
                    f"found store {record.store!r} at {record.inputs}.",
                    remedy="Rebuild the store; it will be folded from an earlier checkpoint.",
                )
            self._known[name] = record
        return self._known[name]

    def read(self, name: str) -> StateRecord | None:
        """The record of a name, as it is stored now; None where there is none. Raises Damaged."""
        body = read_record(self._objects, name)
        return None if body is None else _parse(body)

    def save_result(self, result: Result, inputs: str, before: StateRecord | None) -> tuple[StateRecord, Result]:
        """Store a relation's rows, as a base or as the changes since that of the record `before`, and its record.

        Returns the record, and the result to go on with. The record is written last; a rerun writes the same objects.
        """
        store, base = result.store, before.base if before else None
        since = result.changed_count + (before.changes_since_base if before else 0)
        kind, table = None, None
        if base is None or since > len(result):
            result, since = result.based(), 0
            kind, table = ObjectKind.ROWS, result.rows()
        elif result.changed_count:
            kind, table = ObjectKind.CHANGES, result.changed()
        stored = self._put(store, kind, table) if kind else None
        base, changes = (stored, None) if kind is ObjectKind.ROWS else (base, stored)
        record = StateRecord(store.name, store.code_version, inputs, result.digest(), "", result.live_count, {},
                             base, changes, since, None)  # fmt: skip
        return self._record(record), result

    def result(self, store: Store, record: StateRecord) -> Result:
        """The rows of a relation's record. Raises Damaged, also where they were thinned."""
        table, changed, hashes = self._merged(record, store.key)
        result = Result(store, table, changed, hashes)
        self.require_digest(record, result.digest())
        return result

    def save_state(self, state: State, cut: LogCut, part: LedgerPart, before: StateRecord | None) -> StateRecord:
        """Store a folded state: its base or its changes, the ledger part and, last, the record.

        `cut` is the part of the snapshot that was folded, `before` the record of the state that its events were folded
        into; None at the beginning. A rerun writes the same objects. Afterwards the state counts its changes from the
        base that was chosen.
        """
        store, base, tables = state.store, before.base if before else None, dict[ObjectKind, pa.Table]()
        since = state.changed_count + (before.changes_since_base if before else 0)
        if base is None or since > len(state):
            tables[ObjectKind.ROWS], since = state.table, 0
            state.begin_changes()
        elif state.changed_count:
            tables[ObjectKind.CHANGES] = state.changed()
        if len(part.outcomes):
            tables[ObjectKind.LEDGER_PART] = part.to_table()
        ledger_before = before.ledger_digest if before else EMPTY_DIGEST
        put: list[Callable[[], Any]] = [partial(self._put, store, kind, table) for kind, table in tables.items()]
        state_digest = state.digest()  # by two threads
        work: list[Callable[[], Any]] = [*put, partial(part.digest, ledger_before, cut)]
        *objects, ledger_digest = each(lambda job: job(), work, [len(part.outcomes)] * len(work))
        stored = dict(zip(tables, objects, strict=True))
        outcomes = part.counted(before.outcomes if before else {})
        rows, changes = stored.get(ObjectKind.ROWS, base), stored.get(ObjectKind.CHANGES)
        return self._record(StateRecord(store.name, store.code_version, cut.id, state_digest, ledger_digest,
                                        len(state), outcomes, rows, changes, since,
                                        stored.get(ObjectKind.LEDGER_PART)))  # fmt: skip

    def _record(self, record: StateRecord) -> StateRecord:
        name = record_name(record.store, record.code_version, record.inputs)
        self._known[name] = self._waiting[name] = record
        if not self._grouped or len(self._waiting) >= _WAITING_MAX or self._waiting_bytes >= _WAITING_BYTES_MAX:
            self._write_waiting()
        return record

    @contextmanager
    def grouped(self) -> Iterator[None]:
        """Within it records wait for one another, so that what they name is made durable at once, before them.

        Where one is within another, all are durable at the end of the outer one.
        """
        outer, self._grouped = self._grouped, True
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception | GeneratorExit):
                self._waiting = {}  # the process ends
            raise
        finally:
            self._grouped = outer
            self._write_waiting()  # also after a fault, so that the next run resumes here

    def _write_waiting(self) -> None:
        self._objects.sync(folder_of(ObjectKind.STATE_RECORD))
        for name, record in self._waiting.items():
            self._objects.put_soon(name, record_bytes(plain_value(record)))
        self.settle(ObjectKind.STATE_RECORD)
        self._waiting, self._waiting_bytes = {}, 0

    def settle(self, *kinds: ObjectKind) -> None:
        """Make the objects of some kinds durable; those in packs at the end of the group, where there is one."""
        for folder in map(folder_of, kinds) if self._grouped else ("",):
            self._objects.sync(folder)

    def thin(self, record: StateRecord) -> StateRecord:
        """Write a record again without its rows; the objects stay."""
        return self._record(replace(record, base=None, changes=None, changes_since_base=0))

    def _put(self, store: Store, kind: ObjectKind, table: pa.Table) -> StoredObject:
        data = to_parquet(table, distinct=table.column_names if kind is ObjectKind.LEDGER_PART else store.key)
        self._waiting_bytes += len(data)
        return put_content(self._objects, kind, data, store=store.name)

    def state(self, store: Folded, record: StateRecord) -> State:
        """The state of a record.

        Raises Damaged where an object or the content does not match the record, and where the rows were thinned.
        """
        table, changed, hashes = self._merged(record, store.log.key_columns)
        try:
            state = State(store, table, changed, hashes)
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise self._damaged(record, f"its columns are not those of the store: {error}") from error
        self.require_digest(record, state.digest())
        return state

    def holds(self, record: StateRecord, state: State) -> bool:
        """Whether a record and its objects equal a state, row by row in the same order. Raises Damaged."""
        table, *_ = self._merged(record, state.store.log.key_columns)
        same = table.schema.equals(state.schema) and table.equals(state.table)
        return same and record.state_digest == state.digest()

    def require_sound(self, record: StateRecord, seen: set[str] | None = None) -> None:
        """Raise Damaged where an object of a record is missing or has other bytes; names in `seen` were looked at."""
        for stored in record.objects:
            if seen is None or stored.name not in seen:
                self._objects.get_checked(stored.name, stored.sha256)
            if seen is not None:
                seen.add(stored.name)

    def rows(self, record: StateRecord, columns: Schema, key: tuple[str, ...]) -> pa.Table:
        """The rows of a record of any store. Raises Damaged, also where they were thinned."""
        table, *_ = self._merged(record, key)
        if REMOVED in table.column_names:
            table = sort_by(without_removed(table), key)
        self.require_digest(record, table_digest(describe(columns), table, key))
        return table

    def ledger(self, record: StateRecord) -> LedgerPart | None:
        """The ledger part of a record; None where its snapshot added no event. Raises Damaged."""
        return LedgerPart.from_table(self.stored(record.ledger)) if record.ledger else None

    def require_ledger(self, record: StateRecord) -> None:
        """Raise Damaged where the ledger part of a record is missing or has other bytes."""
        if record.ledger is not None:
            self._objects.get_checked(record.ledger.name, record.ledger.sha256)

    def _merged(self, record: StateRecord, key: tuple[str, ...]) -> tuple[pa.Table, Rows, Hashes | None]:
        """The rows of base and changes together, the places of those that changed, ascending, and all keys' hashes.

        The hashes are None where there are no changes, since none were computed.
        """
        if record.base is None:
            raise self._damaged(record, "its rows were thinned")

        def rows(stored: StoredObject) -> pa.Table:
            table = self.stored(stored)
            if not set(key) <= set(table.column_names):
                raise self._damaged(record, f"its key is not {', '.join(key)}; it has {', '.join(table.column_names)}")
            return table

        def read(stored: StoredObject) -> tuple[pa.Table, Hashes]:
            table = rows(stored)
            return table, key_hashes(table, key)

        if record.changes is None:
            return rows(record.base), np.zeros(0, dtype=np.int64), None

        try:
            (base, own), (changes, new) = each(read, [record.base, record.changes], [record.rows] * 2)
            if REMOVED in changes.column_names:
                base = with_mark(base)
            return replace_rows(base, changes, key, (own, new))
        except (pa.ArrowInvalid, KeyError, TypeError) as error:
            raise self._damaged(record, f"base and changes do not fit: {error}") from error

    def stored(self, stored: StoredObject) -> pa.Table:
        """The table of an object. Raises Damaged."""
        return from_parquet(self._objects.get_checked(stored.name, stored.sha256), stored.name)

    def require_digest(self, record: StateRecord, found: str) -> None:
        """Raise Damaged unless rows have the digest in their record."""
        if found != record.state_digest:
            raise self._damaged(record, f"expected state digest {record.state_digest}, found {found}")

    def _damaged(self, record: StateRecord, what: str) -> Damaged:
        names = " with ".join(stored.name for stored in (record.base, record.changes) if stored is not None)
        return Damaged(
            f"The checkpoint {names or record.inputs[:40]} of store {record.store!r} is damaged: {what}.",
            remedy="Rebuild the store; it will be folded from an earlier checkpoint.",
        )


def _parse(body: Mapping[str, Any]) -> StateRecord:
    try:
        names = ("base", "changes", "ledger")
        stored = {name: typed(StoredObject(**body[name])) if body[name] else None for name in names}
        return typed(StateRecord(**{**body, **stored}))
    except (KeyError, TypeError) as error:
        raise Damaged(f"A state record of store {body.get('store')!r} has another shape: {error!r}.") from error
