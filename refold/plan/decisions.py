"""The plan of a rebuild: what would be sealed, folded, proven, computed and published, and why, before it is done.

Every decision comes from the code that takes it in a rebuild: the sealer knows the keys, the builder where a fold
continues, the publisher which versions are missing, the releaser whether anything would move. Manifests, layouts,
records, proofs and releases are read, checkpoints are checked; no event is read and nothing is written. Put the amount
of work into `refold.plan.workload`, and its time into `refold.plan.forecast`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from refold.engine import Engine
from refold.errors import Damaged, FixInput, RefoldError
from refold.log.snapshot import SnapshotChain
from refold.plan.claims import Claims
from refold.plan.history import Day, history_ahead, sealed_days
from refold.proof.records import ProofRecords
from refold.proof.standing import course_of
from refold.rebuild import Stage
from refold.release.publisher import Publisher
from refold.release.releaser import Releaser
from refold.seal.sealing import Waiting
from refold.sinks.base import Sink
from refold.storage.names import ObjectKind, folder_of, parts_of
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder
from refold.stores.checkpoint import Checkpoints, StateRecord
from refold.stores.declaration import Folded, Store
from refold.stores.recheck import Course, Recheck


@dataclass(frozen=True)
class PlannedFold:
    """The planned fold of one store.

    Attributes:
        start: the place in history where it continues; all days from there on are folded.
        rows: how many rows its state has there; None where that is unknown.
        reasons: why, in words; none where there is nothing to fold.
        is_new: whether no state by this code version is stored at all.
        to_compile: whether its rule was not compiled on this machine before.
    """

    store: Folded
    start: int
    rows: int | None
    reasons: Sequence[str]
    is_new: bool
    to_compile: bool = False


@dataclass(frozen=True)
class MissingProofs:
    """How many days of a store have no proof yet of what is or will be built there; replay checks the others again."""

    store: Store
    missing: int
    reasons: Sequence[str]


@dataclass(frozen=True)
class PlannedRelation:
    """At which places of history a relation is computed; at the others with another identity it is read."""

    relation: Store
    computed: Sequence[int]
    read: Sequence[int]
    reasons: Sequence[str]


@dataclass(frozen=True)
class PlannedVersion:
    """The planned publication to one sink: write a new version (`writes`), or compare the version it holds."""

    store: Store
    sink: str
    writes: bool
    reasons: Sequence[str]


@dataclass(frozen=True)
class Plan:
    """The planned rebuild through a key of the history as it will be.

    Attributes:
        days: every snapshot, sealed or to be sealed, oldest first.
        release: why a release would be made; "" where what is served stays.
        note: what else a person should know about the release.
        waiting: what in landing would still not be sealed, and why.
        early: the keys that would be sealed though they are not over.
        courses: which places of history would be proven or looked at again, by store.
        recheck: how much of what is proven is looked at again.
    """

    days: Sequence[Day]
    fresh: bool
    folds: Sequence[PlannedFold]
    proofs: Sequence[MissingProofs]
    relations: Sequence[PlannedRelation]
    versions: Sequence[PlannedVersion]
    release: str
    note: str
    waiting: Sequence[Waiting] = ()
    early: Sequence[str] = ()
    courses: Mapping[str, Course] = field(default_factory=dict)
    recheck: Recheck = field(default_factory=Recheck)

    @property
    def through(self) -> str:
        """The last key."""
        return self.days[-1].key

    @property
    def to_seal(self) -> list[Day]:
        """The days that are to be sealed."""
        return [day for day in self.days if day.is_new]

    @property
    def changed_sinks(self) -> list[str]:
        """The sinks that would get a new version, in the order of publishing."""
        return [each.sink for each in self.versions if each.writes]

    @property
    def nothing_to_do(self) -> bool:
        """Whether all is sealed, built, proven, published and released, so that a rebuild would only check again."""
        folded = any(self.folded(fold) for fold in self.folds)
        proven = not any(proof.missing for proof in self.proofs)
        computed = any(each.computed for each in self.relations)
        return proven and not (self.to_seal or folded or computed or self.changed_sinks or self.release)

    def folded(self, fold: PlannedFold) -> list[Day]:
        """The days whose events a store would fold."""
        return [day for day in self.days[fold.start :] if day.logs[fold.store.log.name].events]

    def settled(self, chain: SnapshotChain) -> Plan:
        """The same decisions over the history as it was sealed since."""
        return replace(self, days=sealed_days(chain, self.days))


def plan_rebuild(engine: Engine, through: str | None = None, *, fresh: bool = False, thorough: bool = True) -> Plan:
    """The plan of `rebuild_all` with the same arguments; writes nothing.

    Without `thorough`, proofs and stored results of relations are not read for older snapshots.

    Raises what a rebuild raises before it begins: NotFound where nothing landed, FixInput outside the cadence.
    """
    project, builder, objects = engine.project, engine.builder, engine.objects
    history = history_ahead(engine, through)
    days = history.days
    folded = [store for log in project.logs for store in engine.stores_of(log.name)]
    folds = [_fold(builder, objects, store, days, fresh) for store in folded]
    claims = Claims(builder.checkpoints, engine.prover.proofs, objects)
    relations = [_computing(builder, objects, claims, relation, days, thorough) for relation in project.relations]
    proofs = list(_proofs(engine.prover.proofs, claims, project.in_order, days, thorough))
    publishing = list(_publishing(engine.publisher, claims, project.in_order, days[-1]))
    release, note = _release(engine.releaser, claims, project.stores, days[-1])
    sealed = [day.snapshot for day in days if day.snapshot is not None]
    recheck = Recheck(whole_every=1) if fresh else project.recheck
    courses = {
        store.name: course_of(engine.prover.proofs, partial(claims.of, store), sealed, len(days), recheck)
        for store in project.in_order
    }
    return Plan(days, fresh, folds, proofs, relations, publishing, release, note, history.waiting, history.early,
                courses, project.recheck)  # fmt: skip


def _fold(builder: Builder, objects: ObjectStore, store: Folded, days: Sequence[Day], fresh: bool) -> PlannedFold:
    sealed = [day for day in days if day.snapshot is not None]
    last = sealed[-1].snapshot if sealed else None
    to_compile = not store.was_compiled
    if last is None:
        rows = _rows_of_others(objects, builder.checkpoints, store)
        return PlannedFold(store, 0, rows, _never(objects, store), True, to_compile)
    run = builder.run_from(store, last, fresh=fresh)
    found = [_found(builder, store, day) for day in sealed]
    rows = next((record.rows for record in reversed(found) if record is not None), None)
    if rows is None:
        rows = _rows_of_others(objects, builder.checkpoints, store)
    fold = PlannedFold(store, run.done, rows, (), not any(found), to_compile)
    if all(day.logs[store.log.name].events == 0 for day in days[run.done :]):
        return fold
    return replace(fold, reasons=list(_why_folded(objects, fold, days, found, run.damaged, fresh)))


def _found(builder: Builder, store: Store, day: Day) -> StateRecord | None:
    try:
        return builder.find(store, day.snapshot) if day.snapshot else None
    except Damaged:
        return None


def _why_folded(
    objects: ObjectStore,
    fold: PlannedFold,
    days: Sequence[Day],
    found: Sequence[StateRecord | None],
    damaged: Sequence[str],
    fresh: bool,
) -> Iterator[str]:
    if fresh:
        yield "from scratch: every checkpoint is ignored"
    yield from (f"damaged checkpoint: {text}" for text in damaged)
    if fold.is_new:
        yield from _never(objects, fold.store)
    elif not damaged and not fresh:
        yield from _gaps(fold, days, found)
    coming = [day.key for day in days[len(found) :] if day.logs[fold.store.log.name].events]
    if coming and not fold.is_new:
        yield f"{_keys(coming)} to be sealed"


def _gaps(fold: PlannedFold, days: Sequence[Day], found: Sequence[StateRecord | None]) -> Iterator[str]:
    """Why sealed snapshots are folded though none of what is stored is damaged."""
    missing = [place for place in range(len(found)) if found[place] is None]
    last = max(place for place, record in enumerate(found) if record is not None)
    gaps, behind = [days[p].key for p in missing if p < last], [days[p].key for p in missing if p > last]
    if gaps:
        yield f"no checkpoint of {_keys(gaps)}, though later ones are there"
    if behind:
        yield f"{_keys(behind)} sealed and not folded yet"
    thinned = [days[p].key for p, record in enumerate(found) if p >= fold.start and record and record.thinned]
    if thinned:
        yield f"the rows of {_keys(thinned)} were thinned, so it continues from an earlier one"


def _keys(keys: Sequence[str]) -> str:
    return f"snapshot {keys[0]}" if len(keys) == 1 else f"{len(keys)} snapshots, {keys[0]} to {keys[-1]},"


def _never(objects: ObjectStore, store: Store) -> list[str]:
    others = _other_versions(objects, store)
    if not others:
        return ["never built"]
    return [f"its code changed: built by version {', '.join(others)}; now it is {store.code_version}"]


def _other_versions(objects: ObjectStore, store: Store) -> list[str]:
    """The code versions by which a store was built except the present one, the newest first."""
    written: dict[str, str] = {}
    for info in objects.list(folder_of(ObjectKind.STATE_RECORD, store=store.name)):
        version = parts_of(ObjectKind.STATE_RECORD, info.name).get("code_version", store.code_version)
        if version != store.code_version:
            written[version] = max(written.get(version, ""), str(info.modified_at))
    return sorted(written, key=lambda version: (written[version], version), reverse=True)


def _records(store: Store, code_version: str) -> str:
    return folder_of(ObjectKind.STATE_RECORD, store=store.name, code_version=code_version)


def _rows_of_others(objects: ObjectStore, checkpoints: Checkpoints, store: Store) -> int | None:
    """How many rows the store had by another code version, as an estimate for a new one."""
    for version in _other_versions(objects, store)[:1]:
        rows = []
        for info in objects.list(_records(store, version)):
            try:
                record = checkpoints.read(info.name)
            except Damaged:
                continue
            rows += [record.rows] if record else []
        return max(rows, default=None)
    return None


def _proofs(
    known: ProofRecords, claims: Claims, stores: Sequence[Store], days: Sequence[Day], thorough: bool
) -> Iterator[MissingProofs]:
    for store in stores:
        missing, before, log = 0, "", store.ledger.store.log.name if store.ledger is not None else None
        for day in days:
            if day.snapshot is None:
                missing += (day.events if log is None else day.logs[log].events) > 0
                continue
            inputs = day.snapshot.id if log is None else day.snapshot.cut(log).id
            if inputs != before and (thorough or day is days[-1]):
                claimed = claims.of(store, day.snapshot)
                missing += claimed is None or known.find(claimed.claim) is None
            before = inputs
        yield MissingProofs(store, missing, [f"no proof at {missing} snapshots"] if missing else [])


def _computing(
    builder: Builder, objects: ObjectStore, claims: Claims, relation: Store, days: Sequence[Day], thorough: bool
) -> PlannedRelation:
    computed, read, reasons, before = list[int](), list[int](), dict[str, None](), ""
    for place, day in enumerate(days):
        if (day.snapshot is not None and day.id == before) or (day.snapshot is None and place and day.events == 0):
            continue
        before = day.id or ""
        why = _why_computed(builder, claims, relation, day, thorough)
        (computed if why else read).append(place)
        if why:
            reasons[why] = None
    if reasons and not read and not objects.list(_records(relation, relation.code_version)):
        reasons = dict.fromkeys(_never(objects, relation))
    return PlannedRelation(relation, computed, read, list(reasons))


def _why_computed(builder: Builder, claims: Claims, relation: Store, day: Day, thorough: bool) -> str:
    if day.snapshot is None:
        return "new snapshots"
    inputs = claims.inputs(relation, day.snapshot)
    if inputs is None:
        return "its inputs are rebuilt"
    try:
        if not thorough:
            record = builder.checkpoints.find(relation, inputs)
            return "" if record is not None else "never computed"
        return "" if builder.standing(relation, inputs) else "never computed from these inputs"
    except Damaged as error:
        return f"damaged checkpoint: {error}"


def _publishing(publisher: Publisher, claims: Claims, stores: Sequence[Store], last: Day) -> Iterator[PlannedVersion]:
    for store in stores:
        for sink in store.sinks:
            title = Stage.publish(sink).subject
            why = _why_published(publisher, claims, store, sink, last)
            yield PlannedVersion(store, title, bool(why), [why] if why else [])


def _why_published(publisher: Publisher, claims: Claims, store: Store, sink: Sink, last: Day) -> str:
    try:
        held = publisher.target(store, sink).versions()
    except RefoldError as error:
        return f"its versions cannot be read: {error}"
    if not held:
        return "it holds no version yet"
    claimed = claims.of(store, last.snapshot) if last.snapshot else None
    if claimed is None or last.snapshot is None:
        return f"snapshot {last.key} is new" if last.snapshot is None else "the store is rebuilt"
    if publisher.version(last.snapshot, claimed) in held:
        return ""
    return f"it holds no version of snapshot {last.key} with this content"


def _release(releaser: Releaser, claims: Claims, stores: Sequence[Store], last: Day) -> tuple[str, str]:
    """Why a release would be made, "" where none would; and a note for people."""
    current = releaser.current()
    if current is None:
        return "nothing was released yet", ""
    reason = f"release {current.number} serves other content"
    if last.snapshot is None:
        return reason, ""
    if current.ordinal > last.snapshot.ordinal:
        return "", f"release {current.number} serves the newer snapshot {current.snapshot} and stays"
    claimed = {s.name: claims.of(s, last.snapshot) for s in stores if s.sinks}
    known = {name: found for name, found in claimed.items() if found is not None}
    try:
        return (reason if known != claimed or releaser.would_move(last.snapshot, known) else ""), ""
    except FixInput as error:
        return "", str(error)


def totals(plan: Plan) -> Mapping[str, int]:
    """The plan in a few numbers, for machines: what a rebuild would read, fold, compute and write."""
    ahead = [part for day in plan.to_seal for part in day.logs.values()]
    return {
        "snapshots_to_seal": len(plan.to_seal),
        "landing_objects": sum(len(part.objects) for part in ahead),
        "landing_bytes": sum(item.info.size_bytes for part in ahead for item in part.objects),
        "events_to_fold": sum(day.logs[fold.store.log.name].events for fold in plan.folds for day in plan.folded(fold)),
        "relations_to_compute": sum(len(each.computed) for each in plan.relations),
        "proofs_missing": sum(proof.missing for proof in plan.proofs),
        "sinks_to_write": len(plan.changed_sinks),
        "releases": int(bool(plan.release)),
    }
