"""The one assembly point: a project and its engine resource become Dagster definitions."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from refold.dagster.alerts import OnFailure
from refold.dagster.assets import build_assets
from refold.dagster.automation import build_schedules, build_sensors
from refold.dagster.checks import build_checks, build_verify_served_job
from refold.dagster.history import build_history_job
from refold.dagster.maintenance import build_maintenance_jobs
from refold.dagster.resource import EngineResource
from refold.dagster.verification import build_verify_job
from refold.errors import DeclarationError
from refold.project import Project
from refold.seal.cadence import Cadence


def partitions_of(cadence: Cadence) -> dg.TimeWindowPartitionsDefinition:
    """The snapshots' keys as daily or hourly partitions. Raises DeclarationError where the cadence has no start."""
    if cadence.first is None:
        fault = "expected a start: the partitions in Dagster begin there, and definitions are loaded without landing"
        raise DeclarationError(type(cadence).__name__, [fault])
    if cadence.unit == "day":
        return dg.DailyPartitionsDefinition(start_date=cadence.first, end_date=cadence.stop)
    return dg.HourlyPartitionsDefinition(start_date=cadence.first, end_date=cadence.stop, fmt="%Y-%m-%dT%H")


def build_defs(
    project: Project,
    engine: EngineResource | None = None,
    *,
    assets: Sequence[Any] = (),
    on_failure: Sequence[OnFailure] = (),
    resources: Mapping[str, Any] | None = None,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
    rows_shown: int = 5,
) -> dg.Definitions:
    """Definitions of a project. Nothing is read or connected to.

    Args:
        project: its stores.
        engine: the resource that opens engines; by default over the places that the environment names. Tests pass one
            over temporary places here.
        assets: further assets of the code location.
        on_failure: what is told of failed runs, of landing that cannot be read, and of what was served and not proven:
            `Slack`, `Webhook`, `Mail`, or any function of an `Alert`. The sensors for it then run by default.
        resources: further resources.
        executor: how the steps of a run are executed. By default in the process of the run, since a step takes less
            time than a process takes to start. Each run still has its own process.
        rows_shown: how many rows of each state and sink its materializations show. Dagster keeps them in its own
            storage, where an erasure in the log does not reach; 0 for stores with rows that must not be there.
    """
    with warnings.catch_warnings():
        # Partitioned checks work in the pinned version of Dagster; users can do nothing about the preview warning.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)  # likewise links to the code
        partitions = partitions_of(project.cadence)
        owned = build_assets(project, partitions, rows_shown)
        checks = build_checks(project, partitions)
    snapshot, prove, publish = _jobs(owned)
    verify_served = build_verify_served_job(project)
    return dg.Definitions(
        assets=[*owned, *assets],
        asset_checks=checks,
        jobs=[
            build_history_job(project, rows_shown),
            build_verify_job(project),
            verify_served,
            snapshot,
            prove,
            publish,
            *build_maintenance_jobs(project),
        ],
        schedules=build_schedules(project, daily=snapshot, weekly=prove, served=verify_served),
        sensors=build_sensors(project, snapshot, tuple(on_failure)),
        resources={"engine": engine or EngineResource(), **(resources or {})},
        executor=executor,
    )


def _jobs(owned: Sequence[dg.AssetsDefinition]) -> list[Any]:
    keys = {key: each for each in owned for key in each.keys}
    partitioned = [key for key, each in keys.items() if each.partitions_def is not None]
    return [
        dg.define_asset_job(
            "rebuild_snapshot",
            selection=dg.AssetSelection.assets(*keys),
            description="Seals, builds, proves, publishes and releases one snapshot.",
        ),
        dg.define_asset_job(
            "prove_snapshot",
            selection=dg.AssetSelection.assets(*partitioned),
            description="Seals, builds and proves one snapshot and publishes nothing: for backfills of a range.",
        ),
        dg.define_asset_job(
            "publish_newest",
            selection=dg.AssetSelection.groups("sinks"),
            description="Publishes the newest snapshot, which must be proven, to all sinks, checks it there, and "
            "releases it.",
        ),
    ]
