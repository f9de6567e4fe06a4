"""The asset checks of a project: log structure, full replay, expectations on what is published.

All of them guard, so all are blocking; an expectation declared `severity="warn"` fails as a warning and stops nothing.
A check that cannot run fails.
"""

from typing import Any

import dagster as dg

from refold.dagster import metadata as md
from refold.dagster.assets import SnapshotConfig, snapshot_of
from refold.dagster.resource import EngineResource
from refold.errors import RefoldError
from refold.log.declaration import Log
from refold.log.verify import CHECKS
from refold.project import Project
from refold.stores.declaration import Folded, Store


def build_checks(project: Project, partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetChecksDefinition]:
    """All checks of a project."""
    structure = [_structure(project, log, partitions) for log in project.logs]
    replays = [_full_replay(project, store, partitions) for store in project.in_order]
    suites = [
        _expectations(project, store, key)
        for store in project.in_order
        if store.expect
        for key in list(md.sink_groups(store))[:1]
    ]
    return [*structure, *replays, *suites]


def _structure(project: Project, log: Log, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    promises = "; ".join(f"{text} ({name})" for name, text in CHECKS.items())

    @dg.asset_check(
        asset=md.log_key(log),
        name=md.STRUCTURE,
        blocking=True,
        partitions_def=partitions,
        description=f"The log is whole from offset 0 to this snapshot: {promises}.",
    )
    def structure(context: dg.AssetCheckExecutionContext, engine: EngineResource) -> dg.AssetCheckResult:
        opened = engine.open(project)
        try:
            snapshot = snapshot_of(context, opened)
            findings = [f for _, found in opened.verify_log(log.name, snapshot) for f in found]
        except RefoldError as error:
            return failed(error)
        return dg.AssetCheckResult(
            passed=not findings,
            metadata=md.findings_metadata(findings, snapshot.logs[log.name].seq_end),
            description=findings[0].message if findings else "The log is whole.",
        )

    return structure


def _full_replay(project: Project, store: Store, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    how = (
        "State and ledger equal a fold of the whole log from offset 0, with no checkpoint and duplicates found anew."
        if isinstance(store, Folded)
        else "The same query over proven inputs gives the same rows, whatever the order of its input."
    )

    @dg.asset_check(
        asset=md.state_key(store),
        name=md.FULL_REPLAY,
        blocking=True,
        partitions_def=partitions,
        description=how,
    )
    def full_replay(context: dg.AssetCheckExecutionContext, engine: EngineResource) -> dg.AssetCheckResult:
        opened = engine.open(project)
        try:
            verdict = opened.prover.prove(store, snapshot_of(context, opened))
        except RefoldError as error:
            return failed(error)
        return dg.AssetCheckResult(
            passed=verdict.passed,
            metadata=md.verdict_metadata(verdict),
            description="Equal to full replay." if verdict.passed else str(verdict.differences[0]),
        )

    return full_replay


def _expectations(project: Project, store: Store, key: dg.AssetKey) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key,
        name=md.EXPECTATIONS,
        blocking=True,
        description="Published content keeps what was declared of it: " + "; ".join(map(str, store.expect)) + ".",
    )
    def expectations(
        context: dg.AssetCheckExecutionContext, config: SnapshotConfig, engine: EngineResource
    ) -> dg.AssetCheckResult:
        opened = engine.open(project)
        try:
            snapshot = snapshot_of(context, opened, config.snapshot)
            results = opened.publisher.check_expectations(store, snapshot)
        except RefoldError as error:
            return failed(error)
        broken = [r for r in results if not r.passed]
        errors = [r for r in broken if r.expectation.severity == "error"]
        return dg.AssetCheckResult(
            passed=not broken,
            severity=dg.AssetCheckSeverity.ERROR if errors or not broken else dg.AssetCheckSeverity.WARN,
            metadata={"snapshot": snapshot.key, **md.expectations_metadata(results)},
            description=f"{len(results) - len(broken)} of {len(results)} expectations hold.",
        )

    return expectations


def failed(error: RefoldError) -> dg.AssetCheckResult:
    """A check that could not run has failed, with the reason."""
    metadata: dict[str, Any] = {"kind": error.kind, "error": str(error)}
    return dg.AssetCheckResult(passed=False, description=str(error), metadata=metadata)
