"""Proof: that a built state and its ledger equal full replay at their snapshot, or where they do not.

A folded store is compared with `refold.replay`: code version, state digest, stored rows, and every stored ledger part
event by event, so the first wrong offset has a name. A relation is computed again over its proven inputs with permuted
rows. Passing writes a proof named after exactly what it proves; failing removes one that stood there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from refold.digest import DigestTree, bucket_of, table_digest
from refold.errors import Damaged, Unproven
from refold.log.declaration import POSITION
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.records import read_record, write_record
from refold.replay import Boundary, replay
from refold.rules.outcome import Outcome
from refold.storage import ObjectStore, canonical_json, sha256_hex
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded, LedgerOf, Relation, Store
from refold.stores.ledger import LedgerPart
from refold.types import describe


@dataclass(frozen=True)
class Difference:
    """One way in which what is stored differs from replay.

    `what` is one of not-built, code-version, checkpoint, state, ledger, relation, input.
    """

    what: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what} at {self.where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Verdict:
    """The result of verifying one store at one snapshot; passed where there is no difference."""

    store: Store
    snapshot: Snapshot
    record: StateRecord | None
    differences: Sequence[Difference]
    method: str
    events: int

    @property
    def passed(self) -> bool:
        """Whether state and ledger equal full replay."""
        return not self.differences and self.record is not None


class Prover:
    """Verifies built stores against full replay and keeps the proofs."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, builder: Builder) -> None:
        self._objects = objects
        self._chain = chain
        self._builder = builder

    def require(self, store: Store, snapshot: Snapshot) -> tuple[StateRecord, str]:
        """The record of a store and the name of its proof. Raises Unproven where either is missing."""
        record = self._builder.require(store, snapshot)
        name = _proof_name(record)
        proof = read_record(self._objects, name)
        if proof is None or {field: proof.get(field) for field in record.claim} != record.claim:
            raise Unproven(
                f"The state of store {store.name!r} at snapshot {snapshot.key} has no passing full replay for its "
                f"digest {record.state_digest[:16]}… by code version {record.code_version}.",
                remedy=f"Run the check full_replay of state/{store.name} for {snapshot.key}.",
            )
        return record, name

    def prove(self, store: Store, snapshot: Snapshot) -> Verdict:
        """Verify one store at one snapshot and keep or remove its proof accordingly."""
        if isinstance(store, Relation):
            return self._prove_relation(store, snapshot)
        assert isinstance(store, Folded)
        verdicts = [found[store.name] for _, found in self.prove_history([store], snapshot)]
        if verdicts[-1].passed:
            return verdicts[-1]
        every = [difference for verdict in verdicts for difference in verdict.differences]
        return replace(verdicts[-1], differences=list(dict.fromkeys(every)))

    def prove_history(
        self, stores: Sequence[Folded], through: Snapshot
    ) -> Iterator[tuple[Snapshot, Mapping[str, Verdict]]]:
        """Verify folded stores of one log at every snapshot in one replay, oldest first; keeps proofs as it goes.

        A ledger that differs at one snapshot fails every later one as well, since they rest on it.
        """
        wrong: dict[str, list[Difference]] = {store.name: [] for store in stores}
        events = 0
        for snapshot, boundaries in replay(self._objects, self._chain, stores[0].log, stores, through):
            verdicts = {}
            for store in stores:
                boundary = boundaries[store.name]
                record, differences = self._compare(store, snapshot, boundary)
                wrong[store.name] += [d for d in differences if d.what == "ledger"]
                every = list(dict.fromkeys([*wrong[store.name], *differences]))
                total = events + len(boundary.events)
                verdict = Verdict(store, snapshot, record, every, "full replay from offset 0", total)
                verdicts[store.name] = self._settle(verdict)
            events += len(next(iter(boundaries.values())).events)
            yield snapshot, verdicts

    def _settle(self, verdict: Verdict) -> Verdict:
        if verdict.record is None:
            return verdict
        name = _proof_name(verdict.record)
        if verdict.passed:
            write_record(
                self._objects, name, {**verdict.record.claim, "method": verdict.method, "events": verdict.events}
            )
        else:
            self._objects.delete(name)
        return verdict

    def _compare(
        self, store: Folded, snapshot: Snapshot, boundary: Boundary
    ) -> tuple[StateRecord | None, list[Difference]]:
        where = f"snapshot {snapshot.key}"
        try:
            record = self._builder.find(store, snapshot)
        except Damaged as error:
            return None, [Difference("checkpoint", where, "a sound state record", str(error))]
        if record is None:
            return None, [Difference("not-built", where, f"a state by code version {store.code_version}", "none")]
        differences = []
        if record.code_version != store.code_version:
            differences.append(Difference("code-version", where, store.code_version, record.code_version))
        differences += self._compare_ledger(store, snapshot, record, boundary)
        if record.ledger_digest != boundary.ledger_digest:
            differences.append(Difference("ledger", where, boundary.ledger_digest, record.ledger_digest))
        if dict(record.outcomes) != dict(boundary.outcomes):
            differences.append(Difference("ledger", where, _counts(boundary.outcomes), _counts(record.outcomes)))
        if record.state_digest != boundary.state_digest:
            differences.append(Difference("state", where, boundary.state_digest, record.state_digest))
        return record, [*differences, *self._compare_rows(store, snapshot, record, boundary)]

    def _compare_ledger(
        self, store: Folded, snapshot: Snapshot, record: StateRecord, boundary: Boundary
    ) -> Iterator[Difference]:
        if len(boundary.events) == 0:
            return
        try:
            part = self._builder.checkpoints.ledger(record)
        except Damaged as error:
            yield Difference("ledger", f"snapshot {snapshot.key}", "a sound ledger part", str(error))
            return
        place = boundary.part.first_difference(part) if part is not None else 0
        if place is not None:
            event = boundary.events.slice(place, 1).to_pylist()[0]
            at = f"log partition {event['log_partition']}, offset {event['log_offset']}, log_seq {event['log_seq']}"
            found = _outcome(part, place) if part is not None else "no ledger part"
            yield Difference("ledger", f"snapshot {snapshot.key}, {at}", _outcome(boundary.part, place), found)

    def _compare_rows(
        self, store: Folded, snapshot: Snapshot, record: StateRecord, boundary: Boundary
    ) -> Iterator[Difference]:
        if record.thinned:  # its digest was compared; there are no rows
            return
        try:
            stored = self._builder.checkpoints.state(store, record)
        except Damaged as error:
            yield Difference("checkpoint", f"snapshot {snapshot.key}", "a sound checkpoint", str(error))
            return
        if stored.digest() != boundary.state_digest:
            yield from _differing_rows(store, snapshot, stored.table, stored.tree, boundary)

    def _prove_relation(self, relation: Relation, snapshot: Snapshot) -> Verdict:
        where = f"snapshot {snapshot.key}"
        differences = []
        record: StateRecord | None = None
        for source in relation.reads:
            try:
                self.require(source.store if isinstance(source, LedgerOf) else source, snapshot)
            except Unproven as error:
                differences.append(Difference("input", where, f"a proven {source.name}", str(error)))
        rows = 0
        if not differences:
            try:
                record = self._builder.require(relation, snapshot)
                if not record.thinned:
                    self._builder.checkpoints.rows(record, relation.columns, relation.key)
                inputs = self._builder.tables(relation, snapshot)
                rows = sum(len(table) for table in inputs.values())
                again = self._builder.runner.run(relation, inputs, permuted=True)
                expected = table_digest(describe(relation.columns), again, relation.key)
                if expected != record.state_digest:
                    differences.append(
                        Difference("relation", where, f"{expected} from permuted inputs", record.state_digest)
                    )
            except (Damaged, Unproven) as error:
                differences.append(Difference("checkpoint", where, "a sound result", str(error)))
        method = "the same query over proven inputs with permuted rows"
        return self._settle(Verdict(relation, snapshot, record, differences, method, rows))


