"""Checkpoints: states, ledger parts and results stored per store, code version and position of the inputs.

A checkpoint is never trusted blindly: its bytes must have the sha256 of its record, and its rows the digest; else it
is `Damaged` and the caller folds from an earlier one. Its name follows from what it was computed from, so the same
position computed again, or by somebody else at the same time, is the same object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from refold.digest import table_digest
from refold.errors import Damaged
from refold.log.segment import from_parquet, to_parquet
from refold.log.snapshot import StoredObject
from refold.records import read_record, write_record
from refold.storage import ObjectStore, sha256_hex
from refold.stores.declaration import Folded, Store
from refold.stores.ledger import LedgerPart
from refold.stores.state import State
from refold.types import Schema, describe


@dataclass(frozen=True)
class StateRecord:
    """What a store was at one position of its inputs.

    Attributes:
        store, code_version: whose state, computed by what.
        inputs: the identity of what it was computed from: the log's cut, or the digests of a relation's inputs.
        state_digest: the digest of its rows, tombstones included.
        ledger_digest: the digest of its ledger; "" for a relation, which has none.
        rows: rows of the state, tombstones included.
        outcomes: how many events had each outcome, from offset 0; empty for a relation.
        state: the object that holds the rows.
        ledger: the object that holds the ledger part of its snapshot; None where no event was added.
    """

    store: str
    code_version: str
    inputs: str
    state_digest: str
    ledger_digest: str
    rows: int
    outcomes: Mapping[str, int]
    state: StoredObject
    ledger: StoredObject | None

    @property
    def claim(self) -> dict[str, str]:
        """What a proof must say, word for word, to hold for this state."""
        names = ("store", "code_version", "inputs", "state_digest", "ledger_digest")
        return {name: getattr(self, name) for name in names}

    @property
    def data_version(self) -> str:
        """A short name of content: equal for equal rows and ledger."""
        return sha256_hex((self.state_digest + self.ledger_digest).encode())[:20]


def record_name(store: Store, inputs: str) -> str:
    """The name of a state record."""
    return f"states/{store.name}/{store.code_version}/{inputs[:40]}.json"


def _object_name(store: Store, folder: str, sha256: str) -> str:
    return f"states/{store.name}/{folder}/{sha256[:40]}.parquet"


class Checkpoints:
    """Reads and writes the state records of a project."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[str, StateRecord] = {}

    def find(self, store: Store, inputs: str) -> StateRecord | None:
        """The record of a store at a position; None where it was never built. Raises Damaged."""
        name = record_name(store, inputs)
        if name not in self._known:
            body = read_record(self._objects, name)
            if body is None:
                return None
            self._known[name] = _parse(body)
        return self._known[name]

    def save(
        self,
        store: Store,
        inputs: str,
        table: pa.Table,
        state_digest: str,
        ledger_digest: str = "",
        outcomes: Mapping[str, int] | None = None,
        part: LedgerPart | None = None,
    ) -> StateRecord:
        """Store rows, ledger part and record, the record last; a rerun writes the same objects."""
        record = StateRecord(
            store=store.name,
            code_version=store.code_version,
            inputs=inputs,
            state_digest=state_digest,
            ledger_digest=ledger_digest,
            rows=len(table),
            outcomes=dict(outcomes or {}),
            state=self._put(store, "rows", table),
            ledger=self._put(store, "ledger", part.to_table()) if part is not None and len(part.outcomes) else None,
        )
        name = record_name(store, inputs)
        write_record(self._objects, name, asdict(record))
        self._known[name] = record
        return record

    def _put(self, store: Store, folder: str, table: pa.Table) -> StoredObject:
        data = to_parquet(table)
        sha256 = sha256_hex(data)
        stored = StoredObject(_object_name(store, folder, sha256), sha256)
        self._objects.put(stored.name, data)
        return stored

    def state(self, store: Folded, record: StateRecord) -> State:
        """The state of a record. Raises Damaged where its object or its content is not what the record says."""
        state = State(store, self._table(record.state))
        self._same(record, state.digest())
        return state

    def require_sound(self, record: StateRecord) -> None:
        """Raise Damaged where an object of a record is missing or has other bytes."""
        for stored in (record.state, record.ledger):
            if stored is not None:
                self._objects.get_checked(stored.name, stored.sha256)

    def rows(self, record: StateRecord, columns: Schema, key: tuple[str, ...]) -> pa.Table:
        """The rows of a record of any store. Raises Damaged."""
        table = self._table(record.state)
        self._same(record, table_digest(describe(columns), table, key))
        return table

    def ledger(self, record: StateRecord) -> LedgerPart | None:
        """The ledger part of a record; None where its snapshot added no event. Raises Damaged."""
        return LedgerPart.from_table(self._table(record.ledger)) if record.ledger else None

    def _table(self, stored: StoredObject) -> pa.Table:
        return from_parquet(self._objects.get_checked(stored.name, stored.sha256), stored.name)

    def _same(self, record: StateRecord, found: str) -> None:
        if found != record.state_digest:
            raise Damaged(
                f"The checkpoint {record.state.name} of store {record.store!r} is damaged: expected state digest "
                f"{record.state_digest}, found {found}.",
                remedy="Rebuild the store; it will be folded from an earlier checkpoint.",
            )


def _parse(body: Mapping[str, Any]) -> StateRecord:
    try:
        stored = {name: StoredObject(**body[name]) if body[name] else None for name in ("state", "ledger")}
        return StateRecord(**{**body, **stored})
    except (KeyError, TypeError) as error:
        raise Damaged(f"A state record of store {body.get('store')!r} has another shape: {error!r}.") from error
