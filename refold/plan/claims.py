"""Claims of stores at snapshots, for planning: from their records, or where a record is lost from its proof.

A rebuild writes a lost record again with the same content, so what was computed from it stays valid. This module only
reads, and keeps what it read. A rebuild itself uses the records alone (`refold.stores.building`).
"""

from __future__ import annotations

from refold.errors import Damaged
from refold.log.snapshot import Snapshot
from refold.proof.records import ProofRecord, ProofRecords
from refold.storage.names import ObjectKind, folder_of
from refold.storage.objects import ObjectStore
from refold.stores.checkpoint import Checkpoints, StateRecord
from refold.stores.declaration import Store

Claim = StateRecord | ProofRecord


class Claims:
    """The claims of the stores of an object store."""

    def __init__(self, checkpoints: Checkpoints, proofs: ProofRecords, objects: ObjectStore) -> None:
        self._checkpoints = checkpoints
        self._records = proofs
        self._objects = objects
        self._found: dict[tuple[str, str], Claim | None] = {}
        self._proofs: dict[str, dict[str, ProofRecord]] = {}

    def of(self, store: Store, snapshot: Snapshot) -> Claim | None:
        """The claim of a store at a snapshot by its present code version; None without record and proof."""
        place = (store.name, snapshot.key)
        if place not in self._found:
            inputs = self.inputs(store, snapshot)
            self._found[place] = self._claim(store, inputs) if inputs is not None else None
        return self._found[place]

    def inputs(self, store: Store, snapshot: Snapshot) -> str | None:
        """The identity of what a store is computed from; None where an input of a relation is unknown."""
        known = [claim.claim for each in store.inputs if (claim := self.of(each, snapshot)) is not None]
        return store.identity(snapshot, known) if len(known) == len(store.inputs) else None

    def _claim(self, store: Store, inputs: str) -> Claim | None:
        try:
            record = self._checkpoints.find(store, inputs)
        except Damaged:
            record = None
        return record if record is not None else self._proven(store).get(inputs)

    def _proven(self, store: Store) -> dict[str, ProofRecord]:
        """A store's proofs by its present code version, by inputs; read once, and only where a record is missing."""
        if store.name not in self._proofs:
            names = [info.name for info in self._objects.list(folder_of(ObjectKind.PROOF, store=store.name))]
            proofs = [proof for name in names if (proof := self._records.standing(name)) is not None]
            self._proofs[store.name] = {p.inputs: p for p in proofs if p.code_version == store.code_version}
        return self._proofs[store.name]
