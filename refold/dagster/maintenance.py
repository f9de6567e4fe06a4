"""Jobs for an operator: `repair`, `rollback` and `prune`, which do as the commands, recorded on what they change.

No schedule or sensor of Refold starts them. `refold repair` also mends damaged objects of the store; the job names the
command where that is due.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from refold.dagster import keys, results
from refold.dagster import metadata as md
from refold.dagster.assets import SnapshotConfig, raised
from refold.dagster.reporting import Place, Reported, Reporter, evaluated
from refold.dagster.resource import EngineResource
from refold.engine import Engine
from refold.errors import RefoldError
from refold.project import Project
from refold.release.releaser import utc_now
from refold.release.retention import KEEP, OLDER_THAN_DAYS
from refold.repair.drift import Drift

_Yielded = Reported | dg.Output[None]
_NOTHING = dg.Out(dg.Nothing)


class RollbackConfig(dg.Config):
    """What to serve again."""

    release: int | None = None
    """The number of a release; None takes the one before that of now."""


class PruneConfig(dg.Config):
    """What to keep."""

    keep: int = KEEP
    """How many of the last releases keep what they served."""
    older_than_days: float = OLDER_THAN_DAYS
    """What was released within so many days is kept as well."""
    apply: bool = False
    """Do it; else the run only says what it would do."""


def build_maintenance_jobs(project: Project) -> list[dg.JobDefinition]:
    """The three jobs."""
    return [_repair_job(project), _rollback_job(project), _prune_job(project)]


def _repair_job(project: Project) -> dg.JobDefinition:
    @dg.op(description="Rebuild what differs from full replay, prove it, and publish it again.", out=_NOTHING)
    def repair_stores(
        context: dg.OpExecutionContext, config: SnapshotConfig, engine: EngineResource
    ) -> Iterator[_Yielded]:
        left = list[str]()
        try:
            opened = engine.open(project)
            opened.require_anchored()
            served = opened.releaser.current()
            snapshot = opened.chain.get(config.snapshot or (served.snapshot if served else None))
            for store in project.in_order:
                drift = opened.drifts.find(store, snapshot)
                if drift.differences:
                    yield from _mended(opened, context, drift, left)
        except RefoldError as error:
            raise raised(error) from error
        if left:
            raise dg.Failure("\n".join(left), allow_retries=False)
        yield dg.Output(None)

    @dg.job(
        name="repair",
        description="Verifies every store and its sinks against full replay, as of what is served, and rebuilds just "
        "what differs; fails where something still does.",
    )
    def repair() -> None:
        repair_stores()

    return repair


def _mended(engine: Engine, context: dg.OpExecutionContext, drift: Drift, left: list[str]) -> Iterator[Reported]:
    """Repair one store; yields its check and what was made again, and adds to `left` what still differs."""
    store, snapshot, report = drift.store, drift.snapshot, Reporter(context.instance)
    context.log.error("\n".join(map(str, drift.differences)))
    verdict = engine.drifts.repair(drift)
    state: Place = (keys.state_key(store), snapshot.key)
    yield evaluated(state, keys.FULL_REPLAY, results.replay(verdict))
    again = engine.drifts.find(store, snapshot).differences
    if again or verdict.record is None:
        left.append(
            f"{store.name} at snapshot {snapshot.key} still differs: {again[0] if again else 'it is not built'}. Run "
            "`refold repair`, which also mends damaged objects, and `refold log verify`."
        )
        return
    if not drift.verdict.passed:
        found = md.state_metadata(store, verdict.record) | md.mended_metadata(drift.verdict.differences)
        inputs: list[Place] = [(key, snapshot.key) for key in keys.input_keys(store)]
        yield report.materialized(state, verdict.record.data_version, store.code_version, inputs, found)
    differed = {keys.sink_key(sink): differences for sink, differences in drift.sinks if differences}
    for key, differences in differed.items():
        digest = engine.publisher.digest(store, snapshot, engine.publisher.version(snapshot, verdict.record))
        found = {"published snapshot": snapshot.key} | md.mended_metadata(differences)
        yield report.materialized((key, None), digest[:20], store.code_version, [state], found)


def _rollback_job(project: Project) -> dg.JobDefinition:
    @dg.op(description="Move the pointer; nothing is built.", out=_NOTHING)
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig, engine: EngineResource) -> Iterator[_Yielded]:
        try:
            served = engine.open(project).releaser.rollback(config.release)
        except RefoldError as error:
            raise raised(error) from error
        version, found = keys.release_version(served), md.release_metadata(served)
        report = Reporter(context.instance)
        yield report.materialized((keys.RELEASE_KEY, None), version, keys.RELEASE_CODE, [], found)
        yield dg.Output(None)

    @dg.job(
        name="rollback",
        description="Serves the content of an earlier release again, by default of the one before; builds nothing.",
    )
    def rollback() -> None:
        roll_back()

    return rollback


def _prune_job(project: Project) -> dg.JobDefinition:
    @dg.op(description="Give up what nothing needs any more.", out=_NOTHING)
    def prune_versions(config: PruneConfig, engine: EngineResource) -> dg.Output[None]:
        try:
            return dg.Output(None, metadata=_pruned(engine.open(project), config))
        except RefoldError as error:
            raise raised(error) from error

    @dg.job(
        name="prune",
        description="Gives up old versions in sinks and rows of old checkpoints; what is served is never given up. "
        "Without `apply` it only says what it would do.",
    )
    def prune() -> None:
        prune_versions()

    return prune


def _pruned(engine: Engine, config: PruneConfig) -> dict[str, Any]:
    engine.require_anchored()
    now = utc_now()
    plan, thinnings = engine.plan_prune(config.keep, config.older_than_days, now)
    dropped = [{"sink": v.sink, "version": v.version, "why": v.why} for v in plan.versions if not v.keep]
    found: dict[str, Any] = {"versions to be given up": len(dropped), "checkpoints to give up rows": len(thinnings)}
    if dropped:
        found["versions"] = md.as_table(dropped[: md.ROWS_SHOWN])
    if config.apply:
        versions, checkpoints, objects = engine.prune(plan, thinnings, now)
        found |= {"versions dropped": versions, "checkpoints without rows": checkpoints, "objects removed": objects}
    return found | {"applied": config.apply}
