"""The whole history in a single pass: one job that leaves every partition with its own version and check results.

A Dagster range run stamps one version on all partitions and records checks on none, so this is a job of ops that logs
one materialization and one check evaluation per partition, with the tags that make staleness right: code version,
data version, and for every input its data version and a pointer to the very event. Ops hand over through object
storage alone.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster import AssetRecordsFilter
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
)

from refold.dagster import metadata as md
from refold.dagster.assets import raised
from refold.dagster.resource import EngineResource
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.proof import Verdict
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store


class HistoryConfig(dg.Config):
    """How far to rebuild."""

    through: str | None = None
    """The last snapshot key; None takes the last folder in landing."""
    fresh: bool = False
    """Ignore all checkpoints and fold from offset 0."""


class _Reporter:
    """Logs per-partition events of a run, linked to the input events they rest on."""

    def __init__(self, context: dg.OpExecutionContext) -> None:
        self._context = context
        self._latest: dict[dg.AssetKey, dict[str | None, tuple[int, str]]] = {}

    def materialized(
        self,
        key: dg.AssetKey,
        partition: str | None,
        version: str,
        code_version: str,
        inputs: Sequence[tuple[dg.AssetKey, str | None]],
        metadata: dict[str, Any],
    ) -> None:
        """Log one materialization; `inputs` are (asset, partition) pairs."""
        tags = {DATA_VERSION_TAG: version, CODE_VERSION_TAG: code_version}
        for source, where in inputs:
            pointer, found = self._events(source).get(where, (None, None))
            if pointer is not None and found is not None:
                tags[f"{INPUT_EVENT_POINTER_TAG_PREFIX}/{source.to_user_string()}"] = str(pointer)
                tags[f"{INPUT_DATA_VERSION_TAG_PREFIX}/{source.to_user_string()}"] = found
        self._context.log_event(dg.AssetMaterialization(key, partition=partition, tags=tags, metadata=metadata))
        self._latest.pop(key, None)

    def evaluated(
        self, key: dg.AssetKey, check: str, partition: str | None, passed: bool, text: str, metadata: dict[str, Any]
    ) -> None:
        """Log one check result of one partition."""
        self._context.log_event(
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # Dagster logs it, though its annotation is narrower
                asset_key=key,
                check_name=check,
                passed=passed,
                partition=partition,
                description=text,
                metadata=metadata,
                blocking=True,
            )
        )

    def _events(self, key: dg.AssetKey) -> dict[str | None, tuple[int, str]]:
        """The newest materialization of each partition: storage id and data version."""
        if key not in self._latest:
            found: dict[str | None, tuple[int, str]] = {}
            cursor, more = None, True
            while more:
                page = self._context.instance.fetch_materializations(
                    AssetRecordsFilter(asset_key=key), limit=1000, cursor=cursor
                )
                for record in page.records:
                    event = record.asset_materialization
                    version = (event.tags or {}).get(DATA_VERSION_TAG) if event else None
                    if version is not None:
                        found.setdefault(record.partition_key, (record.storage_id, version))
                cursor, more = page.cursor, page.has_more
            self._latest[key] = found
        return self._latest[key]


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


def _guarded(work: Any, context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    try:
        work(context, engine, config)
    except RefoldError as error:
        raise raised(error) from error


def _last(engine: Engine, config: HistoryConfig) -> Snapshot:
    return engine.chain.get(config.through)


def _stop_if(context: dg.OpExecutionContext, faults: Sequence[str], what: str) -> None:
    if faults:
        raise dg.Failure(f"{what} failed {len(faults)} times; the first: {faults[0]}", allow_retries=False)


def _seal(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    sealed = list(engine.seal(config.through))
    context.log.info(f"Sealed {len(sealed)} new snapshots; there are {len(engine.chain)}.")
    report, last = _Reporter(context), _last(engine, config)
    faults: list[str] = []
    for log in engine.project.logs:
        key = md.log_key(log)
        for snapshot, findings in engine.verify_log(log.name, last):
            cut = snapshot.logs[log.name]
            report.materialized(key, snapshot.key, cut.id[:20], "1", [], md.log_metadata(log, snapshot))
            faults += [finding.message for finding in findings]
            text = findings[0].message if findings else "The log is whole."
            found = md.findings_metadata(findings, cut.events)
            report.evaluated(key, md.STRUCTURE, snapshot.key, not findings, text, found)
    _stop_if(context, faults, "The check of the logs' structure")


def _materialize(report: _Reporter, store: Store, snapshot: Snapshot, record: StateRecord, lineage: Any) -> None:
    inputs: list[tuple[dg.AssetKey, str | None]] = [(key, snapshot.key) for key in md.input_keys(store)]
    found = {**md.state_metadata(record), "dagster/column_lineage": lineage}
    report.materialized(md.state_key(store), snapshot.key, record.data_version, record.code_version, inputs, found)


def _judge(report: _Reporter, verdict: Verdict) -> list[str]:
    text = "Equal to full replay." if verdict.passed else str(verdict.differences[0])
    found = md.verdict_metadata(verdict)
    report.evaluated(md.state_key(verdict.store), md.FULL_REPLAY, verdict.snapshot.key, verdict.passed, text, found)
    return [] if verdict.passed else [f"{verdict.store.name} at snapshot {verdict.snapshot.key}: {text}"]


def _fold(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, last = _Reporter(context), _last(engine, config)
    lineages = {store.name: md.column_lineage(store) for store in engine.project.folded}
    for log in engine.project.logs:
        for _ in engine.fold_history(log.name, last, fresh=config.fresh):
            pass
        for snapshot in engine.chain.through(last.key):
            for store in engine.stores_of(log.name):
                record = engine.builder.require(store, snapshot)
                _materialize(report, store, snapshot, record, lineages[store.name])


def _prove(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, faults, last = _Reporter(context), [], _last(engine, config)
    for log in engine.project.logs:
        for _, verdicts in engine.prove_history(log.name, last):
            for verdict in verdicts.values():
                faults += _judge(report, verdict)
    _stop_if(context, faults, "Full replay")


def _relate(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, faults = _Reporter(context), []
    lineages = {store.name: md.column_lineage(store) for store in engine.project.relations}
    for snapshot, verdicts in engine.relate_history(_last(engine, config)):
        for verdict in verdicts.values():
            record = engine.builder.require(verdict.store, snapshot)
            _materialize(report, verdict.store, snapshot, record, lineages[verdict.store.name])
            faults += _judge(report, verdict)
    _stop_if(context, faults, "The check of the relations")


def _publish(context: dg.OpExecutionContext, engine: Engine, config: HistoryConfig) -> None:
    report, snapshot, faults = _Reporter(context), _last(engine, config), []
    for store in engine.project.in_order:
        for key, sinks in md.sink_groups(store).items():
            done = [engine.publisher.publish(store, sink, snapshot) for sink in sinks]
            found = {**md.published_metadata(done, snapshot), "dagster/column_lineage": md.sink_lineage(store)}
            inputs: list[tuple[dg.AssetKey, str | None]] = [(md.state_key(store), snapshot.key)]
            report.materialized(key, None, done[0].digest[:20], store.code_version, inputs, found)
        if store.expect and store.sinks:
            results = engine.publisher.check_expectations(store, snapshot)
            broken = [str(r.expectation) for r in results if not r.passed and r.expectation.severity == "error"]
            faults += broken
            text = f"{sum(r.passed for r in results)} of {len(results)} expectations hold."
            key = next(iter(md.sink_groups(store)))
            found = {"snapshot": snapshot.key, **md.expectations_metadata(results)}
            report.evaluated(key, md.EXPECTATIONS, None, all(r.passed for r in results), text, found)
    _stop_if(context, faults, "Expectations")
    served = engine.publisher.release(snapshot)
    keys: list[tuple[dg.AssetKey, str | None]] = [
        (key, None) for store in engine.project.in_order for key in md.sink_groups(store)
    ]
    version = f"{served.number}-{served.snapshot_id[:12]}"
    report.materialized(md.RELEASE_KEY, None, version, "1", keys, md.release_metadata(served))
