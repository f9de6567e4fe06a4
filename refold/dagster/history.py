"""The whole history in a single pass: one job that leaves every partition with its own version and check results.

A Dagster range run stamps one version on all partitions and records checks on none, so this is a job of ops that logs
one materialization and one check evaluation per partition, with the tags that make staleness right: code version,
data version, and for every input its data version and a pointer to the very event. Ops hand over through object
storage alone.
"""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from refold.base.progress import Timings
from refold.dagster import keys, planning, results
from refold.dagster import metadata as md
from refold.dagster.assets import raised
from refold.dagster.reporting import Event, Place, Reporter, evaluated, kept_open
from refold.dagster.resource import EngineResource
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.proof.prover import Verdict
from refold.rebuild import sealed
from refold.stores.declaration import Store


class HistoryConfig(dg.Config):
    """How far to rebuild."""

    through: str | None = None
    """The last snapshot key; None takes the last folder in landing."""
    fresh: bool = False
    """Ignore all checkpoints and fold from offset 0."""


def build_history_job(project: Project) -> dg.JobDefinition:
    """The job `rebuild_history`."""
    plan, seal, fold, prove, relate, publish, outcome = _ops(project)

    @dg.job(
        name="rebuild_history",
        description="Seals, folds, proves and publishes the whole history in one pass over the log, then releases it. "
        "Every partition gets its own data version and check results.",
    )
    def rebuild_history() -> None:
        outcome(publish(relate(prove(fold(seal(plan()))))))

    return rebuild_history


def _ops(project: Project) -> list[dg.OpDefinition]:
    return [
        _op(project, "plan", _plan, "Say what would be done and why, and how long it would take.", first=True),
        _op(project, "seal_history", _seal, "Seal every key and check the log's structure."),
        _op(project, "fold_history", _fold, "Fold every store, one pass a log."),
        _op(project, "prove_history", _prove, "Replay every log from offset 0 and compare at every snapshot."),
        _op(project, "relate_history", _relate, "Compute and check every relation."),
        _op(project, "publish_and_release", _publish, "Publish the newest snapshot to all sinks and release it."),
        _op(project, "outcome", _outcome, "Set what it took beside what the plan said, and keep both for later plans."),
    ]


_Told = Event | dg.Output[None]
_Work = Callable[[dg.OpExecutionContext, Engine, HistoryConfig, Timings], Iterator[_Told]]


def _op(project: Project, name: str, work: _Work, description: str, *, first: bool = False) -> dg.OpDefinition:
    after = None if first else {"after": dg.In(dg.Nothing)}

    @dg.op(name=name, ins=after, out=dg.Out(dg.Nothing), description=description)
    def run(context: dg.OpExecutionContext, config: HistoryConfig, engine: EngineResource) -> Iterator[_Told]:
        timings, told = Timings(), False
        try:
            with kept_open(context.instance, context.run_id):
                for event in work(context, engine.open(project), config, timings):
                    told = told or isinstance(event, dg.Output)
                    yield event
        except RefoldError as error:
            raise raised(error) from error
        if not told:
            yield dg.Output(None, metadata=planning.stages_metadata(timings))

    return run


def _stop_if(faults: Sequence[str], what: str, remedy: str) -> None:
    if faults:
        text = f"{what} failed {len(faults)} times; the first: {faults[0]} {remedy} What is served has not changed."
        raise dg.Failure(text, allow_retries=False)


def _plan(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig, timings: Timings) -> Iterator[_Told]:
    yield dg.Output(None, metadata=planning.plan_metadata(engine, config.through, fresh=config.fresh))


def _outcome(
    context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig, timings: Timings
) -> Iterator[_Told]:
    yield dg.Output(None, metadata=planning.outcome_metadata(context))


def _seal(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig, timings: Timings) -> Iterator[Event]:
    new = list(timings.over("seal", engine.seal(config.through)))
    context.log.info(f"Sealed {len(new)} new snapshots; there are {len(engine.chain)}.")
    for name in sorted({name for each in new for name in each.vanished}):
        context.log.warning(f"The sealed object {name} is no longer in landing; the sealed events stand.")
    report, last = Reporter(context.instance), sealed(engine, config.through)
    faults: list[str] = []
    for log in engine.project.logs:
        for snapshot, findings in timings.over(f"structure {log.name}", engine.verify_log(log.name, last)):
            cut, place = snapshot.cut(log.name), (keys.log_key(log), snapshot.key)
            yield report.materialized(
                place, cut.id[:20], keys.log_code_version(log), [], md.log_metadata(log, snapshot)
            )
            yield evaluated(place, keys.STRUCTURE, results.structure(findings, cut.seq_end))
            faults += [finding.message for finding in findings]
    _stop_if(faults, "The check of the logs' structure", "Restore the object from a copy.")


