"""All relations at all snapshots: each built from the one before, and proven from offset 0 in another order of rows.

The build takes what changed since the newest result that is stored. The proof begins at offset 0, takes the partial
aggregates of all snapshots from one pass over all events, reversed, runs the query over reversed rows, and compares the
digest at every snapshot. Both share the inputs, whose digests are those that are proven. What differs is computed whole
by the query as written, which decides. So is the last snapshot, over every order of rows that a proof needs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa

from refold.errors import Damaged, DeclarationError, FixInput, RuleError, Unproven
from refold.incremental.inputs import Input, input_of
from refold.incremental.run import Boundary, RelationRun
from refold.log.snapshot import Snapshot
from refold.proof.prover import Prover
from refold.proof.reordered import unproven_inputs
from refold.proof.verdict import Difference, Differs, Verdict
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded, Store
from refold.stores.kinds.relation import Relation
from refold.stores.row_orders import STORED, brief_orders
from refold.stores.state import Result
from refold.types import arrow_schema

if TYPE_CHECKING:
    from refold.stores.sql_partials import Partial

_log = logging.getLogger("refold")
_SNAPSHOTS, _ROWS_MAX = 64, 300_000
METHOD = "its changes at every snapshot computed again from offset 0 over proven inputs with reversed rows"
STANDING = "its proof stands: the rows of its inputs there were thinned"

Verdicts = dict[str, Verdict]
Refused = Callable[[Store, Snapshot, FixInput], None]
Required = Callable[[Store, Snapshot], object]


class RelationHistory:
    """Builds and proves the relations of a project at every snapshot up to one.

    A relation that cannot be computed at a snapshot is given to `refused`, and one whose inputs are not built there is
    left out; without `refused` either is raised. From there on it is computed whole.
    """

    def __init__(
        self,
        builder: Builder,
        prover: Prover,
        relations: Sequence[Store],
        through: Snapshot,
        refused: Refused | None = None,
    ) -> None:
        self._builder = builder
        self._prover = prover
        self._required = set[tuple[str, str]]()
        self._through = through
        self._refused = refused
        self._relations = [each for each in relations if isinstance(each, Relation)]
        maintained = [relation for relation in self._relations if relation.is_maintained]
        sources = {source.name: source for relation in maintained for source in relation.reads}
        self._inputs = {name: input_of(builder, source) for name, source in sources.items()}
        self._builds = {each.name: _Build(builder, each, self._inputs) for each in maintained}
        self._proofs = {each.name: _Proof(builder, each, self._inputs) for each in maintained}

    def verdicts(self, snapshots: Sequence[Snapshot]) -> Iterator[tuple[Snapshot, Verdicts]]:
        """Build and verify at every snapshot; yields verdicts, oldest first. Raises Damaged, RuleError, Unproven."""
        for relation in self._maintained:
            self._prepare(relation, partial(self._proofs[relation.name].prepare, snapshots))
        last = Verdicts()
        for start in range(0, len(snapshots), _SNAPSHOTS):
            some = snapshots[start : start + _SNAPSHOTS]
            new = {e.key: e for place, e in enumerate(some, start) if not place or e.id != snapshots[place - 1].id}
            found = self._visit(start, some, new)
            for snapshot in some:
                if snapshot.key in new:
                    last = {
                        name: verdicts[snapshot.key] for name, verdicts in found.items() if snapshot.key in verdicts
                    }
                else:  # a day without events: the same inputs, so the same results and proofs
                    last = {name: replace(verdict, snapshot=snapshot) for name, verdict in last.items()}
                yield snapshot, last

    @property
    def _maintained(self) -> list[Relation]:
        return [relation for relation in self._relations if relation.name in self._builds]

    def _prepare(self, relation: Relation, prepare: Callable[[], None]) -> None:
        """Prepare a relation; where its inputs are not built, it is computed whole from here on, as far as they are.

        So it is where an event has a value for which no partial aggregate can be computed: that of the whole query may
        not need it, or fails and says so.
        """
        try:
            prepare()
        except RuleError as error:
            _log.debug("%s Computing %s whole.", error, relation.name)
            del self._builds[relation.name]
        except Unproven:
            if self._refused is None:
                raise
            del self._builds[relation.name]

    def _visit(self, start: int, snapshots: Sequence[Snapshot], new: Mapping[str, Snapshot]) -> dict[str, Verdicts]:
        """The verdicts on those of some snapshots that are new, by relation and snapshot."""
        found: dict[str, Verdicts] = {relation.name: {} for relation in self._relations}
        for relation in self._maintained:
            self._prepare(relation, partial(self._builds[relation.name].prepare, snapshots, new))
        for place, snapshot in enumerate(snapshots):
            if snapshot.key not in new:
                continue
            read = {source.name for relation in self._maintained for source in relation.reads}
            followed = {name: self._inputs[name].follow(snapshot) for name in sorted(read)}
            for relation in self._relations:
                if relation.name not in self._builds:
                    found[relation.name] |= self._whole(relation, snapshot)
                    continue
                complete = all(followed[source.name] for source in relation.reads)
                build, proof = self._builds[relation.name], self._proofs[relation.name]
                build.visit(place, snapshot, complete=complete)
                proof.visit(start + place, snapshot, complete=complete)
                if max(build.rows_waiting, proof.rows_waiting) > _ROWS_MAX:
                    found[relation.name] |= self._settled(relation)
        for relation in self._maintained:
            found[relation.name] |= self._settled(relation)
        return found

    def _settled(self, relation: Relation) -> Verdicts:
        """The verdicts on the snapshots that were visited and wait."""
        build, proof = self._builds[relation.name], self._proofs[relation.name]
        waiting = proof.waiting
        try:
            return proof.verdicts(self._prover, self._require, build.records(), self._through)
        except (RuleError, DeclarationError) as error:
            _log.debug("%s Computing %s whole.", error, relation.name)  # which raises it, or did not need the value
            del self._builds[relation.name]
        return {key: verdict for each in waiting for key, verdict in self._whole(relation, each).items()}

    def _require(self, store: Store, snapshot: Snapshot) -> None:
        """Raise Unproven unless a store is proven at a snapshot; its proof is looked for once for all relations."""
        if (store.name, snapshot.key) not in self._required:
            self._prover.require(store, snapshot)
            self._required.add((store.name, snapshot.key))

    def _whole(self, relation: Relation, snapshot: Snapshot) -> Verdicts:
        """The verdict on a relation that is computed whole at a snapshot; none where it cannot be."""
        try:
            self._builder.build(relation, snapshot, with_rows=False)
            briefly = snapshot.id != self._through.id
            return {snapshot.key: self._prover.prove(relation, snapshot, briefly=briefly)}
        except (RuleError, DeclarationError) as error:
            if self._refused is None:
                raise
            self._refused(relation, snapshot, error)
        except Unproven:
            if self._refused is None:
                raise
        return {}


@dataclass
class _Visited:
    """A snapshot that waits for its query to run; without a boundary nothing changed, or the inputs are incomplete."""

    snapshot: Snapshot
    boundary: Boundary | None
    complete: bool


class _Run:
    """What a build and a proof have in common."""

    def __init__(self, builder: Builder, relation: Relation, inputs: Mapping[str, Input], *, reverse: bool) -> None:
        self._builder = builder
        self._relation = relation
        self._waiting = list[_Visited]()
        self._order = brief_orders(relation.columns_read_of, 0, 0, ties=False)[0] if reverse else STORED
        mine = {source.name: inputs[source.name] for source in relation.reads}
        self._run = RelationRun(relation, builder.runner, mine, self._order)

    @property
    def waiting(self) -> list[Snapshot]:
        """The snapshots whose query has not run."""
        return [each.snapshot for each in self._waiting]

    @property
    def rows_waiting(self) -> int:
        """How many rows of inputs are kept for snapshots whose query has not run."""
        return self._run.rows_waiting

    def visit(self, place: int, snapshot: Snapshot, *, complete: bool) -> None:
        """Take the changes of the next snapshot, whose place is among those prepared."""
        boundary = self._run.visit(place, complete=complete)
        self._waiting.append(_Visited(snapshot, boundary, complete))

    def _take_waiting(self) -> tuple[list[_Visited], list[Boundary]]:
        visited, self._waiting = self._waiting, []
        return visited, [each.boundary for each in visited if each.boundary is not None]

    def _store_of(self, partial: Partial) -> Folded:
        (found,) = (each.store for each in self._relation.reads if each.name == partial.ledger)
        assert isinstance(found, Folded)
        return found


class _Build(_Run):
    """A relation that is built from the newest result before."""

    def __init__(self, builder: Builder, relation: Relation, inputs: Mapping[str, Input]) -> None:
        super().__init__(builder, relation, inputs, reverse=False)
        self._before: Snapshot | None = None
        self._result: Result | None = None
        self._record: StateRecord | None = None
        self._standing = dict[str, StateRecord | None]()
        self._first = 0

    def prepare(self, snapshots: Sequence[Snapshot], new: Mapping[str, Snapshot]) -> None:
        """Find what stands at those of some snapshots that are new, and resume before the first where nothing does."""
        self._standing = {key: self._stands(each) for key, each in new.items()}
        missing = [place for place, each in enumerate(snapshots) if self._standing.get(each.key, each) is None]
        self._first = missing[0] if missing else len(snapshots)
        before, self._before = [self._before, *snapshots][self._first], snapshots[-1]
        if not missing:
            self._result = None
            return
        goes_on = self._result is not None and self._first == 0
        if not goes_on:
            self._resume(before)
        for each in self._run.query.partials:
            events, starts = self._events(each, snapshots, whole=not goes_on)
            self._run.prepare(each, events, starts)

    def _stands(self, snapshot: Snapshot) -> StateRecord | None:
        try:
            return self._builder.standing(self._relation, self._builder.inputs(self._relation, snapshot))
        except Damaged as error:
            _log.warning("%s Computing it again.", error)
            return None

    def _resume(self, before: Snapshot | None) -> None:
        """Go on from the result of a snapshot, or from nothing where it has no sound rows."""
        self._run.restart(computed=True)
        self._result = None
        try:
            if before is not None:
                self._record = self._builder.require(self._relation, before)
                self._result = self._builder.checkpoints.result(self._relation, self._record)
        except (Damaged, Unproven) as error:
            _log.debug("%s Computing %s whole.", error, self._relation.name)

    def _events(self, partial: Partial, snapshots: Sequence[Snapshot], *, whole: bool) -> tuple[pa.Table, list[int]]:
        """The ledger from the beginning or from some snapshots on, and where in it those begin that are built."""
        parts = self._builder.ledger_parts(self._store_of(partial), snapshots[-1])
        if not whole:
            parts = parts[-len(snapshots) :]
        starts = list(accumulate(map(len, parts), initial=0))
        return pa.concat_tables(parts), starts[self._first - len(snapshots) - 1 :]

    def visit(self, place: int, snapshot: Snapshot, *, complete: bool) -> None:
        """Take the changes of the next snapshot, unless all before and this one stand."""
        if place >= self._first:
            super().visit(place - self._first, snapshot, complete=complete)
        else:
            self._waiting.append(_Visited(snapshot, None, complete=False))

    def records(self) -> dict[str, StateRecord]:
        """Build what waits; the records by the keys of the snapshots visited since the last call. Raises RuleError."""
        visited, boundaries = self._take_waiting()
        tables = self._run.results(boundaries, STORED)
        found = dict[str, StateRecord]()
        for each in visited:
            standing = self._standing[each.snapshot.key]
            table = next(tables) if each.boundary is not None else None
            if standing is not None and not each.complete:
                found[each.snapshot.key] = standing
            elif not each.complete:
                found[each.snapshot.key] = self._builder.build(self._relation, each.snapshot, with_rows=False)
            else:
                found[each.snapshot.key] = self._built(each, table, standing)
        return found

    def _built(self, each: _Visited, table: pa.Table | None, standing: StateRecord | None) -> StateRecord:
        builder, relation = self._builder, self._relation
        if self._result is None:  # the first: whole, by the query as written
            self._record = builder.build(relation, each.snapshot)
            self._result = builder.checkpoints.result(relation, self._record)
            return self._record
        assert self._record is not None
        if each.boundary is not None and table is not None:
            self._run.take(self._result, each.boundary, table)
        if standing is not None and (standing.thinned or standing.base == self._record.base):
            self._record = self._record if standing.thinned else standing
            return standing
        inputs = builder.inputs(relation, each.snapshot)
        self._record, self._result = builder.checkpoints.save_result(self._result, inputs, self._record)
        return self._record


class _Proof(_Run):
    """A relation that is proven at every snapshot."""

    def __init__(self, builder: Builder, relation: Relation, inputs: Mapping[str, Input]) -> None:
        super().__init__(builder, relation, inputs, reverse=True)
        self._result = Result(relation, arrow_schema(relation.columns).empty_table())
        self._run.restart(computed=False)
        self._seen = set[str]()
        self._lost = False
        self._rows = 0

    def prepare(self, snapshots: Sequence[Snapshot]) -> None:
        """Compute the partial aggregates of all snapshots."""
        for each in self._run.query.partials:
            parts = self._builder.ledger_parts(self._store_of(each), snapshots[-1])
            self._run.prepare(each, pa.concat_tables(parts), list(accumulate(map(len, parts), initial=0)))

    def verdicts(
        self, prover: Prover, require: Required, records: Mapping[str, StateRecord], through: Snapshot
    ) -> Verdicts:
        """The verdicts on the snapshots visited since the last call, by their keys; proofs are kept or removed.

        `require` raises Unproven for an input that is not proven.
        """
        started = time.perf_counter()
        visited, boundaries = self._take_waiting()
        tables = self._tables(boundaries, visited[0].snapshot.ordinal) if visited else iter(())
        found = Verdicts()
        for each in visited:
            if each.boundary is not None:
                self._rows += sum(map(len, each.boundary.rows.values()))
                table = next(tables)
                self._lost = self._lost or table is None
                if table is not None and not self._lost:
                    self._run.take(self._result, each.boundary, table)
            record = records[each.snapshot.key]
            unproven = unproven_inputs(require, self._relation, each.snapshot)
            if unproven:
                found[each.snapshot.key] = Verdict(self._relation, each.snapshot, None, unproven, METHOD, 0)
            else:
                found[each.snapshot.key] = self._verdict(prover, each, record, through, started)
        return found

    def _tables(self, boundaries: Sequence[Boundary], turn: int) -> Iterator[pa.Table | None]:
        """The rows at each boundary; None where they depend on the order of rows or do not fit, and from then on."""
        relation = self._relation
        orders = brief_orders(relation.columns_read_of, 0, turn, ties=bool(relation.takes_of_ties))
        try:
            for table, *others in zip(*(self._run.results(boundaries, order) for order in orders), strict=True):
                yield table if all(other.equals(table) for other in others) else None
        except RuleError:
            while True:
                yield None

    def _verdict(
        self, prover: Prover, each: _Visited, record: StateRecord, through: Snapshot, started: float
    ) -> Verdict:
        """The verdict by the changes; by the query as written where they do not decide, and at the last snapshot."""
        replayed = {"state": record.state_digest, "ledger": ""}
        verdict = Verdict(self._relation, each.snapshot, record, [], METHOD, self._rows, replayed)
        try:
            self._builder.checkpoints.require_sound(record, self._seen)
        except Damaged as error:
            fault = Difference(Differs.CHECKPOINT, f"snapshot {each.snapshot.key}", "a sound result", str(error))
            return prover.settle(replace(verdict, differences=[fault]), started)
        decides = each.complete and not self._lost
        passed = decides and self._result.digest() == record.state_digest
        if passed and each.snapshot.id != through.id:
            return prover.settle(verdict, started)
        if not each.complete and prover.proofs.find(record.claim) is not None:
            return replace(verdict, method=STANDING)
        whole = prover.prove(self._relation, each.snapshot)
        if whole.passed and decides and not passed:
            _log.warning(
                "Relation %r at snapshot %s is what its query gives whole, and not what its changes add up to. "
                "That is a defect of Refold, and nothing wrong was stored; please report the query.",
                self._relation.name, each.snapshot.key,
            )  # fmt: skip
        return whole
