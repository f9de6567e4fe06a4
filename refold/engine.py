"""The engine: a project with its settings, and every piece of work on it in one place.

Dagster assets, the command line and tests all call this; nothing else wires the rooms together. Opening an engine
touches nothing but the object store; landing, database and search index are opened when they are needed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from refold.base.memory import limit_bytes, return_freed_memory, share_allocator
from refold.base.parallel import limit_threads
from refold.base.progress import track
from refold.config import Settings
from refold.errors import Damaged, FixInput, Unproven
from refold.explain.events import Explainer
from refold.incremental.history import Refused
from refold.incremental.relations import Relating
from refold.leases.fenced_store import FencedStore, SinkFence
from refold.leases.lease import Duty
from refold.leases.leases import Leases
from refold.leases.opening import open_leases
from refold.log.hot import HotLog, hot
from refold.log.ordering import OrderCheck
from refold.log.quarantine import Quarantined, read_quarantine, retry_quarantine
from refold.log.redactions import Redaction
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.log.verify import LogFinding, LogVerifier
from refold.project import Project
from refold.proof.by_reference import reference_verdicts
from refold.proof.moved import Moved, moved
from refold.proof.prover import Prover, Verdict
from refold.release.anchor import Anchor, open_anchor
from refold.release.anchor_check import AnchorFinding, check_anchor
from refold.release.publisher import Publisher
from refold.release.releaser import Releaser
from refold.release.retention import PrunePlan, Pruner
from refold.repair.damage import Damage
from refold.repair.drift import Drifts
from refold.repair.garbage import remove_unreferenced
from refold.repair.object_audit import audit_objects
from refold.repair.served import ServedAudit
from refold.repair.sink_audit import SinkAudit
from refold.seal.against_landing import Compared, LandingComparison
from refold.seal.completeness import Completeness, completeness
from refold.seal.redacting import Redactor
from refold.seal.sealing import Sealing
from refold.sinks.connections import Connections
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore, OpenStore
from refold.storage.packs import open_packed
from refold.storage.wrappers import AllowingLinks
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded, Store
from refold.stores.thinning import Thinner, Thinning


class Engine:
    """A project at work.

    Args:
        project: what to build.
        settings: where landing, store and database are.
        open_store: how landing and store are opened by their URLs; hand in another way to wrap or replace them.
        now: the time, aware, by which days are over or not. It does not move while the engine is used, so that a plan
            and the rebuild after it agree.
        leases: the leases of another engine of this process; by default the settings say where leases are.
    """

    def __init__(
        self,
        project: Project,
        settings: Settings,
        open_store: OpenStore = ObjectStore.open,
        *,
        now: dt.datetime,
        leases: Leases | None = None,
    ) -> None:
        share_allocator()
        limit_threads(limit_bytes(settings.memory_limit_mb))
        if settings.memory_limit_mb is not None:
            return_freed_memory()
        self.project = project
        self.settings = settings
        self.open_store = open_store
        self.now = now
        objects = open_packed(settings.store, open_store)
        self.leases = leases or open_leases(settings, objects)
        self.objects = FencedStore(objects, self.leases) if self.leases else objects
        self.chain = SnapshotChain(self.objects)
        limit = settings.memory_limit_mb
        self.sealing = Sealing(self.landing, self.objects, self.chain, project.logs, project.cadence, now, limit)
        self.builder = Builder(self.objects, self.chain, limit)
        self.prover = Prover(self.objects, self.chain, self.builder, memory_limit_mb=limit)
        self.explainer = Explainer(self.objects, self.chain, self.builder)

    @cached_property
    def publisher(self) -> Publisher:
        """Publishing to sinks."""
        fence = SinkFence(self.leases) if self.leases else None
        return Publisher(Connections(self.objects, self.settings.sink_places, fence), self.builder, self.prover)

    @cached_property
    def releaser(self) -> Releaser:
        """The pointer to what is served."""
        return Releaser(self.project, self.objects, self.prover, self.publisher, anchor=self.anchor)

    @cached_property
    def anchor(self) -> Anchor | None:
        """What releases are held against outside the store; None where the settings name none. Raises FixInput."""
        settings = self.settings
        if not settings.anchor:
            return None
        return open_anchor(self.objects, settings.anchor, self.project.name, settings.anchor_key)

    def owning(self, *duties: Duty) -> AbstractContextManager[None]:
        """Hold the leases of some duties, where there are leases. Raises Unavailable where another process has one."""
        return self.leases.holding(*duties) if self.leases else nullcontext()

    def require_anchored(self) -> None:
        """Raise NotAnchored where the newest release is not what the anchor says; nothing without an anchor.

        To be called before anything is written to the store or to a sink.
        """
        if self.anchor is not None:
            self.anchor.require()

    def check_anchor(self) -> list[AnchorFinding]:
        """Differences between the store and its anchor, releases first; empty without any, or without an anchor."""
        return check_anchor(self.anchor, self.chain, self.objects) if self.anchor else []

    @cached_property
    def thinner(self) -> Thinner:
        """Giving up the rows of old checkpoints."""
        return Thinner(self.objects, self.chain, self.builder, self.project.in_order)

    @cached_property
    def sink_audit(self) -> SinkAudit:
        """The comparison of sinks with what they should hold and serve."""
        return SinkAudit(self.chain, self.builder, self.publisher, self.releaser)

    @cached_property
    def served(self) -> ServedAudit:
        """The comparison of what is served with its proofs."""
        return ServedAudit(self.project, self.chain, self.prover, self.publisher, self.releaser, self.sink_audit)

    @cached_property
    def drifts(self) -> Drifts:
        """The comparison of stores and their sinks with full replay, and their repair."""
        return Drifts(self.prover, self.builder, self.sink_audit)

    @cached_property
    def pruner(self) -> Pruner:
        """Giving up old versions in the sinks."""
        return Pruner(self.project, self.releaser, self.publisher)

    def plan_prune(self, keep: int, older_than_days: float, now: dt.datetime) -> tuple[PrunePlan, Sequence[Thinning]]:
        """The versions in sinks and the checkpoints' rows to give up; see `Pruner.plan`. Changes nothing."""
        return self.pruner.plan(keep, older_than_days), self.thinner.plan(now - dt.timedelta(days=older_than_days))

    def prune(self, plan: PrunePlan, thinnings: Sequence[Thinning], now: dt.datetime) -> tuple[int, int, int]:
        """Give up what was planned, and objects that nothing needs.

        Returns how many versions were dropped, how many checkpoints gave up their rows, and how many objects went.
        """
        with self.owning(Duty.SEAL, Duty.PRUNE, Duty.PUBLISH):
            dropped = sum(map(len, self.pruner.apply(plan).values()))
            return dropped, self.thinner.apply(thinnings), len(remove_unreferenced(self.objects, now))

    def require_fit(self) -> None:
        """Refuse sinks that do not fit their stores' columns, before any work. Raises DeclarationError, listing all."""
        self.publisher.require_fit((store, sink) for store in self.project.stores for sink in store.sinks)

    def audit_objects(self) -> list[Damage]:
        """Every damaged object of the store except what sinks hold, by name; reads all of them once."""
        return audit_objects(self.project, self.objects, self.chain, self.releaser.pointer, self.prover.proofs)

    def reopened(self) -> Engine:
        """Another engine of the same project that has read nothing yet; one that has read damage keeps it."""
        return Engine(self.project, self.settings, self.open_store, now=self.now, leases=self.leases)

    def landing(self) -> ObjectStore:
        """Landing, opened now. Raises NotFound, FixInput."""
        landing, links = self.open_store(self.settings.landing, must_exist=True), self.settings.landing_links
        return AllowingLinks(landing, links) if links else landing

    def verify_log(
        self, log: str, through: Snapshot, known: Collection[str] | None = None
    ) -> Iterator[tuple[Snapshot, list[LogFinding]]]:
        """Check a log's structure up to a snapshot; yields findings, oldest first, none where all holds.

        Of the snapshots whose keys are `known` to hold, only those are checked that the project's `recheck` has in
        turn for a store of the log.
        """
        verifier = LogVerifier(self.objects, self.chain, self.project.log(log))
        snapshots = self.chain.through(through.key)
        if known is not None:
            course = self.prover.course(self.stores_of(log)[0], through, self.project.recheck)
            due = {*course.again, *range(course.new, len(snapshots))}
            snapshots = [each for each in snapshots if each.ordinal in due or each.key not in known]
        for snapshot in track(snapshots, f"verify {log}", len(snapshots), lambda s: s.cut(log).events):
            verifier.go_on_from(self.builder.snapshot_before(snapshot))
            yield snapshot, verifier.verify(snapshot)

    def hot(self, log: str, through: Snapshot) -> HotLog:
        """How the events of a log up to a snapshot are spread over its log partitions and keys."""
        return hot(self.objects, self.chain, self.project.log(log), self.chain.through(through.key))

    def completeness(self, log: str, through: Snapshot) -> Completeness:
        """What names and counts of the sealed objects of a log say of its being whole."""
        return completeness(self.project.log(log), self.chain.through(through.key))

    def order_check(self, log: str) -> OrderCheck:
        """What follows the deliveries of a log. Raises FixInput where nothing is declared to compare them with."""
        declared = self.project.log(log)
        if not declared.has_order:
            raise FixInput(
                f"Log {log!r} declares neither that producers number its events nor how late they may be.",
                remedy="Declare `numbered=Numbered(producer, number)` or `late_max`, or name another log.",
            )
        return OrderCheck(self.objects, self.chain, declared, self.project.cadence.begins)

    def compare_with_landing(self, log: str, through: Snapshot) -> Iterator[Compared]:
        """Compare a log with what landing still holds of it, up to a snapshot, oldest first. Raises NotFound."""
        comparison = LandingComparison(self.landing(), self.objects, self.chain, self.project.log(log))
        snapshots = self.chain.through(through.key)
        for snapshot in track(snapshots, f"landing {log}", len(snapshots), lambda s: s.cut(log).events):
            yield comparison.compare(snapshot)

    def build(self, store: Store, snapshot: Snapshot) -> StateRecord:
        """Build a store at a snapshot, and first whatever it reads."""
        for needed in self.project.in_order:
            if needed is store or needed in store.all_inputs:
                record = self.builder.build(needed, snapshot)
        return record

    def fold_history(
        self, log: str, through: Snapshot, *, fresh: bool = False, stores: Sequence[Folded] | None = None
    ) -> Iterator[tuple[Snapshot, Mapping[str, StateRecord]]]:
        """Build a log's stores (or some) at every snapshot in one pass; yields what had to be visited, oldest first."""
        yield from self.builder.fold_history(stores or self.stores_of(log), through, fresh=fresh)

    def prove_history(
        self,
        log: str,
        through: Snapshot,
        stores: Sequence[Folded] | None = None,
        *,
        whole: bool = True,
        afresh: bool = False,
    ) -> Iterator[tuple[Snapshot, Mapping[str, Verdict]]]:
        """Verify a log's stores (or some) at every snapshot in one full replay; yields verdicts, oldest first.

        Where it need not be `whole`, replay goes on from what is proven, as the project's `recheck` says. `afresh`
        compares all events with the manifests, whatever the store says was compared before.
        """
        recheck = None if whole else self.project.recheck
        verdicts = self.prover.prove_history(stores or self.stores_of(log), through, recheck, afresh=afresh)
        yield from track(verdicts, f"replay {log}", through.ordinal + 1, lambda item: item[0].cut(log).events)
        self.builder.checkpoints.settle(ObjectKind.PROOF, ObjectKind.CONTENT_CHECK)

    def compare_with_reference(self, stores: Sequence[Folded], snapshot: Snapshot) -> list[Verdict]:
        """Compare folded stores with the reference fold up to a snapshot; one verdict a store, in the order given."""
        return reference_verdicts(self.objects, self.chain, self.builder, stores, snapshot)

    def relate_history(
        self, through: Snapshot, refused: Refused | None = None, *, whole: bool = True
    ) -> Iterator[tuple[Snapshot, Mapping[str, Verdict]]]:
        """Build every relation at every snapshot and verify it; yields verdicts, oldest first.

        The last snapshot is verified over every order of rows that a proof needs. A relation that cannot be computed at
        a snapshot is given to `refused`, and one whose inputs are not built there is left out, as is one that reads a
        store not built at the last; without `refused` either is raised. Where it need not be `whole`, relations go on
        from what is proven, as the project's `recheck` says.
        """
        snapshots, relations = self.chain.through(through.key), self.project.relations
        if refused is not None:
            held = [each for each in self.project.folded if not self.is_built(each, through)]
            relations = [each for each in relations if not any(store in held for store in each.all_inputs)]
        relating = Relating(self.objects, self.builder, self.prover, None if whole else self.project.recheck)
        verdicts = relating.verdicts(relations, snapshots, refused) if relations else ((each, {}) for each in snapshots)
        with self.builder.checkpoints.grouped():
            yield from track(verdicts, "relations", len(snapshots), lambda item: item[0].events_through)
        self.builder.checkpoints.settle(ObjectKind.PROOF, ObjectKind.PARTIALS)

    def redactor(self, log: str) -> Redactor:
        """What puts sealed events of a log aside or erases them. Raises NotFound."""
        return Redactor(self.objects, self.chain, self.project.log(log))

    def moved_by(self, redaction: Redaction, keys: Collection[object]) -> Iterator[Moved]:
        """Fold and prove all stores again after a redaction of the events of some keys, and compare them with before.

        Compares at the newest snapshot. Raises Unproven where a store differs from its full replay.
        """
        last, chain = self.chain.get(), SnapshotChain(self.objects, redaction.number - 1)
        for log in self.project.logs:
            for _ in self.fold_history(log.name, last):
                pass
            for _, verdicts in self.prove_history(log.name, last):
                _require_passed(verdicts.values())
        for _, verdicts in self.relate_history(last):
            _require_passed(verdicts.values())
        before = Builder(self.objects, chain, self.settings.memory_limit_mb), chain.get(last.key)
        for store in self.project.in_order:
            yield moved(before, (self.builder, last), store, keys, redaction.log)

    def is_built(self, store: Store, snapshot: Snapshot) -> bool:
        """Whether a store has a state at a snapshot; one that is damaged counts, since the replay reports it."""
        try:
            return self.builder.find(store, snapshot) is not None
        except Damaged:
            return True

    def stores_of(self, log: str) -> list[Folded]:
        """The folded stores of one log."""
        return [store for store in self.project.folded if store.log.name == log]

    def rows(self, store: Store, snapshot: Snapshot) -> pa.Table:
        """What a store holds at a snapshot, as published. Raises Unproven where it is not built."""
        return self.builder.published(store, snapshot)

    def quarantine(self, through: Snapshot | None = None) -> list[Quarantined]:
        """All quarantined records, oldest first."""
        snapshots: Sequence[Snapshot] = self.chain.through(through.key) if through else list(self.chain)
        return [
            item
            for snapshot in snapshots
            for log in self.project.logs
            for item in read_quarantine(self.objects, self.chain, log, snapshot)
        ]

    def retry_quarantine(self) -> dict[str, list[Quarantined]]:
        """Offer every quarantined record again that reads as an event now; the next snapshot takes them in."""
        return {log.name: retry_quarantine(self.objects, self.chain, log)[0] for log in self.project.logs}


def _require_passed(verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        if not verdict.passed:
            raise Unproven(
                f"Store {verdict.store.name!r} at snapshot {verdict.snapshot.key}: {verdict.differences[0]}.",
                remedy="Run `refold rebuild`, which says more.",
            )


def open_engine(project: Project, root: Path, now: dt.datetime, open_store: OpenStore = ObjectStore.open) -> Engine:
    """An engine over the places that the environment names, with defaults under the project's root."""
    return Engine(project, Settings.from_environment(root), open_store, now=now)