def _materialized(report: Reporter, store: Store, snapshot: Snapshot, engine: Engine) -> Event:
    record = engine.builder.require(store, snapshot)
    inputs: list[Place] = [(key, snapshot.key) for key in keys.input_keys(store)]
    place, found = (keys.state_key(store), snapshot.key), md.state_metadata(store, record)
    return report.materialized(place, record.data_version, record.code_version, inputs, found)


def _judged(verdict: Verdict, faults: list[str]) -> Event:
    """The check's event; a failure is added to `faults`."""
    result = results.replay(verdict)
    if result.stops:
        faults.append(f"{verdict.store.name} at snapshot {verdict.snapshot.key}: {result.text}.")
    return evaluated((keys.state_key(verdict.store), verdict.snapshot.key), keys.FULL_REPLAY, result)


def _fold(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig, timings: Timings) -> Iterator[Event]:
    report, last = Reporter(context.instance), sealed(engine, config.through)
    for log in engine.project.logs:
        for _ in timings.over(f"fold {log.name}", engine.fold_history(log.name, last, fresh=config.fresh)):
            pass
        for snapshot in engine.chain.through(last.key):
            for store in engine.stores_of(log.name):
                yield _materialized(report, store, snapshot, engine)


_AGAIN = "Run the job again with `fresh: true` (`--from-scratch`): it folds from offset 0."


def _prove(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig, timings: Timings) -> Iterator[Event]:
    faults, last = list[str](), sealed(engine, config.through)
    for log in engine.project.logs:
        for _, verdicts in timings.over(f"replay {log.name}", engine.prove_history(log.name, last)):
            for verdict in verdicts.values():
                yield _judged(verdict, faults)
    _stop_if(faults, "Full replay", _AGAIN)


def _relate(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig, timings: Timings) -> Iterator[Event]:
    report, faults = Reporter(context.instance), list[str]()
    last = sealed(engine, config.through)
    for snapshot, verdicts in timings.over("relations", engine.relate_history(last)):
        for verdict in verdicts.values():
            yield _materialized(report, verdict.store, snapshot, engine)
            yield _judged(verdict, faults)
    _stop_if(faults, "The check of the relations", "Give the query a total order, or aggregates without one.")


def _publish(
    context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig, timings: Timings
) -> Iterator[Event]:
    report, snapshot, faults = Reporter(context.instance), sealed(engine, config.through), list[str]()
    for store in engine.project.in_order:
        for key, sinks in keys.sink_groups(store).items():
            done = []
            for sink in sinks:
                with timings.of(f"publish {type(sink).__name__}/{sink.name}"):
                    done.append(engine.publisher.publish(store, sink, snapshot))
            found = md.published_metadata(store, done, snapshot, engine.releaser.current())
            inputs: list[Place] = [(keys.state_key(store), snapshot.key)]
            yield report.materialized((key, None), done[0].digest[:20], store.code_version, inputs, found)
        yield from timings.over(f"expectations {store.name}", _expected(engine, store, snapshot, faults))
    _stop_if(faults, "Expectations", "Fix the rule, the events or the expectation.")
    with timings.of("release"):
        served = engine.releaser.release(snapshot)
    rests: list[Place] = [(key, None) for store in engine.project.in_order for key in keys.sink_groups(store)]
    place, found = (keys.RELEASE_KEY, None), md.release_metadata(served)
    yield report.materialized(place, keys.release_version(served), keys.RELEASE_CODE, rests, found)


def _expected(engine: Engine, store: Store, snapshot: Snapshot, faults: list[str]) -> Iterator[Event]:
    key = keys.checked_sink(store)
    if key is not None:
        result = results.expectations(engine, store, snapshot)
        if result.stops:
            faults.append(f"{key.to_user_string()}: {result.text}")
        yield evaluated((key, None), keys.EXPECTATIONS, result)
