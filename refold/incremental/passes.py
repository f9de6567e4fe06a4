"""The two passes over a relation's history: the build, and the proof in another order of rows.

The build takes what changed since the newest result that is stored. The proof begins at offset 0 or at a proven result,
takes the partial aggregates of all snapshots from one pass over all events, reversed, runs the query over reversed
rows, and compares the digest at every snapshot. `refold.incremental.history` runs both side by side.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa

from refold.errors import Damaged, RuleError, Unproven
from refold.incremental.carried import Carried
from refold.incremental.inputs import Input
from refold.incremental.run import Boundary, RelationRun
from refold.log.snapshot import Snapshot
from refold.proof.prover import Prover
from refold.proof.reordered import unproven_inputs
from refold.proof.standing import HistoryEnd
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
METHOD = "its changes at every snapshot computed again from offset 0 over proven inputs with reversed rows"
GOES_ON = "its changes since the proven result of {} computed again over proven inputs with reversed rows"
STANDING = "its proof stands: the rows of its inputs there were thinned"

Verdicts = dict[str, Verdict]
Required = Callable[[Store, Snapshot], object]


@dataclass(frozen=True)
class Onset:
    """A snapshot that a history goes on from, and the partial aggregates there, by relation and name."""

    snapshot: Snapshot
    carried: Mapping[str, Carried]


@dataclass(frozen=True)
class Settling:
    """What the verdicts of a history need: who keeps proofs, what inputs must be, and what proofs say at its end."""

    prover: Prover
    require: Required
    through: Snapshot
    rests_on: Mapping[str, object] | None
    end: Callable[[Snapshot], HistoryEnd | None]


@dataclass
class _Visited:
    """A snapshot that waits for its query to run; without a boundary nothing changed, or the inputs are incomplete."""

    snapshot: Snapshot
    boundary: Boundary | None
    complete: bool


class _Run:
    """What a build and a proof have in common."""

    def __init__(
        self, builder: Builder, relation: Relation, inputs: Mapping[str, Input], after: Onset | None, *, reverse: bool
    ) -> None:
        self._after = after
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

    def _carried(self) -> Carried:
        return self._after.carried.get(self._relation.name, {}) if self._after is not None else {}

    def _take_waiting(self) -> tuple[list[_Visited], list[Boundary]]:
        visited, self._waiting = self._waiting, []
        return visited, [each.boundary for each in visited if each.boundary is not None]

    def _store_of(self, partial: Partial) -> Folded:
        (found,) = (each.store for each in self._relation.reads if each.name == partial.ledger)
        assert isinstance(found, Folded)
        return found


class Build(_Run):
    """A relation that is built from the newest result before."""

    def __init__(self, builder: Builder, relation: Relation, inputs: Mapping[str, Input], after: Onset | None) -> None:
        super().__init__(builder, relation, inputs, after, reverse=False)
        self._before = after.snapshot if after is not None else None
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
            goes_on = self._resume(before)
        for each in self._run.query.partials:
            events, starts = self._events(each, snapshots, whole=not goes_on)
            self._run.prepare(each, events, starts)

    def _stands(self, snapshot: Snapshot) -> StateRecord | None:
        try:
            return self._builder.standing(self._relation, self._builder.inputs(self._relation, snapshot))
        except Damaged as error:
            _log.warning("%s Computing it again.", error)
            return None

    def _resume(self, before: Snapshot | None) -> bool:
        """Go on from the result of a snapshot, or from nothing where it has no sound rows.

        Returns whether the partial aggregates there are known.
        """
        known = self._after is not None and before is self._after.snapshot
        self._run.restart(computed=True, partials=self._carried() if known else {})
        self._result = None
        try:
            if before is not None:
                self._record = self._builder.require(self._relation, before)
                self._result = self._builder.checkpoints.result(self._relation, self._record)
        except (Damaged, Unproven) as error:
            _log.debug("%s Computing %s whole.", error, self._relation.name)
        return known

    def _events(self, partial: Partial, snapshots: Sequence[Snapshot], *, whole: bool) -> tuple[pa.Table, list[int]]:
        """The ledger from the beginning or from some snapshots on, and where in it those begin that are built."""
        before = None if whole else self._builder.snapshot_before(snapshots[0])
        parts = self._builder.ledger_parts(self._store_of(partial), snapshots[-1], before)
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


class Proof(_Run):
    """A relation that is proven at every snapshot."""

    def __init__(self, builder: Builder, relation: Relation, inputs: Mapping[str, Input], after: Onset | None) -> None:
        super().__init__(builder, relation, inputs, after, reverse=True)
        if after is None:
            self._result = Result(relation, arrow_schema(relation.columns).empty_table())
        else:
            self._result = builder.checkpoints.result(relation, builder.require(relation, after.snapshot))
        self._run.restart(computed=after is not None, partials=self._carried())
        self._method = METHOD if after is None else GOES_ON.format(after.snapshot.key)
        self._seen = set[str]()
        self._lost = False
        self._rows = 0

    def prepare(self, snapshots: Sequence[Snapshot]) -> None:
        """Compute the partial aggregates of all snapshots."""
        before = None if self._after is None else self._after.snapshot
        for each in self._run.query.partials:
            parts = self._builder.ledger_parts(self._store_of(each), snapshots[-1], before)
            self._run.prepare(each, pa.concat_tables(parts), list(accumulate(map(len, parts), initial=0)))

    def carried(self) -> Carried:
        """The partial aggregates at the snapshot that was visited last, by name."""
        return self._run.carried()

    def verdicts(self, settling: Settling, records: Mapping[str, StateRecord]) -> Verdicts:
        """The verdicts on the snapshots visited since the last call, by their keys; proofs are kept or removed."""
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
            unproven = unproven_inputs(settling.require, self._relation, each.snapshot)
            if unproven:
                found[each.snapshot.key] = Verdict(self._relation, each.snapshot, None, unproven, self._method, 0)
            else:
                found[each.snapshot.key] = self._verdict(settling, each, record, started)
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

    def _verdict(self, settling: Settling, each: _Visited, record: StateRecord, started: float) -> Verdict:
        """The verdict by the changes; by the query as written where they do not decide.

        So it is at the last snapshot of a history that began at offset 0.
        """
        prover, end = settling.prover, settling.end(each.snapshot)
        replayed = {"state": record.state_digest, "ledger": ""}
        verdict = Verdict(self._relation, each.snapshot, record, [], self._method, self._rows, replayed,
                          rests_on=settling.rests_on)  # fmt: skip
        try:
            self._builder.checkpoints.require_sound(record, self._seen)
        except Damaged as error:
            fault = Difference(Differs.CHECKPOINT, f"snapshot {each.snapshot.key}", "a sound result", str(error))
            return prover.settle(replace(verdict, differences=[fault]), started)
        decides = each.complete and not self._lost
        passed = decides and self._result.digest() == record.state_digest
        if passed and (self._after is not None or each.snapshot.id != settling.through.id):
            return prover.settle(end.of(verdict) if end else verdict, started, here=end is not None and end.here)
        if not each.complete and prover.proofs.find(record.claim) is not None:
            return replace(verdict, method=STANDING)
        whole = prover.prove(self._relation, each.snapshot, end=end)
        if whole.passed and decides and not passed:
            _log.warning(
                "Relation %r at snapshot %s is what its query gives whole, and not what its changes add up to. "
                "That is a defect of Refold, and nothing wrong was stored; please report the query.",
                self._relation.name, each.snapshot.key,
            )  # fmt: skip
        return whole
