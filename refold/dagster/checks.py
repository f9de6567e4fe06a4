"""The asset checks of a project: log structure, full replay, expectations on what is published, what is served.

All are blocking but that of landing; an expectation declared `severity="warn"` fails as a warning and blocks nothing.
A check that cannot run fails. `refold.dagster.results` runs the checks and puts their results into words.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from refold.dagster import keys, results
from refold.dagster.assets import SnapshotConfig, partition_of, raised, selected, snapshot_of
from refold.dagster.resource import EngineResource
from refold.dagster.results import Result
from refold.errors import RefoldError, Retry
from refold.log.declaration import Log
from refold.log.verify import PROMISES
from refold.project import Project
from refold.sinks.base import Sink
from refold.stores.declaration import Store


def build_checks(project: Project, partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetChecksDefinition]:
    """All checks of a project."""
    structure = [_structure(project, log, partitions) for log in project.logs]
    replays = [_full_replay(project, store, partitions) for store in project.in_order]
    sinks = [(store, keys.checked_sink(store)) for store in project.in_order]
    suites = [_expectations(project, store, sink) for store, sink in sinks if sink is not None]
    served = [_served(project, *group) for group in _sink_assets(project)]
    orders = [_order(project, log, partitions) for log in project.logs if log.has_order]
    wholes = [_whole(project, log, partitions) for log in project.logs if log.has_offsets]
    return [*structure, *orders, *wholes, _landing(project, partitions), *replays, *suites, *served]


def build_verify_served_job(project: Project) -> Any:
    """The job `verify_served`: the checks of what is served, alone."""
    checks = [dg.AssetCheckKey(key, keys.SERVED) for _, key, _ in _sink_assets(project)]
    return dg.define_asset_job(
        "verify_served",
        selection=dg.AssetSelection.checks(*checks),
        description="Reads back what every sink serves and compares it with its proof; fails where one differs.",
    )


def _sink_assets(project: Project) -> list[tuple[Store, dg.AssetKey, list[Sink]]]:
    return [(store, key, group) for store in project.in_order for key, group in keys.sink_groups(store).items()]


def _structure(project: Project, log: Log, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    promises = "".join(f"\n- {text} (`{name}`)" for name, text in PROMISES.items())

    @dg.asset_check(
        asset=keys.log_key(log),
        name=keys.STRUCTURE,
        blocking=True,
        partitions_def=partitions,
        description=f"The log is whole from offset 0 to this snapshot:\n{promises}",
    )
    def structure(context: dg.AssetCheckExecutionContext, engine: EngineResource) -> dg.AssetCheckResult:
        opened = engine.open(project)
        return _answered(lambda: results.structure_through(opened, log, snapshot_of(context, opened)))

    return structure


def _order(project: Project, log: Log, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=keys.log_key(log),
        name=keys.ORDER,
        partitions_def=partitions,
        description="Events came in the order of their producers' numbers, none missing or too late. Warns.",
    )
    def order(context: dg.AssetCheckExecutionContext, engine: EngineResource) -> dg.AssetCheckResult:
        opened = engine.open(project)
        return _answered(lambda: results.order_through(opened, log, snapshot_of(context, opened)))

    return order


def _whole(project: Project, log: Log, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=keys.log_key(log),
        name=keys.WHOLE,
        partitions_def=partitions,
        description="By the names of sealed objects, every source offset is in one object, and no snapshot is empty or "
        "out of proportion. Nulls, compaction and transactions leave gaps too. Warns.",
    )
    def source_offsets(context: dg.AssetCheckExecutionContext, engine: EngineResource) -> dg.AssetCheckResult:
        opened = engine.open(project)
        return _answered(lambda: results.whole_through(opened, log, snapshot_of(context, opened)))

    return source_offsets


def _landing(project: Project, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    """One check for each log, in one step: landing is read once. It fails the run, and blocks nothing in it."""
    specs = [
        dg.AssetCheckSpec(
            keys.LANDING,
            asset=keys.log_key(log),
            partitions_def=partitions,
            description="Nothing in landing that waits for the log is refused. Where it is, the log stays where it "
            "ended, other logs go on without it, and the run fails.",
        )
        for log in project.logs
    ]

    @dg.multi_asset_check(name="refused_landing", specs=specs)
    def refused_landing(
        context: dg.AssetCheckExecutionContext, engine: EngineResource
    ) -> Iterator[dg.AssetCheckResult]:
        opened = engine.open(project)
        try:
            found = results.check_landing(opened, snapshot_of(context, opened))
        except RefoldError as error:
            raise raised(error) from error
        for log, result in found.items():
            yield dg.AssetCheckResult(
                passed=result.passed,
                check_name=keys.LANDING,
                asset_key=keys.log_key(log),
                metadata=result.metadata,
                description=result.description,
            )
        refused = [result.text for result in found.values() if not result.passed]
        if refused:
            raise dg.Failure("\n".join(refused), allow_retries=False)

    return refused_landing


def _full_replay(project: Project, store: Store, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    how = (
        "State and ledger equal a fold of the whole log from offset 0, which uses no checkpoint and finds duplicates "
        "again. Nothing is published before this has passed."
        if store.ledger is not None
        else "The same query over proven inputs gives the same rows, whatever the order of its input. Nothing is "
        "published before this has passed."
    )

    @dg.asset_check(
        asset=keys.state_key(store),
        name=keys.FULL_REPLAY,
        blocking=True,
        partitions_def=partitions,
        description=how,
    )
    def full_replay(context: dg.AssetCheckExecutionContext, engine: EngineResource) -> dg.AssetCheckResult:
        opened = engine.open(project)
        return _answered(lambda: results.replay(opened.prover.prove(store, snapshot_of(context, opened))))

    return full_replay


def _expectations(project: Project, store: Store, sink: dg.AssetKey) -> dg.AssetChecksDefinition:
    promises = "".join(f"\n- `{each}`{'' if each.severity == 'error' else ' (warns)'}" for each in store.expect)

    @dg.asset_check(
        asset=sink,
        name=keys.EXPECTATIONS,
        blocking=True,
        additional_deps=[key for key in keys.sink_groups(store) if key != sink],  # it reads all sinks of the store
        description=f"Published rows, read back, meet the declared expectations:\n{promises}",
    )
    def expectations(
        context: dg.AssetCheckExecutionContext, config: SnapshotConfig, engine: EngineResource
    ) -> dg.AssetCheckResult:
        opened, releases = engine.open(project), keys.RELEASE_KEY in selected(context)
        return _answered(
            lambda: results.check_expectations(
                opened.publisher, store, snapshot_of(context, opened, config.snapshot), may_be_held=releases
            ),
        )

    return expectations


def _served(project: Project, store: Store, key: dg.AssetKey, sinks: Sequence[Sink]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key,
        name=keys.SERVED,
        blocking=True,
        description="What readers see now, read back, equals what was proven for the release. In a run that releases a "
        "newer snapshot next, a difference is a warning.",
    )
    def served(context: dg.AssetCheckExecutionContext, engine: EngineResource) -> dg.AssetCheckResult:
        opened = engine.open(project)
        return _answered(lambda: results.check_served(opened, store, sinks, partition_of(context.run)))

    return served


def _answered(ask: Callable[[], Result]) -> dg.AssetCheckResult:
    """The result for Dagster. Raises RetryRequested where a retry can help; a check that could not run has failed."""
    try:
        result = ask()
    except Retry as error:
        raise raised(error) from error
    except RefoldError as error:
        result = results.could_not_run(error)
    return dg.AssetCheckResult(
        passed=result.passed, severity=result.severity, metadata=result.metadata, description=result.description
    )
