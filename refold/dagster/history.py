"""The whole history in a single pass: one job that leaves every partition with its own version and check results.

A Dagster range run stamps one version on all partitions and records checks on none, so this is a job of ops that logs
one materialization and one check evaluation per partition, with the tags that make staleness right: code version,
data version, and for every input its data version and a pointer to the very event. Ops hand over through object
storage alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from refold.dagster import metadata as md
from refold.dagster import results
from refold.dagster.assets import raised
from refold.dagster.reporting import Place, Reporter
from refold.dagster.resource import EngineResource
from refold.dagster.results import Result
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.proof import Verdict
from refold.stores.declaration import Store


class HistoryConfig(dg.Config):
    """How far to rebuild."""

    through: str | None = None
    """The last snapshot key; None takes the last folder in landing."""
    fresh: bool = False
    """Ignore all checkpoints and fold from offset 0."""


def build_history_job(project: Project) -> dg.JobDefinition:
    """The job `rebuild_history`."""
    seal, fold, prove, relate, publish = _ops(project)

    @dg.job(
        name="rebuild_history",
        description="Seals, folds, proves and publishes the whole history in one pass over the log, then releases it. "
        "Every partition gets its own data version and check results.",
    )
    def rebuild_history() -> None:
        publish(relate(prove(fold(seal()))))

    return rebuild_history


def _ops(project: Project) -> list[dg.OpDefinition]:
    follows = {"after": dg.In(dg.Nothing)}

    @dg.op(name="seal_history", out=dg.Out(dg.Nothing), description="Seal every key and check the log's structure.")
    def seal(context: dg.OpExecutionContext, config: HistoryConfig, engine: EngineResource) -> None:
        _guarded(_seal, context, engine.open(project), config)

    @dg.op(name="fold_history", ins=follows, out=dg.Out(dg.Nothing), description="Fold every store, one pass a log.")
    def fold(context: dg.OpExecutionContext, config: HistoryConfig, engine: EngineResource) -> None:
        _guarded(_fold, context, engine.open(project), config)

    @dg.op(name="prove_history", ins=follows, out=dg.Out(dg.Nothing), description="Replay every log from offset 0.")
    def prove(context: dg.OpExecutionContext, config: HistoryConfig, engine: EngineResource) -> None:
        _guarded(_prove, context, engine.open(project), config)

    @dg.op(name="relate_history", ins=follows, out=dg.Out(dg.Nothing), description="Compute and check every relation.")
    def relate(context: dg.OpExecutionContext, config: HistoryConfig, engine: EngineResource) -> None:
        _guarded(_relate, context, engine.open(project), config)

    @dg.op(
        name="publish_and_release", ins=follows, description="Publish the newest snapshot to all sinks and release it."
    )
    def publish(context: dg.OpExecutionContext, config: HistoryConfig, engine: EngineResource) -> None:
        _guarded(_publish, context, engine.open(project), config)

    return [seal, fold, prove, relate, publish]


def _guarded(
    work: Callable[[dg.OpExecutionContext, Engine, HistoryConfig], None],
    context: dg.OpExecutionContext,
    engine: Engine,
    config: HistoryConfig,
) -> None:
    try:
        work(context, engine, config)
    except RefoldError as error:
        raise raised(error) from error


def _last(engine: Engine, config: HistoryConfig) -> Snapshot:
    return engine.chain.get(config.through)


def _stop_if(faults: Sequence[str], what: str, remedy: str) -> None:
    if faults:
        text = f"{what} failed {len(faults)} times; the first: {faults[0]} {remedy} What is served has not changed."
        raise dg.Failure(text, allow_retries=False)


def _seal(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    sealed = list(engine.seal(config.through))
    context.log.info(f"Sealed {len(sealed)} new snapshots; there are {len(engine.chain)}.")
    report, last = Reporter(context), _last(engine, config)
    gone = {name for each in sealed for name in each.vanished}
    for name in sorted(gone):
        context.log.warning(f"The sealed object {name} is no longer in landing; the sealed events stand.")
    faults: list[str] = []
    for log in engine.project.logs:
        for snapshot, findings in engine.verify_log(log.name, last):
            cut, place = snapshot.logs[log.name], (md.log_key(log), snapshot.key)
            report.materialized(place, cut.id[:20], md.log_code_version(log), [], md.log_metadata(log, snapshot))
            report.evaluated(place, md.STRUCTURE, results.structure(findings, cut.seq_end))
            faults += [finding.message for finding in findings]
    _stop_if(faults, "The check of the logs' structure", "Restore the object from a copy.")


def _materialize(report: Reporter, store: Store, snapshot: Snapshot, engine: Engine, lineage: Any) -> None:
    record = engine.builder.require(store, snapshot)
    inputs: list[Place] = [(key, snapshot.key) for key in md.input_keys(store)]
    found = {**md.state_metadata(record), "dagster/column_lineage": lineage}
    report.materialized((md.state_key(store), snapshot.key), record.data_version, record.code_version, inputs, found)


def _judge(report: Reporter, verdict: Verdict) -> list[str]:
    result = results.replay(verdict)
    report.evaluated((md.state_key(verdict.store), verdict.snapshot.key), md.FULL_REPLAY, result)
    return [f"{verdict.store.name} at snapshot {verdict.snapshot.key}: {result.text}."] if result.stops else []


def _fold(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, last = Reporter(context), _last(engine, config)
    lineages = {store.name: md.column_lineage(store) for store in engine.project.folded}
    for log in engine.project.logs:
        for _ in engine.fold_history(log.name, last, fresh=config.fresh):
            pass
        for snapshot in engine.chain.through(last.key):
            for store in engine.stores_of(log.name):
                _materialize(report, store, snapshot, engine, lineages[store.name])


_AGAIN = "Run the job again with `fresh: true` (`--from-scratch`): it folds from offset 0."


def _prove(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, faults, last = Reporter(context), list[str](), _last(engine, config)
    for log in engine.project.logs:
        for _, verdicts in engine.prove_history(log.name, last):
            for verdict in verdicts.values():
                faults += _judge(report, verdict)
    _stop_if(faults, "Full replay", _AGAIN)


def _relate(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, faults = Reporter(context), list[str]()
    lineages = {store.name: md.column_lineage(store) for store in engine.project.relations}
    for snapshot, verdicts in engine.relate_history(_last(engine, config)):
        for verdict in verdicts.values():
            _materialize(report, verdict.store, snapshot, engine, lineages[verdict.store.name])
            faults += _judge(report, verdict)
    _stop_if(faults, "The check of the relations", "Give the query a total order, or aggregates without one.")


def _publish(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, snapshot, faults = Reporter(context), _last(engine, config), list[str]()
    for store in engine.project.in_order:
        for key, sinks in md.sink_groups(store).items():
            done = [engine.publisher.publish(store, sink, snapshot) for sink in sinks]
            served = engine.releaser.current()
            found = {**md.published_metadata(done, snapshot, served), "dagster/column_lineage": md.sink_lineage(store)}
            inputs: list[Place] = [(md.state_key(store), snapshot.key)]
            report.materialized((key, None), done[0].digest[:20], store.code_version, inputs, found)
        faults += _expectations(report, engine, store, snapshot)
    _stop_if(faults, "Expectations", "Fix the rule, the events or the expectation.")
    served = engine.releaser.release(snapshot)
    keys: list[Place] = [(key, None) for store in engine.project.in_order for key in md.sink_groups(store)]
    report.materialized(
        (md.RELEASE_KEY, None), md.release_version(served), md.RELEASE_CODE, keys, md.release_metadata(served)
    )


def _expectations(report: Reporter, engine: Engine, store: Store, snapshot: Snapshot) -> list[str]:
    key = md.checked_sink(store)
    if key is None:
        return []
    result: Result = results.expectations(engine, store, snapshot)
    report.evaluated((key, None), md.EXPECTATIONS, result)
    return [f"{key.to_user_string()}: {result.text}"] if result.stops else []
