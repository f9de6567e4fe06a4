"""The whole history in one pass: a job that gives every partition its own version and check results.

A Dagster range run puts one version on all partitions and records checks for none, so this is a job of ops that logs
one materialization and one check evaluation per partition, with the tags that staleness depends on: code version, data
version, and for every input its data version and a pointer to its event. Ops hand over data through object storage
alone.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import dagster as dg
import pyarrow as pa

from refold.dagster import keys, planning, results
from refold.dagster import metadata as md
from refold.dagster.assets import first_rows, raised
from refold.dagster.reporting import Place, Reported, Reporter, evaluated, kept_open
from refold.dagster.resource import EngineResource
from refold.engine import Engine
from refold.errors import Damaged, RefoldError, Unproven
from refold.log.declaration import Log
from refold.log.ordering import OrderCheck
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.proof.prover import Verdict
from refold.rebuild import PHASES, Phase, RebuildRun
from refold.rebuild.events import (
    Event,
    ExpectationsChecked,
    HistoryFolded,
    LandingChecked,
    LogVerified,
    RelationVerified,
    Released,
    ServedDiffered,
    ServedVerified,
    StorePublished,
    StoreVerified,
)
from refold.release.pointer import Release
from refold.repair.served import Served
from refold.stores.declaration import Store


class HistoryConfig(dg.Config):
    """How far to rebuild."""

    through: str | None = None
    """The last snapshot key; it is sealed even where it is not over. None takes all that is over."""
    fresh: bool = False
    """Ignore all checkpoints and fold from offset 0."""


def build_history_job(project: Project, shown: int = 0) -> dg.JobDefinition:
    """The job `rebuild_history`: the plan, the phases of a rebuild in order, and the outcome.

    Its materializations of sinks, and of the newest states, show as many rows as `shown` says.
    """
    ops = [
        _op(project, "plan", _plan, "Plan what would be done and why, and how long it would take.", first=True),
        *(_op(project, phase.name, partial(_run_phase, phase, shown), phase.description) for phase in PHASES),
        _op(
            project, "outcome", _outcome, "Compare the time taken with the prediction, and record both for later plans."
        ),
    ]

    @dg.job(
        name="rebuild_history",
        description="Seals, folds, proves and publishes the whole history in one pass over the log, then releases it. "
        "Every partition gets its own data version and check results.",
    )
    def rebuild_history() -> None:
        done = ops[0]()
        for op in ops[1:]:
            done = op(done)

    return rebuild_history


_Yielded = Reported | dg.Output[None]
_Work = Callable[[dg.OpExecutionContext, RebuildRun], Iterator[_Yielded]]


def _op(project: Project, name: str, work: _Work, description: str, *, first: bool = False) -> dg.OpDefinition:
    after = None if first else {"after": dg.In(dg.Nothing)}

    @dg.op(name=name, ins=after, out=dg.Out(dg.Nothing), description=description)
    def run(context: dg.OpExecutionContext, config: HistoryConfig, engine: EngineResource) -> Iterator[_Yielded]:
        finished = False
        try:
            report = Reporter(context.instance)

            opened = engine.open(project)
            known = partial(_known_to_hold, opened, report)
            rebuild = RebuildRun(opened, config.through, fresh=config.fresh, verifies=True, known=known)
            with kept_open(context.instance, context.run_id):
                for event in work(context, rebuild):
                    finished = finished or isinstance(event, dg.Output)
                    yield event
        except RefoldError as error:
            raise raised(error) from error
        if not finished:
            yield dg.Output(None, metadata=planning.stages_metadata(rebuild.timings))

    return run


def _known_to_hold(engine: Engine, report: Reporter, log: Log) -> Collection[str]:
    """The snapshots of a log of which this content was reported with the check of its structure."""
    reported = report.reported(keys.log_key(log), keys.STRUCTURE, keys.log_code_version(log))
    return {each.key for each in engine.chain if reported.get(each.key) == each.cut(log.name).id[:20]}


def _plan(context: dg.OpExecutionContext, rebuild: RebuildRun) -> Iterator[_Yielded]:
    yield dg.Output(None, metadata=planning.plan_metadata(rebuild.engine, rebuild.through, fresh=rebuild.fresh))


def _outcome(context: dg.OpExecutionContext, rebuild: RebuildRun) -> Iterator[_Yielded]:
    yield dg.Output(None, metadata=planning.outcome_metadata(context))


def _run_phase(phase: Phase, shown: int, context: dg.OpExecutionContext, rebuild: RebuildRun) -> Iterator[Reported]:
    """Run a phase, report its events, and fail at its end where a check has failed."""
    report, problems = _History(rebuild.engine, Reporter(context.instance), shown), list[str]()
    for event in phase.run(rebuild):
        yield from report.of(event)
        if event.warning:
            context.log.warning(event.warning)
        problems += [event.problem] if event.problem else []
    if problems:
        times = f"{len(problems)} times; the first" if len(problems) > 1 else "once"
        text = f"{phase.check} failed {times}: {problems[0]}\n"
        raise dg.Failure(f"{text}{phase.remedy}".rstrip(), allow_retries=False)


class _History:
    """Converts the events of a rebuild to Dagster's, partition by partition."""

    def __init__(self, engine: Engine, report: Reporter, shown: int) -> None:
        self._engine = engine
        self._shown = shown
        self._report = report
        self._differed: list[Served] = []
        self._orders: dict[str, OrderCheck] = {}

    def of(self, event: Event) -> Iterator[Reported]:
        """Dagster's events for an event of a rebuild."""
        match event:
            case LogVerified():
                yield from self._log(event)
            case HistoryFolded(log, last):
                yield from self._folded(log, last)
            case RelationVerified(verdict):
                yield self._state(verdict.store, verdict.snapshot)
                yield _judged(verdict)
            case StoreVerified(verdict):
                yield _judged(verdict)
            case ServedDiffered(served):
                self._differed.append(served)
            case StorePublished():
                yield from self._sinks(event)
            case ExpectationsChecked():
                yield from self._expectations(event)
            case LandingChecked(last, runs):
                for run in runs:
                    yield evaluated((keys.log_key(run.log), last.key), keys.LANDING, results.landing(run))
            case Released(release):
                yield self._release(release)
            case ServedVerified(served):
                yield from self._served(served)

    def _log(self, event: LogVerified) -> Iterator[Reported]:
        log, snapshot = event.log, event.snapshot
        cut, place = snapshot.cut(log.name), (keys.log_key(log), snapshot.key)
        found = md.log_metadata(log, snapshot)
        yield self._report.materialized(place, cut.id[:20], keys.log_code_version(log), [], found)
        yield evaluated(place, keys.STRUCTURE, results.structure(event.findings, cut.seq_end))
        if log.has_offsets and snapshot.key == self._engine.chain.get().key:
            yield evaluated(place, keys.WHOLE, results.whole_through(self._engine, log, snapshot))
        if log.has_order and not event.findings:
            check = self._orders.setdefault(log.name, self._engine.order_check(log.name))
            yield evaluated(place, keys.ORDER, results.order(check.through(snapshot)))

    def _folded(self, log: Log, last: Snapshot) -> Iterator[Reported]:
        """The states of a log's stores, and after the last log what stands of relations."""
        stores: list[Store] = [*self._engine.stores_of(log.name)]
        if log == self._engine.project.logs[-1]:
            stores += self._engine.project.relations
        for snapshot in self._engine.chain.through(last.key):
            for store in stores:
                yield from self._unreported(store, snapshot)

    def _unreported(self, store: Store, snapshot: Snapshot) -> Iterator[Reported]:
        """A state that was not reported with its proof, and the proof where it stands; a rebuild may not come by it.

        A relation that is not proven is reported when it is.
        """
        try:
            record = self._engine.builder.require(store, snapshot)
        except (Damaged, Unproven):
            return
        reported = self._report.reported(keys.state_key(store), keys.FULL_REPLAY, record.code_version)
        if reported.get(snapshot.key) == record.data_version:
            return
        found = self._engine.prover.proofs.find(record.claim)
        if found is not None or store.ledger is not None:
            yield self._state(store, snapshot)
        if found is not None:
            proof = found[1]
            method = f"{proof.method}, at {proof.snapshot}; the proof stands"
            yield _judged(Verdict(store, snapshot, record, [], method, proof.events, proof.replay, proof.seconds))

    def _state(self, store: Store, snapshot: Snapshot) -> Reported:
        record = self._engine.builder.require(store, snapshot)
        inputs: list[Place] = [(key, snapshot.key) for key in keys.input_keys(store)]
        before = self._engine.builder.record_before(store, snapshot)
        sample = self._sample(store, snapshot) if snapshot is self._engine.chain.head else None
        place, found = (keys.state_key(store), snapshot.key), md.state_metadata(store, record, before, sample)
        return self._report.materialized(place, record.data_version, record.code_version, inputs, found)

    def _sample(self, store: Store, snapshot: Snapshot) -> pa.Table | None:
        return first_rows(self._engine, store, snapshot, self._shown)

    def _sinks(self, event: StorePublished) -> Iterator[Reported]:
        written = dict(zip(event.store.sinks, event.written, strict=True))
        served, inputs = self._engine.releaser.current(), [(keys.state_key(event.store), event.snapshot.key)]
        for key, sinks in keys.sink_groups(event.store).items():
            done = [written[sink] for sink in sinks]
            differed = results.of_sinks(self._differed, event.store, sinks)
            sample = self._sample(event.store, event.snapshot)
            found = md.published_metadata(event.store, done, event.snapshot, served, differed, sample)
            version, code = done[0].digest[:20], event.store.code_version
            yield self._report.materialized((key, None), version, code, inputs, found)

    def _expectations(self, event: ExpectationsChecked) -> Iterator[Reported]:
        key = keys.checked_sink(event.store)
        if key is not None:
            result = results.expectations(event.store, event.snapshot, event.results)
            yield evaluated((key, None), keys.EXPECTATIONS, result)

    def _served(self, served: Sequence[Served]) -> Iterator[Reported]:
        for store in self._engine.project.in_order:
            for key, sinks in keys.sink_groups(store).items():
                yield evaluated((key, None), keys.SERVED, results.served(results.of_sinks(served, store, sinks)))

    def _release(self, release: Release) -> Reported:
        stores = self._engine.project.in_order
        rests: list[Place] = [(key, None) for store in stores for key in keys.sink_groups(store)]
        place, found = (keys.RELEASE_KEY, None), md.release_metadata(release)
        return self._report.materialized(place, keys.release_version(release), keys.RELEASE_CODE, rests, found)


def _judged(verdict: Verdict) -> Reported:
    """The result of the check `full_replay`."""
    return evaluated((keys.state_key(verdict.store), verdict.snapshot.key), keys.FULL_REPLAY, results.replay(verdict))
