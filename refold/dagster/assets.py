"""The assets of a project: logs and states by snapshot, sinks and the release as what is served now.

Logs and states are partitioned by snapshot key. They declare no backfill policy: with one, Dagster launches even a
single partition as a range, and records checks on no partition at all.

A sink is one table or index that moves through snapshots, so it is not partitioned; run alone it publishes the newest
snapshot, in a partitioned run the run's own. It depends on all partitions of its state, so that a backfill of a range
runs it once, after the range: with a mapping to the last partition it would start first, and fail because nothing
is proven yet. In a run that releases, a sink that refuses a store does not fail its step, since Dagster would skip the
release of all other stores: it records what it still serves, the release leaves its store out, and fails at its end.
"""

from collections.abc import Iterator, Sequence, Set
from typing import Any

import dagster as dg
import pyarrow as pa

from refold.dagster import columns, keys
from refold.dagster import metadata as md
from refold.dagster.resource import EngineResource
from refold.engine import Engine
from refold.errors import FixInput, RefoldError, Retry
from refold.log.declaration import Log
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.rebuild import RebuildRun
from refold.rebuild.events import Released, StoreRefused
from refold.release.pointer import Release
from refold.seal.report import SealReport
from refold.seal.sealing import shortened
from refold.sinks.base import Sink
from refold.stores.declaration import Store

RETRIES, RETRY_DELAY_SECONDS = 3, 2


class SnapshotConfig(dg.Config):
    """The snapshot that an unpartitioned asset takes."""

    snapshot: str | None = None
    """A snapshot key; None takes the run's partition, or else the newest snapshot."""


def raised(error: RefoldError) -> Exception:
    """The exception a step raises for an engine's error: a retry where a retry can help, else a failure."""
    if isinstance(error, Retry):
        return dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_DELAY_SECONDS)
    return dg.Failure(description=str(error), metadata={"kind": error.kind}, allow_retries=False)


def snapshot_of(context: Any, engine: Engine, wanted: str | None = None) -> Snapshot:
    """The snapshot a step works on: as configured, else the run's partition, else the newest."""
    return engine.chain.get(wanted or partition_of(context.run))


def partition_of(run: dg.DagsterRun) -> str | None:
    """The partition of a run; None where it has none.

    Raises FixInput for a run over a range: Dagster would put one version on all of it and record checks for none of it.
    """
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    if first != last:
        raise FixInput(
            f"This run covers the snapshots {first} to {last}; expected one snapshot per run.",
            remedy="Launch the range as multiple runs, or run the job rebuild_history, which takes one pass.",
        )
    return run.tags.get("dagster/partition") or first


def first_rows(engine: Engine, store: Store, snapshot: Snapshot, count: int) -> pa.Table | None:
    """The first rows of a store by key at a snapshot; None for a count of 0."""
    return engine.rows(store, snapshot).slice(0, count) if count else None


def build_assets(
    project: Project, partitions: dg.PartitionsDefinition[str], shown: int = 0
) -> list[dg.AssetsDefinition]:
    """All assets of a project; materializations of states and sinks show as many rows as `shown` says."""
    states = [_state_asset(project, store, partitions, shown) for store in project.in_order]
    sinks = [
        _sink_asset(project, store, key, group, shown)
        for store in project.in_order
        for key, group in keys.sink_groups(store).items()
    ]
    return [_log_assets(project, partitions), *states, *sinks, _release_asset(project)]