def _proof_name(record: StateRecord) -> str:
    return f"proofs/{record.store}/{sha256_hex(canonical_json(record.claim))[:40]}.json"


def _outcome(part: LedgerPart, place: int) -> str:
    outcomes, reasons = part.outcomes, part.reasons
    if place >= len(outcomes):
        return "no outcome"
    reason = f" (reason {reasons[place]})" if reasons[place] else ""
    return f"{Outcome(int(outcomes[place])).name.lower()}{reason}"


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in outcomes.items())


def _differing_rows(
    store: Folded, snapshot: Snapshot, stored: pa.Table, tree: DigestTree, boundary: Boundary, most: int = 5
) -> Iterator[Difference]:
    """The first few keys whose rows differ, with both rows; only buckets that differ are looked at."""
    buckets = pa.array(tree.differing(boundary.state.tree), pa.int64())
    mine, theirs = (_rows_in(buckets, store, table) for table in (stored, boundary.state.table))
    names = [*(name for name in store.state_columns if name not in POSITION), *POSITION]
    keys = [key for key in sorted(mine.keys() | theirs.keys(), key=str) if mine.get(key) != theirs.get(key)]
    for key in keys[:most]:
        where = f"snapshot {snapshot.key}, key {key!r}"
        yield Difference("state", where, _show(theirs.get(key), names), _show(mine.get(key), names))


def _rows_in(buckets: pa.Array, store: Folded, table: pa.Table) -> dict[object, dict[str, object]]:
    inside = pc.is_in(pa.array(bucket_of([table[store.log.key]]), pa.int64()), buckets)
    return {row[store.log.key]: row for row in table.filter(inside).to_pylist()}


def _show(row: Mapping[str, object] | None, names: Sequence[str]) -> str:
    return "no row" if row is None else ", ".join(f"{name}={row[name]!r}" for name in names)
