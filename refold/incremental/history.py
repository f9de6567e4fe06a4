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
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from refold.errors import DeclarationError, FixInput, RuleError, Unproven
from refold.incremental.carried import Carried
from refold.incremental.inputs import StateInput, input_of
from refold.incremental.passes import Build, Onset, Proof, Settling, Verdicts
from refold.log.snapshot import Snapshot
from refold.proof.prover import Prover
from refold.proof.standing import HistoryEnd
from refold.proof.verdict import Verdict
from refold.stores.building import Builder
from refold.stores.declaration import Store
from refold.stores.kinds.relation import Relation

if TYPE_CHECKING:
    pass

_log = logging.getLogger("refold")
_SNAPSHOTS, _ROWS_MAX = 64, 300_000
Refused = Callable[[Store, Snapshot, FixInput], None]
Keep = Callable[[Store, Carried], Mapping[str, Mapping[str, str]]]


class RelationHistory:
    """Builds and proves the relations of a project at every snapshot up to one.

    A relation that cannot be computed at a snapshot is given to `refused`, and one whose inputs are not built there is
    left out; without `refused` either is raised. From there on it is computed whole.

    Args:
        after: a snapshot to go on from, at which all relations are proven; None begins at offset 0.
        rests_on: what the proof of each relation says of that; see `refold.proof.standing`.
        here: whether proofs are written at the end even where another snapshot has the same claim and a proof.
        keep: stores the partial aggregates of a relation for the next history; None leaves none.
    """

    def __init__(
        self,
        builder: Builder,
        prover: Prover,
        relations: Sequence[Store],
        through: Snapshot,
        refused: Refused | None = None,
        *,
        after: Onset | None = None,
        rests_on: Mapping[str, Mapping[str, object]] | None = None,
        keep: Keep | None = None,
        here: bool = False,
    ) -> None:
        self._after, self._rests_on, self._keep, self._here = after, rests_on or {}, keep, here
        self._builder = builder
        self._prover = prover
        self._required = set[tuple[str, str]]()
        self._through = through
        self._refused = refused
        self._relations = [each for each in relations if isinstance(each, Relation)]
        maintained = [relation for relation in self._relations if relation.is_maintained]
        sources = {source.name: source for relation in maintained for source in relation.reads}
        self._inputs = {name: input_of(builder, source) for name, source in sources.items()}
        self._builds = {each.name: Build(builder, each, self._inputs, after) for each in maintained}
        self._proofs = {each.name: Proof(builder, each, self._inputs, after) for each in maintained}

    def verdicts(self, snapshots: Sequence[Snapshot]) -> Iterator[tuple[Snapshot, Verdicts]]:
        """Build and verify at every snapshot; yields verdicts, oldest first. Raises Damaged, RuleError, Unproven."""
        if self._after is not None:
            self._begin_inputs(self._after.snapshot)
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
                    last = {name: self._same(replace(verdict, snapshot=snapshot)) for name, verdict in last.items()}
                yield snapshot, last

    def _begin_inputs(self, snapshot: Snapshot) -> None:
        """Follow all inputs to where the history goes on; of a ledger that is only aggregated, nothing is read."""
        raw = {name for relation in self._maintained for name in relation.incremental.by}
        for name, each in self._inputs.items():
            if isinstance(each, StateInput):
                each.follow(snapshot)
            elif name in raw:
                for before in self._builder.snapshots(snapshot):
                    each.follow(before)
            else:
                each.begin(snapshot)

    def _same(self, verdict: Verdict) -> Verdict:
        """The verdict at a snapshot whose claim is that of the one before; kept at the end of the history."""
        end = self._end(verdict.store, verdict.snapshot)
        if end is not None and end.here and verdict.passed:
            self._prover.settle(end.of(verdict), time.perf_counter(), here=True)
        return verdict

    def _end(self, relation: Store, snapshot: Snapshot) -> HistoryEnd | None:
        """What the proof of a relation says at the end of the history; None before it."""
        if self._keep is None or snapshot.id != self._through.id:
            return None
        carried = self._proofs[relation.name].carried() if relation.name in self._builds else {}
        return HistoryEnd(
            self._rests_on.get(relation.name), self._keep(relation, carried), self._here and snapshot is self._through
        )

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
            for relation in self._maintained:
                complete = all(followed[source.name] for source in relation.reads)
                build, proof = self._builds[relation.name], self._proofs[relation.name]
                build.visit(place, snapshot, complete=complete)
                proof.visit(start + place, snapshot, complete=complete)
                if max(build.rows_waiting, proof.rows_waiting) > _ROWS_MAX:
                    found[relation.name] |= self._settled(relation)
        for relation in self._maintained:
            found[relation.name] |= self._settled(relation)
        self._visit_whole(new, found)
        return found

    def _visit_whole(self, new: Mapping[str, Snapshot], found: dict[str, Verdicts]) -> None:
        """The verdicts on relations that are computed whole, each after all that it reads."""
        for relation in self._relations:
            if relation.name not in self._builds:
                for key, snapshot in new.items():
                    found[relation.name] |= {} if key in found[relation.name] else self._whole(relation, snapshot)

    def _settled(self, relation: Relation) -> Verdicts:
        """The verdicts on the snapshots that were visited and wait."""
        build, proof = self._builds[relation.name], self._proofs[relation.name]
        waiting = proof.waiting
        try:
            rests = self._rests_on.get(relation.name)
            settle = Settling(self._prover, self._require, self._through, rests, partial(self._end, relation))
            return proof.verdicts(settle, build.records())
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
            end = self._end(relation, snapshot)
            return {snapshot.key: self._prover.prove(relation, snapshot, briefly=briefly, end=end)}
        except (RuleError, DeclarationError) as error:
            if self._refused is None:
                raise
            self._refused(relation, snapshot, error)
        except Unproven:
            if self._refused is None:
                raise
        return {}
