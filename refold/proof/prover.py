"""Proof: checks that a built state and its ledger equal full replay at their snapshot, and finds where they do not.

A folded store is compared with `refold.proof.replay` by digests, snapshot by snapshot, and every stored ledger part
event by event, since readers of the ledger depend on all of them. Only the rows of the snapshot to be proven are read.
Where something differs, `refold.proof.locate` folds the first differing snapshot again. `refold.proof.reordered`
computes a relation again over its proven inputs in other orders of rows. Passing writes a proof of exactly what was
claimed (`refold.proof.records`); refuting it removes every proof of it. A damaged object alone refutes nothing: what
was proven of the content it held is still true, and reading that object fails.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from refold.errors import Damaged, RuleError, Unproven
from refold.log.declaration import Log
from refold.log.reader import Part, position
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.divergence import Mark
from refold.proof.doubts import doubts
from refold.proof.locate import Locator
from refold.proof.picture import Picture
from refold.proof.records import ProofRecord, ProofRecords, library_versions
from refold.proof.reordered import compare_reordered
from refold.proof.replay import Boundary, Proven, replay
from refold.proof.rows_differing import differing_rows
from refold.proof.standing import HistoryEnd, course_of, rests_on
from refold.proof.verdict import Difference, Differs, Trail, Verdict
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded, Store
from refold.stores.fold_engine import Engines, LocalEngine
from refold.stores.recheck import Course, Recheck

__all__ = ["Difference", "Differs", "Prover", "Verdict"]

_log = logging.getLogger("refold")
_REPLAY = "full replay from offset 0"


def _method(log: Log, after: Snapshot | None = None) -> str:
    went_on = f"replay on from the proven state of {after.key}, repeated ids by the seen index" if after else ""
    return "; ".join([went_on or _REPLAY, *log.assumed])


class Prover:
    """Verifies built stores against full replay and keeps the proofs.

    Args:
        locator: finds where a fold went wrong; by default one over the same objects.
        memory_limit_mb: what replay may take for ids and hashes; None is half of the machine's memory.
        engines: fold in replay; by default in this process.
    """

    def __init__(
        self,
        objects: ObjectStore,
        chain: SnapshotChain,
        builder: Builder,
        locator: Locator | None = None,
        *,
        memory_limit_mb: int | None = None,
        engines: Engines = LocalEngine,
    ) -> None:
        self._engines = engines
        self._objects = objects
        self.chain = chain
        self._builder = builder
        self._memory_limit_mb = memory_limit_mb
        self._locator = locator or Locator(objects, chain, builder)
        self._compared: set[tuple[str, str]] = set()
        self.proofs = ProofRecords(objects)

    def require(self, store: Store, snapshot: Snapshot) -> tuple[StateRecord, str]:
        """The record of a store and the name of a proof of it. Raises Unproven where either is missing or unsound."""
        record = self._builder.require(store, snapshot)
        found = self.proofs.find(record.claim)
        if found is None:
            unsound_names = ", ".join(self.proofs.names(record.claim))
            unsound = f" The objects stored as its proofs are unsound: {unsound_names}." if unsound_names else ""
            raise Unproven(
                f"The state of store {store.name!r} at snapshot {snapshot.key} has no passing full replay for its "
                f"digest {record.state_digest[:16]}… by code version {record.code_version}.{unsound}",
                remedy=f"Run the check full_replay of state/{store.name} for {snapshot.key}.",
            )
        return record, found[0]

    def doubts(self, store: Store, snapshot: Snapshot) -> list[str]:
        """Doubts about a proven store, as its proof counted them. Raises Unproven."""
        record, _ = self.require(store, snapshot)
        found = self.proofs.find(record.claim)
        return doubts(store, record.outcomes, found[1].untaken if found is not None else ())

    def prove(
        self,
        store: Store,
        snapshot: Snapshot,
        *,
        briefly: bool = False,
        afresh: bool = False,
        end: HistoryEnd | None = None,
    ) -> Verdict:
        """Verify one store at one snapshot and keep or remove its proof accordingly.

        `briefly` computes a relation over one or two other orders of rows, which change from snapshot to snapshot; else
        over all. `afresh` compares all events with the manifests, whatever the store says was compared before. Its
        proof says what the `end` of a history does. A rerun writes nothing where an equally good proof exists. Raises
        Damaged where a segment is, and RuleError where a rule fails.
        """
        started = time.perf_counter()
        if store.ledger is None:
            compared = compare_reordered(self._builder, self.require, store, snapshot, briefly=briefly)
            return self._settled(end.of(compared) if end else compared, started, here=end is not None and end.here)
        folded, trail = store.ledger.store, Trail()
        for each, boundaries in self._replay([folded], snapshot, afresh=afresh):
            boundary = boundaries[store.name]
            self._compare(folded, each, boundary, trail)
        verdict = self._judge(folded, snapshot, boundary, trail)
        if not verdict.passed:
            self._forget_parted(trail)
            verdict = replace(verdict, differences=_once([*trail.every(), *verdict.differences]))
        return self._settled(verdict, started)

    def _settled(self, verdict: Verdict, started: float, *, here: bool = False) -> Verdict:
        """As `settle`; what it wrote is durable."""
        settled = self.settle(verdict, started, here=here)
        self._builder.checkpoints.settle(ObjectKind.PROOF)
        return settled

    def prove_history(
        self, stores: Sequence[Folded], through: Snapshot, recheck: Recheck | None = None, *, afresh: bool = False
    ) -> Iterator[tuple[Snapshot, Mapping[str, Verdict]]]:
        """Verify folded stores of one log at every snapshot in one replay, oldest first; keeps proofs as it goes.

        With `recheck`, replay goes on from what is proven, and looks at the older snapshots in turn; where anything
        differs, all is replayed from offset 0, which says what. A ledger that differs at one snapshot fails every
        later one as well, since they build on it. `afresh` is that of `prove`, for what is replayed from offset 0.
        Callers `sync` the objects at the end.
        """
        if recheck is None:
            yield from self._prove_whole(stores, through, here=False, afresh=afresh)
            return
        courses: dict[Course, list[Folded]] = {}
        for store in stores:
            courses.setdefault(self.course(store, through, recheck), []).append(store)
        for course, some in courses.items():
            found = None if course.whole else self._continued(some, through, course, recheck)
            here = through.ordinal > recheck.snapshots and course.proven > through.ordinal
            yield from found or self._prove_whole(some, through, here=here, afresh=afresh)

    def course(self, store: Store, through: Snapshot, recheck: Recheck) -> Course:
        """Which snapshots of a store a rebuild looks at."""
        snapshots = self.chain.through(through.key)
        return course_of(self.proofs, partial(self._claimed, store), snapshots, len(snapshots), recheck)

    def _claimed(self, store: Store, snapshot: Snapshot) -> StateRecord | None:
        try:
            return self._builder.find(store, snapshot)
        except Damaged:
            return None

    def _continued(
        self, stores: Sequence[Folded], through: Snapshot, course: Course, recheck: Recheck
    ) -> list[tuple[Snapshot, Mapping[str, Verdict]]] | None:
        """The verdicts at the snapshots of a course by going on from proven states; None where anything differs."""
        snapshots, started, seen = self.chain.through(through.key), time.perf_counter(), set[str]()
        found: list[tuple[Snapshot, Mapping[str, Verdict]]] = []
        rests = rests_on(course, snapshots, recheck)
        for stretch in (course.again, range(course.new, len(snapshots))):
            if not stretch:
                continue
            last, trails = snapshots[stretch[-1]], {store.name: Trail() for store in stores}
            try:
                after = self._proven_before(stores, snapshots[: stretch.start])
                for snapshot, boundaries in self._replay(stores, last, after):
                    verdicts = {}
                    for store in stores:
                        trail, boundary = trails[store.name], boundaries[store.name]
                        self._compare(store, snapshot, boundary, trail)
                        whole = None if snapshot is through else seen
                        verdict = self._judge(store, snapshot, boundary, trail, whole, locate=False)
                        verdicts[store.name] = replace(
                            verdict, method=_method(store.log, after and after[0]), rests_on=rests
                        )
                    if not all(verdict.passed for verdict in verdicts.values()):
                        return None
                    found.append((snapshot, verdicts))
            except (Damaged, RuleError) as error:
                _log.debug("%s Replaying from offset 0.", error)
                return None
        here = through.ordinal
        return [
            (at, {name: self.settle(each, started, here=at.ordinal == here) for name, each in some.items()})
            for at, some in found
        ]

    def _proven_before(
        self, stores: Sequence[Folded], snapshots: Sequence[Snapshot]
    ) -> tuple[Snapshot, Mapping[str, Proven]] | None:
        """The newest of some snapshots at which all stores are proven and have rows, and their states; or None."""
        for snapshot in reversed(snapshots):
            states = {}
            for store in stores:
                record = self._claimed(store, snapshot)
                proof = self.proofs.find(record.claim) if record is not None and not record.thinned else None
                if record is None or proof is None:
                    break
                taken = sum(1 << n for n in range(len(store.branches)) if n not in proof[1].untaken)
                states[store.name] = Proven(store, self._builder.checkpoints.state(store, record), record, taken)
            else:
                return snapshot, states
        return None

    def _prove_whole(
        self, stores: Sequence[Folded], through: Snapshot, *, here: bool, afresh: bool
    ) -> Iterator[tuple[Snapshot, Mapping[str, Verdict]]]:
        trails, started, seen = {store.name: Trail() for store in stores}, time.perf_counter(), set[str]()
        for snapshot, boundaries in self._replay(stores, through, afresh=afresh):
            verdicts = {}
            for store in stores:
                trail, boundary = trails[store.name], boundaries[store.name]
                self._compare(store, snapshot, boundary, trail)
                whole = None if snapshot is through else seen
                verdict = self._judge(store, snapshot, boundary, trail, whole)
                verdicts[store.name] = self.settle(verdict, started, here=here and whole is None)
            yield snapshot, verdicts

    def _replay(
        self,
        stores: Sequence[Folded],
        through: Snapshot,
        after: tuple[Snapshot, Mapping[str, Proven]] | None = None,
        *,
        afresh: bool = False,
    ) -> Iterator[tuple[Snapshot, Mapping[str, Boundary]]]:
        log, limit = stores[0].log, self._memory_limit_mb
        cut = log.name, through.cut(log.name).id  # compared once by this prover
        trusting = not afresh or cut in self._compared
        engines = self._engines
        yield from replay(
            self._objects, self.chain, log, stores, through, limit, engines, after=after, trusting=trusting
        )
        if not trusting:
            self._compared.add(cut)

    def settle(self, verdict: Verdict, started: float, *, here: bool = False) -> Verdict:
        """Keep the proof of what passed, and remove every proof of what was refuted.

        What rests on another proof is kept only where nothing proves the claim yet, and `here`, at the end of history.
        """
        verdict = replace(verdict, seconds=round(time.perf_counter() - started, 3))
        record = verdict.record
        if record is not None and verdict.passed:
            versions, replayed = library_versions(), verdict.replay
            proof = ProofRecord(**record.claim, snapshot=verdict.snapshot.key, replay=replayed, method=verdict.method,
                                rows=record.rows, events=verdict.events, seconds=verdict.seconds, versions=versions,
                                untaken=list(verdict.untaken), rests_on=verdict.rests_on,
                                partials=verdict.partials)  # fmt: skip
            known = self.proofs.sound(record.claim) if verdict.rests_on else []
            if not known or (here and all(other.snapshot != proof.snapshot for _, other in known)):
                self.proofs.keep(proof, here=here)
        elif record is not None and verdict.refutes:
            self.proofs.remove(record.claim)
        return verdict

    def _forget_parted(self, trail: Trail) -> None:
        """Remove the proofs of earlier snapshots that a replay found to differ."""
        for mark in trail.marks:
            if mark.record is not None and (mark.state_parted or mark.ledger_parted):
                self.proofs.remove(mark.record.claim)

    def _compare(self, store: Folded, snapshot: Snapshot, boundary: Boundary, trail: Trail) -> None:
        """Take one snapshot into a trail: record, digests, counts and the ledger part; no rows."""
        where = f"snapshot {snapshot.key}"
        record, differences = None, list[Difference]()
        try:
            record = self._builder.find(store, snapshot)
            if record is None:
                expected = f"a state by code version {store.code_version}"
                differences.append(Difference(Differs.NOT_BUILT, where, expected, "none"))
        except Damaged as error:
            differences.append(Difference(Differs.CHECKPOINT, where, "a sound state record", str(error)))
        if record is not None:
            differences += self._compare_record(store, snapshot, record, boundary)
        if boundary.unstable:
            differences.append(Difference(Differs.RULE, where, "the same result of the same events", boundary.unstable))
        sound = record is not None and not differences
        trail.add(Mark(snapshot, record, boundary.state_digest, boundary.ledger_digest, sound), differences, boundary)

    def _compare_record(
        self, store: Folded, snapshot: Snapshot, record: StateRecord, boundary: Boundary
    ) -> Iterator[Difference]:
        where = f"snapshot {snapshot.key}"
        if record.code_version != store.code_version:
            yield Difference(Differs.CODE_VERSION, where, store.code_version, record.code_version)
        yield from self._compare_ledger(snapshot, record, boundary)
        if record.ledger_digest != boundary.ledger_digest:
            yield Difference(Differs.LEDGER, where, boundary.ledger_digest, record.ledger_digest)
        if dict(record.outcomes) != dict(boundary.outcomes):
            yield Difference(Differs.LEDGER, where, _counts(boundary.outcomes), _counts(record.outcomes))
        if record.state_digest != boundary.state_digest:
            yield Difference(Differs.STATE, where, boundary.state_digest, record.state_digest)

    def _compare_ledger(self, snapshot: Snapshot, record: StateRecord, boundary: Boundary) -> Iterator[Difference]:
        if len(boundary.part.outcomes) == 0:
            return
        try:
            part = self._builder.checkpoints.ledger(record)
        except Damaged as error:
            yield Difference(Differs.LEDGER, f"snapshot {snapshot.key}", "a sound ledger part", str(error))
            return
        place = boundary.part.first_difference(part) if part is not None else 0
        if place is not None:
            if place < len(boundary.part.outcomes):
                at = "log partition {}, offset {}, log_seq {}".format(*position(_events(boundary), place))
            else:
                at = "after its last event"
            found = part.outcome_text(place) if part is not None else "no ledger part"
            yield Difference(Differs.LEDGER, f"snapshot {snapshot.key}, {at}", boundary.part.outcome_text(place), found)

    def _judge(
        self,
        store: Folded,
        snapshot: Snapshot,
        boundary: Boundary,
        trail: Trail,
        seen: set[str] | None = None,
        *,
        locate: bool = True,
    ) -> Verdict:
        """The verdict on the newest snapshot of a trail; its rows are read whole, or with `seen` only their hashes.

        What differs is located where `locate` says so, which needs a trail from offset 0.
        """
        mark, differences, spaces = trail.marks[-1], list[Difference](), list[tuple[str, Sequence[int]]]()
        if mark.record is not None and not mark.record.thinned:
            try:
                checkpoints = self._builder.checkpoints
                if seen is not None and not mark.state_parted:
                    checkpoints.require_sound(mark.record, seen)
                elif not checkpoints.holds(mark.record, boundary.state):
                    stored = checkpoints.state(store, mark.record)
                    differences, buckets = differing_rows(store, snapshot, stored, boundary)
                    spaces = [(f"keys at {snapshot.key}", buckets)] if buckets else []
            except Damaged as error:
                differences.append(
                    Difference(Differs.CHECKPOINT, f"snapshot {snapshot.key}", "a sound checkpoint", str(error))
                )
                trail.marks[-1] = replace(mark, sound=False)
        trail.differences[-1] += differences
        every = _once([*trail.inherited(), *trail.differences[-1]])
        verdict = Verdict(store, snapshot, mark.record, every, _method(store.log), trail.events,
                          {"state": boundary.state_digest, "ledger": boundary.ledger_digest},
                          untaken=_untaken(store, boundary), last=seen is None)  # fmt: skip
        return self._with_divergence(verdict, store, trail, spaces) if every and locate else verdict

    def _with_divergence(
        self, verdict: Verdict, store: Folded, trail: Trail, spaces: list[tuple[str, Sequence[int]]]
    ) -> Verdict:
        """A failed verdict with what is known of where the fold went wrong; located once in a history."""
        if trail.divergence is None and trail.replayed is not None:
            trail.divergence = self._locator.locate(store, trail.marks, trail.replayed)
        found = trail.divergence
        if found is not None and found.buckets and found.snapshot != verdict.snapshot.key:
            spaces = [(f"keys at {found.snapshot}", found.buckets), *spaces]
        drawn = Picture(trail.history(), spaces)
        return replace(verdict, sound_through=trail.sound_through, divergence=found, picture=drawn)


def _events(boundary: Boundary) -> Iterator[Part]:
    return (part for unread in boundary.unread for part in unread.pieces())


def _untaken(store: Folded, boundary: Boundary) -> list[int]:
    """The branches that no event took; none where they were not counted."""
    taken = boundary.taken
    return [] if taken is None else [n for n in range(len(store.branches)) if not taken >> n & 1]


def _once(differences: Sequence[Difference]) -> list[Difference]:
    return list(dict.fromkeys(differences))


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in outcomes.items())