def _log_spec(log: Log, partitions: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    return dg.AssetSpec(
        keys.log_key(log),
        group_name="logs",
        partitions_def=partitions,
        description=log.description or f"The log {log.name}, sealed.",
        owners=[log.owner] if log.owner else None,
        kinds={"parquet", "log"},
        code_version=keys.log_code_version(log),
        metadata={"dagster/column_schema": columns.log_schema(log)},
    )


def _log_assets(project: Project, partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="seal",
        specs=[_log_spec(log, partitions) for log in project.logs],
        can_subset=False,
        pool="seal",
        description="Seals landing objects into canonical segments and cuts the snapshot of all logs.",
    )
    def seal(context: dg.AssetExecutionContext, engine: EngineResource) -> Iterator[dg.MaterializeResult[Any]]:
        opened = engine.open(project)
        try:
            key = partition_of(context.run)
            opened.require_fit()
            reports = {report.snapshot.key: report for report in opened.sealing.seal(key, only_due=True)}
            snapshot = opened.chain.get(key)
            waiting = opened.sealing.left() if reports else []
        except RefoldError as error:
            raise raised(error) from error
        for each in reports.values():
            _log_report(context, each)
        for wrong in shortened([each for each in waiting if not each.is_usual]):
            context.log.warning(wrong)
        report = reports.get(snapshot.key)
        for log in project.logs:
            yield dg.MaterializeResult(
                asset_key=keys.log_key(log),
                metadata=md.log_metadata(log, snapshot, report),
                data_version=dg.DataVersion(snapshot.logs[log.name].id[:20]),
            )

    return seal


def _log_report(context: dg.AssetExecutionContext, report: SealReport) -> None:
    snapshot = report.snapshot
    context.log.info(f"Sealed {snapshot.key}: {snapshot.events} events, {len(report.late)} late objects.")
    for why in report.stopped.values():
        context.log.error(str(why))
    for name in report.vanished:
        context.log.warning(f"The sealed object {name} is no longer in landing; its sealed events stay.")


def _state_asset(
    project: Project, store: Store, partitions: dg.PartitionsDefinition[str], shown: int
) -> dg.AssetsDefinition:
    @dg.asset(
        key=keys.state_key(store),
        deps=keys.input_keys(store),
        partitions_def=partitions,
        group_name="states",
        description=store.description,
        owners=[store.owner] if store.owner else None,
        kinds={store.computed_by},
        code_version=store.code_version,
        pool=f"state_{store.name}",
        metadata={
            "dagster/column_schema": columns.store_schema(store),
            **columns.code_reference(store),
            **({"query": dg.MetadataValue.md(f"```sql\n{store.query}\n```")} if store.query else {}),
        },
    )
    def state(context: dg.AssetExecutionContext, engine: EngineResource) -> dg.MaterializeResult[Any]:
        opened = engine.open(project)
        try:
            snapshot = snapshot_of(context, opened)
            record = opened.builder.build(store, snapshot)
            before, sample = opened.builder.record_before(store, snapshot), first_rows(opened, store, snapshot, shown)
        except RefoldError as error:
            raise raised(error) from error
        return dg.MaterializeResult(
            metadata=md.state_metadata(store, record, before, sample),
            data_version=dg.DataVersion(record.data_version),
        )

    return state


def _sink_asset(
    project: Project, store: Store, key: dg.AssetKey, sinks: Sequence[Sink], shown: int
) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        deps=[dg.AssetDep(keys.state_key(store), partition_mapping=dg.AllPartitionMapping())],
        group_name="sinks",
        description=md.sink_description(store, sinks),
        owners=[store.owner] if store.owner else None,
        kinds={sink.kind if sink.kind != "delta" else "deltalake" for sink in sinks},
        code_version=store.code_version,
        pool="_".join(key.path),
        metadata={"dagster/column_schema": columns.sink_schema(store)},
    )
    def published(
        context: dg.AssetExecutionContext, config: SnapshotConfig, engine: EngineResource
    ) -> dg.MaterializeResult[Any]:
        opened = engine.open(project)
        try:
            snapshot = snapshot_of(context, opened, config.snapshot)
            differed = [found for sink in sinks if (found := opened.served.repair(store, sink)) is not None]
            for wrong in differed:
                context.log.warning(str(wrong))
            served = opened.releaser.current()
            done = [opened.publisher.publish(store, sink, snapshot) for sink in sinks]
            sample = first_rows(opened, store, snapshot, shown)
        except FixInput as error:
            if keys.RELEASE_KEY not in selected(context):
                raise raised(error) from error
            refused = StoreRefused(store, snapshot, error)
            context.log.error(refused.warning)
            return dg.MaterializeResult(
                metadata=md.held_metadata(refused, served),
                data_version=dg.DataVersion(keys.served_version(store, served)),
            )
        except RefoldError as error:
            raise raised(error) from error
        return dg.MaterializeResult(
            metadata=md.published_metadata(store, done, snapshot, served, differed, sample),
            data_version=dg.DataVersion(done[0].digest[:20]),
        )

    return published


def _release_asset(project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=keys.RELEASE_KEY,
        deps=[key for store in project.in_order for key in keys.sink_groups(store)],
        group_name="sinks",
        description="What readers see: one pointer that moves all sinks to one proven snapshot at once.",
        kinds={"refold"},
        code_version=keys.RELEASE_CODE,
        pool="release",
    )
    def release(
        context: dg.AssetExecutionContext, config: SnapshotConfig, engine: EngineResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        opened = engine.open(project)
        try:
            snapshot = snapshot_of(context, opened, config.snapshot)
            run, held = RebuildRun(opened, snapshot.key), _refused(opened, selected(context), snapshot)
            released = [event.release for event in run.release(held) if isinstance(event, Released)]
            problems = [event.problem for event in run.check_stores()] if held else []
        except RefoldError as error:
            raise raised(error) from error
        for served in released:
            yield _released(context, snapshot, served)
        if problems:
            raise dg.Failure("\n".join(problems), allow_retries=False)

    return release


def _released(context: dg.AssetExecutionContext, snapshot: Snapshot, served: Release) -> dg.MaterializeResult[Any]:
    if served.snapshot != snapshot.key:
        context.log.info(f"Snapshot {snapshot.key} is older than the released one; {served.snapshot} stays.")
    return dg.MaterializeResult(
        metadata=md.release_metadata(served),
        data_version=dg.DataVersion(keys.release_version(served)),
    )


def selected(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Set[dg.AssetKey]:
    """The assets of a step's run."""
    return context.run.asset_selection or context.job_def.asset_layer.selected_asset_keys


def _refused(engine: Engine, chosen: Set[dg.AssetKey], snapshot: Snapshot) -> set[str]:
    """The stores that this run was to publish and whose sinks do not hold the snapshot. Raises Unproven."""
    found = set()
    for store in engine.project.stores:
        if store.sinks and keys.sink_groups(store).keys() <= chosen:
            version = engine.publisher.version(snapshot, engine.prover.require(store, snapshot)[0])
            if any(version not in engine.publisher.target(store, sink).versions() for sink in store.sinks):
                found.add(store.name)
    return found
