"""Building: a store's state at a snapshot, by resuming from the nearest sound checkpoint.

A checkpoint that is damaged or missing costs a longer fold, never a wrong state. A relation is computed whole here,
over the built states and ledgers of the same snapshot; `refold.incremental` builds all of its history. Proving is
`refold.proof.prover`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from refold.base.memory import limit_bytes
from refold.base.progress import track
from refold.canonical.digest import table_digest
from refold.dedup.deliveries import Deliveries, Delivery
from refold.dedup.rereader import Rereader
from refold.errors import Damaged, Unproven
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore
from refold.stores.checkpoint import Checkpoints, StateRecord
from refold.stores.declaration import Folded, Store
from refold.stores.fold_engine import Engines, FoldEngine, LocalEngine, StateRef, describe_fold
from refold.stores.folding import columns_to_read
from refold.stores.ledger import EMPTY_DIGEST, NO_EVENTS, LedgerPart, counted, with_outcomes
from refold.stores.relating import RelationRunner
from refold.stores.state import Result, State, published_rows
from refold.types import describe

_log = logging.getLogger("refold")


def stored_deliveries(reader: LogReader, snapshot: Snapshot) -> list[Deliveries]:
    """The delivery of each event of a snapshot, as sealing stored it, by log partition with events. Raises Damaged."""
    cut = snapshot.cut(reader.log.name)
    found = [np.zeros(end - start, dtype=np.uint8) for start, end in zip(cut.starts, cut.ends, strict=True)]
    repeats = reader.repeats(snapshot)
    if repeats is not None:
        partitions, offsets = repeats["log_partition"].to_numpy(), repeats["log_offset"].to_numpy()
        deliveries = repeats["delivery"].to_numpy()
        for partition, start in enumerate(cut.starts):
            mine = partitions == partition
            found[partition][offsets[mine] - start] = deliveries[mine]
    for partition, offset in snapshot.excluded(reader.log.name):
        found[partition][offset - cut.starts[partition]] = Delivery.EXCLUDED
    return [each for each in found if len(each)]


def deliveries_of(reader: LogReader, snapshot: Snapshot) -> Deliveries:
    """The same for all events of a snapshot in the order (log partition, offset)."""
    return np.concatenate([np.zeros(0, dtype=np.uint8), *stored_deliveries(reader, snapshot)])


@dataclass
class FoldProgress:
    """One store on its way through history: `done` snapshots are folded into `state`, the last as `record`.

    `damaged` lists the damage found while looking for the checkpoint to resume from.
    """

    store: Folded
    done: int
    state: State
    record: StateRecord | None
    damaged: list[str] = field(default_factory=list)

    @property
    def before(self) -> StateRef | None:
        """The stored state it resumes from; None at offset 0."""
        return StateRef.of(self.record) if self.record is not None else None


@dataclass(frozen=True)
class _Pass:
    """One pass over a log: its reader, the columns that all folds of the pass read together, and who folds."""

    reader: LogReader
    columns: Sequence[str]
    engine: FoldEngine


class Builder:
    """Builds the stores of a project from its sealed snapshots; `engines` fold, by default in this process."""

    def __init__(
        self,
        objects: ObjectStore,
        chain: SnapshotChain,
        memory_limit_mb: int | None = None,
        engines: Engines = LocalEngine,
    ) -> None:
        self._objects = objects
        self._engines = engines
        self._chain = chain
        self._memory_limit_mb = memory_limit_mb
        self.checkpoints = Checkpoints(objects)
        self.runner = RelationRunner()
        self._ledgers: dict[tuple[str, str, str], tuple[pa.Table, str]] = {}
        self._published: dict[tuple[str, str], pa.Table] = {}

    def snapshots(self, through: Snapshot) -> list[Snapshot]:
        """The snapshots through one, oldest first."""
        return self._chain.through(through.key)

    def snapshot_before(self, snapshot: Snapshot) -> Snapshot | None:
        """The snapshot before one; None before the first."""
        return self._chain.before(snapshot)

    def inputs(self, store: Store, snapshot: Snapshot) -> str:
        """The identity of what a store is computed from at a snapshot.

        Raises Unproven where a store that it is computed from has not been built there.
        """
        return store.identity(snapshot, [self.require(each, snapshot).claim for each in store.inputs])

    def find(self, store: Store, snapshot: Snapshot) -> StateRecord | None:
        """The record of a store at a snapshot; None where it is not built. Raises Damaged."""
        try:
            return self.checkpoints.find(store, self.inputs(store, snapshot))
        except Unproven:
            return None

    def record_before(self, store: Store, snapshot: Snapshot) -> StateRecord | None:
        """The record of a store at the snapshot before one; None where there is no sound one."""
        before = self.snapshot_before(snapshot)
        try:
            return self.find(store, before) if before is not None else None
        except Damaged:
            return None

    def require(self, store: Store, snapshot: Snapshot) -> StateRecord:
        """The record of a store at a snapshot. Raises Unproven where it is not built by today's code version."""
        record = self.checkpoints.find(store, self.inputs(store, snapshot))
        if record is None:
            raise Unproven(
                f"Store {store.name!r} has no state at snapshot {snapshot.key} by code version {store.code_version}.",
                remedy=f"Build state/{store.name} for {snapshot.key} first.",
            )
        return record

    def build(self, store: Store, snapshot: Snapshot, *, fresh: bool = False, with_rows: bool = True) -> StateRecord:
        """The state of a store at a snapshot, from the nearest sound checkpoint; a rerun changes nothing.

        For a store without a ledger: `fresh` computes it again even where a sound result is stored, and a result whose
        rows were thinned is computed again only `with_rows`.
        """
        if store.ledger is None:
            return self._compute(store, snapshot, fresh=fresh, with_rows=with_rows)
        snapshots = self._chain.through(snapshot.key)
        visited = self._fold([self._resume(store.ledger.store, snapshots)], snapshots)
        return [found[store.name] for _, found in visited if store.name in found][-1]

    def fold_history(
        self, stores: Sequence[Folded], through: Snapshot, *, fresh: bool = False, trusted: int | None = None
    ) -> Iterator[tuple[Snapshot, Mapping[str, StateRecord]]]:
        """Build folded stores of one log up to a snapshot in a single pass over its events.

        Yields each snapshot from the oldest position that a store resumes at, with the records known there.
        `fresh` ignores all checkpoints and writes every record again; `trusted` does so from a place in history on, and
        resumes from the newest sound checkpoint before it.
        """
        runs = [self.run_from(store, through, fresh=fresh, trusted=trusted) for store in stores]
        yield from self._fold(runs, self._chain.through(through.key))

    def run_from(
        self, store: Folded, through: Snapshot, *, fresh: bool = False, trusted: int | None = None
    ) -> FoldProgress:
        """The place at which `fold_history` would resume a store. Reads and checks what is stored; writes nothing."""
        snapshots = self._chain.through(through.key)
        if fresh or trusted is not None:
            return self._resume(store, snapshots[: 0 if fresh else trusted])
        return self._resume_all(store, snapshots)

    def _fold(
        self, runs: Sequence[FoldProgress], snapshots: Sequence[Snapshot]
    ) -> Iterator[tuple[Snapshot, Mapping[str, StateRecord]]]:
        for run in runs:
            _tell(run)
        over = self._pass_over([run.store for run in runs])
        first = max(0, min(run.done for run in runs) - 1)
        log = over.reader.log.name
        visited = track(snapshots[first:], f"fold {log}", len(snapshots) - first, lambda s: s.cut(log).events)
        with self.checkpoints.grouped():
            for place, snapshot in enumerate(visited, start=first):
                self._fold_one([run for run in runs if run.done <= place], snapshot, over)
                yield snapshot, {run.store.name: run.record for run in runs if run.done == place + 1 and run.record}

    def _deliveries(self, reader: LogReader, snapshot: Snapshot) -> list[Deliveries]:
        """The delivery of each event as stored at sealing, or found again from all ids where that is damaged."""
        try:
            return stored_deliveries(reader, snapshot)
        except Damaged as error:
            _log.warning("%s Finding the repeated ids again.", error)
        before = self._chain.through(snapshot.key)
        memory = limit_bytes(self._memory_limit_mb) // 4
        again = Rereader(self._objects, self._chain, reader, before, [], memory)
        return [again.read(each)[1] for each in before][-1]

    def _pass_over(self, stores: Sequence[Folded]) -> _Pass:
        reader = LogReader(self._objects, self._chain, stores[0].log)
        columns = list(dict.fromkeys(name for store in stores for name in columns_to_read(store)))
        return _Pass(reader, columns, self._engines(reader))

    def _fold_one(self, runs: Sequence[FoldProgress], snapshot: Snapshot, over: _Pass) -> None:
        """Fold the events that a snapshot added into every run, and store the resulting states."""
        cut = snapshot.cut(over.reader.log.name)
        changed = [run for run in runs if run.record is None or run.record.inputs != cut.id]
        if changed:
            parts = self._folded(over, snapshot, [(run.state, run.before) for run in changed])
            for run, part in zip(changed, parts, strict=True):
                run.record = self.checkpoints.save_state(run.state, cut, part, run.record)
        for run in runs:
            run.done = snapshot.ordinal + 1

    def _folded(
        self, over: _Pass, snapshot: Snapshot, folds: Sequence[tuple[State, StateRef | None]]
    ) -> list[LedgerPart]:
        """Fold the events that a snapshot added into states, each given with the place where it is stored."""
        described = [(state.store, before) for state, before in folds]
        deliveries = self._deliveries(over.reader, snapshot)
        task = describe_fold(over.reader, snapshot, over.columns, deliveries, described)
        return [found.ledger for found in over.engine.fold(task, [state for state, _ in folds])]

    def _resume_all(self, store: Folded, snapshots: Sequence[Snapshot]) -> FoldProgress:
        """The place to resume so that every snapshot gets a sound record: before the first without one."""
        seen, damaged = set[str](), list[str]()
        for place, snapshot in enumerate(snapshots):
            try:
                record = self.find(store, snapshot)
                if record is not None:
                    self.checkpoints.require_sound(record, seen)
                    continue
            except Damaged as error:
                damaged.append(f"{error} Folding it again.")
            snapshots = snapshots[:place]
            break
        run = self._resume(store, snapshots)
        run.damaged[:0] = damaged
        return run

    def _resume(self, store: Folded, snapshots: Sequence[Snapshot]) -> FoldProgress:
        """The place to resume: the newest sound checkpoint with rows, else offset 0."""
        damaged: list[str] = []
        for place in range(len(snapshots) - 1, -1, -1):
            try:
                record = self.find(store, snapshots[place])
                if record is not None and not record.thinned:
                    self.checkpoints.require_ledger(record)
                    return FoldProgress(store, place + 1, self.checkpoints.state(store, record), record, damaged)
            except Damaged as error:
                damaged.append(f"{error} Going on from an earlier checkpoint.")
        return FoldProgress(store, 0, State(store), None, damaged)

    def _compute(self, store: Store, snapshot: Snapshot, *, fresh: bool, with_rows: bool) -> StateRecord:
        inputs = self.inputs(store, snapshot)
        try:
            found = None if fresh else self.standing(store, inputs)
            if found is not None and not (found.thinned and with_rows):
                if not found.thinned:
                    self.checkpoints.rows(found, store.columns, store.key)
                return found
        except Damaged as error:
            _log.warning("%s Computing it again.", error)
        table = store.compute(self.runner, self.tables(store, snapshot))
        record, result = self._result_before(store, snapshot, inputs) or (None, Result(store, table))
        result.replace(np.ones(len(result), dtype=np.bool_), table)
        return self.checkpoints.save_result(result, inputs, record)[0]

    def _result_before(self, store: Store, snapshot: Snapshot, inputs: str) -> tuple[StateRecord, Result] | None:
        """The newest result of a computed store before a snapshot, from other inputs; None where it has no rows."""
        for each in reversed(self._chain.through(snapshot.key)[:-1]):
            try:
                record = self.find(store, each)
                if record is None or record.inputs != inputs:
                    sound = record is not None and not record.thinned
                    return (record, self.checkpoints.result(store, record)) if record and sound else None
            except Damaged:
                return None
        return None

    def standing(self, store: Store, inputs: str) -> StateRecord | None:
        """The record of a computed store at the identity of its inputs, thinned or not; None where it was not computed.

        Raises Damaged where the record or the object of the rows is.
        """
        found = self.checkpoints.find(store, inputs)
        if found is not None and not found.thinned:
            self.checkpoints.require_sound(found)
        return found

    def state_at(self, store: Folded, snapshot: Snapshot) -> State:
        """The state of a built store at a snapshot; thinned rows are folded again. Writes nothing.

        Raises Unproven where it is not built, and Damaged where the state does not match its record.
        """
        record = self.require(store, snapshot)
        if not record.thinned:
            return self.checkpoints.state(store, record)
        snapshots = self._chain.through(snapshot.key)
        run = self._resume(store, snapshots)
        _tell(run)
        over, before = self._pass_over([store]), run.before
        for one in snapshots[run.done :]:
            self._folded(over, one, [(run.state, before)])
            before = StateRef(run.state.digest())
        self.checkpoints.require_digest(record, run.state.digest())
        return run.state

    def tables(self, store: Store, snapshot: Snapshot) -> dict[str, pa.Table]:
        """The sources of a computed store at a snapshot, by name. Raises Unproven or Damaged."""
        ledger, rows = partial(self.ledger_rows, snapshot=snapshot), partial(self.published, snapshot=snapshot)
        return {source.name: source.read(ledger=ledger, rows=rows) for source in store.sources}

    def published(self, store: Store, snapshot: Snapshot) -> pa.Table:
        """The rows that readers of a store get at a snapshot: no tombstones, declared columns, sorted by key."""
        record = self.require(store, snapshot)
        place = (store.name, record.state_digest)
        if place not in self._published:
            self._published = {k: v for k, v in self._published.items() if k[0] != store.name}
            self._published[place] = self._published_rows(store, record, snapshot)
        return self._published[place]

    def _published_rows(self, store: Store, record: StateRecord, snapshot: Snapshot) -> pa.Table:
        if store.ledger is not None:
            folded = store.ledger.store
            if record.thinned:
                return published_rows(folded, self.state_at(folded, snapshot).table)
            table = self.checkpoints.rows(record, folded.state_columns, folded.log.key_columns)
            return published_rows(folded, table)
        if not record.thinned:
            return self.checkpoints.rows(record, store.columns, store.key)
        table = store.compute(self.runner, self.tables(store, snapshot))
        self.checkpoints.require_digest(record, table_digest(describe(store.columns), table, store.key))
        return table

    def ledger_rows(self, store: Folded, snapshot: Snapshot) -> pa.Table:
        """The ledger of a store up to a snapshot with the events' columns, one row per event that counts.

        Raises Damaged where the stored parts do not have the ledger digest of the snapshot's record.
        """
        return pa.concat_tables(self.ledger_parts(store, snapshot))

    def ledger_parts(self, store: Folded, snapshot: Snapshot, after: Snapshot | None = None) -> list[pa.Table]:
        """The same, a table for each snapshot from the first or `after` one on. Raises Damaged."""
        tables, digest = [], EMPTY_DIGEST if after is None else self.require(store, after).ledger_digest
        for each in self._chain.through(snapshot.key)[0 if after is None else after.ordinal + 1 :]:
            table, digest = self.ledger_part(store, each, digest)
            tables.append(table)
        self.require_ledger_digest(store, snapshot, digest)
        return tables

    def require_ledger_digest(self, store: Folded, snapshot: Snapshot, digest: str) -> None:
        """Raise Damaged unless the ledger up to a snapshot has the digest of the store's record."""
        expected = self.require(store, snapshot).ledger_digest
        if digest != expected:
            raise Damaged(
                f"The ledger of store {store.name!r} is damaged: its parts up to snapshot {snapshot.key} have digest "
                f"{digest}, expected {expected}.",
                remedy=f"Run the check full_replay of state/{store.name}, and rebuild it from the beginning.",
            )

    def ledger_part(self, store: Folded, snapshot: Snapshot, before: str) -> tuple[pa.Table, str]:
        """The ledger part of one snapshot as a table, and the ledger's digest after it, from the one before.

        Raises Damaged.
        """
        place = (store.name, store.code_version, snapshot.key)
        if place not in self._ledgers:
            record = self.require(store, snapshot)
            events = LogReader(self._objects, self._chain, store.log).events(snapshot)
            cut = snapshot.cut(store.log.name)
            part = (self.checkpoints.ledger(record) if cut.events else None) or NO_EVENTS
            self._ledgers[place] = counted(with_outcomes(store, events, part)), part.digest(before, cut)
        return self._ledgers[place]


def _tell(run: FoldProgress) -> None:
    for text in run.damaged:
        _log.warning("%s", text)
